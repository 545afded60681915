//! From system call arguments to a bounded copy of what they point at.

use std::io;

use crate::errno::{EFAULT, EINVAL};
use crate::memory::{ForeignAddr, ReadError, ReadMemory};
use crate::raw::RawSockAddr;

/// Copies the socket address a caller of `connect(2)`, `bind(2)` or `sendto(2)` named.
///
/// `len` is the raw system call argument; the kernel takes it for an `int`, so only
/// its low 32 bits count. The checks and their order are those of the kernel's
/// `move_addr_to_kernel()`: the length first, then the pointer, and with a length
/// of 0 the pointer is never looked at. Never reads more than
/// [`MAX_SOCKADDR`](crate::MAX_SOCKADDR) bytes.
///
/// `sendto(2)` with a null pointer has no destination, whatever the length says: such a
/// call is not for this function.
///
/// # Errors
///
/// See [`FetchError`]; [`FetchError::errno`] is what the kernel would have answered.
///
/// # Races
///
/// See [`ReadMemory::read`]. The result is a copy: use it for the decision and the call.
pub fn fetch(
    mem: &(impl ReadMemory + ?Sized),
    at: ForeignAddr,
    len: u64,
) -> Result<RawSockAddr, FetchError> {
    #[expect(clippy::cast_possible_truncation, reason = "the kernel drops the upper half, too")]
    let len = (len as u32).cast_signed();
    let Some(mut raw) = usize::try_from(len).ok().and_then(RawSockAddr::zeroed) else {
        return Err(FetchError::InvalidLength { len });
    };
    if !raw.is_empty() {
        read_all(mem, at, raw.as_mut_bytes())?;
    }
    Ok(raw)
}

/// Copies an array of `N` 32-bit words in the byte order of this machine.
///
/// A 32-bit program can reach every socket call through one, [socketcall(2)], whose
/// second argument points to the real arguments as 32-bit words: 3 for `connect` and
/// `bind`, 2 for `listen`, 6 for `sendto`.
///
/// # Errors
///
/// See [`FetchError`]; [`FetchError::InvalidLength`] does not occur.
///
/// [socketcall(2)]: https://man7.org/linux/man-pages/man2/socketcall.2.html
pub fn fetch_u32_array<const N: usize>(
    mem: &(impl ReadMemory + ?Sized),
    at: ForeignAddr,
) -> Result<[u32; N], FetchError> {
    let mut words = [[0; 4]; N];
    read_all(mem, at, words.as_flattened_mut())?;
    Ok(words.map(u32::from_ne_bytes))
}

/// Fills `buf`, or fails as the kernel's `copy_from_user()` does: a partial copy
/// is a fault.
pub(crate) fn read_all(
    mem: &(impl ReadMemory + ?Sized),
    at: ForeignAddr,
    buf: &mut [u8],
) -> Result<(), FetchError> {
    let read = mem.read(at, buf)?;
    if read == buf.len() { Ok(()) } else { Err(FetchError::Fault) }
}

