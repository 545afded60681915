//! Socket options by name, each with a value that is not its default.
//!
//! The end-to-end tests set all of them before a connect and compare what the
//! socket has afterwards with what it would have had without us.

use std::io;
use std::os::fd::AsFd;

use libc::{
    IP_MTU_DISCOVER, IP_MULTICAST_LOOP, IP_MULTICAST_TTL, IP_PKTINFO, IP_RECVERR, IP_RECVTOS,
    IP_TOS, IP_TTL, IP_UNICAST_IF, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPV6_MULTICAST_HOPS,
    IPV6_MULTICAST_LOOP, IPV6_RECVERR, IPV6_RECVPKTINFO, IPV6_RECVTCLASS, IPV6_TCLASS,
    IPV6_UNICAST_HOPS, IPV6_UNICAST_IF, IPV6_V6ONLY, SO_BINDTOIFINDEX, SO_BROADCAST, SO_KEEPALIVE,
    SO_LINGER, SO_OOBINLINE, SO_PRIORITY, SO_RCVBUF, SO_RCVLOWAT, SO_RCVTIMEO, SO_REUSEADDR,
    SO_REUSEPORT, SO_SNDBUF, SO_SNDTIMEO, SOL_SOCKET, SOL_UDP, TCP_CONGESTION, TCP_KEEPCNT,
    TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_LINGER2, TCP_NODELAY, TCP_NOTSENT_LOWAT, TCP_SYNCNT,
    TCP_USER_TIMEOUT, UDP_GRO, UDP_SEGMENT,
};

use crate::sys;

/// How an option's value looks to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An `int`.
    Int,
    /// A `struct timeval`, given in milliseconds.
    Millis,
    /// A `struct linger`, given in seconds; switched on.
    Linger,
    /// A name, which no number can give; left at its default and compared.
    Text,
}

/// One socket option.
#[derive(Debug, Clone, Copy)]
pub struct Opt {
    /// Its C name in lower case.
    pub name: &'static str,
    /// Level for `setsockopt`.
    pub level: i32,
    /// Number for `setsockopt`.
    pub number: i32,
    /// Layout of the value.
    pub form: Form,
    /// A value that is not the default.
    pub sample: i32,
}

/// Looks an option up by name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Opt> {
    TCP.iter().chain(UDP).chain(DEVICES).find(|opt| opt.name == name)
}

/// Options that a TCP socket of the family has; `v6` for `AF_INET6`.
pub fn of_tcp(v6: bool) -> impl Iterator<Item = &'static Opt> {
    TCP.iter().filter(move |opt| opt.level != other_level(v6))
}

/// Options that a UDP socket of the family has; `v6` for `AF_INET6`.
pub fn of_udp(v6: bool) -> impl Iterator<Item = &'static Opt> {
    of_tcp(v6)
        .filter(|opt| opt.level != IPPROTO_TCP)
        .chain(UDP.iter().filter(move |opt| opt.level != other_level(v6)))
}

const fn other_level(v6: bool) -> i32 {
    if v6 { IPPROTO_IP } else { IPPROTO_IPV6 }
}

