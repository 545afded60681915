//! Datagrams together with the address of ours that they were sent to.
//!
//! A UDP socket that is bound to a wildcard address answers from the address that the route back
//! prefers. A client that had sent to another address of the host drops such an answer, since it
//! comes from a stranger. So whoever answers for such a socket learns the destination of each
//! datagram (`IP_PKTINFO`, `IPV6_PKTINFO`) and gives it as the source of the answer. A wildcard
//! IPv6 socket that takes IPv4 as well shows both addresses IPv4-mapped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::sockopt::socket_domain;

use crate::options::{SOL_IP, SOL_IPV6};
use crate::sys;

/// An address of this host, as the source or destination of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocalAddress {
    /// The address itself. IPv4 at an IPv6 socket is IPv4-mapped.
    pub ip: IpAddr,
    /// Index of the device that a link-local IPv6 address belongs to, 0 for every other address.
    pub scope: u32,
}

/// What [`recv_datagram`] received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes in the buffer; 0 for an empty datagram.
    pub len: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// The address that an answer has to leave from. None if [`report_destination`] was not called,
    /// and for a multicast or broadcast destination that no answer can leave from.
    pub to: Option<LocalAddress>,
}

/// Makes the socket report the destination of each datagram (`IP_PKTINFO` of [ip(7)],
/// `IPV6_RECVPKTINFO` of [ipv6(7)]).
///
/// # Errors
/// What `getsockopt` or `setsockopt` said; EAFNOSUPPORT if this is no IP socket.
///
/// [ip(7)]: https://man7.org/linux/man-pages/man7/ip.7.html
/// [ipv6(7)]: https://man7.org/linux/man-pages/man7/ipv6.7.html
pub fn report_destination(socket: impl AsFd) -> Result<(), Errno> {
    let socket = socket.as_fd();
    let (level, option) = match socket_domain(socket)? {
        AddressFamily::INET => (SOL_IP, libc::IP_PKTINFO),
        AddressFamily::INET6 => (SOL_IPV6, libc::IPV6_RECVPKTINFO),
        _ => return Err(Errno::AFNOSUPPORT),
    };
    sys::setsockopt(socket, level, option, &1_i32.to_ne_bytes())
}

/// Receives one datagram from a UDP socket, and never waits for it ([recvmsg(2)]).
///
/// # Errors
/// EAGAIN if there is none. EMSGSIZE for one that does not fit into the buffer: it is lost, as no
/// part of a datagram means anything. A datagram is at most 65,527 bytes long. Else what the call
/// said, an error that an earlier datagram met with among it.
///
/// [recvmsg(2)]: https://man7.org/linux/man-pages/man2/recvmsg.2.html
pub fn recv_datagram(socket: impl AsFd, buffer: &mut [u8]) -> Result<Datagram, Errno> {
    let mut name = [0; NAME];
    let mut control = Control([0; CONTROL]);
    let filled =
        sys::recvmsg(socket.as_fd(), buffer, &mut name, &mut control.0, libc::MSG_DONTWAIT)?;
    if filled.flags & libc::MSG_TRUNC != 0 {
        return Err(Errno::MSGSIZE);
    }
    let from = name.get(..filled.name).and_then(decode_name).ok_or(Errno::AFNOSUPPORT)?;
    let to = control.0.get(..filled.control).and_then(decode_control);
    Ok(Datagram { len: filled.data, from, to })
}

/// Sends one datagram from a UDP socket to `to`, and never waits for room ([sendmsg(2)]).
///
/// It leaves from the address `from`, if given, which must be of the socket's family and an address
/// of this host; the port is the socket's. This needs no privilege.
///
/// # Errors
/// EAGAIN if the socket's send buffer is full, EINVAL if `from` is no address of this host, else
/// what the call said.
///
/// [sendmsg(2)]: https://man7.org/linux/man-pages/man2/sendmsg.2.html
pub fn send_datagram(
    socket: impl AsFd,
    data: &[u8],
    to: SocketAddr,
    from: Option<LocalAddress>,
) -> Result<(), Errno> {
    let (name, name_len) = encode_name(to);
    let (control, control_len) = from.map_or((Control([0; CONTROL]), 0), encode_control);
    let name = name.get(..name_len).unwrap_or_default();
    let control = control.0.get(..control_len).unwrap_or_default();
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    sys::sendmsg(socket.as_fd(), data, name, control, flags).map(|_all| ())
}

