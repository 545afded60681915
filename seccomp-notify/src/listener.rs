//! The supervisor's end of a filter.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::io::Errno;

use crate::error::{OpenError, RecvError, SetFlagsError};
use crate::features::Features;
use crate::notification::Notification;
use crate::sys;

/// The supervisor's end of a filter: trapped calls of every thread under it arrive here.
///
/// Cheap to clone; all clones are the same descriptor. When the last descriptor for a listener
/// closes, every call that is or gets trapped fails with ENOSYS: the supervisor's death is the
/// target's outage, never an open gate.
///
/// Register it with an event loop through [`AsFd`]: it is readable when a notification is pending,
/// and hangs up (EPOLLHUP, since Linux 5.9) when the last thread under the filter has ended. After
/// a hang-up there is nothing left to receive: drop the listener.
#[derive(Debug, Clone)]
pub struct Listener {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    fd: OwnedFd,
    /// What was last asked for through this object, so that probing can ask for the same.
    sync_wake_up: AtomicBool,
}

impl Listener {
    /// Takes a descriptor as a listener, having checked that it is one and that the kernel's
    /// structures are those of this crate.
    ///
    /// # Errors
    ///
    /// [`OpenError`], and the descriptor is closed.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, OpenError> {
        check_sizes()?;
        check_is_listener(fd.as_fd())?;
        Ok(Self { shared: Arc::new(Shared { fd, sync_wake_up: AtomicBool::new(false) }) })
    }

    /// Takes the oldest pending notification.
    ///
    /// **Blocks** if none is pending, whatever O_NONBLOCK says: poll for readability first. Even
    /// then it may block for the next notification, if the one that made the listener readable was
    /// taken by another thread.
    ///
    /// # Errors
    ///
    /// [`RecvError::RecvCall`] if the ioctl fails for another reason than those in [`Received`].
    ///
    /// # Races
    ///
    /// A target that ends between poll and this call gives [`Received::TargetGone`]; one that ends
    /// later shows in the outcome of whatever is done with the notification.
    #[doc(alias = "SECCOMP_IOCTL_NOTIF_RECV")]
    pub fn recv(&self) -> Result<Received, RecvError> {
        match sys::notif_recv(self.borrow()) {
            Ok(raw) => Ok(Received::Notification(Notification::new(self.clone(), raw))),
            Err(Errno::NOENT) => Ok(Received::TargetGone),
            Err(Errno::INTR) => Ok(Received::Interrupted),
            Err(source) => Err(RecvError::RecvCall { source }),
        }
    }

    /// Whether target and supervisor wake each other synchronously (since Linux 6.6, commit
    /// 48a1084a8b74).
    ///
    /// With it the scheduler expects the waker to sleep next and tends to run both on one CPU,
    /// which takes the cross-CPU wake-up out of each round trip. Off on a new listener.
    ///
    /// # Errors
    ///
    /// [`SetFlagsError::SetFlagsCall`] for other failures than that of a kernel without the ioctl.
    #[doc(alias = "SECCOMP_IOCTL_NOTIF_SET_FLAGS")]
    #[doc(alias = "SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP")]
    pub fn set_sync_wake_up(&self, on: bool) -> Result<Support, SetFlagsError> {
        match sys::notif_set_flags(self.borrow(), if on { sys::SYNC_WAKE_UP } else { 0 }) {
            Ok(()) => {
                self.shared.sync_wake_up.store(on, Ordering::Relaxed);
                Ok(Support::Applied)
            }
            // Older kernels know neither the ioctl nor, then, the flag.
            Err(Errno::INVAL | Errno::NOTTY) => Ok(Support::Unsupported),
            Err(source) => Err(SetFlagsError::SetFlagsCall { source }),
        }
    }

    /// What this kernel can do, with the answers only a listener can give filled in.
    ///
    /// The probes install nothing and answer nothing. The one for synchronous wake-up sets it to
    /// what was last set through this object or its clones, or off if it never was.
    pub fn features(&self) -> Features {
        let sync = self.shared.sync_wake_up.load(Ordering::Relaxed);
        let sync_wake_up = matches!(self.set_sync_wake_up(sync), Ok(Support::Applied));
        Features {
            add_fd: Some(self.knows_addfd_flags(libc::SECCOMP_ADDFD_FLAG_SETFD)),
            add_fd_and_reply: Some(self.knows_addfd_flags(libc::SECCOMP_ADDFD_FLAG_SEND)),
            sync_wake_up: Some(sync_wake_up),
            ..Features::probe()
        }
    }

    pub(crate) fn borrow(&self) -> BorrowedFd<'_> {
        self.shared.fd.as_fd()
    }

    /// The kernel checks flags before it looks up the source, which can be none.
    fn knows_addfd_flags(&self, flags: libc::c_ulong) -> bool {
        let Ok(flags) = u32::try_from(flags) else { return false };
        let request =
            libc::seccomp_notif_addfd { id: 0, flags, srcfd: u32::MAX, newfd: 0, newfd_flags: 0 };
        sys::notif_addfd(self.borrow(), request) == Err(Errno::BADF)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.borrow()
    }
}

/// What came of [`Listener::recv`].
#[derive(Debug)]
#[must_use]
pub enum Received {
    /// A trapped call, waiting for its answer.
    Notification(Notification),
    /// The target ended, or its call was interrupted, before the notification could be taken; or
    /// no thread is left under the filter.
    TargetGone,
    /// A signal came to us first.
    Interrupted,
}

/// Whether the kernel knows what was asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Support {
    /// It does, and it is in force.
    Applied,
    /// It does not; nothing has changed.
    Unsupported,
}

/// The structures may grow in later kernels, which then want buffers of their size: such a kernel
/// needs a newer build of this crate. The answer cannot change while we run.
fn check_sizes() -> Result<(), OpenError> {
    static CHECKED: OnceLock<Result<(), OpenError>> = OnceLock::new();
    *CHECKED.get_or_init(|| {
        let sizes = sys::notif_sizes().map_err(|source| OpenError::SizesCall { source })?;
        let fits = usize::from(sizes.seccomp_notif) <= size_of::<libc::seccomp_notif>()
            && usize::from(sizes.seccomp_notif_resp) <= size_of::<libc::seccomp_notif_resp>();
        if !fits {
            return Err(OpenError::Sizes {
                notif: sizes.seccomp_notif,
                resp: sizes.seccomp_notif_resp,
            });
        }
        Ok(())
    })
}

/// Only a listener says ENOENT for a notification that does not exist. Ids count up from a random
/// 64-bit number, so at most one of two far apart can exist.
fn check_is_listener(fd: BorrowedFd<'_>) -> Result<(), OpenError> {
    let mut last = None;
    for id in [0, 1 << 63] {
        match sys::notif_id_valid(fd, id) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => last = Some(errno),
        }
    }
    Err(OpenError::NotAListener { source: last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn other_descriptors_are_not_listeners() {
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let file = std::fs::File::open("/").unwrap();
        for fd in [event, socket.into(), file.into()] {
            assert!(matches!(
                Listener::from_fd(fd),
                Err(OpenError::NotAListener { source: Some(_) })
            ));
        }
    }

    #[test]
    fn may_cross_threads() {
        const fn check<T: Send + Sync>() {}
        check::<Listener>();
        check::<Notification>();
    }
}
