//! What `fuzz/` drives besides the interface. It is no part of it, and only there with the feature
//! `fuzzing`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use netns_socket::Domain;
use seccomp_notify::Errno;

use crate::ports::{Entry, Table, Wanted};
use crate::publish::{HostPort, PortMap, Protocol, PublishList};

/// A run of the engine, in a world without a kernel.
///
/// # Panics
/// If a rule is broken.
pub fn engine(bytes: &[u8]) {
    crate::engine::model::run(bytes);
}

/// What becomes of the control messages of a send from a socket that is bound to the device `pin`.
///
/// # Errors
/// What the call would end with.
pub fn confine(control: &mut [u8], pin: Option<u32>) -> Result<(), Errno> {
    crate::engine::confine(control, pin)
}

/// Binds in a container for which this is published: `at` is asked for, by an IPv6 socket if it is
/// an IPv6 address, with `IPV6_V6ONLY` set or not. The host addresses with the numbers in `refused`
/// are such as no socket may have.
///
/// # Panics
/// If a rule is broken.
pub fn bind(list: &PublishList, protocol: Protocol, at: SocketAddr, v6_only: bool, refused: u8) {
    let table = Table::new(list.iter().flat_map(|(_, map)| entries(map)).collect());
    let domain = if at.is_ipv4() { Domain::Inet } else { Domain::Inet6 };
    let wanted = Wanted { protocol, domain, v6_only, addr: at };
    let number = |entry: &Entry| table.entries().position(|(_, other)| other == entry);
    let may = |entry: &Entry| number(entry).is_none_or(|at| at > 7 || refused & (1 << at) == 0);
    let Some((choice, ())) = table.choose(&wanted, |entry| may(entry).then_some(())) else {
        return;
    };
    choice.assert_answers(&table, &wanted);
    // What it is bound to is told for published later, and nothing else is.
    assert!(table.covers(protocol, choice.bind, !choice.v6_only), "{choice:?}");
    let covered = table.covered(protocol, choice.bind, choice.v6_only);
    assert!(choice.own.iter().all(|index| covered.contains(index)), "{choice:?}, {covered:?}");
}

fn entries(map: &PortMap) -> impl Iterator<Item = Entry> {
    let PortMap { host_ip, container_port, protocol, .. } = *map;
    let port = match map.host_port {
        HostPort::Fixed(port) | HostPort::FirstFreeOf { first: port, .. } => port,
        HostPort::Ephemeral => container_port | 0x8000,
    };
    let both = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let ips = host_ip.map_or_else(|| both.to_vec(), |ip| vec![ip]);
    ips.into_iter().map(move |ip| Entry {
        protocol,
        host: SocketAddr::new(ip, port),
        container_port,
    })
}
