//! What the documentation says about the kernel, asked of the kernel.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};

use sockaddr_inspect::{Destination, SockAddr};

use crate::{Check, sys};

pub(crate) fn trials() -> Vec<Check> {
    vec![
        ("normal_form_is_where_a_datagram_socket_connects", datagram_destinations),
        ("normal_form_is_where_a_stream_arrives", stream_destinations),
        ("a_bound_source_stands_in_for_the_unspecified", unspecified_on_a_bound_socket),
        ("compatible_addresses_are_not_ipv4", compatible_addresses),
        ("sendto_reads_unspec_as_ipv4", sendto_reads_unspec_as_ipv4),
        ("flowinfo_is_as_the_standard_library_has_it", flowinfo_is_as_in_std),
    ]
}

const LOOPBACKS: [&str; 6] =
    ["127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0"];

/// The address, without the mapping that an IPv6 socket reports IPv4 in.
fn unmapped(addr: SocketAddr) -> (IpAddr, u16) {
    (addr.ip().to_canonical(), addr.port())
}

fn datagram_destinations() {
    for ip in LOOPBACKS {
        let to = SocketAddr::new(ip.parse().unwrap(), 9);
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.connect(to).unwrap();
        let destination = Destination::of(to);
        assert_eq!(unmapped(socket.peer_addr().unwrap()), (destination.ip, destination.port));
    }
}

fn stream_destinations() {
    for ip in LOOPBACKS {
        let destination = Destination::of(SocketAddr::new(ip.parse().unwrap(), 0));
        let listener = TcpListener::bind((destination.ip, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = TcpStream::connect((ip.parse::<IpAddr>().unwrap(), port)).unwrap();
        let (_, from) = listener.accept().unwrap();
        assert_eq!(unmapped(from), unmapped(stream.local_addr().unwrap()), "{ip}");
    }
}

fn unspecified_on_a_bound_socket() {
    for (source, to, reached) in [
        ("127.0.0.2:0", "0.0.0.0:9", "127.0.0.2"),
        ("[::ffff:127.0.0.2]:0", "[::]:9", "127.0.0.1"),
        ("[::ffff:127.0.0.2]:0", "[::ffff:0.0.0.0]:9", "127.0.0.2"),
    ] {
        let socket = UdpSocket::bind(source).unwrap();
        socket.connect(to).unwrap();
        let peer = unmapped(socket.peer_addr().unwrap());
        assert_eq!(peer, (reached.parse().unwrap(), 9), "{source} to {to}");
        assert!(Destination::of(to.parse().unwrap()).is_loopback());
    }
}

fn compatible_addresses() {
    // A listener on the IPv4 address, and no way to it through the embedding.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for ip in ["::127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::", "::ffff:0:127.0.0.1"] {
        let to = SocketAddr::new(ip.parse().unwrap(), port);
        let socket = sys::socket(libc::AF_INET6, libc::SOCK_STREAM);
        let errno = sys::connect(socket, SockAddr::from(to).encode().as_bytes());
        assert_eq!(errno, libc::ENETUNREACH, "{ip}: no IPv6 route in this namespace");
        assert!(!Destination::of(to).is_loopback());
    }
}

fn sendto_reads_unspec_as_ipv4() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut addr = SockAddr::from(receiver.local_addr().unwrap()).encode().as_bytes().to_vec();
    addr[..2].copy_from_slice(&sockaddr_inspect::family::AF_UNSPEC.to_ne_bytes());
    let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM);
    assert_eq!(sys::send_byte_to(&socket, &addr), 0);
    receiver.set_nonblocking(true).unwrap();
    assert_eq!(receiver.recv(&mut [0; 8]).unwrap(), 1, "loopback delivers within the send");

    // On an IPv6 socket the same bytes are no address.
    let socket = sys::socket(libc::AF_INET6, libc::SOCK_DGRAM);
    assert_eq!(sys::send_byte_to(&socket, &addr), libc::EDESTADDRREQ);
}

/// The standard library reads back the `flowinfo` we encoded, by way of the kernel.
fn flowinfo_is_as_in_std() {
    // A traffic class alone: a flow label would have to be leased first.
    let flowinfo = 0x0ab0_0000_u32.to_be();
    let to = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 9, flowinfo, 0);
    let socket = sys::socket(libc::AF_INET6, libc::SOCK_DGRAM);
    sys::send_flowinfo(&socket);
    assert_eq!(sys::connect(&socket, SockAddr::V6(to).encode().as_bytes()), 0);
    assert_eq!(UdpSocket::from(socket).peer_addr().unwrap(), SocketAddr::V6(to));
}