impl Opt {
    /// Sets the option on `socket`.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set(&self, socket: impl AsFd, value: i32) -> io::Result<()> {
        let bytes = match self.form {
            Form::Int => value.to_ne_bytes().to_vec(),
            Form::Linger => [1_i32.to_ne_bytes(), value.to_ne_bytes()].concat(),
            Form::Millis => {
                let (seconds, millis) = (i64::from(value / 1000), i64::from(value % 1000));
                [seconds.to_ne_bytes(), (millis * 1000).to_ne_bytes()].concat()
            }
            Form::Text => return Ok(()),
        };
        sys::set_option(socket, self.level, self.number, &bytes)
    }

    /// The option's value on `socket`: a number, a name, or bytes in hexadecimal.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn get(&self, socket: impl AsFd) -> io::Result<String> {
        let bytes = sys::option(socket, self.level, self.number)?;
        if self.form == Form::Text {
            let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            return Ok(String::from_utf8_lossy(name).into_owned());
        }
        Ok(match <[u8; 4]>::try_from(bytes.as_slice()) {
            Ok(int) => i32::from_ne_bytes(int).to_string(),
            Err(_longer) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

const fn int(name: &'static str, level: i32, number: i32, sample: i32) -> Opt {
    Opt { name, level, number, form: Form::Int, sample }
}

const TCP: &[Opt] = &[
    int("so_reuseaddr", SOL_SOCKET, SO_REUSEADDR, 1),
    int("so_reuseport", SOL_SOCKET, SO_REUSEPORT, 1),
    int("so_keepalive", SOL_SOCKET, SO_KEEPALIVE, 1),
    int("so_sndbuf", SOL_SOCKET, SO_SNDBUF, 50_000),
    int("so_rcvbuf", SOL_SOCKET, SO_RCVBUF, 60_000),
    int("so_oobinline", SOL_SOCKET, SO_OOBINLINE, 1),
    int("so_priority", SOL_SOCKET, SO_PRIORITY, 3),
    int("so_rcvlowat", SOL_SOCKET, SO_RCVLOWAT, 5),
    Opt { form: Form::Linger, ..int("so_linger", SOL_SOCKET, SO_LINGER, 7) },
    Opt { form: Form::Millis, ..int("so_rcvtimeo", SOL_SOCKET, SO_RCVTIMEO, 9_500) },
    Opt { form: Form::Millis, ..int("so_sndtimeo", SOL_SOCKET, SO_SNDTIMEO, 8_500) },
    int("tcp_nodelay", IPPROTO_TCP, TCP_NODELAY, 1),
    int("tcp_keepidle", IPPROTO_TCP, TCP_KEEPIDLE, 77),
    int("tcp_keepintvl", IPPROTO_TCP, TCP_KEEPINTVL, 11),
    int("tcp_keepcnt", IPPROTO_TCP, TCP_KEEPCNT, 4),
    int("tcp_syncnt", IPPROTO_TCP, TCP_SYNCNT, 3),
    int("tcp_linger2", IPPROTO_TCP, TCP_LINGER2, 21),
    int("tcp_user_timeout", IPPROTO_TCP, TCP_USER_TIMEOUT, 33_000),
    int("tcp_notsent_lowat", IPPROTO_TCP, TCP_NOTSENT_LOWAT, 16_384),
    Opt { form: Form::Text, ..int("tcp_congestion", IPPROTO_TCP, TCP_CONGESTION, 0) },
    int("ip_tos", IPPROTO_IP, IP_TOS, 0x10),
    int("ip_ttl", IPPROTO_IP, IP_TTL, 33),
    int("ip_mtu_discover", IPPROTO_IP, IP_MTU_DISCOVER, 0),
    int("ip_recverr", IPPROTO_IP, IP_RECVERR, 1),
    int("ipv6_tclass", IPPROTO_IPV6, IPV6_TCLASS, 0x20),
    int("ipv6_unicast_hops", IPPROTO_IPV6, IPV6_UNICAST_HOPS, 44),
    int("ipv6_recverr", IPPROTO_IPV6, IPV6_RECVERR, 1),
];

/// What only datagrams have a use for, and `IPV6_V6ONLY`, which decides what bind(2) means.
const UDP: &[Opt] = &[
    int("so_broadcast", SOL_SOCKET, SO_BROADCAST, 1),
    int("udp_segment", SOL_UDP, UDP_SEGMENT, 1000),
    int("udp_gro", SOL_UDP, UDP_GRO, 1),
    int("ip_pktinfo", IPPROTO_IP, IP_PKTINFO, 1),
    int("ip_recvtos", IPPROTO_IP, IP_RECVTOS, 1),
    int("ip_multicast_ttl", IPPROTO_IP, IP_MULTICAST_TTL, 5),
    int("ip_multicast_loop", IPPROTO_IP, IP_MULTICAST_LOOP, 0),
    int("ipv6_v6only", IPPROTO_IPV6, IPV6_V6ONLY, 1),
    int("ipv6_recvpktinfo", IPPROTO_IPV6, IPV6_RECVPKTINFO, 1),
    int("ipv6_recvtclass", IPPROTO_IPV6, IPV6_RECVTCLASS, 1),
    int("ipv6_multicast_hops", IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 5),
    int("ipv6_multicast_loop", IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 0),
];

/// What could lead a socket to another device; set by name alone.
const DEVICES: &[Opt] = &[
    int("so_bindtoifindex", SOL_SOCKET, SO_BINDTOIFINDEX, 1),
    int("ip_unicast_if", IPPROTO_IP, IP_UNICAST_IF, 1_i32.to_be()),
    int("ipv6_unicast_if", IPPROTO_IPV6, IPV6_UNICAST_IF, 1_i32.to_be()),
];

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketType};
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn names_are_unique() {
        let all: Vec<_> = TCP.iter().chain(UDP).collect();
        for (at, opt) in all.iter().enumerate() {
            assert!(all.iter().skip(at + 1).all(|other| other.name != opt.name), "{}", opt.name);
        }
    }

    #[test]
    fn samples_differ_from_defaults() {
        let stream = TcpListener::bind("127.0.0.1:0").unwrap();
        let of_tcp = of_tcp(false).filter(|opt| opt.name != "so_reuseaddr");
        let datagram = UdpSocket::bind("127.0.0.1:0").unwrap();
        let fresh = rustix::net::socket(AddressFamily::INET6, SocketType::DGRAM, None).unwrap();
        let cases = of_tcp.map(|opt| (opt, stream.as_fd()));
        let cases = cases.chain(of_udp(false).map(|opt| (opt, datagram.as_fd())));
        let cases = cases.chain(of_udp(true).map(|opt| (opt, fresh.as_fd())));
        for (opt, socket) in cases.filter(|(opt, _)| opt.form != Form::Text) {
            let before = opt.get(socket).unwrap();
            opt.set(socket, opt.sample).unwrap();
            assert_ne!(opt.get(socket).unwrap(), before, "{}", opt.name);
        }
    }
}
