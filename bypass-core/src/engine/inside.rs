//! Connections from inside the container to its own published ports.
//!
//! The application's socket is on the host, so a connection to the container's loopback or to
//! one of its addresses would find nobody. It is made on the host as well, to the very address
//! that is published: the one case in which a container is led to the host's loopback, and
//! only to its own port there. What is refused on the host is tried in the container, where
//! another socket may serve that port on loopback.
//!
//! The client gets the socket only once it is connected, and connected to the application: while
//! that does not listen, another program of the host can. From then on no call connects it anywhere
//! else: see [`Kernel::shut_down`].

use std::net::SocketAddr;
use std::time::Instant;

use netns_socket::{Egress, TcpState};
use seccomp_notify::Errno;
use sockaddr_inspect::{Destination, SockAddr};

use super::connect::{ConnectCall, Ended, is_wildcard};
use super::exchange::Exchanged;
use super::{Answer, Engine, Kernel, LOOPBACK_DEVICE, Place, Step};
use crate::Reason;
use crate::neighbours::Service;
use crate::ports::{Index, in_family};
use crate::publish::Protocol;
use crate::stats::Outcome;
use crate::weaken::{Layer, is_off};

impl<K: Kernel> Engine<K> {
    /// Where on the host the container's own service is that is meant by `dest`.
    pub(super) fn own_service(
        &self,
        k: &mut K,
        call: &ConnectCall<K>,
        dest: &Destination,
    ) -> Option<Reached> {
        let ports = &self.facts.ports;
        ports.of_port(Protocol::Tcp, dest.port).next()?;
        if !dest.is_loopback() && !k.is_own_address(call.target.tid, dest.ip) {
            return None;
        }
        // A dual-stack server may be published in one family only and is reached by that.
        [true, false].into_iter().find_map(|same_family| {
            ports
                .of_port(Protocol::Tcp, dest.port)
                .filter(|(_, entry)| (entry.host.is_ipv4() == dest.ip.is_ipv4()) == same_family)
                .find(|(index, _)| k.serving(*index).is_some_and(|families| families.has(dest.ip)))
                .and_then(|(index, entry)| {
                    let host = in_family(call.id.domain, entry.reach())?;
                    Some(Reached { of: Of::Own(index), host })
                })
        })
    }

    /// Connects to the published port, or else in the container.
    pub(super) fn connect_own_service(
        &mut self,
        k: &mut K,
        note: K::Note,
        call: ConnectCall<K>,
        service: Reached,
        reason: Reason,
        now: Instant,
    ) -> Ended {
        let done = match service.of {
            Of::Own(_) => Reason::Published,
            Of::Neighbour(_) => Reason::Neighbour,
        };
        let asked = call.destination();
        let Some(twin) = self.reach_own_service(k, &call, service) else {
            return self.leave(k, note, call, reason, now);
        };
        let blocking = k.is_blocking(&call.sock);
        let ConnectCall { target, sock, id, addr } = call;
        match self.exchange(k, &note, &target, &id, sock, &twin) {
            Exchanged::Refused(sock, _) => {
                drop(twin);
                self.leave(k, note, ConnectCall { target, sock, id, addr }, reason, now)
            }
            Exchanged::Gone => Some((Outcome::Gone, done)),
            Exchanged::Done => {
                // Natively a connection to loopback stands as soon as it is begun, but only a
                // blocking call is told so.
                let answer =
                    if blocking { Answer::Success } else { Answer::Fail(Errno::INPROGRESS) };
                if let (Of::Neighbour(_), Some(asked)) = (service.of, asked)
                    && let Some(id) = k.identity(&twin)
                {
                    self.named.insert(id.cookie, asked);
                }
                drop(twin);
                let ended = (Outcome::Switched, done);
                self.answer_connect(k, note, target.tid, &addr, answer, ended)
            }
        }
    }

    /// A socket with that connection; `None` if it does not come to stand at once.
    fn reach_own_service(
        &self,
        k: &mut K,
        call: &ConnectCall<K>,
        Reached { of, host }: Reached,
    ) -> Option<K::Sock> {
        let device = match k.egress(host.ip().to_canonical(), 0) {
            Egress::Device { ifindex } => ifindex,
            Egress::Loopback => LOOPBACK_DEVICE,
            Egress::Unroutable(_) => return None,
        };
        let source = k.local(&call.sock).filter(|local| local.port() != 0);
        if source.is_some_and(|local| {
            !is_wildcard(local.ip()) && !local.ip().to_canonical().is_loopback()
        }) {
            return None;
        }
        let place = Place::Host { pin: Some(device).filter(|_| self.facts.pin) };
        let twin = k.twin(call.target.tid, &call.sock, &call.id, place).ok()?;
        if let Some(local) = source {
            k.bind(&twin, &SockAddr::from(local).encode()).ok()?;
        }
        if k.connect_twin(&twin, &SockAddr::from(host).encode(), true) != Step::Done {
            return None;
        }
        // With TCP_FASTOPEN_CONNECT it may not even have begun. It may be half over by now.
        let stands =
            matches!(k.tcp_state(&twin), Some(TcpState::Established | TcpState::CloseWait));
        let owned = match of {
            Of::Own(index) => k.is_applications(index, host, device),
            Of::Neighbour(service) => k.is_neighbours(&service, host, device),
        };
        let owned = owned || is_off(Layer::Owner);
        if !stands || !owned {
            return None;
        }
        k.finish(&twin, &call.sock, &call.id, place).ok()?;
        Some(twin)
    }
}

/// A published port, and where the host reaches it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached {
    pub(super) of: Of,
    pub(super) host: SocketAddr,
}

/// Whose it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    /// The container's own.
    Own(Index),
    /// Another container's.
    Neighbour(Service),
}
