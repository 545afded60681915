//! The name of a socket, given to a caller that asked for it.

use std::io;

use crate::errno::{EFAULT, EINVAL};
use crate::memory::{ForeignAddr, ReadError, ReadMemory, WriteError, WriteMemory};
use crate::raw::{RawSockAddr, TruncateError, truncate_for_caller};

/// Stores `name` as [getsockname(2)], [getpeername(2)] and [accept(2)] do.
///
/// `at` is their second argument, and `len_at` the third: it points to an `int`, which
/// holds the room at `at` on entry and the length of the name, before any cut, on
/// return. As in the kernel's `move_addr_to_user()`, the length is read, judged and
/// written, and then as much of the name as there is room for; with room for nothing
/// `at` is not looked at. (Kernels before 6.18 write the length last. That shows where
/// the name cannot be stored, or where it covers its own length.)
///
/// `accept(2)` with a null `at` stores nothing at all: such a call is not for this
/// function.
///
/// # Errors
///
/// See [`StoreError`]; [`StoreError::errno`] is what the kernel would have answered. The
/// length may have been written, and the name up to where its memory ends.
///
/// # Races
///
/// As the kernel, this lets the caller's other threads change the memory meanwhile. A
/// thread id must still be that of the caller: unlike a read, a write to the wrong
/// process cannot be thrown away. See [`ProcessMemory`](crate::ProcessMemory).
///
/// [getsockname(2)]: https://man7.org/linux/man-pages/man2/getsockname.2.html
/// [getpeername(2)]: https://man7.org/linux/man-pages/man2/getpeername.2.html
/// [accept(2)]: https://man7.org/linux/man-pages/man2/accept.2.html
#[doc(alias = "move_addr_to_user")]
pub fn store_name(
    mem: &(impl ReadMemory + WriteMemory + ?Sized),
    name: &RawSockAddr,
    at: ForeignAddr,
    len_at: ForeignAddr,
) -> Result<(), StoreError> {
    let mut room = [0; 4];
    if mem.read(len_at, &mut room)? != room.len() {
        return Err(StoreError::Fault);
    }
    let (kept, full) = truncate_for_caller(name, i32::from_ne_bytes(room))?;
    let written = mem.write(len_at, &full.to_ne_bytes())?;
    if written != room.len() {
        // The kernel's store of an `int` happens as a whole or not at all.
        mem.write(len_at, room.get(..written).unwrap_or_default()).ok();
        return Err(StoreError::Fault);
    }
    if !kept.is_empty() && mem.write(at, kept)? != kept.len() {
        return Err(StoreError::Fault);
    }
    Ok(())
}

/// Why a name could not be stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The caller announced a buffer of negative length.
    #[error("buffer length {len} is negative")]
    NegativeLength {
        /// The announced length.
        len: i32,
    },
    /// A pointer does not lead to enough readable or writable memory.
    #[error("the buffer or its length is not in accessible memory")]
    Fault,
    /// The caller has ended.
    #[error("the process is gone")]
    Gone,
    /// This process may not write the caller's memory.
    #[error("no permission to write the process's memory")]
    Denied,
    /// The read of the length failed for a reason on this side.
    #[error("process_vm_readv failed")]
    ReadCall {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A write failed for a reason on this side.
    #[error("process_vm_writev failed")]
    WriteCall {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// What the kernel would have answered the caller, where the caller is at fault:
    /// `EINVAL` or `EFAULT`. `None` where the caller is not.
    #[must_use]
    pub const fn errno(&self) -> Option<i32> {
        match self {
            Self::NegativeLength { .. } => Some(EINVAL),
            Self::Fault => Some(EFAULT),
            Self::Gone | Self::Denied | Self::ReadCall { .. } | Self::WriteCall { .. } => None,
        }
    }
}

impl From<TruncateError> for StoreError {
    fn from(error: TruncateError) -> Self {
        match error {
            TruncateError::NegativeLength { len } => Self::NegativeLength { len },
        }
    }
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Fault => Self::Fault,
            ReadError::Gone => Self::Gone,
            ReadError::Denied => Self::Denied,
            ReadError::ReadCall { source } => Self::ReadCall { source },
        }
    }
}

