//! What the running kernel can do, found by asking it.

use rustix::io::Errno;
use serde::Serialize;

use crate::sys;

/// What the running kernel can do. Printable and serialisable, for a report.
///
/// A kernel version says little where distributions backport and seccomp(2) may itself be filtered,
/// so everything here was tried. The last three need a listener to be tried on: they are `None`
/// from [`Features::probe`] and `Some` from [`Listener::features`](crate::Listener::features).
///
/// [`Reply::continue_call`](crate::Reply::continue_call) (Linux 5.5) cannot be tried without a
/// trapped call. Where `add_fd` is there, it is too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Features {
    /// Filters may notify user space (Linux 5.0).
    pub user_notif: bool,
    /// The sizes of the kernel's structures (Linux 5.0).
    pub notif_sizes: Option<NotifSizes>,
    /// A listener and thread synchronisation may be asked for together (Linux 5.7).
    pub tsync_esrch: bool,
    /// [`Filter::wait_killable_recv`](crate::Filter::wait_killable_recv) (Linux 5.19).
    pub wait_killable_recv: bool,
    /// [`Notification::add_fd`](crate::Notification::add_fd) (Linux 5.9).
    pub add_fd: Option<bool>,
    /// [`Notification::add_fd_and_reply`](crate::Notification::add_fd_and_reply) (Linux 5.14).
    pub add_fd_and_reply: Option<bool>,
    /// [`Listener::set_sync_wake_up`](crate::Listener::set_sync_wake_up) (Linux 6.6).
    pub sync_wake_up: Option<bool>,
}

/// The sizes of the kernel's structures, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NotifSizes {
    /// `struct seccomp_notif`.
    pub notif: u16,
    /// `struct seccomp_notif_resp`.
    pub resp: u16,
    /// `struct seccomp_data`.
    pub data: u16,
}

impl Features {
    /// Asks for what can be asked without a listener. Changes nothing, needs no privilege.
    ///
    /// Where seccomp(2) is forbidden, everything shows as missing.
    pub fn probe() -> Self {
        Self {
            user_notif: sys::action_available(libc::SECCOMP_RET_USER_NOTIF).is_ok(),
            notif_sizes: sys::notif_sizes().ok().map(|sizes| NotifSizes {
                notif: sizes.seccomp_notif,
                resp: sizes.seccomp_notif_resp,
                data: sizes.seccomp_data,
            }),
            tsync_esrch: knows(libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH),
            // Known or not, without a listener this flag is invalid.
            wait_killable_recv: knows(
                libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
                    | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            ),
            add_fd: None,
            add_fd_and_reply: None,
            sync_wake_up: None,
        }
    }
}

/// Flags are checked before the program is read, which is a null pointer here.
fn knows(flags: libc::c_ulong) -> bool {
    sys::probe_filter_flags(flags) == Errno::FAULT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn an_unheard_of_flag_is_unknown() {
        assert!(!knows(1 << 30));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn serialises_unasked_as_null() {
        let json = serde_json::to_value(Features::probe()).unwrap();
        assert!(json["user_notif"].is_boolean());
        assert!(json["add_fd"].is_null());
    }
}
