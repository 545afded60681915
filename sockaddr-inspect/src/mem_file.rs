//! Another process's memory by way of its `/proc/TID/mem`.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;

use crate::memory::{ForeignAddr, ReadError, ReadMemory, WriteError, WriteMemory};

/// The memory of one process, held open.
///
/// Unlike [`ProcessMemory`](crate::ProcessMemory), which names a thread by its id anew with every
/// access, this stays with the address space that it was opened for, whatever becomes of the id. So
/// a supervisor that opens it, *then* makes sure that its notification is alive, writes into no
/// other process even if the target is killed at the worst moment. It costs an open and a close.
///
/// # Races
/// After an execve(2) or the end of the target, accesses reach nobody
/// ([`ReadError::Gone`], [`WriteError::Gone`]).
///
/// # What differs from the kernel's own accesses
/// As a debugger's, a write goes through to private pages that the target itself may only read
/// (`FOLL_FORCE`; see [proc_pid_mem(5)]). A system call of the target would fail with EFAULT there.
///
/// [proc_pid_mem(5)]: https://man7.org/linux/man-pages/man5/proc_pid_mem.5.html
#[derive(Debug)]
pub struct MemoryFile(File);

impl MemoryFile {
    /// Opens the memory of the process that thread `tid` belongs to, for reading and writing.
    ///
    /// # Errors
    /// [`ReadError::Gone`] if there is no such thread, [`ReadError::Denied`] without the right to
    /// trace it, [`ReadError::ReadCall`] otherwise.
    pub fn open(tid: i32) -> Result<Self, ReadError> {
        let file = OpenOptions::new().read(true).write(true).open(format!("/proc/{tid}/mem"));
        file.map(Self).map_err(|source| match source.kind() {
            ErrorKind::NotFound => ReadError::Gone,
            ErrorKind::PermissionDenied => ReadError::Denied,
            _ => ReadError::ReadCall { source },
        })
    }
}

impl ReadMemory for MemoryFile {
    fn read(&self, at: ForeignAddr, buf: &mut [u8]) -> Result<usize, ReadError> {
        if buf.is_empty() {
            return Ok(0);
        }
        match transfer(|| self.0.read_at(buf, at.raw())) {
            Ok(0) => Err(ReadError::Gone),
            Ok(read) => Ok(read),
            Err(source) if is_fault(&source) => Err(ReadError::Fault),
            Err(source) => Err(ReadError::ReadCall { source }),
        }
    }
}

impl WriteMemory for MemoryFile {
    fn write(&self, at: ForeignAddr, bytes: &[u8]) -> Result<usize, WriteError> {
        if bytes.is_empty() {
            return Ok(0);
        }
        match transfer(|| self.0.write_at(bytes, at.raw())) {
            Ok(0) => Err(WriteError::Gone),
            Ok(written) => Ok(written),
            Err(source) if is_fault(&source) => Err(WriteError::Fault),
            Err(source) => Err(WriteError::WriteCall { source }),
        }
    }
}

/// pread(2) takes a signed offset, so an address in the upper half is EINVAL there; the kernel says
/// EIO where nothing is mapped.
fn is_fault(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EIO | EFAULT | EINVAL))
}

fn transfer(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

const EIO: i32 = 5;
const EFAULT: i32 = 14;
const EINVAL: i32 = 22;

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> MemoryFile {
        MemoryFile::open(std::process::id().cast_signed()).unwrap()
    }

    fn at<T: ?Sized>(value: &T) -> ForeignAddr {
        ForeignAddr::new((&raw const *value).addr() as u64)
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn bytes_are_read() {
        let there = *b"name";
        let mut here = [0; 4];
        assert_eq!(own().read(at(&there), &mut here).unwrap(), 4);
        assert_eq!(here, there);
        assert_eq!(own().read(ForeignAddr::new(0), &mut []).unwrap(), 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn nothing_is_where_nothing_is_mapped() {
        for wild in [0, 1 << 63, u64::MAX] {
            let wild = ForeignAddr::new(wild);
            assert!(matches!(own().read(wild, &mut [0]), Err(ReadError::Fault)), "{wild:?}");
            assert!(matches!(own().write(wild, &[0]), Err(WriteError::Fault)), "{wild:?}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn there_is_no_such_thread() {
        assert!(matches!(MemoryFile::open(i32::MAX), Err(ReadError::Gone)));
    }
}
