//! Published ports: a bind that is carried out on the host.
//!
//! ```text
//! twin, pinned if it is UDP ─ bind at the published host address ─ bind a second container socket
//!   ├ either failed ─ answer that errno (the container socket is as it was)
//!   └ both done     ─ install the twin ─ answer 0
//! ```
//!
//! A container socket is bound as well: so an address that the container does not have, or a port
//! that another of its sockets has, gives the error that it would have given. It is a second one,
//! since it is kept. The program may have duplicates of its own, and could use them to make whoever
//! reads, sends or closes it here wait: a held socket lock, `UDP_CORK`, `SO_LINGER`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netns_socket::{Egress, Identity};
use sockaddr_inspect::RawSockAddr;

use super::exchange::Exchanged;
use super::{Answer, Engine, Kernel, Place, Target, TwinError, Whose, protocol_of};
use crate::Reason;
use crate::ports::{Choice, Families, Index, Wanted};
use crate::publish::Protocol;
use crate::stats::Outcome;

/// How a bind of a published container port is to be carried out.
pub(super) enum Plan {
    /// By a host socket with the host address.
    OnHost { choice: Choice, pin: Option<u32> },
    /// In the container, since no host socket may have the host address. What comes there is
    /// relayed to `addr` in the container.
    Relayed { indices: Vec<Index>, addr: SocketAddr },
}

impl<K: Kernel> Engine<K> {
    /// How this bind is carried out on the host; `None` if it is the container's own affair.
    pub(super) fn plan_publishing(
        &mut self,
        k: &mut K,
        sock: &K::Sock,
        id: &Identity,
        addr: SocketAddr,
    ) -> Option<Plan> {
        if self.facts.ports.is_empty() || self.whose(k, id) != Whose::Container {
            return None;
        }
        let protocol = protocol_of(id)?;
        self.facts.ports.of_port(protocol, addr.port()).next()?;
        // What an application that has ended held may be needed by this one.
        k.settle_ports();
        let wanted = Wanted { protocol, domain: id.domain, v6_only: k.is_v6_only(sock), addr };
        let on_host = self.choose_on_host(k, &wanted);
        if let Some((choice, pin)) = on_host {
            return Some(Plan::OnHost { choice, pin });
        }
        let families = wanted.families();
        let indices: Vec<Index> = self
            .facts
            .ports
            .of_port(protocol, addr.port())
            .filter(|(_, entry)| families.has(entry.host.ip()))
            .map(|(index, _)| index)
            .collect();
        let addr = SocketAddr::new(loopback_for(addr.ip(), families), addr.port());
        (!indices.is_empty()).then_some(Plan::Relayed { indices, addr })
    }

    /// The host addresses that a host socket may have in its place, and the device that it is to be
    /// pinned to.
    pub(super) fn choose_on_host(
        &self,
        k: &mut K,
        wanted: &Wanted,
    ) -> Option<(Choice, Option<u32>)> {
        let udp = wanted.protocol == Protocol::Udp;
        let (pinned, forbidden) = (udp && self.facts.pin, udp && !self.facts.host_datagrams);
        self.facts.ports.choose(wanted, |entry| {
            if forbidden {
                return None;
            }
            if !pinned {
                return Some(None);
            }
            // Bound to lo it could send to every service on the host's loopback.
            match k.egress_of_server(entry.host.ip()) {
                Egress::Device { ifindex } => Some(Some(ifindex)),
                Egress::Loopback | Egress::Unroutable(_) => None,
            }
        })
    }

    #[expect(clippy::too_many_arguments, reason = "all of one call, each used once")]
    pub(super) fn publish(
        &mut self,
        k: &mut K,
        note: K::Note,
        target: Target,
        sock: K::Sock,
        id: &Identity,
        addr: &RawSockAddr,
        choice: &Choice,
        pin: Option<u32>,
    ) {
        let Target { tid, fd } = target;
        // A socket that is bound already must not get another address.
        if k.local(&sock).is_none_or(|local| local.port() != 0) {
            self.bind_inside(k, note, sock, addr, Reason::SocketState);
            return;
        }
        let place = Place::Server { pin };
        let twin = self
            .twin(k, tid, &sock, id, place)
            .and_then(|twin| k.finish(&twin, &sock, id, place).map(|()| twin));
        let inside = |k: &mut K| {
            let inside = k.twin(tid, &sock, id, Place::Container)?;
            k.finish(&inside, &sock, id, Place::Container).map(|()| inside)
        };
        let (twin, inside) = match twin.and_then(|twin| Ok((twin, inside(k)?))) {
            Ok(both) => both,
            Err(error) => {
                let reason = match error {
                    TwinError::Option(name) => {
                        tracing::debug!(option = name, "not copyable");
                        Reason::Option
                    }
                    TwinError::Pin => Reason::Pin,
                    TwinError::Make => Reason::HostSocket,
                };
                self.bind_inside(k, note, sock, addr, reason);
                return;
            }
        };
        let bound = k.bind_published(&twin, choice, pin, None).and_then(|()| k.bind(&inside, addr));
        if let Err(errno) = bound {
            self.stats.count(Outcome::Failed, Reason::Published);
            k.answer(note, Answer::Fail(errno));
            return;
        }
        // If the twin cannot take its place, the container socket is bound after all.
        match self.exchange(k, &note, &target, id, sock, &twin) {
            Exchanged::Done => {}
            Exchanged::Gone => return self.stats.count(Outcome::Gone, Reason::Published),
            Exchanged::Refused(sock, reason) => {
                drop((inside, twin));
                return self.bind_inside(k, note, sock, addr, reason);
            }
        }
        k.serve(&twin, choice, pin, Some(&inside));
        tracing::debug!(tid, fd, host = %choice.bind, "published");
        // Else it would be ours for a moment after the program has closed it.
        drop((twin, inside));
        self.stats.count(Outcome::Switched, Reason::Published);
        k.answer(note, Answer::Success);
    }
}

/// Where a socket that is bound to this address is reached from within its namespace.
fn loopback_for(ip: IpAddr, families: Families) -> IpAddr {
    match ip.to_canonical() {
        ip if !ip.is_unspecified() => ip,
        _ if families.v4 => Ipv4Addr::LOCALHOST.into(),
        _ => Ipv6Addr::LOCALHOST.into(),
    }
}
