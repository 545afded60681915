//! What a message carries: buffers to gather, and control data.

use crate::errno::{EINVAL, EMSGSIZE, ENOBUFS};
use crate::fetch::{FetchError, read_all};
use crate::memory::{ForeignAddr, ReadMemory};
use crate::msghdr::WordSize;

/// The array of `struct iovec` that a `msghdr` points to. See [readv(2)].
///
/// [readv(2)]: https://man7.org/linux/man-pages/man2/readv.2.html
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IoVecs {
    /// `msg_iov`; may be anything when there are none.
    pub at: ForeignAddr,
    /// `msg_iovlen` as the caller gave it: hostile, and not a size for anything.
    pub count: u64,
    /// The layout of the array.
    pub word_size: WordSize,
}

impl IoVecs {
    /// Copies the buffers, one after the other, to the start of `buf`; returns how many
    /// bytes they are.
    ///
    /// The judgements and their order are those of the kernel's `import_iovec()`: the
    /// whole array first, then what it points to. The array is read once, and `buf`
    /// bounds the rest: for a datagram 65535 bytes are enough, since no longer one can
    /// be sent. The kernel cuts a message at 2 GiB less one page where this refuses it.
    ///
    /// An empty buffer's pointer is not looked at, which the kernel refuses in an array of
    /// several if it points beyond user space.
    ///
    /// # Errors
    ///
    /// See [`PayloadError`]. The contents of `buf` are then unspecified.
    ///
    /// # Races
    ///
    /// The caller's other threads can change the buffers meanwhile. What was gathered is
    /// the message: send that, and no second copy.
    #[doc(alias = "import_iovec")]
    pub fn gather(
        &self,
        mem: &(impl ReadMemory + ?Sized),
        buf: &mut [u8],
    ) -> Result<usize, PayloadError> {
        match usize::try_from(self.count) {
            // Most messages have few buffers: spare them the large array.
            Ok(count @ 0..=FEW) => self.gather_in::<FEW>(mem, count, buf),
            Ok(count @ 0..=UIO_MAXIOV) => self.gather_in::<UIO_MAXIOV>(mem, count, buf),
            _ => Err(PayloadError::TooManyBuffers { count: self.count }),
        }
    }

    fn gather_in<const N: usize>(
        &self,
        mem: &(impl ReadMemory + ?Sized),
        count: usize,
        buf: &mut [u8],
    ) -> Result<usize, PayloadError> {
        let mut array = [[0; IOVEC_64]; N];
        let size = self.word_size.iovec_size();
        let array = array.as_flattened_mut().get_mut(..count * size).unwrap_or_default();
        let read = if array.is_empty() { 0 } else { mem.read(self.at, array)? };
        let whole = array.get(..read).ok_or(FetchError::Fault)?;
        let mut total = 0_u64;
        for entry in whole.chunks_exact(size) {
            let (_, len) = self.word_size.iovec(entry);
            let Ok(len) = u64::try_from(len) else {
                return Err(PayloadError::NegativeLength { len });
            };
            total = total.saturating_add(len);
        }
        if read != array.len() {
            return Err(FetchError::Fault.into());
        }
        let fits = usize::try_from(total).ok().and_then(|total| buf.get_mut(..total));
        let Some(mut rest) = fits else {
            return Err(PayloadError::TooLong { len: total });
        };
        let total = rest.len();
        for entry in whole.chunks_exact(size) {
            let (base, len) = self.word_size.iovec(entry);
            let len = usize::try_from(len).unwrap_or(0);
            let Some((part, behind)) = rest.split_at_mut_checked(len) else { break };
            if !part.is_empty() {
                read_all(mem, ForeignAddr::new(base), part)?;
            }
            rest = behind;
        }
        Ok(total)
    }
}

impl WordSize {
    const fn iovec_size(self) -> usize {
        match self {
            Self::Bits32 => 8,
            Self::Bits64 => IOVEC_64,
        }
    }

