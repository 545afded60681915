//! Sends that name their destination, where they are trapped (`--udp all`).
//!
//! The first such send of a UDP socket that is neither bound nor connected decides for it: where
//! its destination is bypassed, the socket is switched before the datagram leaves, else the
//! container has it for good. A switched socket is looked at with every further send:
//!
//! | destination | what happens |
//! |---|---|
//! | bypassed, by the same device | the call goes on |
//! | bypassed, by another device | a new twin, bound to that device |
//! | left to the container | a container socket again, for good |
//! | denied | the errno of the policy |
//!
//! A socket on which datagrams wait to be received is not replaced: the call fails with EAGAIN
//! until they have been read.

use netns_socket::{Egress, Identity};
use seccomp_notify::Errno;
use sockaddr_inspect::{Destination, RawSockAddr};

use super::connect::destination;
use super::{Answer, DENIED, Engine, Installed, Kernel, Place, Target, Udp, Whose, protocol_of};
use crate::Reason;
use crate::call::Message;
use crate::policy::Verdict;
use crate::stats::Outcome;

impl<K: Kernel> Engine<K> {
    pub(super) fn send(&mut self, k: &mut K, note: K::Note, target: Target, message: Message) {
        let Some((sock, id, addr)) = Self::datagram(k, target, message) else {
            return self.go_on(k, note);
        };
        // Only now is it sure that all this was of the thread that waits for us.
        if !k.is_alive(&note) {
            return self.stats.count(Outcome::Gone, Reason::Allowed);
        }
        let Some(dest) = destination(&id, &addr).map(Destination::of) else {
            // The kernel refuses what is no address of this socket's family, or takes AF_UNSPEC
            // for a send without one.
            return self.go_on(k, note);
        };
        match self.whose(&id) {
            Whose::Nested => self.go_on(k, note),
            Whose::Container => self.send_inside(k, note, target, &sock, &id, &dest),
            Whose::Host => self.send_on_host(k, note, target, &sock, &id, &dest),
        }
    }

    /// A UDP socket and the address that the call names, if that is what it is about.
    fn datagram(
        k: &mut K,
        target: Target,
        message: Message,
    ) -> Option<(K::Sock, Identity, RawSockAddr)> {
        let sock = k.take(target.tid, target.fd).ok()?;
        let id = k.identity(&sock).filter(Identity::is_udp)?;
        let addr = k.fetch_name(target.tid, message).ok()??;
        Some((sock, id, addr))
    }

    fn send_inside(
        &mut self,
        k: &mut K,
        note: K::Note,
        target: Target,
        sock: &K::Sock,
        id: &Identity,
        dest: &Destination,
    ) {
        // With a port it has been bound, connected, or has sent something: decided.
        let decided = k.local(sock).is_none_or(|local| local.port() != 0);
        if self.facts.udp != Udp::All || decided {
            return self.go_on(k, note);
        }
        match self.facts.policy.decide(dest) {
            Verdict::Deny(reason) => self.deny_send(k, note, reason),
            Verdict::Leave(_) => self.go_on(k, note),
            Verdict::Bypass => match k.egress(dest.ip, dest.scope_id) {
                Egress::Device { ifindex } => {
                    let place = Place::Host { pin: Some(ifindex).filter(|_| self.facts.pin) };
                    self.move_sender(k, note, target, sock, id, place);
                }
                Egress::Loopback | Egress::Unroutable(_) => self.go_on(k, note),
            },
        }
    }

    fn send_on_host(
        &mut self,
        k: &mut K,
        note: K::Note,
        target: Target,
        sock: &K::Sock,
        id: &Identity,
        dest: &Destination,
    ) {
        let published = protocol_of(id)
            .zip(k.local(sock))
            .is_some_and(|(protocol, local)| self.facts.ports.is_published(protocol, local));
        match self.facts.policy.decide(dest) {
            Verdict::Deny(reason) => self.deny_send(k, note, reason),
            // A server cannot be on both sides.
            Verdict::Leave(reason) if published => self.deny_send(k, note, reason),
            Verdict::Leave(_) => self.move_sender(k, note, target, sock, id, Place::Container),
            Verdict::Bypass => {
                let egress = k.egress(dest.ip, dest.scope_id);
                match (egress, k.pin_of(sock)) {
                    (Egress::Device { ifindex }, Some(pin)) if ifindex != pin && !published => {
                        let place = Place::Host { pin: Some(ifindex) };
                        self.move_sender(k, note, target, sock, id, place);
                    }
                    _ => self.go_on(k, note),
                }
            }
        }
    }

    /// Replaces the socket, after which the call goes on with the new one.
    fn move_sender(
        &mut self,
        k: &mut K,
        note: K::Note,
        target: Target,
        sock: &K::Sock,
        id: &Identity,
        place: Place,
    ) {
        let to_host = matches!(place, Place::Host { .. });
        if k.has_waiting(sock) {
            self.stats.count(Outcome::Failed, Reason::Option);
            k.answer(note, Answer::Fail(Errno::AGAIN));
            return;
        }
        let twin = k
            .twin(target.tid, sock, id, place)
            .and_then(|twin| k.finish(&twin, sock, id, place).map(|()| twin));
        let installed = match twin {
            Ok(twin) if k.transplant(target.tid, target.fd, sock, &twin) => {
                k.install(&note, target.tid, target.fd, &twin)
            }
            _ => Installed::Refused,
        };
        match installed {
            Installed::Done => {
                let outcome = if to_host { Outcome::Switched } else { Outcome::Left };
                self.stats.count(outcome, Reason::Allowed);
                k.answer(note, Answer::Continue);
            }
            Installed::Gone => self.stats.count(Outcome::Gone, Reason::Allowed),
            // From the container it may leave as it is; a host socket must not send there.
            Installed::Refused if self.whose(id) == Whose::Host => {
                self.deny_send(k, note, Reason::PutBack);
            }
            Installed::Refused => self.go_on(k, note),
        }
    }

    fn go_on(&self, k: &mut K, note: K::Note) {
        self.stats.count_continued();
        k.answer(note, Answer::Continue);
    }

    fn deny_send(&self, k: &mut K, note: K::Note, reason: Reason) {
        self.stats.count(Outcome::Denied, reason);
        k.answer(note, Answer::Fail(DENIED));
    }
}
