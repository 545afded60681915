//! The table of socket options: what each one is, and what happens to it when a socket gets a twin.
//!
//! [`OPTIONS`] is the single place that decides. A row says on which sockets the option means
//! anything, how its value is found, and its treatment. A row that is not read, or not on every
//! socket, says why in its note or treatment: an option is never left out in silence.
//!
//! The order of the rows is the order in which a state is applied. It matters where one option
//! changes another: `IP_TOS` sets `SO_PRIORITY`, `SO_RCVLOWAT` grows an unlocked receive buffer,
//! and a locked filter stays locked.
//!
//! # What cannot be read back
//! Memberships, BPF programs and TCP keys have no `getsockopt`, but the kernel charges them to the
//! socket's *option memory*, which `SO_MEMINFO` shows in one read ([`Read::Memory`]). Storage that
//! BPF programs of the host keep on a socket is charged there too, and not told apart. What leaves no
//! trace at all has a [`Treatment::Skip`] row that says so.

mod numbers;
mod table;

pub(crate) use self::numbers::*;
pub use self::table::OPTIONS;

/// One socket option, and what becomes of it when a socket is replaced by a twin. What they mean is in
/// [socket(7)], [ip(7)], [ipv6(7)], [tcp(7)] and [udp(7)].
///
/// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
/// [ip(7)]: https://man7.org/linux/man-pages/man7/ip.7.html
/// [ipv6(7)]: https://man7.org/linux/man-pages/man7/ipv6.7.html
/// [tcp(7)]: https://man7.org/linux/man-pages/man7/tcp.7.html
/// [udp(7)]: https://man7.org/linux/man-pages/man7/udp.7.html
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opt {
    /// Second argument of `getsockopt(2)`.
    pub level: i32,
    /// Third argument.
    pub number: i32,
    /// Name in C.
    pub name: &'static str,
    /// Layout of the value.
    pub width: Width,
    /// Sockets that the row is for.
    pub on: Sockets,
    /// How a changed value shows.
    pub read: Read,
    /// The time by which it has to be applied.
    pub when: When,
    /// What becomes of a changed value.
    pub treatment: Treatment,
    /// Why the row is not for every socket, or what else is worth knowing; may be empty.
    pub note: &'static str,
}

/// Layout of an option's value, as getsockopt(2) writes it in native byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// A C `int`.
    Int,
    /// `struct linger`.
    Linger,
    /// Two 64-bit integers, seconds and microseconds, whatever the word size.
    TimevalU64,
    /// At most `max` bytes.
    Bytes {
        /// Size of the buffer to read into, at most [`MAX_VALUE`].
        max: u8,
    },
}

impl Width {
    /// Size of the buffer to read into, in bytes.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Int => 4,
            Self::Linger => 8,
            Self::TimevalU64 => 16,
            Self::Bytes { max } => max as usize,
        }
    }
}

/// The longest value in the table, in bytes.
pub const MAX_VALUE: usize = 16;

/// A set of kinds of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sockets(u8);

impl Sockets {
    /// TCP over `AF_INET`.
    pub const TCP4: Self = Self(1);
    /// TCP over `AF_INET6`.
    pub const TCP6: Self = Self(2);
    /// UDP over `AF_INET`.
    pub const UDP4: Self = Self(4);
    /// UDP over `AF_INET6`.
    pub const UDP6: Self = Self(8);
    /// Every TCP socket.
    pub const TCP: Self = Self(1 | 2);
    /// Every UDP socket.
    pub const UDP: Self = Self(4 | 8);
    /// Every `AF_INET` socket.
    pub const V4: Self = Self(1 | 4);
    /// Every `AF_INET6` socket.
    pub const V6: Self = Self(2 | 8);
    /// Every TCP and UDP socket.
    pub const ANY: Self = Self(1 | 2 | 4 | 8);

    /// Whether both sets have a member in common.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// How a changed value shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// `getsockopt` of the option, in every capture.
    Always,
    /// As [`Always`](Self::Always), but not on a socket with `IPV6_V6ONLY`, which no IPv4 traffic
    /// can reach.
    UnlessV6Only,
    /// As [`Always`](Self::Always), but not for a socket that is to be connected: it does
    /// something on a listening socket only, and a connected one cannot become that.
    ForListening,
    /// `getsockopt` of the option when another row's value gives reason to.
    OnDemand,
    /// As [`Always`](Self::Always) where we may raise the value, or where a fresh socket has one
    /// that can be lowered. Raising it needs `CAP_NET_ADMIN` in the *initial* user namespace; if
    /// we lack that, so does every process in a user namespace below ours.
    WherePrivileged,
    /// Option memory in `SO_MEMINFO`, which is in every capture.
    Memory,
    /// Not at all.
    Never,
}

/// The time by which an option has to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before `bind`, `connect` and `listen`: later it is refused or does nothing, or it would
    /// show in the packets of the handshake, or in what comes with them.
    BeforeConnect,
    /// At any time, such as while the handshake is under way.
    AnyTime,
}

