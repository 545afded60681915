//! What a descriptor is, asked of the kernel at the time of use.
//!
//! A cookie names one socket for as long as the machine runs, whatever number, process or duplicate
//! it is reached by; a namespace cookie does the same for a network namespace. Neither is ever
//! reused, unlike inode numbers.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::options::{SO_NETNS_COOKIE, SOL_SOCKET};
use crate::{SockOptError, sys};

/// What a socket is: what it was created as, and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Address family (`SO_DOMAIN`).
    pub domain: Domain,
    /// Communication type (`SO_TYPE`).
    pub kind: Kind,
    /// Protocol number (`SO_PROTOCOL`), never 0 for an IP socket.
    pub protocol: i32,
    /// The socket itself (`SO_COOKIE`), unique until the machine restarts.
    pub cookie: u64,
    /// The network namespace it lives in (`SO_NETNS_COOKIE`), `None` before Linux 5.14.
    pub netns_cookie: Option<u64>,
}

impl Identity {
    /// Asks the kernel what `fd` is; `None` if it is not a socket.
    ///
    /// # Errors
    /// [`SockOptError::Get`] with the option that could not be read.
    #[doc(alias = "SO_COOKIE")]
    pub fn of(fd: impl AsFd) -> Result<Option<Self>, SockOptError> {
        let fd = fd.as_fd();
        let domain = match read_int(fd, libc::SO_DOMAIN, "SO_DOMAIN") {
            Ok(domain) => Domain::from_raw(domain),
            // EBADF is what a descriptor opened with O_PATH gives.
            Err(SockOptError::Get { source: Errno::NOTSOCK | Errno::BADF, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Self {
            domain,
            kind: Kind::from_raw(read_int(fd, libc::SO_TYPE, "SO_TYPE")?),
            protocol: read_int(fd, libc::SO_PROTOCOL, "SO_PROTOCOL")?,
            cookie: read_cookie(fd, SO_COOKIE, "SO_COOKIE")?,
            netns_cookie: netns_cookie(fd)?,
        }))
    }

    /// Whether this is a TCP socket over IPv4 or IPv6.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.is_ip() && self.kind == Kind::Stream && self.protocol == libc::IPPROTO_TCP
    }

    /// Whether this is a UDP socket over IPv4 or IPv6.
    #[must_use]
    pub fn is_udp(&self) -> bool {
        self.is_ip() && self.kind == Kind::Datagram && self.protocol == libc::IPPROTO_UDP
    }

    fn is_ip(&self) -> bool {
        matches!(self.domain, Domain::Inet | Domain::Inet6)
    }
}

/// Address family of a socket: first argument of [socket(2)], `SO_DOMAIN` of [socket(7)].
///
/// [socket(2)]: https://man7.org/linux/man-pages/man2/socket.2.html
/// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Domain {
    /// `AF_INET`
    Inet,
    /// `AF_INET6`
    Inet6,
    /// Any other, by its number.
    Other(i32),
}

impl Domain {
    /// From the kernel's number, such as `AF_INET`. Every number has a value.
    #[must_use]
    pub fn from_raw(raw: i32) -> Self {
        match raw {
            libc::AF_INET => Self::Inet,
            libc::AF_INET6 => Self::Inet6,
            other => Self::Other(other),
        }
    }

    /// The kernel's number.
    #[must_use]
    pub fn as_raw(self) -> i32 {
        match self {
            Self::Inet => libc::AF_INET,
            Self::Inet6 => libc::AF_INET6,
            Self::Other(other) => other,
        }
    }
}

/// Communication type of a socket: second argument of [socket(2)] without its flags, `SO_TYPE` of
/// [socket(7)].
///
/// [socket(2)]: https://man7.org/linux/man-pages/man2/socket.2.html
/// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `SOCK_STREAM`
    Stream,
    /// `SOCK_DGRAM`
    Datagram,
    /// Any other, by its number.
    Other(i32),
}

impl Kind {
    /// From the kernel's number, such as `SOCK_STREAM`, without `SOCK_NONBLOCK` and `SOCK_CLOEXEC`.
    #[must_use]
    pub fn from_raw(raw: i32) -> Self {
        match raw {
            libc::SOCK_STREAM => Self::Stream,
            libc::SOCK_DGRAM => Self::Datagram,
            other => Self::Other(other),
        }
    }

    /// The kernel's number.
    #[must_use]
    pub fn as_raw(self) -> i32 {
        match self {
            Self::Stream => libc::SOCK_STREAM,
            Self::Datagram => libc::SOCK_DGRAM,
            Self::Other(other) => other,
        }
    }
}

