//! getsockname(2) and getpeername(2), where the kernel's answer would be a host port that the
//! program never asked for.
//!
//! ```text
//! bind(0.0.0.0:80), published at 127.0.0.1:8080
//!   getsockname of the socket              127.0.0.1:8080   told as   0.0.0.0:80
//!   getsockname of an accepted connection  127.0.0.1:8080             127.0.0.1:80
//!   getpeername inside, connected to :80   127.0.0.1:8080             127.0.0.1:80
//! ```
//!
//! A connection to another container's published port is told as connected to the address that was
//! asked for. Every other name is the kernel's own affair.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netns_socket::{Domain, Identity};
use sockaddr_inspect::{ForeignAddr, SockAddr};

use super::{Answer, Engine, Kernel, LOOPBACK_DEVICE, Target, Whose, is_ip, protocol_of};
use crate::Reason;
use crate::call::NameOf;
use crate::stats::Outcome;

impl<K: Kernel> Engine<K> {
    pub(super) fn name(
        &mut self,
        k: &mut K,
        note: K::Note,
        target: Target,
        end: NameOf,
        at: ForeignAddr,
        len_at: ForeignAddr,
    ) {
        let told = if self.facts.ports.is_empty() && self.named.is_empty() {
            None
        } else {
            let taken = k.take(target.tid, target.fd);
            // Whatever is wrong with the descriptor, the kernel says it best.
            taken.ok().and_then(|sock| {
                let id = k.identity(&sock).filter(is_ip)?;
                (self.whose(k, &id) == Whose::Host).then(|| self.told(k, &sock, &id, end))?
            })
        };
        let Some(told) = told else {
            self.stats.count_continued();
            k.answer(note, Answer::Continue);
            return;
        };
        let name = SockAddr::from(told).encode();
        match k.store_name(&note, target.tid, &name, at, len_at) {
            Ok(()) => {
                self.stats.count(Outcome::Host, Reason::Published);
                k.answer(note, Answer::Success);
            }
            Err(lost) => self.lost(k, note, lost),
        }
    }

    /// The name as it is in the container, if that is another than the kernel's.
    fn told(&self, k: &mut K, sock: &K::Sock, id: &Identity, end: NameOf) -> Option<SocketAddr> {
        let protocol = protocol_of(id)?;
        if end == NameOf::Peer
            && let Some(asked) = self.named.get(id.cookie)
            && k.peer(sock).is_some()
        {
            return Some(asked);
        }
        match end {
            NameOf::Local => {
                let local = k.local(sock)?;
                let (index, entry) = self.facts.ports.find(protocol, local)?;
                let port = entry.container_port;
                // Without a connection it is what the program asked for; with one it is the
                // address that the peer used.
                Some(match (k.peer(sock), k.name_inside(index)) {
                    (None, Some(name)) if name.is_ipv4() == local.is_ipv4() => name,
                    (None, _) => SocketAddr::new(wildcard(id.domain), port),
                    (Some(_), _) => {
                        let mut told = local;
                        told.set_port(port);
                        told
                    }
                })
            }
            NameOf::Peer => {
                let mut peer = k.peer(sock)?;
                // Only a connection from inside is pinned to loopback.
                let inside = k.pin_of(sock) == Some(LOOPBACK_DEVICE);
                let entry = self.facts.ports.by_host(protocol, peer).filter(|_| inside)?;
                peer.set_port(entry.container_port);
                Some(peer)
            }
        }
        .filter(|told| Some(*told) != kernels(k, sock, end))
    }
}

/// What the kernel would say.
fn kernels<K: Kernel>(k: &mut K, sock: &K::Sock, end: NameOf) -> Option<SocketAddr> {
    match end {
        NameOf::Local => k.local(sock),
        NameOf::Peer => k.peer(sock),
    }
}

pub(super) fn wildcard(domain: Domain) -> IpAddr {
    match domain {
        Domain::Inet => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    }
}
