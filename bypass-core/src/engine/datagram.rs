//! connect(2) on UDP sockets.
//!
//! A connected UDP socket is switched like a TCP one, only that nothing has to be waited for and
//! that it may be connected again at any time:
//!
//! ```text
//!            connect, bypassed                 connect, by the same device
//! container ───────────────────▶ host, pinned ─────────────────────────────▶ the same socket
//!     ▲                              │  └────── by another device ─────────▶ a new twin
//!     └── AF_UNSPEC, or connect to where the container goes by itself
//! ```
//!
//! It could send to other addresses than its peer's without any of us: the pin keeps such
//! datagrams to what is behind its device, and never loopback.

use std::time::Instant;

use netns_socket::Egress;
use seccomp_notify::Errno;
use sockaddr_inspect::{Destination, SockAddr};

use super::connect::{ConnectCall, Ended, answered, deny, failed_put_back};
use super::{Answer, Engine, Kernel, Step, protocol_of};
use crate::Reason;
use crate::policy::Verdict;
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
            return self.leave(k, note, call, Reason::Address, now);
        };
        match self.facts.policy.decide(&Destination::of(dest)) {
            Verdict::Leave(reason) => self.leave(k, note, call, reason, now),
            Verdict::Deny(reason) => deny(k, note, reason),
            Verdict::Bypass => {
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
            Ok(SockAddr::Unspec) => return self.dissolve_datagram(k, note, &call),
            Ok(_) => {}
            Err(malformed) => {
                let errno = Errno::from_raw_os_error(malformed.errno());
                return answered(k, note, Answer::Fail(errno));
            }
        }
        let Some(dest) = call.destination() else {
            return answered(k, note, Answer::Fail(Errno::AFNOSUPPORT));
        };
        let normal = Destination::of(dest);
        let published = self.is_published(k, &call);
        match self.facts.policy.decide(&normal) {
            Verdict::Deny(reason) => deny(k, note, reason),
            // A server answers where its clients are, and stays there.
            Verdict::Leave(reason @ Reason::HostLoopback) if published => deny(k, note, reason),
            Verdict::Leave(_) if published => self.connect_again(k, note, &call),
            Verdict::Leave(reason) => self.stay(k, note, call, reason, now),
            Verdict::Bypass => {
                let egress = k.egress(normal.ip, normal.scope_id);
                let same = k.pin_of(&call.sock).is_none_or(
                    |pin| matches!(egress, Egress::Device { ifindex } if ifindex == pin),
                );
                let looped =
                    egress == Egress::Loopback && !self.facts.policy.allows_host_loopback();
                if looped && published {
                    deny(k, note, Reason::HostLoopback)
                } else if published || (same && !looped) {
                    self.connect_again(k, note, &call)
                } else {
                    let source = chosen_source(k, &call);
                    self.switch(k, note, call, dest, source, now)
                }
            }
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

    /// `connect(AF_UNSPEC)`: a client gets a container socket again, a published port stays one.
    fn dissolve_datagram(&mut self, k: &mut K, note: K::Note, call: &ConnectCall<K>) -> Ended {
        // Also for those who hold the same socket by other descriptors.
        if let Err(errno) = k.dissolve(&call.sock) {
            return answered(k, note, Answer::Fail(errno));
        }
        if self.is_published(k, call) {
            k.answer(note, Answer::Success);
            return Some((Outcome::Host, Reason::Dissolve));
        }
        match self.put_back(k, &note, &call.target, &call.sock, &call.id) {
            Ok(_) => {
                k.answer(note, Answer::Success);
                Some((Outcome::Host, Reason::Dissolve))
            }
            Err(installed) => failed_put_back(k, note, installed),
        }
    }

    fn is_published(&self, k: &mut K, call: &ConnectCall<K>) -> bool {
        !self.facts.ports.is_empty()
            && protocol_of(&call.id)
                .zip(k.local(&call.sock))
                .is_some_and(|(protocol, local)| self.facts.ports.is_published(protocol, local))
    }
}

/// The source that the program has bound the socket to, as opposed to the one that an earlier
/// connect chose: that one goes with the connection.
fn chosen_source<K: Kernel>(k: &mut K, call: &ConnectCall<K>) -> Option<std::net::SocketAddr> {
    if k.peer(&call.sock).is_some() {
        k.dissolve(&call.sock).ok();
    }
    k.local(&call.sock).filter(|local| local.port() != 0)
}
