//! The memory of a live process, through [process_vm_readv(2)].
//!
//! One call copies the bytes without stopping the target and without a
//! descriptor to open and keep.
//!
//! [process_vm_readv(2)]: https://man7.org/linux/man-pages/man2/process_vm_readv.2.html

use std::io::{IoSlice, IoSliceMut};

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

use crate::memory::{ForeignAddr, ReadError, ReadMemory, WriteError, WriteMemory};

/// The address space of the thread with a given id.
///
/// Requires ptrace access to the target (`PTRACE_MODE_ATTACH_REALCREDS`), which
/// the owner of a container's user namespace has over the processes in it.
///
/// # Races
///
/// A thread id names whoever carries it *now*. Once the thread has ended, the
/// same number can stand for another process. What was read counts only after a
/// check, made after the read, that the trapped call is still pending
/// (`SECCOMP_IOCTL_NOTIF_ID_VALID`): as long as it is, its thread was alive.
///
/// # Blocking
///
/// A page that is not resident is faulted in on the calling thread. Where the
/// target has mapped a file whose server does not answer (FUSE, a network file
/// system), or memory registered with a `userfaultfd` that traps kernel faults
/// too, the call waits for that server, and only a fatal signal ends the wait.
/// There is no non-blocking form. A caller that serves several targets has to
/// expect this from a hostile one.
///
/// # Differences from the kernel's own copy
///
/// Memory of devices (`VM_IO`, `VM_PFNMAP`) and pages that are executable but not
/// readable cannot be read this way, though a system call of the target could
/// read some of them. They come out as [`ReadError::Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessMemory {
    tid: Pid,
}

impl ProcessMemory {
    /// Names the address space of thread `tid`, as numbered in this process's pid
    /// namespace.
    ///
    /// No check is made here: an id that is in use by no thread reads as
    /// [`ReadError::Gone`].
    #[must_use]
    pub fn of(tid: i32) -> Self {
        Self { tid: Pid::from_raw(tid) }
    }
}

impl ReadMemory for ProcessMemory {
    #[doc(alias = "process_vm_readv")]
    fn read(&self, at: ForeignAddr, buf: &mut [u8]) -> Result<usize, ReadError> {
        let Some(remote) = remote(at, buf.len()) else { return Err(ReadError::Fault) };
        process_vm_readv(self.tid, &mut [IoSliceMut::new(buf)], &[remote]).map_err(|errno| {
            match errno {
                Errno::EFAULT => ReadError::Fault,
                Errno::ESRCH => ReadError::Gone,
                Errno::EPERM => ReadError::Denied,
                other => ReadError::ReadCall { source: other.into() },
            }
        })
    }
}

impl WriteMemory for ProcessMemory {
    #[doc(alias = "process_vm_writev")]
    fn write(&self, at: ForeignAddr, bytes: &[u8]) -> Result<usize, WriteError> {
        let Some(remote) = remote(at, bytes.len()) else { return Err(WriteError::Fault) };
        process_vm_writev(self.tid, &[IoSlice::new(bytes)], &[remote]).map_err(
            |errno| match errno {
                Errno::EFAULT => WriteError::Fault,
                Errno::ESRCH => WriteError::Gone,
                Errno::EPERM => WriteError::Denied,
                other => WriteError::WriteCall { source: other.into() },
            },
        )
    }
}

/// `None` for an address beyond what this machine can address: no process can
/// have anything mapped there.
fn remote(at: ForeignAddr, len: usize) -> Option<RemoteIoVec> {
    Some(RemoteIoVec { base: usize::try_from(at.raw()).ok()?, len })
}
