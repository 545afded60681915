//! connect(2) on UDP sockets.
//!
//! A connected UDP socket is switched like a TCP one, only that nothing has to be waited for and
//! that it may be connected again at any time:
//!
//! ```text
//!            connect, bypassed                 connect, by the same device
//! container ───────────────────▶ host, pinned ─────────────────────────────▶ the same socket
//!     ▲                              │  └────── by another device ─────────▶ a new twin
//!     └── AF_UNSPEC, or connect to where the container goes by itself ◀┘
//! ```
//!
//! It could send to other addresses than its peer's without any of us: the pin keeps such
//! datagrams to what is behind its device, and never loopback.

use std::net::SocketAddr;
use std::time::Instant;

use netns_socket::Egress;
use seccomp_notify::Errno;
use sockaddr_inspect::{Destination, SockAddr};

use super::connect::{ConnectCall, Ended, answered, deny, failed_put_back};
use super::exchange::Exchanged;
use super::names::wildcard;
use super::{Answer, Engine, Installed, Kernel, Place, Step, binds_servers};
use crate::Reason;
use crate::policy::Verdict;
use crate::ports::Wanted;
use crate::publish::Protocol;
use crate::stats::Outcome;

impl<K: Kernel> Engine<K> {
    /// A UDP socket of the container's own.
    pub(super) fn connect_datagram(
        &mut self,
        k: &mut K,
        note: K::Note,
        call: ConnectCall<K>,
        now: Instant,
    ) -> Ended {
        let Some(dest) = call.destination() else {
            return self.leave_unless_denied(k, note, call, Reason::Address, now);
        };
        let normal = Destination::of(dest);
        match self.decide(k, call.target.tid, &call.id, normal) {
            Verdict::Leave(reason) => self.leave(k, note, call, reason, now),
            Verdict::Deny(reason) => deny(k, note, call, reason),
            Verdict::Bypass => {
                if let Egress::Unroutable(errno) = k.egress(normal.ip, normal.scope_id) {
                    // A connect that fails leaves the socket connected as it was.
                    k.answer(note, Answer::Fail(errno));
                    return Some((Outcome::Failed, Reason::NoRoute));
                }
                let source = chosen_source(k, &call);
                self.switch(k, note, call, dest, source, now)
            }
        }
    }

    /// A UDP socket that is in the host's namespace already.
    pub(super) fn connect_host_datagram(
        &mut self,
        k: &mut K,
        note: K::Note,
        call: ConnectCall<K>,
        now: Instant,
    ) -> Ended {
        match call.addr.decode() {
            Ok(SockAddr::Unspec) => return self.dissolve_datagram(k, note, call),
            Ok(_) => {}
            Err(malformed) => {
                let errno = Errno::from_raw_os_error(malformed.errno());
                return answered(k, note, call, Answer::Fail(errno));
            }
        }
        let Some(dest) = call.destination() else {
            return answered(k, note, call, Answer::Fail(Errno::AFNOSUPPORT));
        };
        let normal = self.leads_to(k, &call.sock, dest);
        let published = self.published_port(k, &call).is_some();
        match self.decide(k, call.target.tid, &call.id, normal) {
            Verdict::Deny(reason) => deny(k, note, call, reason),
            // A server answers where its clients are, and stays there.
            Verdict::Leave(reason) if published && binds_servers(reason) => {
                deny(k, note, call, reason)
            }
            Verdict::Leave(_) if published => self.connect_again(k, note, &call),
            Verdict::Leave(reason) => self.stay(k, note, call, reason, now),
            Verdict::Bypass => match k.egress(normal.ip, normal.scope_id) {
                Egress::Unroutable(errno) => answered(k, note, call, Answer::Fail(errno)),
                Egress::Loopback if self.facts.policy.allows_host_loopback() => {
                    self.connect_again(k, note, &call)
                }
                Egress::Loopback if published => deny(k, note, call, Reason::HostLoopback),
                Egress::Loopback => self.stay(k, note, call, Reason::HostLoopback, now),
                Egress::Device { ifindex }
                    if published || k.pin_of(&call.sock).is_none_or(|pin| pin == ifindex) =>
                {
                    self.connect_again(k, note, &call)
                }
                Egress::Device { .. } => {
                    // Behind another device the port is free, unless somebody else has it.
                    let source = k.local(&call.sock).map(|mut local| {
                        local.set_ip(wildcard(call.id.domain));
                        local
                    });
                    self.switch(k, note, call, dest, source, now)
                }
            },
        }
    }