impl From<WriteError> for StoreError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Fault => Self::Fault,
            WriteError::Gone => Self::Gone,
            WriteError::Denied => Self::Denied,
            WriteError::WriteCall { source } => Self::WriteCall { source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FakeMemory;

    const AT: ForeignAddr = ForeignAddr::new(0x1000);
    const LEN_AT: ForeignAddr = ForeignAddr::new(0x2000);
    const NAME: &[u8] = b"0123456789abcdef";

    fn name() -> RawSockAddr {
        RawSockAddr::from_bytes(NAME).unwrap()
    }

    fn memory(room: i32, mapped: usize) -> FakeMemory {
        FakeMemory::new().map(AT, &vec![b'.'; mapped]).map(LEN_AT, &room.to_ne_bytes())
    }

    fn len(memory: &FakeMemory) -> i32 {
        let mut len = [0; 4];
        assert_eq!(memory.read(LEN_AT, &mut len).unwrap(), 4);
        i32::from_ne_bytes(len)
    }

    fn text(memory: &FakeMemory) -> String {
        let mut bytes = [0; 32];
        let read = memory.read(AT, &mut bytes).unwrap_or(0);
        String::from_utf8(bytes[..read].to_vec()).unwrap()
    }

    #[test]
    fn stores_what_fits_and_tells_the_full_length() {
        for (room, stored) in [
            (0, "...................."),
            (1, "0..................."),
            (15, "0123456789abcde....."),
            (16, "0123456789abcdef...."),
            (i32::MAX, "0123456789abcdef...."),
        ] {
            let memory = memory(room, 20);
            store_name(&memory, &name(), AT, LEN_AT).unwrap();
            assert_eq!((text(&memory).as_str(), len(&memory)), (stored, 16), "{room}");
        }
    }

    #[test]
    fn without_room_the_pointer_is_not_looked_at() {
        let memory = memory(0, 0);
        store_name(&memory, &name(), ForeignAddr::new(0), LEN_AT).unwrap();
        assert_eq!(len(&memory), 16);
        store_name(&memory, &RawSockAddr::default(), ForeignAddr::new(0), LEN_AT).unwrap();
        assert_eq!(len(&memory), 0);
    }

    #[test]
    fn a_negative_length_changes_nothing() {
        for room in [-1, i32::MIN] {
            let memory = memory(room, 4);
            let error = store_name(&memory, &name(), AT, LEN_AT).unwrap_err();
            assert!(matches!(error, StoreError::NegativeLength { len } if len == room));
            assert_eq!(error.errno(), Some(EINVAL));
            assert_eq!((text(&memory).as_str(), len(&memory)), ("....", room));
        }
    }

    #[test]
    fn a_name_without_memory_is_a_fault_after_the_length_was_told() {
        let memory = memory(99, 3);
        let error = store_name(&memory, &name(), AT, LEN_AT).unwrap_err();
        assert_eq!(error.errno(), Some(EFAULT));
        assert_eq!((text(&memory).as_str(), len(&memory)), ("012", 16));
    }

    #[test]
    fn a_length_without_memory_is_a_fault() {
        for at in [0, 1, 0x2003, u64::MAX] {
            let memory = memory(16, 20);
            let error = store_name(&memory, &name(), AT, ForeignAddr::new(at)).unwrap_err();
            assert!(matches!(error, StoreError::Fault), "{error:?}");
            assert_eq!(text(&memory), "....................");
        }
    }

    /// Memory of which only a first part can be written.
    struct Half(FakeMemory);

    impl ReadMemory for Half {
        fn read(&self, at: ForeignAddr, buf: &mut [u8]) -> Result<usize, ReadError> {
            self.0.read(at, buf)
        }
    }

    impl WriteMemory for Half {
        fn write(&self, at: ForeignAddr, bytes: &[u8]) -> Result<usize, WriteError> {
            self.0.write(at, &bytes[..bytes.len().min(2)])
        }
    }

    #[test]
    fn a_length_is_never_half_written() {
        let half = Half(memory(0x0102_0304, 20));
        let error = store_name(&half, &name(), AT, LEN_AT).unwrap_err();
        assert!(matches!(error, StoreError::Fault));
        assert_eq!(len(&half.0), 0x0102_0304);
    }

    #[test]
    fn what_is_no_fault_of_the_caller_has_no_errno() {
        let memory = memory(16, 20);
        memory.set_denied();
        let error = store_name(&memory, &name(), AT, LEN_AT).unwrap_err();
        assert!(matches!(error, StoreError::Denied) && error.errno().is_none());
        memory.set_gone();
        let error = store_name(&memory, &name(), AT, LEN_AT).unwrap_err();
        assert!(matches!(error, StoreError::Gone) && error.errno().is_none());
        let source = || io::ErrorKind::Other.into();
        assert_eq!(StoreError::from(ReadError::ReadCall { source: source() }).errno(), None);
        assert_eq!(StoreError::from(WriteError::WriteCall { source: source() }).errno(), None);
    }
}
