//! An address as the caller passed it: bytes and a length, nothing judged yet.

use std::fmt;

use crate::errno::EINVAL;
use crate::inline::InlineBytes;

/// `sizeof(struct sockaddr_storage)`: the longest address the kernel copies.
pub const MAX_SOCKADDR: usize = 128;

/// The bytes of a `struct sockaddr`, with the length its caller gave.
///
/// A plain value: it can be judged, kept and handed to a system call, and stays
/// the same while the target rewrites its own memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawSockAddr {
    bytes: InlineBytes<MAX_SOCKADDR>,
}

impl RawSockAddr {
    /// Takes a copy of `bytes`, or `None` when there are more than [`MAX_SOCKADDR`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        InlineBytes::copied_from(bytes).map(|bytes| Self { bytes })
    }

    /// The bytes, exactly as many as the caller announced.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_bytes()
    }

    /// The number of bytes, 0 to [`MAX_SOCKADDR`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the caller gave no address at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `sa_family`, or `None` when there are too few bytes to hold it.
    #[must_use]
    pub fn family(&self) -> Option<u16> {
        self.as_bytes().first_chunk().map(|family| u16::from_ne_bytes(*family))
    }

    /// `len` zero bytes, for [`as_mut_bytes`](Self::as_mut_bytes) to fill.
    pub(crate) fn zeroed(len: usize) -> Option<Self> {
        InlineBytes::zeroed(len).map(|bytes| Self { bytes })
    }

    pub(crate) fn as_mut_bytes(&mut self) -> &mut [u8] {
        self.bytes.as_mut_bytes()
    }

    /// The parts one after the other; what does not fit is left out, which no
    /// address this crate encodes comes near.
    pub(crate) fn joined(parts: &[&[u8]]) -> Self {
        let len = parts.iter().map(|part| part.len()).sum::<usize>().min(MAX_SOCKADDR);
        let mut raw = Self::zeroed(len).unwrap_or_default();
        let bytes = parts.iter().copied().flatten();
        for (slot, byte) in raw.as_mut_bytes().iter_mut().zip(bytes) {
            *slot = *byte;
        }
        raw
    }
}

/// The empty address: no bytes.
impl Default for RawSockAddr {
    fn default() -> Self {
        Self { bytes: InlineBytes::EMPTY }
    }
}

impl fmt::Debug for RawSockAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawSockAddr({:02x?})", self.as_bytes())
    }
}

/// Cuts `addr` to the buffer a caller of [getsockname(2)] announced.
///
/// `caller_len` is the value of `*addrlen` on entry. Returns the bytes to write to
/// the buffer, and the value to store in `*addrlen`: the length *before* the cut,
/// from which the caller learns that it got less. This is what the kernel's
/// `move_addr_to_user()` does.
///
/// # Errors
///
/// [`TruncateError::NegativeLength`], for which the kernel answers `EINVAL` and
/// writes nothing.
///
/// [getsockname(2)]: https://man7.org/linux/man-pages/man2/getsockname.2.html
pub fn truncate_for_caller(
    addr: &RawSockAddr,
    caller_len: i32,
) -> Result<(&[u8], u32), TruncateError> {
    let Ok(room) = usize::try_from(caller_len) else {
        return Err(TruncateError::NegativeLength { len: caller_len });
    };
    let bytes = addr.as_bytes();
    let kept = bytes.get(..room).unwrap_or(bytes);
    // The length is at most MAX_SOCKADDR: the conversion cannot saturate.
    Ok((kept, u32::try_from(bytes.len()).unwrap_or(u32::MAX)))
}

/// Why an address cannot be given to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TruncateError {
    /// The caller announced a buffer of negative length.
    #[error("buffer length {len} is negative")]
    NegativeLength {
        /// The announced length.
        len: i32,
    },
}

impl TruncateError {
    /// What the kernel's own call returns: `EINVAL`.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        match self {
            Self::NegativeLength { .. } => EINVAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(bytes: &[u8]) -> RawSockAddr {
        RawSockAddr::from_bytes(bytes).unwrap()
    }

    #[test]
    fn keeps_what_it_was_given() {
        assert_eq!(raw(&[7; MAX_SOCKADDR]).as_bytes(), [7; MAX_SOCKADDR]);
        assert_eq!(RawSockAddr::from_bytes(&[7; MAX_SOCKADDR + 1]), None);
        assert!(raw(b"").is_empty());
        assert_eq!(RawSockAddr::default(), raw(b""));
    }

    #[test]
    fn family_needs_two_bytes() {
        assert_eq!(raw(b"").family(), None);
        assert_eq!(raw(&[2]).family(), None);
        assert_eq!(raw(&0x1234_u16.to_ne_bytes()).family(), Some(0x1234));
    }

    #[test]
    fn joins_parts_up_to_the_limit() {
        assert_eq!(RawSockAddr::joined(&[b"ab", b"", b"cde"]).as_bytes(), b"abcde");
        assert_eq!(RawSockAddr::joined(&[&[1; 100], &[2; 100]]).len(), MAX_SOCKADDR);
    }

    #[test]
    fn prints_its_bytes() {
        assert_eq!(format!("{:?}", raw(&[1, 0xab])), "RawSockAddr([01, ab])");
    }

    #[test]
    fn truncates_but_tells_the_full_length() {
        let addr = raw(b"0123456789abcdef");
        for (room, kept) in [(0, ""), (1, "0"), (15, "0123456789abcde")] {
            assert_eq!(truncate_for_caller(&addr, room), Ok((kept.as_bytes(), 16)));
        }
        for room in [16, 17, 128, i32::MAX] {
            assert_eq!(truncate_for_caller(&addr, room), Ok((addr.as_bytes(), 16)));
        }
        for len in [-1, i32::MIN] {
            let refused = truncate_for_caller(&addr, len).unwrap_err();
            assert_eq!(refused, TruncateError::NegativeLength { len });
            assert_eq!(refused.errno(), EINVAL);
        }
    }
}
