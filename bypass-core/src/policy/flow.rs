//! What a policy looks at.

use std::net::{IpAddr, Ipv4Addr};

use sockaddr_inspect::Destination;

use crate::publish::Protocol;

/// Where a socket wants to go, and by what: the question that a [`Policy`](crate::Policy) answers.
///
/// What only the running machine knows (is it an address of the host? in a network of the container?)
/// has to be said by whoever asks, and only for policies that want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The destination.
    pub to: Destination,
    /// The protocol; `None` for one that is never bypassed.
    pub protocol: Option<Protocol>,
    host: Option<bool>,
    own_network: Option<bool>,
}

impl Flow {
    /// From a socket of this protocol to this address, of which it is not known whether it is the
    /// host's.
    #[must_use]
    pub fn new(protocol: impl Into<Option<Protocol>>, to: std::net::SocketAddr) -> Self {
        Self::to(protocol, Destination::of(to))
    }

    /// As [`new`](Self::new), to an address in normal form.
    #[must_use]
    pub fn to(protocol: impl Into<Option<Protocol>>, to: Destination) -> Self {
        Self { to, protocol: protocol.into(), host: None, own_network: None }
    }

    /// Says whether the destination is an address of the host's own. Where that is not known
    /// (`None`), a rule that denies these is taken to match, and one that allows them is not.
    ///
    /// A policy of which [`names_host`](super::Policy::names_host) is false does not look at it.
    #[must_use]
    pub fn of_host(mut self, host: Option<bool>) -> Self {
        self.host = host;
        self
    }

    /// Says whether the destination is in a network that one of the container's interfaces is connected
    /// to. Where that is not known (`None`), it is left to the container.
    ///
    /// A policy of which [`ignores_own_networks`](super::Policy::ignores_own_networks) is false does not
    /// look at it.
    #[must_use]
    pub fn in_own_network(mut self, own: Option<bool>) -> Self {
        self.own_network = own;
        self
    }

    pub(super) fn is_in_own_network(&self) -> Option<bool> {
        self.own_network
    }

    /// Whether this is about an address of the host, other than what means something else to a
    /// container: loopback and groups.
    pub(super) fn is_of_host(&self) -> Option<bool> {
        let elsewhere = self.to.is_loopback() || is_group(self.to.ip);
        if elsewhere { Some(false) } else { self.host }
    }
}

/// Whether an address is one that datagrams to many go to, on whichever network they are sent.
pub(super) fn is_group(ip: IpAddr) -> bool {
    ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}