    fn connect_again(&self, k: &mut K, note: K::Note, call: &ConnectCall<K>) -> Ended {
        let blocking = k.is_blocking(&call.sock);
        let answer = match k.connect(&call.sock, &call.addr, blocking) {
            Step::Done | Step::InProgress => Answer::Success,
            Step::Failed(errno) => Answer::Fail(errno),
        };
        k.answer(note, answer);
        Some((Outcome::Host, Reason::Allowed))
    }

    /// `connect(AF_UNSPEC)`: a client gets a container socket again, a server another one on the
    /// published port.
    ///
    /// The host socket itself is never dissolved: that would undo its pin (`__udp_disconnect()`).
    /// Whoever holds a duplicate keeps it connected.
    fn dissolve_datagram(&mut self, k: &mut K, note: K::Note, call: ConnectCall<K>) -> Ended {
        if self.facts.host_binds && k.pin_of(&call.sock).is_none() {
            // It has no pin to lose, and keeps the port that it was bound to.
            let answer = k.dissolve(&call.sock).map_or_else(Answer::Fail, |()| Answer::Success);
            k.answer(note, answer);
            return Some((Outcome::Host, Reason::Dissolve));
        }
        let replaced = match self.published_port(k, &call) {
            Some(port) => self.publish_again(k, &note, call, port),
            None => self.put_back(k, &note, &call.target, call.sock, &call.id),
        };
        match replaced {
            Ok(_) => {
                k.answer(note, Answer::Success);
                Some((Outcome::Host, Reason::Dissolve))
            }
            Err(installed) => failed_put_back(k, note, installed),
        }
    }

    /// Puts another socket on the same host address in the place of a published one.
    fn publish_again(
        &mut self,
        k: &mut K,
        note: &K::Note,
        call: ConnectCall<K>,
        container_port: u16,
    ) -> Result<K::Sock, Installed> {
        let refused = Installed::Refused;
        let ConnectCall { target, sock, id, .. } = call;
        let addr = SocketAddr::new(wildcard(id.domain), container_port);
        let v6_only = k.is_v6_only(&sock);
        let wanted = Wanted { protocol: Protocol::Udp, domain: id.domain, v6_only, addr };
        let (choice, pin) = self.choose_on_host(k, &wanted).ok_or(refused)?;
        let place = Place::Server { pin };
        let twin = self
            .twin(k, target.tid, &sock, &id, place)
            .and_then(|twin| k.finish(&twin, &sock, &id, place).map(|()| twin))
            .map_err(|_unmade| refused)?;
        k.bind_published(&twin, &choice, pin, Some(&sock)).map_err(|_unbound| refused)?;
        // The old socket must not get a datagram that is meant for the new one: its last holder may
        // be us.
        match self.exchange(k, note, &target, &id, sock, &twin) {
            Exchanged::Done => {
                k.serve(&twin, &choice, pin, None);
                Ok(twin)
            }
            Exchanged::Gone => Err(Installed::Gone),
            Exchanged::Refused(..) => Err(refused),
        }
    }

    /// The container's port, if the socket is bound to a published address.
    fn published_port(&self, k: &mut K, call: &ConnectCall<K>) -> Option<u16> {
        if self.facts.ports.is_empty() {
            return None;
        }
        let local = k.local(&call.sock)?;
        self.facts.ports.by_host(Protocol::Udp, local).map(|entry| entry.container_port)
    }
}

/// The source that the program has bound a container socket to, as opposed to the one that an
/// earlier connect chose: that one goes with the connection.
fn chosen_source<K: Kernel>(k: &mut K, call: &ConnectCall<K>) -> Option<SocketAddr> {
    if k.peer(&call.sock).is_some() {
        k.dissolve(&call.sock).ok();
    }
    k.local(&call.sock).filter(|local| local.port() != 0)
}