/// Sends one message from a UDP socket as it was copied from elsewhere: address, data and control
/// messages as bytes ([sendmsg(2)]). An empty address sends to the peer. It never waits for room,
/// and raises no signal.
///
/// # Errors
/// What the call said; EAGAIN if the socket's send buffer is full.
///
/// [sendmsg(2)]: https://man7.org/linux/man-pages/man2/sendmsg.2.html
pub fn send_copied(
    socket: impl AsFd,
    name: &[u8],
    data: &[u8],
    control: &[u8],
    flags: i32,
) -> Result<usize, Errno> {
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    sys::sendmsg(socket.as_fd(), data, name, control, flags)
}

/// Size of the larger of `struct sockaddr_in` and `struct sockaddr_in6`.
const NAME: usize = 28;

/// An address of any other form than the two IP families have gives none.
pub(crate) fn decode_name(name: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = name.split_first_chunk()?;
    let (port, rest) = rest.split_first_chunk()?;
    let port = u16::from_be_bytes(*port);
    match libc::c_int::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let ip: [u8; 4] = *rest.first_chunk()?;
            Some((ip, port).into())
        }
        libc::AF_INET6 => {
            let (flow, rest) = rest.split_first_chunk()?;
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            let scope = u32::from_ne_bytes(*rest.first_chunk()?);
            Some(SocketAddrV6::new((*ip).into(), port, u32::from_be_bytes(*flow), scope).into())
        }
        _ => None,
    }
}

/// The bytes of a `struct sockaddr_in` or `struct sockaddr_in6`, and how many they are.
pub(crate) fn encode_name(address: SocketAddr) -> ([u8; NAME], usize) {
    let mut name = [0; NAME];
    let port = address.port().to_be_bytes();
    let len = match address {
        SocketAddr::V4(v4) => {
            let family = FAMILY_INET.to_ne_bytes();
            fill(&mut name, [&family[..], &port, &v4.ip().octets(), &[0; 8]])
        }
        SocketAddr::V6(v6) => {
            let (family, flow) = (FAMILY_INET6.to_ne_bytes(), v6.flowinfo().to_be_bytes());
            let scope = v6.scope_id().to_ne_bytes();
            fill(&mut name, [&family[..], &port, &flow, &v6.ip().octets(), &scope])
        }
    };
    (name, len)
}

/// As `sa_family_t`, which AF_INET and AF_INET6 fit into.
const FAMILY_INET: u16 = 2;
const FAMILY_INET6: u16 = 10;
const _: () = assert!(libc::AF_INET == 2 && libc::AF_INET6 == 10);

/// `struct cmsghdr` as the kernel has it: a length of one word, the level, the type. Messages and
/// their data begin at multiples of a word.
const WORD: usize = size_of::<usize>();
const HEADER: usize = (WORD + 8).next_multiple_of(WORD);
/// Room for one message with a `struct in6_pktinfo`, the largest that is asked for.
const CONTROL: usize = HEADER + 20_usize.next_multiple_of(WORD);

#[repr(align(8))]
pub(crate) struct Control(pub(crate) [u8; CONTROL]);

/// The destination that the control messages tell.
pub(crate) fn decode_control(mut control: &[u8]) -> Option<LocalAddress> {
    loop {
        let (len, rest) = control.split_first_chunk()?;
        let (level, rest) = rest.split_first_chunk()?;
        let kind = rest.first_chunk()?;
        let len = usize::from_ne_bytes(*len);
        let data = control.get(HEADER..len)?;
        match (i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind)) {
            (SOL_IP, libc::IP_PKTINFO) => return decode_in_pktinfo(data),
            (SOL_IPV6, libc::IPV6_PKTINFO) => return decode_in6_pktinfo(data),
            _ => {}
        }
        control = control.get(len.checked_next_multiple_of(WORD)?..)?;
    }
}

