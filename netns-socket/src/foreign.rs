//! Descriptors out of another process.
//!
//! A [`PidFd`] names one *thread* where the kernel can do so (`PIDFD_THREAD`, Linux 6.9), since a
//! thread may have a descriptor table of its own and a seccomp notification names the thread.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::lines::find_line;

/// A handle of one thread, or of its thread group on kernels before 6.9.
///
/// Readable in `poll(2)` once what it names has exited. See [pidfd_open(2)].
///
/// [pidfd_open(2)]: https://man7.org/linux/man-pages/man2/pidfd_open.2.html
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens a handle of thread `tid`, an id in the caller's pid namespace.
    ///
    /// Before Linux 6.9 a pidfd can only name a thread group, so the handle names the group of
    /// `tid`: a thread that has unshared its descriptor table is then seen with the table of the
    /// group's leader. [`names_threads`](Self::names_threads) says which it is.
    ///
    /// # Errors
    /// [`PidFdError::Gone`] if there is no such thread, else the call that failed.
    ///
    /// # Races
    /// Ids are reused. The caller proves that the thread is the one it means *after* this call,
    /// for example with `SECCOMP_IOCTL_NOTIF_ID_VALID`.
    #[doc(alias = "PIDFD_THREAD")]
    pub fn open(tid: i32) -> Result<Self, PidFdError> {
        let pid = pid(tid)?;
        if THREADS.load(Ordering::Relaxed) != NO {
            match pidfd_open(pid, PIDFD_THREAD) {
                Ok(fd) => {
                    THREADS.store(YES, Ordering::Relaxed);
                    return Ok(Self(fd));
                }
                // A positive id leaves only the flag for the kernel to object to.
                Err(Errno::INVAL) if THREADS.load(Ordering::Relaxed) == UNKNOWN => {
                    THREADS.store(NO, Ordering::Relaxed);
                }
                Err(errno) => return Err(PidFdError::from_open(errno)),
            }
        }
        Self::open_group(tid)
    }

    /// Whether handles name single threads on this kernel; `None` before the first one was opened.
    #[must_use]
    pub fn names_threads() -> Option<bool> {
        match THREADS.load(Ordering::Relaxed) {
            YES => Some(true),
            NO => Some(false),
            _ => None,
        }
    }

    /// Takes a duplicate of descriptor `number` of the thread.
    ///
    /// The number is the container's and may be any value. The duplicate is close-on-exec and
    /// shares its file description with the original: a change of its status flags is seen by the
    /// target. See [pidfd_getfd(2)].
    ///
    /// # Errors
    /// Only what is wrong on our side, such as no free descriptor. What the target did is a
    /// [`Taken`].
    ///
    /// [pidfd_getfd(2)]: https://man7.org/linux/man-pages/man2/pidfd_getfd.2.html
    pub fn take_fd(&self, number: i32) -> Result<Taken, TakeFdError> {
        if number < 0 {
            return Ok(Taken::Closed);
        }
        match pidfd_getfd(&self.0, number, PidfdGetfdFlags::empty()) {
            Ok(fd) => Ok(Taken::Fd(fd)),
            // Our own descriptor is open as long as `self` lives, so this is about the target's.
            // Before Linux 6.9 a thread that is exiting can also show as this.
            Err(Errno::BADF) => Ok(Taken::Closed),
            Err(Errno::SRCH) => Ok(Taken::Gone),
            Err(Errno::PERM) => Ok(Taken::Denied),
            Err(source) => Err(TakeFdError::PidfdGetfdCall { source }),
        }
    }

    /// The handle's descriptor, to poll for the exit of what it names.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Opens a handle of the thread group of `tid`, as [`open`](Self::open) does before Linux 6.9.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[doc(hidden)]
    pub fn open_group(tid: i32) -> Result<Self, PidFdError> {
        let leader = group_of(tid)?;
        pidfd_open(pid(leader)?, PidfdFlags::empty()).map(Self).map_err(PidFdError::from_open)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What became of an attempt to take a descriptor.
#[derive(Debug)]
#[must_use]
pub enum Taken {
    /// A duplicate of the descriptor.
    Fd(OwnedFd),
    /// The target has no such descriptor (EBADF).
    Closed,
    /// The target has exited (ESRCH).
    Gone,
    /// We may not inspect the target (EPERM): its memory belongs to a user namespace above ours,
    /// or a security module objects.
    Denied,
}

/// A handle of a thread could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PidFdError {
    /// Not the id of a thread: ids are positive, and 0 is what a notification carries for a thread
    /// outside the receiver's pid namespace.
    #[error("{tid} is not a thread id")]
    Invalid {
        /// What was given.
        tid: i32,
    },
    /// There is no such thread.
    #[error("the thread is gone")]
    Gone,
    /// The kernel refused the handle.
    #[error("pidfd_open failed")]
    PidfdOpenCall {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The thread's group could not be found out.
    #[error("could not read the status of the thread")]
    ReadStatus {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl PidFdError {
    fn from_open(errno: Errno) -> Self {
        match errno {
            Errno::SRCH => Self::Gone,
            source => Self::PidfdOpenCall { source },
        }
    }
}

/// A descriptor could not be taken for a reason on our side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeFdError {
    /// The call failed.
    #[error("pidfd_getfd failed")]
    PidfdGetfdCall {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
}

fn pid(tid: i32) -> Result<Pid, PidFdError> {
    // `from_raw` requires that the id is not negative.
    (tid > 0).then(|| Pid::from_raw(tid)).flatten().ok_or(PidFdError::Invalid { tid })
}

/// The thread group of a thread: `Tgid` of its status file.
///
/// # Errors
/// [`PidFdError::Gone`] or [`PidFdError::ReadStatus`].
pub fn group_of(tid: i32) -> Result<i32, PidFdError> {
    let file = fs::File::open(format!("/proc/{tid}/status"));
    let group = file.and_then(|status| find_line(status, parse_tgid));
    group
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => PidFdError::Gone,
            _ if source.raw_os_error() == Some(libc::ESRCH) => PidFdError::Gone,
            _ => PidFdError::ReadStatus { source },
        })?
        .ok_or(PidFdError::Gone)
}

/// The first line is `Name:`, which the target chooses, but the kernel escapes line breaks.
pub(crate) fn parse_tgid(line: &[u8]) -> Option<i32> {
    str::from_utf8(line.strip_prefix(b"Tgid:")?).ok()?.trim().parse().ok()
}

/// `PIDFD_THREAD` is `O_EXCL`.
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());

/// Whether `PIDFD_THREAD` works here. Threads that race find the same answer.
static THREADS: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_read_from_its_own_line() {
        let group = |status: &str| find_line(status.as_bytes(), parse_tgid).unwrap();
        assert_eq!(group("Name:\tx\nUmask:\t0022\nTgid:\t42\nPid:\t43\n"), Some(42));
        assert_eq!(group("Name:\tTgid:\t7\nTgid:\t42\n"), Some(42));
        assert_eq!(group("Name:\tx\n"), None);
    }

    #[test]
    fn ids_that_name_no_thread_are_refused() {
        for tid in [0, -1, i32::MIN] {
            assert!(matches!(PidFd::open(tid), Err(PidFdError::Invalid { tid: t }) if t == tid));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn without_thread_handles_the_group_is_opened() {
        let handle = PidFd::open_group(std::process::id().cast_signed()).unwrap();
        assert!(matches!(handle.take_fd(-1), Ok(Taken::Closed)));
        assert!(matches!(handle.take_fd(i32::MAX), Ok(Taken::Closed)));
    }
}
