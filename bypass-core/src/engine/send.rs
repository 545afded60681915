//! Sends on UDP sockets, where they are trapped.
//!
//! A UDP socket can send anywhere, connected or not, and a control message can even take an IPv4
//! datagram past the device that the socket is bound to ([`control`](super::control)). So a send
//! from a host socket is carried out by us: the message is copied once, judged, and sent from our
//! copy. What is not about a host socket goes on as it is.
//!
//! | destination | a host socket | one that is published |
//! |---|---|---|
//! | its peer, or bypassed by the same device | is sent | is sent |
//! | bypassed, by another device | a new twin, bound to that device | is sent by its own |
//! | left to the container | a container socket again, for good | is sent, but not to loopback |
//! | denied | the errno of the policy | the errno of the policy |
//!
//! With [`Udp::All`] the first send of an unconnected container socket that names a destination
//! decides for it: where that is bypassed, the socket is switched before the datagram leaves, else
//! the container has it for good. A socket on which datagrams wait to be received is not replaced:
//! the call fails with EAGAIN until they have been read.

use std::collections::HashSet;
use std::net::SocketAddr;

use netns_socket::{Egress, Identity};
use seccomp_notify::Errno;
use sockaddr_inspect::{Destination, RawSockAddr, SockAddr};

use super::connect::{destination, is_wildcard};
use super::exchange::Exchanged;
use super::names::wildcard;
use super::{
    Answer, DENIED, Engine, Kernel, Lost, Place, Target, Udp, Whose, binds_servers, protocol_of,
};
use crate::Reason;
use crate::audit::AuditedCall;
use crate::call::Message;
use crate::policy::Verdict;
use crate::stats::Outcome;
use crate::weaken::{Layer, is_off};

/// Messages of one sendmmsg(2) that are sent before others get their turn. The caller is told how
/// many, and sends the rest with another call.
const BATCH: u32 = 32;

impl<K: Kernel> Engine<K> {
    pub(super) fn send(&mut self, k: &mut K, note: K::Note, target: Target, message: Message) {
        let sock = match k.take(target.tid, target.fd) {
            Ok(sock) => sock,
            // It says so itself.
            Err(Lost::Errno(Errno::BADF)) => return self.go_on(k, note),
            // It may be a socket of the host: one that a process which nobody may look into has got
            // from another, or that we have no descriptor left to look at.
            Err(lost) if self.has_datagrams.get() && !is_off(Layer::Sends) => {
                return self.lost_send(k, note, lost);
            }
            Err(_) => return self.go_on(k, note),
        };
        let Some(id) = k.identity(&sock).filter(Identity::is_udp) else {
            drop(sock);
            return self.go_on(k, note);
        };
        match self.whose(k, &id) {
            Whose::Host if is_off(Layer::Sends) => self.go_on(k, note),
            Whose::Host => self.send_all(k, note, target, sock, &id, message),
            Whose::Container if self.facts.udp == Udp::All => {
                self.send_first(k, note, target, sock, &id, message);
            }
            Whose::Container | Whose::Nested => {
                drop(sock);
                self.go_on(k, note);
            }
        }
    }

    /// A send of a container socket: the first of one that has no port yet decides.
    fn send_first(
        &mut self,
        k: &mut K,
        note: K::Note,
        target: Target,
        mut sock: K::Sock,
        id: &Identity,
        message: Message,
    ) {
        if self.inside.contains(id.cookie) || k.peer(&sock).is_some() {
            drop(sock);
            return self.go_on(k, note);
        }
        let name = match message.nth(0) {
            Some((one, _)) => k.gather(target.tid, &one),
            None => return self.go_on(k, note),
        };
        // Only now is it sure that all this was of the thread that waits for us.
        if !k.is_alive(&note) {
            return self.stats.count(Outcome::Gone, Reason::Allowed);
        }
        let dest = name.ok().flatten().and_then(|name| destination(id, &name));
        let Some(dest) = dest.filter(|dest| dest.port() != 0) else {
            // The kernel refuses what is no address of this socket's family, and port 0.
            return self.go_on(k, note);
        };
        let dest = Destination::of(dest);
        let pin = match self.decide(k, target.tid, id, dest) {
            Verdict::Deny(reason) => {
                self.audit_denied(k, target.tid, id, dest, reason);
                return self.deny_send(k, note, reason);
            }
            Verdict::Leave(_) => None,
            Verdict::Bypass => match k.egress(dest.ip, dest.scope_id) {
                Egress::Device { ifindex } => Some(Some(ifindex).filter(|_| self.facts.pin)),
                Egress::Loopback if self.facts.policy.allows_host_loopback() => Some(None),
                Egress::Loopback | Egress::Unroutable(_) => None,
            },
        };
        let moved =
            pin.map(|pin| self.replace(k, &note, target, &mut sock, id, Place::Host { pin }));
        match moved {
            Some(Ok(())) => self.send_all(k, note, target, sock, id, message),
            Some(Err(Unreplaced::Gone)) => self.stats.count(Outcome::Gone, Reason::Allowed),
            Some(Err(Unreplaced::Waiting)) => {
                k.answer(note, Answer::Fail(Errno::AGAIN));
            }
            // By the container it may leave as well.
            None | Some(Err(Unreplaced::Refused)) => {
                self.inside.insert(id.cookie);
                self.go_on(k, note);
            }
        }
    }

