//! What `fuzz/` drives besides the interface: how answers of the kernel are read, whose contents a
//! container has a hand in. It is no part of the interface, and only there with the feature
//! `fuzzing`.

use std::net::SocketAddr;

use rustix::io::Errno;

use crate::netlink::{self, Answer, Decoded, Entry};
use crate::{
    InterfaceAddress, LocalAddress, datagram, epoll, flags, foreign, listener, udp_sockets,
};

/// Number, events and data of a line of an epoll's fdinfo.
#[must_use]
pub fn epoll_line(line: &str) -> Option<(u32, u32, u64)> {
    epoll::Line::parse(line.as_bytes()).map(|line| (line.number, line.events, line.data))
}

/// Inodes of `/proc/net/udp`.
#[must_use]
pub fn udp_sockets(list: &str) -> Vec<u64> {
    list.lines().filter_map(|line| udp_sockets::parse(line.as_bytes())).collect()
}

/// Thread group of `/proc/TID/status`.
#[must_use]
pub fn thread_group(status: &str) -> Option<i32> {
    status.lines().find_map(|line| foreign::parse_tgid(line.as_bytes()))
}

/// Close-on-exec flag of `/proc/TID/fdinfo/N`.
#[must_use]
pub fn cloexec(fdinfo: &[u8]) -> Option<bool> {
    flags::parse_cloexec(fdinfo)
}

/// Inode in an answer of sock_diag(7).
#[must_use]
pub fn listener(answer: &[u8]) -> Option<Result<u64, Errno>> {
    listener::decode(answer)
}

/// Device in the answer of rtnetlink(7) to the request with this number; `None` for another's.
///
/// # Errors
/// `None` for what makes no sense, else what the kernel said.
pub fn route(answer: &[u8], sequence: u32) -> Option<Result<u32, Option<Errno>>> {
    match netlink::decode(answer, sequence) {
        Decoded::Foreign => None,
        Decoded::Malformed => Some(Err(None)),
        Decoded::Answer(Answer::Refused(errno)) => Some(Err(Some(errno))),
        Decoded::Answer(Answer::Route { ifindex, .. }) => Some(Ok(ifindex)),
    }
}

/// Addresses in a message of rtnetlink(7) that answers the request with this number.
#[must_use]
pub fn addresses(message: &[u8], sequence: u32) -> Vec<InterfaceAddress> {
    netlink::entries(message, sequence)
        .filter_map(|entry| match entry {
            Entry::Address(address) => Some(address),
            Entry::Interrupted(address) => address,
            Entry::Foreign | Entry::Done | Entry::Malformed => None,
        })
        .collect()
}

/// The sender of a datagram, and how it is written for an answer.
#[must_use]
pub fn sender(bytes: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
    let sender = datagram::decode_name(bytes)?;
    let (written, len) = datagram::encode_name(sender);
    Some((sender, written.get(..len)?.to_vec()))
}

/// The destination of a datagram, and how it is written as the source of an answer.
#[must_use]
pub fn destination(bytes: &[u8]) -> Option<(LocalAddress, Vec<u8>)> {
    let to = datagram::decode_control(bytes)?;
    let (written, len) = datagram::encode_control(to);
    Some((to, written.0.get(..len)?.to_vec()))
}
