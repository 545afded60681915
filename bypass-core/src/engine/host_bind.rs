//! Binds that are carried out on the host whatever the port: for containers that are to serve as
//! if they had the host's network.
//!
//! The host socket gets the very address that was asked for, and nothing is kept of it here: no
//! reservation, no relay, no name to translate. It is not pinned, since it serves all devices, so this is
//! only for those who may reach the host's loopback. As ever, `connect` and `listen` on it are made by
//! us, and judged.

use std::net::{IpAddr, SocketAddr};

use netns_socket::{Identity, TcpState};
use seccomp_notify::Errno;
use sockaddr_inspect::{RawSockAddr, SockAddr};

use super::exchange::Exchanged;
use super::names::wildcard;
use super::{Answer, Engine, Kernel, Place, Target, TwinError, Udp, Whose};
use crate::Reason;
use crate::stats::Outcome;

/// Why a socket was not bound on the host.
pub(super) enum NotBound<S> {
    Gone,
    Errno(Errno),
    /// It is to be bound in the container.
    Stays(S, Reason),
}

impl<K: Kernel> Engine<K> {
    /// Whether sockets of this kind are bound on the host.
    pub(super) fn binds_on_host(&mut self, k: &mut K, id: &Identity) -> bool {
        self.facts.host_binds
            && self.whose(k, id) == Whose::Container
            // Only then every send that names an address is judged.
            && (id.is_tcp() || id.is_udp() && self.facts.udp == Udp::All)
    }

    /// bind(2), on the host.
    pub(super) fn bind_on_host(
        &mut self,
        k: &mut K,
        note: K::Note,
        target: Target,
        sock: K::Sock,
        id: &Identity,
        addr: &RawSockAddr,
    ) {
        match self.bound_twin(k, &note, target, sock, id, addr) {
            Ok(twin) => {
                drop(twin);
                self.stats.count(Outcome::Switched, Reason::Published);
                k.answer(note, Answer::Success);
            }
            Err(NotBound::Gone) => self.stats.count(Outcome::Gone, Reason::Published),
            Err(NotBound::Errno(errno)) => {
                self.stats.count(Outcome::Failed, Reason::Published);
                k.answer(note, Answer::Fail(errno));
            }
            Err(NotBound::Stays(sock, reason)) => self.bind_inside(k, note, sock, addr, reason),
        }
    }

    /// A host socket for one that is to listen without having been bound: with a port of the
    /// kernel's choice.
    pub(super) fn unbound_listener(
        &mut self,
        k: &mut K,
        note: &K::Note,
        target: Target,
        sock: K::Sock,
        id: &Identity,
    ) -> Result<K::Sock, NotBound<K::Sock>> {
        let any = SocketAddr::new(wildcard(id.domain), 0);
        self.bound_twin(k, note, target, sock, id, &SockAddr::from(any).encode())
    }

    fn bound_twin(
        &mut self,
        k: &mut K,
        note: &K::Note,
        target: Target,
        sock: K::Sock,
        id: &Identity,
        addr: &RawSockAddr,
    ) -> Result<K::Sock, NotBound<K::Sock>> {
        let local = addr.decode().ok().and_then(|addr| addr.ip());
        // The number of a device that goes with it is one of the container's.
        if local.is_some_and(|local| is_link_local(local.ip())) {
            return Err(NotBound::Stays(sock, Reason::Local));
        }
        // One that is bound already, or has a connection, must not get another address.
        let closed = !id.is_tcp() || k.tcp_state(&sock) == Some(TcpState::Close);
        if !closed || k.local(&sock).is_none_or(|local| local.port() != 0) {
            return Err(NotBound::Stays(sock, Reason::SocketState));
        }
        let place = Place::Server { pin: None };
        let twin = self
            .twin(k, target.tid, &sock, id, place)
            .and_then(|twin| k.finish(&twin, &sock, id, place).map(|()| twin));
        let twin = match twin {
            Ok(twin) => twin,
            Err(TwinError::Option(_)) => return Err(NotBound::Stays(sock, Reason::Option)),
            Err(TwinError::Pin) => return Err(NotBound::Stays(sock, Reason::Pin)),
            Err(TwinError::Make) => return Err(NotBound::Stays(sock, Reason::HostSocket)),
        };
        k.bind(&twin, addr).map_err(NotBound::Errno)?;
        match self.exchange(k, note, &target, id, sock, &twin) {
            Exchanged::Done => Ok(twin),
            Exchanged::Gone => Err(NotBound::Gone),
            Exchanged::Refused(sock, reason) => Err(NotBound::Stays(sock, reason)),
        }
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local() || ip.is_multicast())
}