    /// `iov_base`, and `iov_len` with the sign that the kernel sees in it.
    fn iovec(self, entry: &[u8]) -> (u64, i64) {
        fn halves<const N: usize>(entry: &[u8]) -> ([u8; N], [u8; N]) {
            let base = entry.first_chunk().copied().unwrap_or([0; N]);
            (base, entry.last_chunk().copied().unwrap_or([0; N]))
        }
        match self {
            Self::Bits32 => {
                let (base, len) = halves(entry);
                (u32::from_ne_bytes(base).into(), i32::from_ne_bytes(len).into())
            }
            Self::Bits64 => {
                let (base, len) = halves(entry);
                (u64::from_ne_bytes(base), i64::from_ne_bytes(len))
            }
        }
    }
}

/// The control data (ancillary data) of a message, see [cmsg(3)]. Its layout depends on
/// the word size as well.
///
/// [cmsg(3)]: https://man7.org/linux/man-pages/man3/cmsg.3.html
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Control {
    /// `msg_control`.
    pub at: ForeignAddr,
    /// `msg_controllen` in bytes, not 0; hostile, and not a size for anything.
    pub len: u64,
}

impl Control {
    /// Copies the control data to the start of `buf`; returns how many bytes they are.
    ///
    /// How many the kernel takes is a setting, `net.core.optmem_max`: with less room
    /// than that in `buf`, some are refused that it would take.
    ///
    /// # Errors
    ///
    /// [`PayloadError::ControlTooLong`] if they do not fit, otherwise as for any read.
    pub fn copy_to(
        &self,
        mem: &(impl ReadMemory + ?Sized),
        buf: &mut [u8],
    ) -> Result<usize, PayloadError> {
        let fits = usize::try_from(self.len).ok().and_then(|len| buf.get_mut(..len));
        let Some(buf) = fits else {
            return Err(PayloadError::ControlTooLong { len: self.len });
        };
        read_all(mem, self.at, buf)?;
        Ok(buf.len())
    }
}

/// Why what a message carries could not be copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// There are more buffers than a call may have, `UIO_MAXIOV`.
    #[error("{count} buffers are more than 1024")]
    TooManyBuffers {
        /// How many there are.
        count: u64,
    },
    /// The length of a buffer is negative as a `ssize_t`.
    #[error("buffer length {len} is negative")]
    NegativeLength {
        /// The length as the kernel sees it.
        len: i64,
    },
    /// The buffers hold more than there is room for.
    #[error("a message of {len} bytes is too long")]
    TooLong {
        /// How many bytes they hold.
        len: u64,
    },
    /// There is more control data than there is room for.
    #[error("{len} bytes of control data are too many")]
    ControlTooLong {
        /// How many bytes there are.
        len: u64,
    },
    /// The caller's memory could not be read.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

impl PayloadError {
    /// What [sendmsg(2)] would have answered the caller, where the caller is at fault.
    /// `None` where the caller is not.
    ///
    /// [sendmsg(2)]: https://man7.org/linux/man-pages/man2/sendmsg.2.html
    #[must_use]
    pub const fn errno(&self) -> Option<i32> {
        match self {
            Self::TooManyBuffers { .. } | Self::TooLong { .. } => Some(EMSGSIZE),
            Self::NegativeLength { .. } => Some(EINVAL),
            Self::ControlTooLong { .. } => Some(ENOBUFS),
            Self::Fetch(error) => error.errno(),
        }
    }
}

impl From<crate::ReadError> for PayloadError {
    fn from(error: crate::ReadError) -> Self {
        Self::Fetch(error.into())
    }
}

/// `UIO_MAXIOV` of `linux/uio.h`.
const UIO_MAXIOV: usize = 1024;
/// `UIO_FASTIOV`: as many as the kernel keeps on its stack, too.
const FEW: usize = 8;
/// The size of a `struct iovec` of a 64-bit program, the larger of the two.
const IOVEC_64: usize = 16;

#[cfg(test)]
mod tests;
