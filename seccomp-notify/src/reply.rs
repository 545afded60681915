//! What the trapped call is to return.

use rustix::io::Errno;

use crate::notification::NotifId;

/// An answer: a return value, an errno, or leave to go ahead. Nothing else can be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Value(i64),
    Errno(Errno),
    Continue,
}

impl Reply {
    /// The trapped call does not run and returns `value`.
    ///
    /// The kernel hands the value over as it is, and user space takes -4095..=-1 for an errno:
    /// say [`Reply::errno`] for those.
    pub const fn value(value: i64) -> Self {
        Self(Kind::Value(value))
    }

    /// The trapped call does not run and fails with `errno`.
    pub const fn errno(errno: Errno) -> Self {
        Self(Kind::Errno(errno))
    }

    /// The trapped call runs as if it had not been trapped (since Linux 5.5).
    ///
    /// # Races
    ///
    /// **This cannot enforce a policy.** The kernel reads the arguments again when the call runs.
    /// Whatever a pointer argument was found to point to may by then have been rewritten by
    /// another thread of the target, by a process that shares the memory, or by another mapping of
    /// the same file; whatever a descriptor number was found to be may have been closed and opened
    /// anew. So a check followed by this answer is a time-of-check/time-of-use hole, as
    /// [seccomp_unotify(2)] explains at length. It is right in two cases only: for calls that the
    /// supervisor has no wish to restrict, and where some other layer of the kernel (a later
    /// filter, Landlock, permissions) already refuses what must not happen. To enforce, act on
    /// the supervisor's own copy and answer with [`Reply::value`] or [`Reply::errno`].
    ///
    /// If another filter of the target's chain refuses the call, that filter wins.
    ///
    /// [seccomp_unotify(2)]: https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html
    #[doc(alias = "SECCOMP_USER_NOTIF_FLAG_CONTINUE")]
    pub const fn continue_call() -> Self {
        Self(Kind::Continue)
    }

    /// The structure for the kernel.
    pub(crate) fn to_raw(self, id: NotifId) -> libc::seccomp_notif_resp {
        let id = id.as_u64();
        match self.0 {
            Kind::Value(val) => libc::seccomp_notif_resp { id, val, error: 0, flags: 0 },
            Kind::Errno(errno) => {
                libc::seccomp_notif_resp { id, val: 0, error: -errno.raw_os_error(), flags: 0 }
            }
            Kind::Continue => libc::seccomp_notif_resp { id, val: 0, error: 0, flags: CONTINUE },
        }
    }
}

/// The same bit as `libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE`, in the width of the field.
const CONTINUE: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_forms() {
        let id = NotifId::new(7);
        let raw = |reply: Reply| {
            let raw = reply.to_raw(id);
            (raw.id, raw.val, raw.error, raw.flags)
        };
        assert_eq!(raw(Reply::value(-5_000_000_000)), (7, -5_000_000_000, 0, 0));
        assert_eq!(raw(Reply::errno(Errno::CONNREFUSED)), (7, 0, -libc::ECONNREFUSED, 0));
        assert_eq!(raw(Reply::continue_call()), (7, 0, 0, 1));
        assert_eq!(libc::c_ulong::from(CONTINUE), libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE);
    }
}