    /// Sends from a host socket, message by message.
    fn send_all(
        &mut self,
        k: &mut K,
        note: K::Note,
        target: Target,
        mut sock: K::Sock,
        id: &Identity,
        message: Message,
    ) {
        let mut sent = 0;
        let mut bytes = 0;
        while sent < BATCH {
            let Some((one, len_at)) = message.nth(sent) else { break };
            let result = self.send_one(k, &note, target, &mut sock, id, &one, sent == 0);
            let result = result.and_then(|len| match len_at {
                Some(at) => k.store_len(&note, target.tid, at, len).map(|()| len),
                None => Ok(len),
            });
            match result {
                Ok(len) => {
                    bytes = len;
                    sent += 1;
                }
                // Those before it have been sent, and that is what the call says.
                Err(_) if sent > 0 => break,
                Err(lost) => return self.lost_send(k, note, lost),
            }
        }
        self.stats.count(Outcome::Host, Reason::Allowed);
        let many = matches!(message, Message::Headers { .. });
        k.answer(note, Answer::Value(if many { sent } else { bytes }));
    }

    /// Sends one message; its length. `first` says that the socket may still be replaced.
    #[expect(clippy::too_many_arguments, reason = "all of one call, each used once")]
    fn send_one(
        &mut self,
        k: &mut K,
        note: &K::Note,
        target: Target,
        sock: &mut K::Sock,
        id: &Identity,
        message: &Message,
        first: bool,
    ) -> Result<u32, Lost> {
        let name = k.gather(target.tid, message)?;
        // Only now is it sure that all this was of the thread that waits for us: what is sent is
        // what it wrote.
        if !k.is_alive(note) {
            return Err(Lost::Gone);
        }
        if let Some(place) = self.place_of(k, target.tid, sock, id, name.as_ref())? {
            if !first {
                return Err(Lost::Errno(Errno::AGAIN));
            }
            match self.replace(k, note, target, sock, id, place) {
                Ok(()) => {}
                Err(Unreplaced::Waiting) => return Err(Lost::Errno(Errno::AGAIN)),
                Err(Unreplaced::Gone) => return Err(Lost::Gone),
                Err(Unreplaced::Refused) => return Err(Lost::Errno(DENIED)),
            }
            // The twin may be bound to less than the socket that was judged, and go elsewhere.
            let wildcard = name.and_then(|name| any_destination(id, &name));
            let wildcard = wildcard.is_some_and(|to| is_wildcard(to.ip()));
            if wildcard
                && place != Place::Container
                && self.place_of(k, target.tid, sock, id, name.as_ref())?.is_some()
            {
                return Err(Lost::Errno(DENIED));
            }
        }
        k.send(sock, message.flags())
    }

    /// Where the socket must be to send there, if that is not where it is.
    fn place_of(
        &self,
        k: &mut K,
        tid: i32,
        sock: &K::Sock,
        id: &Identity,
        name: Option<&RawSockAddr>,
    ) -> Result<Option<Place>, Lost> {
        // To its peer, which was judged when it was connected. Any other bytes the kernel
        // refuses, but for an unspecified family: to IPv4 that is an IPv4 address. So it does port 0.
        let dest = name.and_then(|name| any_destination(id, name));
        let Some(dest) = dest.filter(|dest| dest.port() != 0) else { return Ok(None) };
        let dest = self.leads_to(k, sock, dest);
        let published = protocol_of(id)
            .zip(k.local(sock))
            .is_some_and(|(protocol, local)| self.facts.ports.is_published(protocol, local));
        let denied = |k: &mut K, reason: Reason| {
            self.stats.count(Outcome::Denied, reason);
            self.audit_denied(k, tid, id, dest, reason);
            Err(Lost::Errno(DENIED))
        };
        match self.decide(k, tid, id, dest) {
            Verdict::Deny(reason) => denied(k, reason),
            // A server answers where its clients are, and stays there.
            Verdict::Leave(reason) if published && binds_servers(reason) => denied(k, reason),
            Verdict::Leave(_) if published => Ok(None),
            Verdict::Leave(_) => Ok(Some(Place::Container)),
            Verdict::Bypass => match (k.egress(dest.ip, dest.scope_id), k.pin_of(sock)) {
                (Egress::Loopback, _) if self.facts.policy.allows_host_loopback() => Ok(None),
                // A socket without a pin would reach it.
                (Egress::Loopback, _) if published => denied(k, Reason::HostLoopback),
                (Egress::Loopback, _) => Ok(Some(Place::Container)),
                (Egress::Device { ifindex }, Some(pin)) if ifindex != pin && !published => {
                    Ok(Some(Place::Host { pin: Some(ifindex) }))
                }
                // Bound to a device, it would take such a destination to be on the link.
                (Egress::Unroutable(errno), Some(_)) => Err(Lost::Errno(errno)),
                _ => Ok(None),
            },
        }
    }