/// `struct in_pktinfo`: the device, the address to answer from, the destination in the header.
/// The first two differ for a broadcast or multicast destination.
fn decode_in_pktinfo(data: &[u8]) -> Option<LocalAddress> {
    let (_ifindex, rest) = data.split_first_chunk::<4>()?;
    let ip = Ipv4Addr::from(*rest.first_chunk::<4>()?);
    (!ip.is_unspecified()).then_some(LocalAddress { ip: ip.into(), scope: 0 })
}

/// `struct in6_pktinfo`: the destination in the header, and the device.
fn decode_in6_pktinfo(data: &[u8]) -> Option<LocalAddress> {
    let (ip, rest) = data.split_first_chunk::<16>()?;
    let ip = Ipv6Addr::from(*ip);
    let ifindex = u32::from_ne_bytes(*rest.first_chunk()?);
    let mapped = ip.to_ipv4_mapped();
    let nobody = ip.is_unspecified()
        || ip.is_multicast()
        || mapped.is_some_and(|ip| ip.is_multicast() || ip.is_broadcast());
    // The device may be another one at the time of the answer, but not that of a link-local
    // address, which means nothing without.
    let scope = if ip.is_unicast_link_local() { ifindex } else { 0 };
    (!nobody).then_some(LocalAddress { ip: ip.into(), scope })
}

/// A control message that gives the source of a datagram, and its length.
pub(crate) fn encode_control(from: LocalAddress) -> (Control, usize) {
    let mut control = Control([0; CONTROL]);
    let scope = from.scope.to_ne_bytes();
    let (level, kind, data): (_, _, [&[u8]; 3]) = match &from.ip {
        IpAddr::V4(ip) => (SOL_IP, libc::IP_PKTINFO, [&[0; 4], &ip.octets(), &[0; 4]]),
        IpAddr::V6(ip) => (SOL_IPV6, libc::IPV6_PKTINFO, [&ip.octets(), &scope, &[]]),
    };
    let len = HEADER + data.iter().map(|part| part.len()).sum::<usize>();
    let (word, level, kind) = (len.to_ne_bytes(), level.to_ne_bytes(), kind.to_ne_bytes());
    let padding = [0; HEADER - WORD - 8];
    let [a, b, c] = data;
    fill(&mut control.0, [&word[..], &level, &kind, &padding, a, b, c]);
    (control, len)
}

