//! Taking host ports before anybody needs them.
//!
//! A *front* is a socket of ours that is bound to a published host address, so that no other
//! program can be. For TCP it does not listen: connections are refused, as by a host where
//! nothing runs.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::table::Entry;
use crate::publish::{HostPort, PortMap, Protocol, PublishList};

/// A host port could not be reserved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReserveError {
    /// Somebody else has it.
    #[error(
        "--publish {map}: port {} of {} is in use on the host ({protocol}); end what uses it \
         (`ss -lnp` shows it) or publish another port", host.port(), host.ip()
    )]
    InUse {
        /// The option's value.
        map: String,
        /// What was to be reserved.
        host: SocketAddr,
        /// TCP or UDP.
        protocol: Protocol,
    },
    /// None of a range is free.
    #[error(
        "--publish {map}: every host port from {first} to {last} is in use ({protocol}); end what \
         uses one (`ss -lnp` shows it) or publish another range"
    )]
    NoneFree {
        /// The option's value.
        map: String,
        /// First of the range.
        first: u16,
        /// Last of the range.
        last: u16,
        /// TCP or UDP.
        protocol: Protocol,
    },
    /// It takes a privilege.
    #[error(
        "--publish {map}: host port {port} is privileged, ordinary users may bind {start} and \
         above; publish such a port, or have the administrator run \
         `sysctl net.ipv4.ip_unprivileged_port_start={port}`"
    )]
    Privileged {
        /// The option's value.
        map: String,
        /// The port.
        port: u16,
        /// The lowest port that is not privileged.
        start: u16,
    },
    /// The host does not have the address.
    #[error(
        "--publish {map}: {ip} is not an address of this host (`ip address` lists them), so \
         nothing can be published on port {port} of it; publish on one of those, or on none"
    )]
    NotAssignable {
        /// The option's value.
        map: String,
        /// The address.
        ip: IpAddr,
        /// The port.
        port: u16,
    },
    /// The sockets of applications could not be followed.
    #[error("published ports cannot be followed")]
    Vigil {
        /// What failed.
        source: netns_socket::VigilError,
    },
    /// Something else was wrong.
    #[error("--publish {map}: port {} of {} cannot be reserved", host.port(), host.ip())]
    BindCall {
        /// The option's value.
        map: String,
        /// What was to be reserved.
        host: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A front and what it stands for.
pub(super) type Reserved = (Entry, OwnedFd);

/// Reserves everything that is on the list, or nothing.
pub(super) fn reserve(list: &PublishList) -> Result<Vec<Reserved>, ReserveError> {
    let mut all = Vec::new();
    // Ports that were named come first, so that one that we may choose takes none of them.
    let named = |map: &PortMap| matches!(map.host_port, HostPort::Fixed(_));
    for fixed in [true, false] {
        for (publish, map) in list.iter().filter(|(_, map)| named(map) == fixed) {
            all.extend(reserve_map(publish.as_str(), map)?);
        }
    }
    Ok(all)
}

fn reserve_map(text: &str, map: &PortMap) -> Result<Vec<Reserved>, ReserveError> {
    let error = |failed: Failed| failed.explained(text, map.protocol);
    match map.host_port {
        HostPort::Fixed(port) => reserve_at(map, port).map_err(error),
        HostPort::Ephemeral => {
            let mut last = Err(Failed { host: wanted_ip(map, 0), errno: Errno::ADDRINUSE });
            // The kernel chooses for the first address; the same must be free at the second.
            for _ in 0..EPHEMERAL_TRIES {
                last = reserve_at(map, 0);
                if !matches!(last, Err(Failed { errno: Errno::ADDRINUSE, .. })) {
                    break;
                }
            }
            last.map_err(error)
        }
        HostPort::FirstFreeOf { first, last } => {
            for port in first..=last {
                match reserve_at(map, port) {
                    Err(Failed { errno: Errno::ADDRINUSE, .. }) => {}
                    result => return result.map_err(error),
                }
            }
            Err(ReserveError::NoneFree {
                map: text.to_owned(),
                first,
                last,
                protocol: map.protocol,
            })
        }
    }
}

/// Reserves one port at every address of the map; with 0 the first address chooses.
fn reserve_at(map: &PortMap, port: u16) -> Result<Vec<Reserved>, Failed> {
    let both = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
    let ips = match &map.host_ip {
        Some(ip) => std::slice::from_ref(ip),
        None => both.as_slice(),
    };
    let mut port = port;
    let mut reserved = Vec::new();
    for ip in ips {
        let host = SocketAddr::new(*ip, port);
        let mut entry = Entry { protocol: map.protocol, host, container_port: map.container_port };
        match front(&entry) {
            Ok(front) => {
                entry.host = local(&front).ok_or(Failed { host, errno: Errno::INVAL })?;
                port = entry.host.port();
                reserved.push((entry, front));
            }
            // A host without IPv6 has no IPv6 address that was meant.
            Err(Errno::AFNOSUPPORT) if map.host_ip.is_none() && !reserved.is_empty() => {}
            Err(errno) => return Err(Failed { host, errno }),
        }
    }
    Ok(reserved)
}

/// A socket that keeps others from the entry's host address. What is left of the connections of an
/// earlier listener does not stand in its way, if that listener had `SO_REUSEADDR`, as servers do.
pub(super) fn front(entry: &Entry) -> Result<OwnedFd, Errno> {
    let front = socket(entry)?;
    match rustix::net::bind(&front, &entry.host) {
        Ok(()) if entry.protocol == Protocol::Tcp && entry.host.port() == 0 => {
            return keep_port(entry, &front);
        }
        Err(Errno::ADDRINUSE) if entry.protocol == Protocol::Tcp => {}
        result => return result.map(|()| front),
    }
    joining(entry)
}

/// A socket with the port that the kernel chose for `chosen`, and that keeps it for as long as it is
/// open. One that has not asked for its port loses it with its first shutdown(2), when it has
/// served the relay (`SOCK_BINDPORT_LOCK` in `tcp_set_state()`).
fn keep_port(entry: &Entry, chosen: &OwnedFd) -> Result<OwnedFd, Errno> {
    let host = local(chosen).ok_or(Errno::INVAL)?;
    sockopt::set_socket_reuseaddr(chosen, true)?;
    joining(&Entry { host, ..*entry })
}

/// A TCP socket bound where others that do not listen have `SO_REUSEADDR`.
fn joining(entry: &Entry) -> Result<OwnedFd, Errno> {
    let front = socket(entry)?;
    sockopt::set_socket_reuseaddr(&front, true)?;
    rustix::net::bind(&front, &entry.host)?;
    // With it, others who have it could join.
    sockopt::set_socket_reuseaddr(&front, false)?;
    Ok(front)
}

fn socket(entry: &Entry) -> Result<OwnedFd, Errno> {
    let family = if entry.host.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match entry.protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    if entry.host.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}

fn local(socket: &OwnedFd) -> Option<SocketAddr> {
    SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok()
}

fn wanted_ip(map: &PortMap, port: u16) -> SocketAddr {
    SocketAddr::new(map.host_ip.unwrap_or_else(|| Ipv4Addr::UNSPECIFIED.into()), port)
}

/// Which address failed, and how.
#[derive(Clone, Copy, Debug)]
struct Failed {
    host: SocketAddr,
    errno: Errno,
}

impl Failed {
    fn explained(self, text: &str, protocol: Protocol) -> ReserveError {
        let Self { host, errno } = self;
        let (map, port, ip) = (text.to_owned(), host.port(), host.ip());
        match errno {
            Errno::ADDRINUSE => ReserveError::InUse { map, host, protocol },
            Errno::ACCESS => ReserveError::Privileged { map, port, start: unprivileged_start() },
            Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT => {
                ReserveError::NotAssignable { map, ip, port }
            }
            errno => ReserveError::BindCall { map, host, source: errno.into() },
        }
    }
}

/// The first port that takes no privilege on the host; see ip(7).
fn unprivileged_start() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DEFAULT_UNPRIVILEGED_START)
}

const DEFAULT_UNPRIVILEGED_START: u16 = 1024;
const EPHEMERAL_TRIES: usize = 64;

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn list(host: SocketAddr) -> PublishList {
        let publish = format!("{host}:80").parse().unwrap();
        PublishList::new(vec![publish]).unwrap()
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn connections_of_an_earlier_server_do_not_keep_its_port() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = server.local_addr().unwrap();
        let mut client = TcpStream::connect(host).unwrap();
        // The server closes first, so that its end is the one that lingers.
        drop(server.accept().unwrap());
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop((client, server));
        let reserved = reserve(&list(host)).unwrap();
        assert_eq!(reserved.len(), 1);
        assert!(TcpListener::bind(host).is_err(), "with SO_REUSEADDR");
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn a_server_keeps_its_port() {
        // It has SO_REUSEADDR set.
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let reserved = reserve(&list(server.local_addr().unwrap()));
        assert!(matches!(reserved, Err(ReserveError::InUse { .. })), "{reserved:?}");
    }
}
