//! Which device a destination is reached by, for pinning.
//!
//! A [`Router`] asks the kernel's routing table and keeps what it said until a link, address, route
//! or rule changes. It belongs to the network namespace of the thread that made it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use crate::netlink::{self, Answer, Monitor, Query};

/// Routing look-ups in one network namespace, with a bounded cache: `RTM_GETROUTE` of [rtnetlink(7)], about
/// 4 µs each. News of routes, addresses and links empty the cache before the next answer is given.
///
/// [rtnetlink(7)]: https://man7.org/linux/man-pages/man7/rtnetlink.7.html
#[derive(Debug)]
pub struct Router {
    inner: Mutex<Inner>,
}

/// How a destination is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// By way of a device. For an address of the host's own it is the device that carries it:
    /// a socket pinned to that one reaches the address.
    Device {
        /// The device's index.
        ifindex: u32,
    },
    /// It is the host's loopback: `lo` carries the address or the route, or it is the unspecified
    /// address, which `connect(2)` takes for loopback.
    Loopback,
    /// Not at all, as the kernel said: ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL.
    Unroutable(Errno),
}

/// Who gets what is sent to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// This host: the address is one of its own.
    Here,
    /// This host and others: a broadcast, multicast or anycast address.
    HereToo,
    /// Not this host, as far as it knows.
    Elsewhere,
}

impl Router {
    /// Opens a router for the calling thread's network namespace.
    ///
    /// # Errors
    /// [`RouteError::OpenCall`] if a netlink socket could not be had.
    pub fn new() -> Result<Self, RouteError> {
        // Watch first: what changes after the first look-up must not be missed.
        let monitor = Monitor::open().map_err(|source| RouteError::OpenCall { source })?;
        let query = Query::open().map_err(|source| RouteError::OpenCall { source })?;
        let cache = HashMap::with_capacity(CAPACITY);
        Ok(Self { inner: Mutex::new(Inner { query, monitor, cache }) })
    }

    /// How a fresh socket that connects to `ip` reaches it. `scope_id` counts for link-local IPv6
    /// addresses, as in `connect(2)`. An IPv4-mapped address is taken as IPv4.
    ///
    /// Policy rules that look at marks, source addresses or ports are answered as for a socket
    /// without any of these.
    ///
    /// # Errors
    /// [`RouteError`] if the kernel could not be asked. That a destination cannot be reached is an
    /// [`Egress`].
    ///
    /// # Races
    /// A change of routing is noticed by the first call after the kernel announced it.
    #[doc(alias = "RTM_GETROUTE")]
    pub fn egress(&self, ip: IpAddr, scope_id: u32) -> Result<Egress, RouteError> {
        let ip = ip.to_canonical();
        if ip.is_unspecified() || ip.is_loopback() {
            return Ok(Egress::Loopback);
        }
        if let IpAddr::V6(ip) = ip
            && needs_scope(ip)
        {
            return Ok(match scope_id {
                0 => Egress::Unroutable(Errno::INVAL),
                LOOPBACK_IFINDEX => Egress::Loopback,
                ifindex => Egress::Device { ifindex },
            });
        }
        // A panic while the lock was held cannot leave the cache half-written: it holds whole
        // answers only.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(inner.known(ip)?.egress)
    }

    /// Whether what is sent to `ip` arrives at this host itself. An IPv4-mapped address is taken as
    /// IPv4, and an unspecified one as loopback, as `connect(2)` does.
    ///
    /// Link-local IPv6 addresses are [`Arrival::Elsewhere`]: whose they are, their scope decides, and
    /// the routing tables of a scope are not asked here.
    ///
    /// # Errors
    /// As [`egress`](Self::egress), and what is said of it there holds here too.
    pub fn arrival(&self, ip: IpAddr) -> Result<Arrival, RouteError> {
        let ip = ip.to_canonical();
        if ip.is_unspecified() || ip.is_loopback() {
            return Ok(Arrival::Here);
        }
        if let IpAddr::V6(ip) = ip
            && needs_scope(ip)
        {
            return Ok(Arrival::Elsewhere);
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(inner.known(ip)?.arrival)
    }

    /// Forgets every answer, so that the kernel is asked anew. News of the kernel do that by themselves.
    pub fn clear(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).cache.clear();
    }
}