/// What becomes of a value that differs from a fresh socket's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// The twin gets it.
    Copy,
    /// The twin gets it if a rule says that the program set it.
    CopyIfSet(Rule),
    /// It cannot be given to a twin: the socket must stay where it is. With the reason.
    Leave(&'static str),
    /// It is not looked at. With the reason.
    Skip(&'static str),
}

/// When a value that differs was set by the program, and not by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A buffer size counts if `SO_BUF_LOCK` says that the program set it. Setting it doubles it,
    /// so half is set. Before Linux 5.14, which has no such option, it counts if it differs.
    Locked,
    /// `SO_PRIORITY` follows `IP_TOS`, so a default priority is to be set after a changed `IP_TOS`.
    AfterTos,
    /// `TCP_MAXSEG` shows the current segment size if none was set; it counts if `TCP_INFO` shows
    /// another one. One set to the very default (536) is not seen.
    NotCurrentMss,
    /// `TCP_WINDOW_CLAMP` is also written by an earlier attempt to connect. If `TCP_INFO` shows a
    /// path MTU, there was one, and the socket is left: a clamp taken for the program's would
    /// limit the connection for its whole life.
    NeverRouted,
    /// `SO_INCOMING_CPU` also shows the processor of the last packet; it counts on a TCP socket that
    /// never tried to connect, and on a UDP socket without a peer.
    NotRecorded,
    /// Old and new layouts of a time stamp option share one flag: the new one counts if it reads
    /// back.
    Layout,
    /// Works together with `SO_TIMESTAMPING`.
    WithTimestamps,
    /// Concerns ICMP errors during the handshake, and only if errors are reported at all.
    WithRecvErr,
    /// Reserved memory is counted as allocated ahead (`SO_MEMINFO`); if nothing is, there is none.
    WithMemory,
}

/// The row of an option that is read on demand or named in code.
pub(crate) fn find(level: i32, number: i32, on: Sockets) -> Option<(u8, &'static Opt)> {
    (0_u8..)
        .zip(OPTIONS)
        .find(|(_, row)| row.level == level && row.number == number && row.on.meets(on))
}

const _: () = assert!(OPTIONS.len() <= u8::MAX as usize, "rows are named by a u8");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_omission_has_a_reason() {
        for row in OPTIONS {
            match row.treatment {
                Treatment::Skip(reason) => {
                    assert!(!reason.is_empty(), "{}", row.name);
                    assert_eq!(row.read, Read::Never, "{}", row.name);
                }
                Treatment::Leave(reason) => assert!(!reason.is_empty(), "{}", row.name),
                Treatment::Copy | Treatment::CopyIfSet(_) => {
                    assert!(row.read != Read::Never && row.read != Read::Memory, "{}", row.name);
                }
            }
            let own_level = match row.level {
                SOL_TCP => Sockets::TCP,
                SOL_UDP => Sockets::UDP,
                SOL_IPV6 => Sockets::V6,
                _ => Sockets::ANY,
            };
            if row.on != own_level && row.treatment == Treatment::Copy {
                let other = OPTIONS.iter().any(|o| o.name == row.name && o.on != row.on);
                assert!(!row.note.is_empty() || other, "{} says why not everywhere", row.name);
            }
        }
    }

    #[test]
    fn values_fit() {
        for row in OPTIONS {
            assert!(row.width.size() <= MAX_VALUE, "{}", row.name);
        }
    }

    #[test]
    fn no_option_has_two_rows_for_one_socket() {
        for (at, row) in OPTIONS.iter().enumerate() {
            for other in &OPTIONS[at + 1..] {
                let same = row.level == other.level && row.number == other.number;
                assert!(!same || !row.on.meets(other.on), "{} twice", row.name);
            }
        }
    }

    #[test]
    fn options_that_change_others_come_first() {
        let place = |name: &str| OPTIONS.iter().position(|row| row.name == name).unwrap();
        assert!(place("IP_TOS") < place("SO_PRIORITY"));
        assert!(place("SO_BUF_LOCK") < place("SO_SNDBUF"));
        assert!(place("SO_RCVBUF") < place("SO_RCVLOWAT"));
        assert!(place("TCP_RTO_MAX_MS") < place("TCP_DEFER_ACCEPT"));
        assert_eq!(place("IPV6_V6ONLY"), 0);
        assert_eq!(place("SO_LOCK_FILTER"), OPTIONS.len() - 1);
    }

    #[test]
    fn libc_agrees_on_the_numbers_it_has() {
        let number = |name: &str| OPTIONS.iter().find(|row| row.name == name).unwrap().number;
        assert_eq!(number("SO_KEEPALIVE"), libc::SO_KEEPALIVE);
        assert_eq!(number("SO_BINDTOIFINDEX"), libc::SO_BINDTOIFINDEX);
        assert_eq!(number("IP_TTL"), libc::IP_TTL);
        assert_eq!(number("IPV6_TCLASS"), libc::IPV6_TCLASS);
        assert_eq!(number("TCP_USER_TIMEOUT"), libc::TCP_USER_TIMEOUT);
        assert_eq!(number("UDP_GRO"), libc::UDP_GRO);
    }
}