/// Puts the parts into `buffer`, one after the other, and returns their length.
fn fill<const N: usize>(buffer: &mut [u8], parts: [&[u8]; N]) -> usize {
    let bytes = parts.into_iter().flatten();
    buffer.iter_mut().zip(bytes).map(|(slot, byte)| *slot = *byte).count()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_survive_their_encoding() {
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 7, 3);
        for address in ["192.0.2.1:80".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap()]
            .into_iter()
            .chain([SocketAddr::from(scoped)])
        {
            let (name, len) = encode_name(address);
            assert_eq!(decode_name(&name[..len]), Some(address));
            for cut in 0..if address.is_ipv4() { 8 } else { len } {
                assert_eq!(decode_name(&name[..cut]), None, "cut at {cut}");
            }
        }
        assert_eq!(decode_name(&[0; NAME]), None, "AF_UNSPEC");
    }

    #[test]
    fn control_messages_survive_their_encoding_and_may_be_cut_anywhere() {
        for (ip, scope) in [("192.0.2.1", 0), ("::ffff:192.0.2.1", 0), ("fe80::1", 4)] {
            let local = LocalAddress { ip: ip.parse().unwrap(), scope };
            let (mut control, len) = encode_control(local);
            if local.ip.is_ipv4() {
                // Into the place where the kernel reads a source, and stores one to answer from.
                assert_eq!(control.0[HEADER + 4..HEADER + 8], [192, 0, 2, 1]);
            }
            assert_eq!(decode_control(&control.0[..len]), Some(local));
            for cut in 0..len {
                assert_eq!(decode_control(&control.0[..cut]), None);
            }
            for claimed in [0, 1, HEADER - 1, CONTROL + 1, usize::MAX] {
                control.0[..WORD].copy_from_slice(&claimed.to_ne_bytes());
                assert_eq!(decode_control(&control.0), None, "length {claimed}");
            }
        }
    }

    #[test]
    fn messages_of_other_kinds_are_passed_over() {
        let local = LocalAddress { ip: "192.0.2.1".parse().unwrap(), scope: 0 };
        let (control, len) = encode_control(local);
        let mut other = encode_control(local).0.0;
        other[WORD..WORD + 4].copy_from_slice(&99_i32.to_ne_bytes());
        let both = [&other[..len.next_multiple_of(WORD)], &control.0[..len]].concat();
        assert_eq!(decode_control(&both), Some(local));
        assert_eq!(decode_control(&other[..len]), None);
    }

    #[test]
    fn a_destination_that_no_answer_can_leave_from_is_none() {
        for ip in ["ff02::1", "::", "::ffff:224.0.0.1", "::ffff:255.255.255.255", "0.0.0.0"] {
            let (control, len) = encode_control(LocalAddress { ip: ip.parse().unwrap(), scope: 0 });
            assert_eq!(decode_control(&control.0[..len]), None, "{ip}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn an_answer_leaves_from_where_the_question_went() {
        for (wildcard, asked) in
            [("0.0.0.0:0", "127.0.0.2"), ("[::]:0", "::1"), ("[::]:0", "127.0.0.3")]
        {
            let server = UdpSocket::bind(wildcard).unwrap();
            report_destination(&server).unwrap();
            let asked =
                SocketAddr::new(asked.parse().unwrap(), server.local_addr().unwrap().port());
            let any = if asked.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
            let client = UdpSocket::bind(any).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            client.send_to(b"question", asked).unwrap();

            let mut buffer = [0; 16];
            // Loopback delivers within the call that sends.
            let got = recv_datagram(&server, &mut buffer).unwrap();
            assert_eq!(&buffer[..got.len], b"question");
            assert_eq!(got.from.port(), client.local_addr().unwrap().port());
            assert_eq!(got.to.map(|to| to.ip.to_canonical()), Some(asked.ip()));

            send_datagram(&server, b"", got.from, got.to).unwrap();
            assert_eq!(client.recv_from(&mut buffer).unwrap(), (0, asked));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn without_the_option_there_is_no_destination() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"x", server.local_addr().unwrap()).unwrap();
        let got = recv_datagram(&server, &mut [0; 16]).unwrap();
        assert_eq!(got, Datagram { len: 1, from: client.local_addr().unwrap(), to: None });
        send_datagram(&server, b"y", got.from, None).unwrap();
        assert_eq!(recv_datagram(&client, &mut [0; 16]).unwrap().len, 1);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn a_datagram_that_does_not_fit_is_an_error_and_so_is_none() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap();
        client.send_to(&[1; 17], to).unwrap();
        client.send_to(&[2; 16], to).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(recv_datagram(&server, &mut buffer), Err(Errno::MSGSIZE));
        assert_eq!(recv_datagram(&server, &mut buffer).unwrap().len, 16);
        assert_eq!(recv_datagram(&server, &mut buffer), Err(Errno::AGAIN));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn a_source_that_is_not_ours_is_refused() {
        let server = UdpSocket::bind("0.0.0.0:0").unwrap();
        let to = server.local_addr().unwrap();
        let from = LocalAddress { ip: "192.0.2.77".parse().unwrap(), scope: 0 };
        assert!(send_datagram(&server, b"x", to, Some(from)).is_err());
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn only_ip_sockets_report_a_destination() {
        let (one, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        assert_eq!(report_destination(&one), Err(Errno::AFNOSUPPORT));
    }
}
