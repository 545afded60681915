//! Connections to published ports of other containers, by these containers' own addresses.
//!
//! As to the container's [own](super::inside) published ports: the application's socket is on the host.
//! That the networks would have led there is [found out](super::Kernel::neighbour) before.

use std::collections::HashMap;
use std::net::SocketAddr;

use netns_socket::TcpState;
use sockaddr_inspect::Destination;

use super::connect::ConnectCall;
use super::inside::{Of, Reached};
use super::{Engine, Kernel};
use crate::Reason;
use crate::policy::Verdict;
use crate::ports::in_family;

impl<K: Kernel> Engine<K> {
    /// The other container's service that is meant by `dest`, if this one may and can reach it.
    pub(super) fn neighbour(
        &self,
        k: &mut K,
        call: &ConnectCall<K>,
        dest: &Destination,
        verdict: Verdict,
    ) -> Option<Reached> {
        // What the policy refuses it refuses by whichever way, and what is the container's own is no
        // neighbour's.
        let may = matches!(
            verdict,
            Verdict::Bypass | Verdict::Leave(Reason::OwnNetwork | Reason::Ignored)
        );
        if !self.facts.neighbours || !may || k.tcp_state(&call.sock) != Some(TcpState::Close) {
            return None;
        }
        let to = SocketAddr::new(dest.ip, dest.port);
        let service = k.neighbour(call.target.tid, self.facts.container_netns, to)?;
        let host = in_family(call.id.domain, service.host)?;
        Some(Reached { of: Of::Neighbour(service), host })
    }
}

/// What the addresses of other containers were that sockets of the host were asked to connect to.
#[derive(Debug, Default)]
pub(super) struct Named(HashMap<u64, SocketAddr>);

impl Named {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By the cookie of a socket, which no other ever has.
    pub(super) fn get(&self, cookie: u64) -> Option<SocketAddr> {
        self.0.get(&cookie).copied()
    }

    pub(super) fn insert(&mut self, cookie: u64, asked: SocketAddr) {
        // The container decides how many there are. One that is forgotten has the host's name.
        if self.0.len() >= MAX_NAMED {
            self.0.clear();
        }
        self.0.insert(cookie, asked);
    }
}

const MAX_NAMED: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_does_not_decide_how_many_names_are_remembered() {
        let mut named = Named::default();
        let asked = SocketAddr::from(([10, 4, 0, 3], 80));
        for cookie in 0..5_000 {
            named.insert(cookie, asked);
            assert!(named.get(cookie) == Some(asked) && named.0.len() <= MAX_NAMED);
        }
    }
}