/// The kernel's routing could not be asked. That there is no route is an answer, not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// A netlink socket could not be opened.
    #[error("opening a netlink socket failed")]
    OpenCall {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// A request or its answer failed.
    #[error("RTM_GETROUTE failed")]
    QueryCall {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// Changes can no longer be watched.
    #[error("watching for changes of routing failed")]
    MonitorCall {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The answer has no device.
    #[error("the {len} bytes of the answer name no device")]
    Malformed {
        /// Length of the answer.
        len: usize,
    },
}

#[derive(Debug)]
struct Inner {
    query: Query,
    monitor: Monitor,
    // Hashed with a random key: the container chooses the destinations.
    cache: HashMap<IpAddr, Known>,
}

/// What was asked about an address.
#[derive(Clone, Copy, Debug)]
struct Known {
    egress: Egress,
    arrival: Arrival,
}

impl Inner {
    fn known(&mut self, ip: IpAddr) -> Result<Known, RouteError> {
        if self.monitor.changed().map_err(|source| RouteError::MonitorCall { source })? {
            self.cache.clear();
        }
        if let Some(known) = self.cache.get(&ip) {
            return Ok(*known);
        }
        // A change from here on is announced after this, so the next call sees it.
        let known = self.look_up(ip)?;
        if self.cache.len() >= CAPACITY {
            self.cache.clear();
        }
        self.cache.insert(ip, known);
        Ok(known)
    }

    fn look_up(&mut self, ip: IpAddr) -> Result<Known, RouteError> {
        let first = self.ask(ip, 0)?;
        let arrival = match first {
            Answer::Route { arrival, .. } => arrival,
            Answer::Refused(_) => Arrival::Elsewhere,
        };
        let answer = match first {
            // An address of our own: the answer names `lo`, the entry in the routing table names
            // the device that carries the address. Not asked for at once since the entry of a
            // multipath route names several devices, and not the one that was chosen.
            Answer::Route { arrival: Arrival::Here, .. } => self.ask(ip, netlink::FIB_MATCH)?,
            other => other,
        };
        let egress = match answer {
            Answer::Route { ifindex: LOOPBACK_IFINDEX, .. } => Egress::Loopback,
            Answer::Route { ifindex, .. } => Egress::Device { ifindex },
            Answer::Refused(errno) => Egress::Unroutable(errno),
        };
        Ok(Known { egress, arrival })
    }

    fn ask(&mut self, ip: IpAddr, flags: u32) -> Result<Answer, RouteError> {
        self.query.route(ip, flags).map_err(|error| match error {
            netlink::QueryError::Call(source) => RouteError::QueryCall { source },
            netlink::QueryError::Malformed(len) => RouteError::Malformed { len },
        })
    }
}

/// Whether an address means something on one link only: link-local unicast, and multicast of
/// interface or link scope.
fn needs_scope(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.octets();
    ip.is_unicast_link_local() || (first == 0xff && matches!(second & 0x0f, 1 | 2))
}

/// Answers kept. The container chooses the destinations, so there is a limit; when it is reached,
/// all are forgotten.
const CAPACITY: usize = 1024;
/// Every network namespace has its `lo` first, and the kernel relies on this number.
const LOOPBACK_IFINDEX: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_needed_on_links_only() {
        for (ip, needs) in [
            ("fe80::1", true),
            ("febf::1", true),
            ("fec0::1", false),
            ("ff01::1", true),
            ("ff02::1", true),
            ("ff12::1", true),
            ("ff05::1", false),
            ("2001:db8::1", false),
            ("::1", false),
        ] {
            assert_eq!(needs_scope(ip.parse().unwrap()), needs, "{ip}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn a_container_does_not_decide_how_many_answers_are_kept() {
        let router = Router::new().unwrap();
        for number in 0..5_000_u32 {
            let ip = IpAddr::from(std::net::Ipv4Addr::from(0xcb00_0000 + number));
            router.egress(ip, 0).unwrap();
            let kept = router.inner.lock().unwrap().cache.len();
            assert!((1..=CAPACITY).contains(&kept), "{kept}");
        }
    }

    #[test]
    fn a_router_is_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Router>();
    }
}
