//! Flags of descriptors and file descriptions: what `fcntl(2)` holds of a socket.

use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::io::Errno;

use crate::sys;

/// Status flags, owner and signal of a file description.
///
/// All of them belong to the description, not to the descriptor, so a duplicate taken from another
/// process shows the target's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileFlags {
    /// `O_NONBLOCK`
    pub nonblocking: bool,
    /// `O_APPEND`; sockets accept and ignore it.
    pub append: bool,
    /// `O_ASYNC`: send a signal when the socket becomes ready.
    pub async_: bool,
    /// Who gets that signal, and `SIGURG` (`F_GETOWN_EX`).
    pub owner: Option<Owner>,
    /// Which signal instead of `SIGIO`, 0 for that (`F_GETSIG`).
    pub signal: i32,
}

/// The receiver of a description's signals.
///
/// Ids are of the caller's pid namespace on both sides; the kernel translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    kind: i32,
    id: i32,
}

impl FileFlags {
    /// Reads the flags of a description.
    ///
    /// # Errors
    /// [`FileFlagsError`] with the operation that failed.
    pub fn capture(fd: impl AsFd) -> Result<Self, FileFlagsError> {
        let fd = fd.as_fd();
        let flags = fcntl_getfl(fd).map_err(failed("F_GETFL"))?;
        let (kind, id) = sys::owner(fd).map_err(failed("F_GETOWN_EX"))?;
        Ok(Self {
            nonblocking: flags.contains(OFlags::NONBLOCK),
            append: flags.contains(OFlags::APPEND),
            async_: flags.bits() & ASYNC != 0,
            // 0 means nobody, or somebody whom our pid namespace does not have.
            owner: (id != 0).then_some(Owner { kind, id }),
            // Without an owner there is nobody to get it.
            signal: if id == 0 { 0 } else { sys::signal(fd).map_err(failed("F_GETSIG"))? },
        })
    }

    /// Gives a fresh description these flags.
    ///
    /// The kernel checks signals against the credentials of whoever set the owner: they arrive only
    /// if we may signal the owner ourselves. With `O_ASYNC` a signal's `si_fd` is the number that
    /// `fd` has *here*.
    ///
    /// # Errors
    /// [`FileFlagsError`]; ESRCH of `F_SETOWN_EX` means that the owner has gone.
    pub fn apply(&self, fd: impl AsFd) -> Result<(), FileFlagsError> {
        let fd = fd.as_fd();
        if let Some(Owner { kind, id }) = self.owner {
            sys::set_owner(fd, kind, id).map_err(failed("F_SETOWN_EX"))?;
        }
        if self.signal != 0 {
            sys::set_signal(fd, self.signal).map_err(failed("F_SETSIG"))?;
        }
        let mut flags = fcntl_getfl(fd).map_err(failed("F_GETFL"))?;
        let before = flags;
        flags.set(OFlags::NONBLOCK, self.nonblocking);
        flags.set(OFlags::APPEND, self.append);
        flags.set(OFlags::from_bits_retain(ASYNC), self.async_);
        if flags == before {
            return Ok(());
        }
        fcntl_setfl(fd, flags).map_err(failed("F_SETFL"))
    }
}

/// Flags of a description could not be read or set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileFlagsError {
    /// The call failed.
    #[error("fcntl({operation}) failed")]
    FcntlCall {
        /// C name of the operation.
        operation: &'static str,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
}

/// Whether descriptor `number` of thread `tid` is closed on exec; `None` if there is no such
/// descriptor or thread.
///
/// A duplicate does not show this flag of the original; the thread's `/proc/TID/fdinfo` does. See
/// [proc_pid_fdinfo(5)].
///
/// # Errors
/// [`ReadCloexecError`] if we may not look, or the file does not have the form it should.
///
/// # Races
/// The answer is about whatever has that number when it is asked.
///
/// [proc_pid_fdinfo(5)]: https://man7.org/linux/man-pages/man5/proc_pid_fdinfo.5.html
pub fn read_cloexec(tid: i32, number: i32) -> Result<Option<bool>, ReadCloexecError> {
    if tid <= 0 || number < 0 {
        return Ok(None);
    }
    let path = format!("/proc/{tid}/fdinfo/{number}");
    let file = match open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
        Err(source) => return Err(ReadCloexecError::OpenFdinfo { source }),
    };
    // The flags stand in the first lines, which the kernel gives out with the first read.
    let mut start = [0; 64];
    let len = match rustix::io::read(&file, &mut start) {
        Ok(len) => len,
        Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
        Err(source) => return Err(ReadCloexecError::ReadFdinfo { source }),
    };
    let start = start.get(..len).unwrap_or_default();
    parse_cloexec(start).map(Some).ok_or(ReadCloexecError::Malformed { len })
}

/// The close-on-exec flag of another process's descriptor could not be found out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadCloexecError {
    /// The file could not be opened.
    #[error("could not open the descriptor's fdinfo")]
    OpenFdinfo {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The file could not be read.
    #[error("could not read the descriptor's fdinfo")]
    ReadFdinfo {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The file has no line with flags in octal.
    #[error("{len} bytes of fdinfo hold no flags")]
    Malformed {
        /// Length of the file.
        len: usize,
    },
}

pub(crate) fn parse_cloexec(info: &[u8]) -> Option<bool> {
    let value = info.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"flags:"))?;
    let flags = u64::from_str_radix(std::str::from_utf8(value).ok()?.trim(), 8).ok()?;
    Some(flags & u64::from(OFlags::CLOEXEC.bits()) != 0)
}

fn failed(operation: &'static str) -> impl Fn(Errno) -> FileFlagsError {
    move |source| FileFlagsError::FcntlCall { operation, source }
}

/// `O_ASYNC`, which rustix does not name on Linux.
const ASYNC: u32 = libc::O_ASYNC.cast_unsigned();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_octal() {
        assert_eq!(parse_cloexec(b"pos:\t0\nflags:\t02000002\nmnt_id:\t9\n"), Some(true));
        assert_eq!(parse_cloexec(b"pos:\t0\nflags:\t02\n"), Some(false));
        assert_eq!(parse_cloexec(b"pos:\t0\nflags:\t9\n"), None);
        assert_eq!(parse_cloexec(b"pos:\t0\n"), None);
        assert_eq!(parse_cloexec(b""), None);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn numbers_that_nothing_can_have_are_nobody() {
        assert!(matches!(read_cloexec(1, -1), Ok(None)));
        assert!(matches!(read_cloexec(0, 0), Ok(None)));
        assert!(matches!(read_cloexec(i32::MAX, 0), Ok(None)));
    }
}