/// Cookie of the calling thread's network namespace; `None` before Linux 5.14.
///
/// Makes a throw-away socket to ask, so keep the answer.
///
/// # Errors
/// [`SockOptError::Socket`] if that socket could not be made.
pub fn own_netns_cookie() -> Result<Option<u64>, SockOptError> {
    // A UNIX socket: it exists even where the kernel was booted without IPv6 or IPv4 is filtered.
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(|source| SockOptError::Socket { source })?;
    netns_cookie(socket.as_fd())
}

/// State of a TCP socket. See `tcp_states.h` of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are those of RFC 9293 and the kernel")]
pub enum TcpState {
    Established,
    SynSent,
    SynRecv,
    FinWait1,
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    NewSynRecv,
    /// A state that this crate does not know, by its number.
    Other(u8),
}

impl TcpState {
    fn from_raw(raw: u8) -> Self {
        match raw {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynRecv,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            12 => Self::NewSynRecv,
            other => Self::Other(other),
        }
    }
}

/// State of a TCP socket: the first byte of `TCP_INFO`.
///
/// # Errors
/// [`SockOptError::Get`], also for a socket that is not TCP.
#[doc(alias = "TCP_INFO")]
pub fn tcp_state(fd: impl AsFd) -> Result<TcpState, SockOptError> {
    let mut state = [0_u8];
    sys::getsockopt(fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, &mut state)
        .map_err(|source| SockOptError::Get { option: "TCP_INFO", source })?;
    let [state] = state;
    Ok(TcpState::from_raw(state))
}

/// The cookie of the network namespace that this socket lives in, of whatever family it is; `None`
/// before Linux 5.14.
///
/// # Errors
/// [`SockOptError::Get`], also for what is no socket.
#[doc(alias = "SO_NETNS_COOKIE")]
pub fn netns_cookie_of(fd: impl AsFd) -> Result<Option<u64>, SockOptError> {
    netns_cookie(fd.as_fd())
}

fn netns_cookie(fd: BorrowedFd<'_>) -> Result<Option<u64>, SockOptError> {
    match read_cookie(fd, SO_NETNS_COOKIE, "SO_NETNS_COOKIE") {
        Ok(cookie) => Ok(Some(cookie)),
        Err(SockOptError::Get { source: Errno::NOPROTOOPT, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_int(fd: BorrowedFd<'_>, name: i32, option: &'static str) -> Result<i32, SockOptError> {
    let mut value = [0_u8; 4];
    sys::getsockopt(fd, SOL_SOCKET, name, &mut value)
        .map_err(|source| SockOptError::Get { option, source })?;
    Ok(i32::from_ne_bytes(value))
}

fn read_cookie(fd: BorrowedFd<'_>, name: i32, option: &'static str) -> Result<u64, SockOptError> {
    let mut value = [0_u8; 8];
    sys::getsockopt(fd, SOL_SOCKET, name, &mut value)
        .map_err(|source| SockOptError::Get { option, source })?;
    Ok(u64::from_ne_bytes(value))
}

/// asm-generic/socket.h; libc has it only for some C libraries.
const SO_COOKIE: i32 = 57;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_the_round_trip() {
        for raw in [-1, 0, 1, libc::AF_INET, libc::AF_INET6, 16, i32::MAX] {
            assert_eq!(Domain::from_raw(raw).as_raw(), raw);
            assert_eq!(Kind::from_raw(raw).as_raw(), raw);
        }
    }

    #[test]
    fn only_ip_sockets_of_the_right_protocol_count() {
        let tcp = Identity {
            domain: Domain::Inet6,
            kind: Kind::Stream,
            protocol: libc::IPPROTO_TCP,
            cookie: 1,
            netns_cookie: None,
        };
        assert!(tcp.is_tcp() && !tcp.is_udp());
        assert!(!Identity { protocol: libc::IPPROTO_MPTCP, ..tcp }.is_tcp());
        assert!(!Identity { domain: Domain::Other(1), ..tcp }.is_tcp());
        let udp = Identity { kind: Kind::Datagram, protocol: libc::IPPROTO_UDP, ..tcp };
        assert!(udp.is_udp() && !udp.is_tcp());
        assert!(!Identity { kind: Kind::Other(3), ..udp }.is_udp());
    }

    #[test]
    fn states_have_the_kernels_numbers() {
        assert_eq!(TcpState::from_raw(7), TcpState::Close);
        assert_eq!(TcpState::from_raw(10), TcpState::Listen);
        assert_eq!(TcpState::from_raw(200), TcpState::Other(200));
    }
}