/// Why an argument could not be copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The length is negative or exceeds `sizeof(struct sockaddr_storage)`.
    #[error("address length {len} is out of range")]
    InvalidLength {
        /// The length as the kernel sees it.
        len: i32,
    },
    /// The pointer does not lead to that many readable bytes.
    #[error("the address is not in readable memory")]
    Fault,
    /// The caller has ended.
    #[error("the process is gone")]
    Gone,
    /// This process may not inspect the caller.
    #[error("no permission to read the process's memory")]
    Denied,
    /// The read failed for a reason on this side.
    #[error("process_vm_readv failed")]
    ReadCall {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl FetchError {
    /// What the kernel would have answered the caller, where the caller is at fault:
    /// `EINVAL` or `EFAULT`. `None` where the caller is not.
    #[must_use]
    pub const fn errno(&self) -> Option<i32> {
        match self {
            Self::InvalidLength { .. } => Some(EINVAL),
            Self::Fault => Some(EFAULT),
            Self::Gone | Self::Denied | Self::ReadCall { .. } => None,
        }
    }
}

impl From<ReadError> for FetchError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Fault => Self::Fault,
            ReadError::Gone => Self::Gone,
            ReadError::Denied => Self::Denied,
            ReadError::ReadCall { source } => Self::ReadCall { source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FakeMemory, MAX_SOCKADDR};

    const AT: ForeignAddr = ForeignAddr::new(0x1000);

    /// Fails the test when anything is read.
    struct Untouchable;

    impl ReadMemory for Untouchable {
        fn read(&self, at: ForeignAddr, _: &mut [u8]) -> Result<usize, ReadError> {
            panic!("read at {at:?}")
        }
    }

    #[test]
    fn copies_exactly_the_announced_length() {
        let memory = FakeMemory::new().map(AT, &[7; 200]);
        for len in [1, 2, 16, 28, 110, 127, 128] {
            let raw = fetch(&memory, AT, len).unwrap();
            assert_eq!(raw.len() as u64, len);
            assert!(raw.as_bytes().iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn bad_lengths_are_refused_before_the_pointer_is_read() {
        for (arg, len) in [
            (129, 129),
            (0x7fff_ffff, i32::MAX),
            (0x8000_0000, i32::MIN),
            (0xffff_ffff, -1),
            (u64::MAX, -1),
            (0xdead_beef_0000_0081, 129),
        ] {
            let error = fetch(&Untouchable, AT, arg).unwrap_err();
            assert!(matches!(error, FetchError::InvalidLength { len: l } if l == len), "{error:?}");
            assert_eq!(error.errno(), Some(EINVAL));
        }
    }

    #[test]
    fn length_zero_reads_nothing() {
        for arg in [0, 0xffff_ffff_0000_0000] {
            assert!(fetch(&Untouchable, ForeignAddr::new(0), arg).unwrap().is_empty());
        }
    }

    #[test]
    fn upper_half_of_the_length_is_ignored() {
        let memory = FakeMemory::new().map(AT, &[7; 16]);
        assert_eq!(fetch(&memory, AT, 0x1_0000_0010).unwrap().len(), 16);
    }

    #[test]
    fn a_short_read_is_a_fault() {
        let memory = FakeMemory::new().map(AT, &[7; 15]);
        let error = fetch(&memory, AT, 16).unwrap_err();
        assert!(matches!(error, FetchError::Fault));
        assert_eq!(error.errno(), Some(EFAULT));
        assert!(matches!(fetch(&memory, ForeignAddr::new(0), 16), Err(FetchError::Fault)));
        assert!(matches!(fetch(&memory, ForeignAddr::new(u64::MAX), 16), Err(FetchError::Fault)));
    }

    #[test]
    fn what_is_no_fault_of_the_caller_has_no_errno() {
        let memory = FakeMemory::new().map(AT, &[7; 16]);
        memory.set_denied();
        let error = fetch(&memory, AT, 16).unwrap_err();
        assert!(matches!(error, FetchError::Denied) && error.errno().is_none());
        memory.set_gone();
        let error = fetch(&memory, AT, 16).unwrap_err();
        assert!(matches!(error, FetchError::Gone) && error.errno().is_none());
        let error = FetchError::from(ReadError::ReadCall { source: io::ErrorKind::Other.into() });
        assert_eq!(error.errno(), None);
    }

    #[test]
    fn a_reader_that_claims_too_much_is_not_believed() {
        struct Boastful;
        impl ReadMemory for Boastful {
            fn read(&self, _: ForeignAddr, _: &mut [u8]) -> Result<usize, ReadError> {
                Ok(MAX_SOCKADDR)
            }
        }
        assert!(matches!(fetch(&Boastful, AT, 16), Err(FetchError::Fault)));
    }

    #[test]
    fn fetches_words() {
        let mut bytes = Vec::new();
        for word in [3_u32, 0xffff_ee00, 16] {
            bytes.extend(word.to_ne_bytes());
        }
        let memory = FakeMemory::new().map(AT, &bytes);
        assert_eq!(fetch_u32_array(&memory, AT).unwrap(), [3, 0xffff_ee00, 16]);
        assert!(matches!(fetch_u32_array::<4>(&memory, AT), Err(FetchError::Fault)));
        assert_eq!(fetch_u32_array::<0>(&memory, ForeignAddr::new(0)).unwrap(), [0; 0]);
    }
}
