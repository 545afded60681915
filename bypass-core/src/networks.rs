//! A container's own network namespace: which it is, the networks of its interfaces, and who can be
//! reached there.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use netns_socket::{Networks, PidFd, netns_cookie_inside};

use crate::neighbours::{Neighbourhood, Neighbours, Service};
use crate::ports::Ports;

/// What one container's thread knows of its namespace.
///
/// The word of whoever started the container says which it is: its first process. That cannot be
/// entered while it is still a runtime on its way to the container's program, so it is tried again
/// when the first socket is seen.
#[derive(Debug, Default)]
pub(crate) struct OwnNamespace {
    /// Until it has been entered.
    first: Option<PidFd>,
    /// Whether its networks are wanted.
    follow: bool,
    followed: Option<Networks>,
    failures: u32,
    /// Where others are to be told of it, and of the ports that it publishes.
    neighbours: Option<(Arc<Neighbours>, Ports)>,
    neighbourhood: Option<Neighbourhood>,
}

impl OwnNamespace {
    pub(crate) fn new(first: Option<PidFd>, follow: bool) -> Self {
        Self { first, follow, ..Self::default() }
    }

    /// Makes it a neighbour of these, as soon as it is known.
    pub(crate) fn among(mut self, neighbours: Arc<Neighbours>, ports: Ports) -> Self {
        self.neighbours = Some((neighbours, ports));
        self
    }

    /// The cookie of the namespace in which the first process is, at the moment, once; `None` where
    /// that cannot be found out, or not yet. `host` is the cookie of one that it cannot be.
    pub(crate) fn enter(&mut self, host: u64) -> Option<u64> {
        let first = self.first.take()?;
        let entered = if self.follow || self.neighbours.is_some() {
            follow(&first, None).map(|(cookie, networks)| (cookie, Some(networks)))
        } else {
            netns_cookie_inside(&first)
                .inspect_err(|error| {
                    let error = error as &dyn std::error::Error;
                    tracing::debug!(error, "the container's first process cannot be entered");
                })
                .ok()
                .flatten()
                .map(|cookie| (cookie, None))
        };
        let Some((cookie, networks)) = entered else {
            self.first = Some(first);
            return None;
        };
        if cookie == host {
            return None;
        }
        if let Some(networks) = networks {
            self.keep(cookie, networks);
        }
        Some(cookie)
    }

    /// Whether an interface of the container is connected to a network with this address. `netns` is
    /// the cookie of its namespace, where that is known, and `thread` one of its threads.
    pub(crate) fn contains<'t>(
        &mut self,
        thread: impl FnOnce() -> Option<&'t PidFd>,
        netns: Option<u64>,
        ip: IpAddr,
    ) -> Option<bool> {
        self.known(thread, netns)?;
        self.followed.as_mut()?.contain(ip)
    }

    /// The neighbour's service that is meant by an address, as [`Neighbourhood::find`] has it.
    pub(crate) fn neighbour<'t>(
        &mut self,
        thread: impl FnOnce() -> Option<&'t PidFd>,
        netns: Option<u64>,
        to: SocketAddr,
        socket: impl FnMut() -> Option<OwnedFd>,
    ) -> Option<Service> {
        self.known(thread, netns)?;
        self.neighbourhood.as_mut()?.find(self.followed.as_mut()?, to, socket)
    }

    pub(crate) fn is_neighbours(&self, service: &Service, host: SocketAddr, device: u32) -> bool {
        self.neighbourhood.as_ref().is_some_and(|all| all.is_applications(service, host, device))
    }

    /// Has the networks of the namespace with this cookie followed, by way of some thread that wants to
    /// connect somewhere. Costs a process each time, and nothing is to be gained by it for a container
    /// that cannot be entered.
    fn known<'t>(
        &mut self,
        thread: impl FnOnce() -> Option<&'t PidFd>,
        netns: Option<u64>,
    ) -> Option<()> {
        let netns = netns?;
        if self.followed.as_ref().is_some_and(|known| known.netns_cookie() == Some(netns)) {
            return Some(());
        }
        if self.failures >= MAX_FAILURES {
            return None;
        }
        // It may be in a namespace of its own, with a socket of the container's.
        if let Some((_, networks)) = follow(thread()?, Some(netns)) {
            self.keep(netns, networks);
            return Some(());
        }
        self.failures += 1;
        if self.failures == MAX_FAILURES {
            tracing::warn!(
                "the networks of a container cannot be followed: with `auto` nothing of it is \
                 bypassed"
            );
        }
        None
    }

    fn keep(&mut self, netns: u64, [own, others]: [Networks; 2]) {
        self.followed = Some(own);
        if let Some((all, ports)) = &self.neighbours {
            self.neighbourhood = Some(all.join(netns, ports.clone(), others));
        }
    }
}

/// For the container's own thread, and for those of others.
fn follow(target: &PidFd, expected: Option<u64>) -> Option<(u64, [Networks; 2])> {
    let networks = Networks::several(target, 2)
        .inspect_err(|error| {
            let error = error as &dyn std::error::Error;
            tracing::debug!(error, "a container's networks cannot be followed");
        })
        .ok()?;
    let networks: [Networks; 2] = networks.try_into().ok()?;
    let [first, _] = &networks;
    let cookie = first.netns_cookie()?;
    expected.is_none_or(|expected| expected == cookie).then_some((cookie, networks))
}

/// Threads by way of which the namespace is tried to be entered.
const MAX_FAILURES: u32 = 16;
