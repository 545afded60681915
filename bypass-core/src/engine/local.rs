//! bind(2) and listen(2): what gives a socket a local address or makes it a server.
//!
//! Both act in the container, but for ports that are published ([`publish`](super::publish)). A
//! host socket that would take part is replaced by a container socket first, so that no
//! container opens a port of the host that nobody published.

use std::net::SocketAddr;

use netns_socket::{Domain, Identity, TcpState};
use seccomp_notify::Errno;
use sockaddr_inspect::{ForeignAddr, RawSockAddr};

use super::host_bind::NotBound;
use super::publish::Plan;
use super::{Answer, Engine, Installed, Kernel, Target, Whose, is_ip};
use crate::Reason;
use crate::publish::Protocol;
use crate::stats::Outcome;
use crate::weaken::{Layer, is_off};

/// Ports below this one need `CAP_NET_BIND_SERVICE` unless the container's sysctl
/// `net.ipv4.ip_unprivileged_port_start` lets more be free. (One that reserves more than
/// the usual ports is not honoured: looking would cost every bind.)
const PRIVILEGED: u16 = 1024;

impl<K: Kernel> Engine<K> {
    pub(super) fn bind(
        &mut self,
        k: &mut K,
        note: K::Note,
        target: Target,
        at: ForeignAddr,
        len: u64,
    ) {
        let sock = match k.take(target.tid, target.fd) {
            Ok(sock) => sock,
            Err(lost) => return self.lost(k, note, lost),
        };
        let known = k.identity(&sock);
        let id = known.filter(is_ip);
        let fetched = match id {
            Some(_) => k.fetch(target.tid, at, len),
            None => Ok(RawSockAddr::default()),
        };
        if !k.is_alive(&note) {
            return self.stats.count(Outcome::Gone, Reason::Allowed);
        }
        let Some(id) = id.filter(|id| !self.is_unguarded(k, id, Layer::Bind)) else {
            return self.carry_on(k, note, known.as_ref());
        };
        let addr = match fetched {
            Ok(addr) => addr,
            Err(lost) => return self.lost(k, note, lost),
        };
        let local = local_address(&addr);
        // We may bind to any port of a namespace that is ours; the target may not.
        let privileged = local.map(|local| local.port()).filter(|port| PRIVILEGED > *port);
        if privileged.is_some_and(|port| port != 0 && !k.may_bind_privileged(target.tid, port)) {
            self.stats.count(Outcome::Left, Reason::Local);
            k.answer(note, Answer::Fail(Errno::ACCESS));
            return;
        }
        let sock = match self.container_socket(k, &note, &target, sock, &id) {
            Ok(sock) => sock,
            Err(refused) => return self.refuse_local(k, note, refused),
        };
        if self.binds_on_host(k, &id) {
            return self.bind_on_host(k, note, target, sock, &id, &addr);
        }
        match local.and_then(|local| self.plan_publishing(k, &sock, &id, local)) {
            None => {
                self.bind_inside(k, note, sock, &addr, Reason::Local);
            }
            Some(Plan::OnHost { choice, pin }) => {
                self.publish(k, note, target, sock, &id, &addr, &choice, pin);
            }
            Some(Plan::Relayed { indices, addr: at }) => {
                let bound = k.bind(&sock, &addr);
                if bound.is_ok() {
                    k.serve_from_inside(&note, target.tid, &sock, &indices, at);
                }
                drop(sock);
                self.answer_bind(k, note, bound, Reason::Local);
            }
        }
    }

    pub(super) fn bind_inside(
        &self,
        k: &mut K,
        note: K::Note,
        sock: K::Sock,
        addr: &RawSockAddr,
        reason: Reason,
    ) {
        let bound = k.bind(&sock, addr);
        // The program may close it at once, and have another one bound there.
        drop(sock);
        self.answer_bind(k, note, bound, reason);
    }

    fn answer_bind(&self, k: &mut K, note: K::Note, bound: Result<(), Errno>, reason: Reason) {
        self.stats.count(Outcome::Left, reason);
        k.answer(note, bound.map_or_else(Answer::Fail, |()| Answer::Success));
    }