    /// Puts a twin in the place of the socket.
    fn replace(
        &mut self,
        k: &mut K,
        note: &K::Note,
        target: Target,
        sock: &mut K::Sock,
        id: &Identity,
        place: Place,
    ) -> Result<(), Unreplaced> {
        if k.has_waiting(sock) {
            return Err(Unreplaced::Waiting);
        }
        let twin = self
            .twin(k, target.tid, sock, id, place)
            .and_then(|twin| k.finish(&twin, sock, id, place).map(|()| twin))
            .map_err(|_unmade| Unreplaced::Refused)?;
        self.keep_port(k, sock, &twin, id)?;
        let old = std::mem::replace(sock, twin);
        match self.exchange(k, note, &target, id, old, sock) {
            Exchanged::Done => {
                let outcome = match place {
                    Place::Container => Outcome::Left,
                    _ => Outcome::Switched,
                };
                self.stats.count(outcome, Reason::Allowed);
                Ok(())
            }
            Exchanged::Gone => Err(Unreplaced::Gone),
            Exchanged::Refused(old, _) => {
                *sock = old;
                Err(Unreplaced::Refused)
            }
        }
    }

    /// Binds the twin to the port that the socket has, if it has one. Whether the program or the
    /// kernel chose it, nobody can tell: a number that the kernel chooses from may be another one.
    fn keep_port(
        &self,
        k: &mut K,
        sock: &K::Sock,
        twin: &K::Sock,
        id: &Identity,
    ) -> Result<(), Unreplaced> {
        let Some(local) = k.local(sock).filter(|local| local.port() != 0) else { return Ok(()) };
        let from_outside = id.netns_cookie == Some(self.facts.host_netns);
        if !from_outside && !is_wildcard(local.ip()) {
            return Err(Unreplaced::Refused);
        }
        let wanted = SocketAddr::new(wildcard(id.domain), local.port());
        match k.bind(twin, &SockAddr::from(wanted).encode()) {
            Err(_) if local.port() < EPHEMERAL => Err(Unreplaced::Refused),
            _ => Ok(()),
        }
    }

    fn go_on(&self, k: &mut K, note: K::Note) {
        self.stats.count_continued();
        k.answer(note, Answer::Continue);
    }

    /// The thread was found to wait for us a moment ago.
    fn audit_denied(&self, k: &mut K, tid: i32, id: &Identity, to: Destination, reason: Reason) {
        let pending = self.audit(k, tid, AuditedCall::Send, id, to);
        self.audited(pending, Some((Outcome::Denied, reason)));
    }

    fn deny_send(&self, k: &mut K, note: K::Note, reason: Reason) {
        self.stats.count(Outcome::Denied, reason);
        k.answer(note, Answer::Fail(DENIED));
    }

    fn lost_send(&self, k: &mut K, note: K::Note, lost: Lost) {
        match lost {
            Lost::Errno(errno) => {
                k.answer(note, Answer::Fail(errno));
            }
            lost => self.lost(k, note, lost),
        }
    }
}

/// Sockets of the container that have sent from there, by their cookies.
#[derive(Debug, Default)]
pub(super) struct Decided(HashSet<u64>);

impl Decided {
    fn contains(&self, cookie: u64) -> bool {
        self.0.contains(&cookie)
    }

    fn insert(&mut self, cookie: u64) {
        // The container decides how many there are. One that is forgotten is decided again.
        if self.0.len() >= MAX_DECIDED {
            self.0.clear();
        }
        self.0.insert(cookie);
    }
}

/// Of these, 8 bytes each are kept.
const MAX_DECIDED: usize = 1024;
/// The first port of the default `net.ipv4.ip_local_port_range`.
const EPHEMERAL: u16 = 32768;

/// Why a socket is still where it was.
enum Unreplaced {
    /// Datagrams wait on it.
    Waiting,
    Gone,
    Refused,
}

/// Where the kernel would send to, with these bytes for an address.
fn any_destination(id: &Identity, name: &RawSockAddr) -> Option<SocketAddr> {
    let unspec = || name.decode_inet_or_unspec().ok().flatten().map(SocketAddr::V4);
    destination(id, name).or_else(unspec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_does_not_decide_how_many_sockets_are_remembered() {
        let mut decided = Decided::default();
        for cookie in 0..100_000 {
            decided.insert(cookie);
            assert!(decided.contains(cookie) && decided.0.len() <= MAX_DECIDED);
        }
    }
}
