//! Which descriptor to install in the target, where, and what came of it.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use thiserror::Error;

use crate::notification::{NotifId, Notification};
use crate::sys;

/// A descriptor of ours to be installed in the target's descriptor table (since Linux 5.9).
///
/// The target gets another descriptor for the *same open file*: offset, status flags and, for a
/// socket, everything else are shared with ours, which stays open.
#[derive(Debug, Clone, Copy)]
#[doc(alias = "seccomp_notif_addfd")]
pub struct AddFd<'fd> {
    source: BorrowedFd<'fd>,
    at: Option<u32>,
    cloexec: bool,
}

impl<'fd> AddFd<'fd> {
    /// Install at the lowest free number, not close-on-exec.
    pub const fn new(source: BorrowedFd<'fd>) -> Self {
        Self { source, at: None, cloexec: false }
    }

    /// Install at this number; whatever the target has open there is closed, as by dup2(2).
    ///
    /// # Races
    ///
    /// Number and file come apart at any time: another thread of the target may have put something
    /// else there since it was looked at, which is then what gets closed.
    #[doc(alias = "SECCOMP_ADDFD_FLAG_SETFD")]
    #[must_use]
    pub const fn at(self, number: u32) -> Self {
        Self { at: Some(number), ..self }
    }

    /// Whether the target's new descriptor is close-on-exec.
    #[must_use]
    pub const fn cloexec(self, on: bool) -> Self {
        Self { cloexec: on, ..self }
    }

    /// The structure for the kernel.
    pub(crate) fn to_raw(self, id: NotifId, send: bool) -> libc::seccomp_notif_addfd {
        libc::seccomp_notif_addfd {
            id: id.as_u64(),
            flags: if self.at.is_some() { SETFD } else { 0 } | if send { SEND } else { 0 },
            srcfd: sys::descriptor_number(&self.source),
            newfd: self.at.unwrap_or(0),
            newfd_flags: if self.cloexec { libc::O_CLOEXEC.cast_unsigned() } else { 0 },
        }
    }
}

/// What came of [`Notification::add_fd`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum AddFdOutcome {
    /// The target has the descriptor, under this number. Its call is still waiting.
    Installed(i32),
    /// The trapped call is over: the target died or was interrupted by a signal.
    TargetGone,
    /// A signal came to *us* first. Nothing was installed; the call may be repeated.
    Interrupted,
    /// The target's descriptor table does not take it: EBADF for a number at or beyond its
    /// RLIMIT_NOFILE, EMFILE when the table is full, EBUSY when another of its threads is just
    /// opening that number, or a security module's EACCES or EPERM.
    Refused(Errno),
}

/// What came of [`Notification::add_fd_and_reply`]; where no answer was given, the notification
/// comes back.
#[derive(Debug)]
#[must_use]
pub enum AddFdReplyOutcome {
    /// The target has the descriptor, and its call returns this number.
    Delivered(i32),
    /// The trapped call is over: the target died or was interrupted by a signal.
    TargetGone,
    /// A signal came to *us*, and the kernel does not tell how far it got: nothing may have
    /// happened, or the call returns the new number, or it returns 0 without a new descriptor.
    ///
    /// Answer the notification (or drop it): this reaches the target only in the first case, and
    /// gives [`AlreadyAnswered`](crate::ReplyError::AlreadyAnswered) or
    /// [`TargetGone`](crate::ReplyOutcome::TargetGone) in the others. A thread that uses this call
    /// does best to block signals.
    Interrupted(Notification),
    /// The target's descriptor table does not take it; see [`AddFdOutcome::Refused`].
    Refused {
        /// Why.
        errno: Errno,
        /// Still to be answered.
        notification: Notification,
    },
}

/// [`Notification::add_fd_and_reply`] failed for a reason that is not the target's state.
#[derive(Debug, Error)]
#[error("ADDFD ioctl with SEND failed")]
pub struct AddFdReplyError {
    /// Still to be answered.
    pub notification: Notification,
    /// What ioctl(2) gave; EINVAL where the kernel lacks `SEND` (before Linux 5.14).
    #[source]
    pub source: Errno,
}

/// An errno of ADDFD, by whose matter it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    TargetGone,
    Interrupted,
    Refused,
    Call,
}

impl Failure {
    pub(crate) fn of(errno: Errno) -> Self {
        match errno {
            // ENOENT before the request is queued, ESRCH when the call ends with it in the queue.
            Errno::NOENT | Errno::SRCH => Self::TargetGone,
            Errno::INTR => Self::Interrupted,
            Errno::BADF
            | Errno::MFILE
            | Errno::BUSY
            | Errno::NOMEM
            | Errno::ACCESS
            | Errno::PERM => Self::Refused,
            _ => Self::Call,
        }
    }
}

const SETFD: u32 = 1;
const SEND: u32 = 2;

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn raw_forms() {
        let file = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let id = NotifId::new(9);
        let base = AddFd::new(file.as_fd());
        let raw = |add: AddFd<'_>, send| {
            let raw = add.to_raw(id, send);
            assert_eq!(raw.id, 9);
            assert_eq!(raw.srcfd, sys::descriptor_number(&file));
            (raw.flags, raw.newfd, raw.newfd_flags)
        };
        let cloexec = libc::O_CLOEXEC.cast_unsigned();
        assert_eq!(raw(base, false), (0, 0, 0));
        assert_eq!(raw(base.at(0), false), (1, 0, 0));
        assert_eq!(raw(base.at(u32::MAX).cloexec(true), false), (1, u32::MAX, cloexec));
        assert_eq!(raw(base.cloexec(true), true), (2, 0, cloexec));
        assert_eq!(raw(base.at(5).cloexec(true).cloexec(false), true), (3, 5, 0));
    }

    #[test]
    fn flag_bits_are_the_kernels() {
        assert_eq!(libc::c_ulong::from(SETFD), libc::SECCOMP_ADDFD_FLAG_SETFD);
        assert_eq!(libc::c_ulong::from(SEND), libc::SECCOMP_ADDFD_FLAG_SEND);
    }

    #[test]
    fn failures_are_sorted_by_whose_matter_they_are() {
        assert_eq!(Failure::of(Errno::NOENT), Failure::TargetGone);
        assert_eq!(Failure::of(Errno::SRCH), Failure::TargetGone);
        assert_eq!(Failure::of(Errno::INTR), Failure::Interrupted);
        assert_eq!(Failure::of(Errno::BADF), Failure::Refused);
        assert_eq!(Failure::of(Errno::MFILE), Failure::Refused);
        assert_eq!(Failure::of(Errno::INVAL), Failure::Call);
        assert_eq!(Failure::of(Errno::INPROGRESS), Failure::Call);
    }
}
