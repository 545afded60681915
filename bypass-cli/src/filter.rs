//! The traps: what `run` installs and what `profile` prints, from one table.

use bypass_core::weaken::{self, Layer};
use seccomp_notify::{Condition, Errno, Filter, Test};

pub(crate) use crate::traps::Traps;

/// What happens to a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The supervisor is asked.
    Notify,
    /// It fails at once.
    Refuse(Errno),
}

/// What must hold for an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// It has this value under the mask. The mask also cuts off the upper half of the
    /// register, which means nothing for an `int`.
    Masked { arg: u32, mask: u64, value: u64 },
    /// Any of its 64 bits is set: it is a pointer, and not null.
    NonZero { arg: u32 },
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) number: i64,
    pub(crate) action: Action,
    /// All of these must hold.
    pub(crate) when: &'static [When],
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
/// - An IPv6 source route leads elsewhere than the destination that was judged, and takes no
///   privilege (for IPv4 it does): refused as an option, among those of RFC 2292 and with a flow
///   label.
const ALWAYS: &[Rule] = &[
    Rule { name: "connect", number: libc::SYS_connect, action: Action::Notify, when: &[] },
    Rule { name: "bind", number: libc::SYS_bind, action: Action::Notify, when: &[] },
    Rule { name: "listen", number: libc::SYS_listen, action: Action::Notify, when: &[] },
    #[cfg(target_arch = "x86_64")]
    Rule {
        name: "epoll_create",
        number: libc::SYS_epoll_create,
        action: Action::Notify,
        when: &[],
    },
    Rule {
        name: "epoll_create1",
        number: libc::SYS_epoll_create1,
        action: Action::Notify,
        when: &[],
    },
    Rule {
        name: "sendto",
        number: libc::SYS_sendto,
        action: Action::Refuse(Errno::OPNOTSUPP),
        when: &[When::Masked { arg: 3, mask: FASTOPEN, value: FASTOPEN }],
    },
    Rule {
        name: "sendmsg",
        number: libc::SYS_sendmsg,
        action: Action::Refuse(Errno::OPNOTSUPP),
        when: &[When::Masked { arg: 2, mask: FASTOPEN, value: FASTOPEN }],
    },
    Rule {
        name: "sendmmsg",
        number: libc::SYS_sendmmsg,
        action: Action::Refuse(Errno::OPNOTSUPP),
        when: &[When::Masked { arg: 3, mask: FASTOPEN, value: FASTOPEN }],
    },
    Rule {
        name: "io_uring_setup",
        number: libc::SYS_io_uring_setup,
        action: Action::Refuse(Errno::NOSYS),
        when: &[],
    },
    Rule {
        name: "socket",
        number: libc::SYS_socket,
        action: Action::Refuse(Errno::PROTONOSUPPORT),
        when: &[When::Masked { arg: 2, mask: INT, value: MPTCP }],
    },
    ipv6_option(&[IPV6, When::Masked { arg: 2, mask: INT, value: RTHDR }]),
    ipv6_option(&[IPV6, When::Masked { arg: 2, mask: INT, value: PKTOPTIONS }]),
    ipv6_option(&[IPV6, When::Masked { arg: 2, mask: INT, value: FLOWLABEL }]),
];

/// Refuses one option of [`IPV6`].
const fn ipv6_option(when: &'static [When]) -> Rule {
    let action = Action::Refuse(Errno::PERM);
    Rule { name: "setsockopt", number: libc::SYS_setsockopt, action, when }
}

const INT: u64 = u32::MAX as u64;
const IPV6: When = When::Masked { arg: 1, mask: INT, value: libc::SOL_IPV6 as u64 };
const RTHDR: u64 = libc::IPV6_RTHDR as u64;
const PKTOPTIONS: u64 = libc::IPV6_2292PKTOPTIONS as u64;
const FLOWLABEL: u64 = libc::IPV6_FLOWLABEL_MGR as u64;

/// Both ask for the name of a socket that may have another on the host.
const NAMES: &[Rule] = &[
    Rule { name: "getsockname", number: libc::SYS_getsockname, action: Action::Notify, when: &[] },
    Rule { name: "getpeername", number: libc::SYS_getpeername, action: Action::Notify, when: &[] },
];

/// What a message holds is in memory, where a filter cannot look: an address, and control
/// messages, of which `IP_PKTINFO` overrides the device that an IPv4 socket is bound to
/// (`ip_cmsg_send` in the kernel).
///
/// No rule here matches a call that one of [`ALWAYS`] refuses: which of two matching rules
/// prevails is for each runtime and each version of libseccomp to say. The same holds for
/// [`SENDS`].
const MESSAGES: &[Rule] = &[
    Rule {
        name: "sendmsg",
        number: libc::SYS_sendmsg,
        action: Action::Notify,
        when: &[When::Masked { arg: 2, mask: FASTOPEN, value: 0 }],
    },
    Rule {
        name: "sendmmsg",
        number: libc::SYS_sendmmsg,
        action: Action::Notify,
        when: &[When::Masked { arg: 3, mask: FASTOPEN, value: 0 }],
    },
];

/// It carries no control messages, and without an address it goes where the socket is connected.
const SENDS: &[Rule] = &[Rule {
    name: "sendto",
    number: libc::SYS_sendto,
    action: Action::Notify,
    when: &[When::Masked { arg: 3, mask: FASTOPEN, value: 0 }, When::NonZero { arg: 4 }],
}];

/// The table for a container.
pub(crate) fn rules(traps: Traps) -> impl Iterator<Item = &'static Rule> {
    let names = if traps.names { NAMES } else { &[] };
    let messages = if traps.messages { MESSAGES } else { &[] };
    let sends = if traps.sends { SENDS } else { &[] };
    let always = ALWAYS.iter().filter(|rule| !layer(rule).is_some_and(weaken::is_off));
    always.chain(names).chain(messages).chain(sends)
}

/// The layer that a rule makes by itself.
fn layer(rule: &Rule) -> Option<Layer> {
    match (rule.action, rule.name) {
        (Action::Notify, _) => None,
        (_, "io_uring_setup") => Some(Layer::IoUring),
        (_, "socket") => Some(Layer::Mptcp),
        (_, "setsockopt") => Some(Layer::SourceRoutes),
        _ => Some(Layer::FastOpen),
    }
}

/// The filter of `run`: the table for native calls, ENOSYS for every foreign one.
pub(crate) fn filter(traps: Traps) -> Filter {
    rules(traps).fold(unruled(), |filter, rule| {
        let number = i32::try_from(rule.number).unwrap_or(-1);
        let when: Vec<Condition> = rule.when.iter().copied().map(condition).collect();
        match rule.action {
            Action::Notify => filter.notify_when(number, &when),
            Action::Refuse(errno) => filter.errno_when(number, &when, errno),
        }
    })
}

/// A filter without rules, which refuses what is foreign.
fn unruled() -> Filter {
    #[cfg(bypass_weaken)]
    if weaken::is_off(Layer::Foreign) {
        return Filter::allow_all().allow_foreign_arch();
    }
    Filter::allow_all()
}

fn condition(when: When) -> Condition {
    match when {
        When::Masked { arg, mask, value } => Condition::new(arg, Test::MaskedEq { mask, value }),
        When::NonZero { arg } => Condition::new(arg, Test::Ne(0)),
    }
}

#[cfg(test)]
mod tests;
