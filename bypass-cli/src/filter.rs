//! The traps: what `run` installs and what `profile` prints, from one table.

use seccomp_notify::{Condition, Errno, Filter, Test};

/// What happens to a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The supervisor is asked.
    Notify,
    /// It fails at once.
    Refuse(Errno),
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) number: i64,
    pub(crate) action: Action,
    /// An argument, a mask and the value it must have under it. The mask also cuts off
    /// the upper half of the register, which means nothing for an `int`.
    pub(crate) when: Option<(u32, u64, u64)>,
}

const FASTOPEN: u64 = libc::MSG_FASTOPEN as u64;
const MPTCP: u64 = libc::IPPROTO_MPTCP as u64;

/// - `connect`, `bind` and `listen` decide where a socket goes and are asked for.
/// - `epoll_create` is let through. That it was called tells which containers have epolls
///   that might watch a socket when it is switched, so that all others need not be searched.
/// - `MSG_FASTOPEN` connects a socket within a send: refused as by a kernel that has
///   client-side fast open switched off, after which programs connect first.
/// - `io_uring` makes all of these calls past the filter: refused as by a kernel that
///   was built without it.
/// - An MPTCP socket cannot be bypassed: refused as by a kernel without MPTCP, after
///   which programs take TCP.
pub(crate) const RULES: &[Rule] = &[
    Rule { name: "connect", number: libc::SYS_connect, action: Action::Notify, when: None },
    Rule { name: "bind", number: libc::SYS_bind, action: Action::Notify, when: None },
    Rule { name: "listen", number: libc::SYS_listen, action: Action::Notify, when: None },
    #[cfg(target_arch = "x86_64")]
    Rule {
        name: "epoll_create",
        number: libc::SYS_epoll_create,
        action: Action::Notify,
        when: None,
    },
    Rule {
        name: "epoll_create1",
        number: libc::SYS_epoll_create1,
        action: Action::Notify,
        when: None,
    },
    Rule {
        name: "sendto",
        number: libc::SYS_sendto,
        action: Action::Refuse(Errno::OPNOTSUPP),
        when: Some((3, FASTOPEN, FASTOPEN)),
    },
    Rule {
        name: "sendmsg",
        number: libc::SYS_sendmsg,
        action: Action::Refuse(Errno::OPNOTSUPP),
        when: Some((2, FASTOPEN, FASTOPEN)),
    },
    Rule {
        name: "sendmmsg",
        number: libc::SYS_sendmmsg,
        action: Action::Refuse(Errno::OPNOTSUPP),
        when: Some((3, FASTOPEN, FASTOPEN)),
    },
    Rule {
        name: "io_uring_setup",
        number: libc::SYS_io_uring_setup,
        action: Action::Refuse(Errno::NOSYS),
        when: None,
    },
    Rule {
        name: "socket",
        number: libc::SYS_socket,
        action: Action::Refuse(Errno::PROTONOSUPPORT),
        when: Some((2, u32::MAX as u64, MPTCP)),
    },
];

/// The filter of `run`: the table for native calls, ENOSYS for every foreign one.
pub(crate) fn filter() -> Filter {
    RULES.iter().fold(Filter::allow_all(), |filter, rule| {
        let number = i32::try_from(rule.number).unwrap_or(-1);
        let when = rule
            .when
            .map(|(arg, mask, value)| Condition { arg, test: Test::MaskedEq { mask, value } });
        match (rule.action, when) {
            (Action::Notify, None) => filter.notify(number),
            (Action::Notify, Some(when)) => filter.notify_when(number, &[when]),
            (Action::Refuse(errno), None) => filter.errno(number, errno),
            (Action::Refuse(errno), Some(when)) => filter.errno_when(number, &[when], errno),
        }
    })
}