    pub(super) fn listen(&mut self, k: &mut K, note: K::Note, target: Target, backlog: i32) {
        let sock = match k.take(target.tid, target.fd) {
            Ok(sock) => sock,
            Err(lost) => return self.lost(k, note, lost),
        };
        let known = k.identity(&sock);
        let id = known.filter(is_ip);
        if !k.is_alive(&note) {
            return self.stats.count(Outcome::Gone, Reason::Allowed);
        }
        let Some(id) = id else {
            if !known.is_some_and(|id| self.was_ip(&id)) && self.may_listen_for(k, target.tid) {
                let listening = k.listen(&sock, backlog);
                drop(sock);
                self.stats.count(Outcome::Left, Reason::Local);
                k.answer(note, listening.map_or_else(Answer::Fail, |()| Answer::Success));
                return;
            }
            return self.carry_on(k, note, known.as_ref());
        };
        if self.is_unguarded(k, &id, Layer::Listen) {
            self.stats.count_continued();
            k.answer(note, Answer::Continue);
            return;
        }
        if self.whose(k, &id) == Whose::Host
            && let Some(listening) = self.listen_on_host(k, &sock, &id, backlog)
        {
            drop(sock);
            self.stats.count(Outcome::Host, Reason::Published);
            k.answer(note, listening.map_or_else(Answer::Fail, |()| Answer::Success));
            return;
        }
        let sock = match self.container_socket(k, &note, &target, sock, &id) {
            Ok(sock) => sock,
            Err(refused) => return self.refuse_local(k, note, refused),
        };
        let (sock, outcome) = if id.is_tcp() && self.binds_on_host(k, &id) {
            match self.unbound_listener(k, &note, target, sock, &id) {
                Ok(twin) => (twin, (Outcome::Switched, Reason::Published)),
                Err(NotBound::Stays(sock, reason)) => (sock, (Outcome::Left, reason)),
                Err(NotBound::Gone) => return self.refuse_local(k, note, Refused::Gone),
                Err(NotBound::Errno(errno)) => {
                    return self.refuse_local(k, note, Refused::Errno(errno));
                }
            }
        } else {
            (sock, (Outcome::Left, Reason::Local))
        };
        let listening = k.listen(&sock, backlog);
        drop(sock);
        self.stats.count(outcome.0, outcome.1);
        k.answer(note, listening.map_or_else(Answer::Fail, |()| Answer::Success));
    }

    /// Whether a call on a socket of another family is made by us.
    ///
    /// Where the kernel carries on, another thread may exchange the descriptor for a host socket
    /// whose connection is over, and that would open a port of the host. What shows of our making it
    /// is the process id that clients of an `AF_UNIX` socket read with `SO_PEERCRED`. Their user
    /// and group they may rely on, so a target with other ids than ours makes the call itself.
    fn may_listen_for(&self, k: &mut K, tid: i32) -> bool {
        k.has_our_ids(tid) && !is_off(Layer::Listen)
    }

    /// `None` for a host socket that may not listen: one that has a connection, or is bound to more
    /// than what is published. Clients that were bound to a source port may have a wildcard there.
    fn listen_on_host(
        &self,
        k: &mut K,
        sock: &K::Sock,
        id: &Identity,
        backlog: i32,
    ) -> Option<Result<(), Errno>> {
        if !id.is_tcp() {
            // It does nothing there but fail.
            return Some(k.listen(sock, backlog));
        }
        if !matches!(k.tcp_state(sock), Some(TcpState::Close | TcpState::Listen)) {
            return None;
        }
        let local = k.local(sock)?;
        if self.facts.host_binds && local.port() != 0 {
            return Some(k.listen(sock, backlog));
        }
        let both = id.domain == Domain::Inet6 && !k.is_v6_only(sock);
        self.facts
            .ports
            .covers(Protocol::Tcp, local, both)
            .then(|| k.listen_published(sock, backlog, local))
    }

    /// The socket itself if it lives in the container, or a new one in its place.
    fn container_socket(
        &mut self,
        k: &mut K,
        note: &K::Note,
        target: &Target,
        sock: K::Sock,
        id: &Identity,
    ) -> Result<K::Sock, Refused> {
        if self.whose(k, id) != Whose::Host {
            return Ok(sock);
        }
        let unused = !id.is_tcp() || k.tcp_state(&sock) == Some(TcpState::Close);
        let bound = k.local(&sock).is_none_or(|local: SocketAddr| local.port() != 0);
        if !unused || bound {
            // A socket with a connection or an address takes neither bind nor listen.
            return Err(Refused::Errno(Errno::INVAL));
        }
        self.put_back(k, note, target, sock, id).map_err(|installed| match installed {
            Installed::Gone => Refused::Gone,
            _ => Refused::PutBack,
        })
    }

    /// Never, but in [weakened](crate::weaken) builds.
    fn is_unguarded(&mut self, k: &mut K, id: &Identity, layer: Layer) -> bool {
        (is_off(layer) && self.whose(k, id) == Whose::Host)
            || (is_off(Layer::OwnCall) && self.whose(k, id) != Whose::Host)
    }

    fn refuse_local(&self, k: &mut K, note: K::Note, refused: Refused) {
        match refused {
            Refused::Gone => self.stats.count(Outcome::Gone, Reason::PutBack),
            Refused::Errno(errno) => {
                self.stats.count(Outcome::Host, Reason::SocketState);
                k.answer(note, Answer::Fail(errno));
            }
            Refused::PutBack => {
                self.stats.count(Outcome::Denied, Reason::PutBack);
                k.answer(note, Answer::Fail(Errno::ADDRNOTAVAIL));
            }
        }
    }
}

/// Why there is no container socket to act on.
enum Refused {
    Gone,
    Errno(Errno),
    PutBack,
}

/// The address that bind(2) makes of these bytes.
fn local_address(addr: &RawSockAddr) -> Option<SocketAddr> {
    // It takes AF_UNSPEC for AF_INET where the address is 0.0.0.0, with a port.
    let unspec = addr.decode_inet_or_unspec().ok().flatten().map(SocketAddr::V4);
    unspec.or_else(|| addr.decode().ok()?.ip())
}
