//! How the relay reaches an application on the paths that its own socket cannot serve.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use netns_socket::{Domain, Kind, Namespace, SocketSpec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::table::Entry;
use crate::inside::Inside;
use crate::publish::Protocol;
use crate::relay::Backend;

/// Where an application is.
#[derive(Debug)]
pub(super) enum Reach {
    /// Its socket is on the host, bound to this entry's address and perhaps to a device.
    Host { entry: Entry, pin: Option<u32> },
    /// Its socket is in this namespace. Whoever has bound it may be no more.
    Inside { namespace: Arc<Namespace>, addr: SocketAddr, inside: Inside },
}

/// What a slot's backends know; `None` while there is no application.
#[derive(Clone, Debug, Default)]
pub(super) struct Application(Arc<Mutex<Option<Reach>>>);

impl Application {
    pub(super) fn set(&self, reach: Option<Reach>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reach;
    }

    pub(super) fn is_known(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

impl Backend for Application {
    fn open(&self, _client: SocketAddr) -> io::Result<OwnedFd> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Err(Errno::CONNREFUSED.into()),
            Some(Reach::Host { entry, pin }) => Ok(open_on_host(entry, *pin)?),
            Some(Reach::Inside { namespace, addr, inside }) => {
                Ok(open_inside(namespace, *addr, inside)?)
            }
        }
    }
}

/// A socket is pinned like the application's own, or the kernel would not take it for its peer.
fn open_on_host(entry: &Entry, pin: Option<u32>) -> Result<OwnedFd, Errno> {
    let mut to = entry.reach();
    if let Some(device) = pin
        && entry.host.ip().is_unspecified()
    {
        to.set_ip(address_of(device, to.is_ipv4())?);
    }
    let socket = socket(entry.protocol, to.is_ipv4())?;
    pin_to(&socket, pin)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// The address that the host has on a device: the source of what leaves by it.
fn address_of(device: u32, v4: bool) -> Result<IpAddr, Errno> {
    let asker = socket(Protocol::Udp, v4)?;
    pin_to(&asker, Some(device))?;
    let outside = if v4 { IpAddr::V4(OUTSIDE_V4) } else { IpAddr::V6(OUTSIDE_V6) };
    // Sends nothing.
    rustix::net::connect(&asker, &SocketAddr::new(outside, DISCARD))?;
    let source = rustix::net::getsockname(&asker)?;
    SocketAddr::try_from(source).map(|source| source.ip()).or(Err(Errno::ADDRNOTAVAIL))
}

fn open_inside(
    namespace: &Namespace,
    addr: SocketAddr,
    inside: &mut Inside,
) -> Result<OwnedFd, Errno> {
    let domain = if addr.is_ipv4() { Domain::Inet } else { Domain::Inet6 };
    let spec = SocketSpec { domain, kind: Kind::Datagram, protocol: libc_udp() };
    let socket = inside.socket(namespace, spec).ok_or(Errno::CONNREFUSED)?;
    rustix::net::connect(&socket, &addr)?;
    Ok(socket)
}

fn socket(protocol: Protocol, v4: bool) -> Result<OwnedFd, Errno> {
    let family = if v4 { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, kind, flags, None)
}

fn pin_to(socket: &OwnedFd, device: Option<u32>) -> Result<(), Errno> {
    match device {
        Some(device) => netns_socket::pin(socket, device).map(drop).or(Err(Errno::NODEV)),
        None => Ok(()),
    }
}

/// The number of UDP, whatever the address family.
fn libc_udp() -> i32 {
    i32::try_from(rustix::net::ipproto::UDP.as_raw().get()).unwrap_or(0)
}

/// Addresses that nobody has (RFC 5737, RFC 3849): the way to them is that of the default route.
pub(crate) const OUTSIDE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const OUTSIDE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// Any port but 0 will do.
const DISCARD: u16 = 9;
