//! Calls that datagrams have of their own: many at once, and with control messages.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg,
    recvmsg, sendmmsg, sendmsg,
};
use serde_json::{Value, json};

/// One received datagram: what is answered, and what a reply to it needs.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) value: Value,
    pub(crate) from: Option<SocketAddr>,
    /// Where it was sent to, if the socket has `IP_PKTINFO` or `IPV6_RECVPKTINFO`.
    pub(crate) to: Option<IpAddr>,
}

/// recvmsg(2) with room for every control message that is told of.
pub(crate) fn receive(socket: &OwnedFd) -> io::Result<Received> {
    let (mut bytes, mut control) = (vec![0; LONGEST], cmsg_space!([u8; 256]));
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::empty();
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    let (length, from) = (message.bytes, message.address.as_ref().and_then(std_address));
    let (mut to, mut tos, mut segment) = (None, None, None);
    for one in message.cmsgs()? {
        match one {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                to = Some(IpAddr::from(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                to = Some(IpAddr::from(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
            }
            ControlMessageOwned::Ipv4Tos(value) => tos = Some(i32::from(value)),
            ControlMessageOwned::Ipv6TClass(value) => tos = Some(value),
            ControlMessageOwned::UdpGroSegments(value) => segment = Some(value),
            _ => {}
        }
    }
    let value = json!({
        "text": text(bytes.get(..length).unwrap_or_default()),
        "length": length,
        "from": from.map(canonical),
        "to": to.map(|ip| ip.to_canonical()),
        "tos": tos,
        "segment": segment,
    });
    Ok(Received { value, from, to })
}

/// recvmmsg(2): waits for `count` datagrams and tells text and source of each.
pub(crate) fn receive_many(socket: &OwnedFd, count: usize) -> io::Result<Value> {
    let mut buffers = vec![[0; 2048]; count];
    let mut slices: Vec<_> = buffers.iter_mut().map(|one| [IoSliceMut::new(one)]).collect();
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(count, None);
    let flags = MsgFlags::empty();
    let results = recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None)?;
    let received: Vec<_> = results
        .map(|one| {
            let bytes = one.iovs().flatten().copied().collect::<Vec<u8>>();
            let from = one.address.as_ref().and_then(std_address).map(canonical);
            json!({ "text": text(&bytes), "from": from })
        })
        .collect();
    Ok(received.into())
}

/// sendmmsg(2) of two datagrams to one address, or without one; tells how many were taken.
pub(crate) fn send_two(socket: &OwnedFd, to: Option<SocketAddr>) -> io::Result<Value> {
    let slices = [[IoSlice::new(b"first")], [IoSlice::new(b"second")]];
    let address = to.map(SockaddrStorage::from);
    let mut headers = MultiHeaders::preallocate(slices.len(), None);
    let flags = MsgFlags::MSG_NOSIGNAL;
    let addresses = [address, address];
    let sent = sendmmsg(socket.as_raw_fd(), &mut headers, &slices, addresses, no_control(), flags)?;
    Ok(sent.count().into())
}

/// One send that the kernel cuts into datagrams of `SEGMENT` bytes (`UDP_SEGMENT`).
pub(crate) fn send_segmented(socket: &OwnedFd, to: Option<SocketAddr>) -> io::Result<Value> {
    let bytes = [b'a'; SEGMENT as usize * 2 + SEGMENT as usize / 2];
    send_with(socket, &bytes, &[ControlMessage::UdpGsoSegments(&SEGMENT)], to)
}

/// A reply from the address that a datagram was sent to, as servers on many addresses do it.
pub(crate) fn reply(socket: &OwnedFd, bytes: &[u8], got: &Received) -> io::Result<Value> {
    match got.to {
        None => send_with(socket, bytes, &[], got.from),
        Some(IpAddr::V4(ip)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(ip).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            send_with(socket, bytes, &[ControlMessage::Ipv4PacketInfo(&info)], got.from)
        }
        Some(IpAddr::V6(ip)) => {
            let ipi6_addr = libc::in6_addr { s6_addr: ip.octets() };
            let info = libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 };
            send_with(socket, bytes, &[ControlMessage::Ipv6PacketInfo(&info)], got.from)
        }
    }
}

/// Which control message names the device.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Device {
    /// `IP_PKTINFO`
    V4,
    /// `IPV6_PKTINFO`
    V6,
}

/// A datagram that a control message sends by the loopback device, whatever the socket is
/// bound to.
pub(crate) fn send_by_loopback(
    socket: &OwnedFd,
    to: SocketAddr,
    device: Device,
    many: bool,
) -> io::Result<Value> {
    // Towards an IPv4-mapped address the kernel wants a source of that kind.
    let source = match to.ip() {
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Ipv4Addr::LOCALHOST.to_ipv6_mapped(),
        _ => Ipv6Addr::UNSPECIFIED,
    };
    let v4 = libc::in_pktinfo {
        ipi_ifindex: LOOPBACK_DEVICE,
        ipi_spec_dst: libc::in_addr { s_addr: 0 },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let v6 = libc::in6_pktinfo {
        ipi6_addr: libc::in6_addr { s6_addr: source.octets() },
        ipi6_ifindex: LOOPBACK_DEVICE.unsigned_abs(),
    };
    let control = [match device {
        Device::V4 => ControlMessage::Ipv4PacketInfo(&v4),
        Device::V6 => ControlMessage::Ipv6PacketInfo(&v6),
    }];
    if !many {
        return send_with(socket, b"by loopback", &control, Some(to));
    }
    let slices = [[IoSlice::new(b"by loopback")]];
    let mut headers = MultiHeaders::preallocate(1, Some(cmsg_space!([u8; 64])));
    let flags = MsgFlags::MSG_NOSIGNAL;
    let addresses = [Some(SockaddrStorage::from(to))];
    let sent = sendmmsg(socket.as_raw_fd(), &mut headers, &slices, addresses, control, flags)?;
    Ok(sent.count().into())
}

fn send_with(
    socket: &OwnedFd,
    bytes: &[u8],
    control: &[ControlMessage<'_>],
    to: Option<SocketAddr>,
) -> io::Result<Value> {
    let to = to.map(SockaddrStorage::from);
    let flags = MsgFlags::MSG_NOSIGNAL;
    let slices = [IoSlice::new(bytes)];
    Ok(sendmsg(socket.as_raw_fd(), &slices, control, flags, to.as_ref())?.into())
}

const fn no_control() -> [ControlMessage<'static>; 0] {
    []
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn std_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().copied().map(SocketAddrV4::from).map(SocketAddr::from);
    v4.or_else(|| storage.as_sockaddr_in6().copied().map(SocketAddrV6::from).map(SocketAddr::from))
}

/// An IPv4 peer of a dual-stack socket is shown as IPv4.
pub(crate) fn canonical(address: SocketAddr) -> String {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

/// Longest datagram, and what `UDP_GRO` may put together.
const LONGEST: usize = 1 << 16;
const SEGMENT: u16 = 100;

/// The first device of every network namespace.
const LOOPBACK_DEVICE: i32 = 1;
