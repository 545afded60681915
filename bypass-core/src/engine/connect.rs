//! connect(2).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use netns_socket::{Domain, Egress, Identity, TcpState};
use seccomp_notify::Errno;
use sockaddr_inspect::{Destination, ForeignAddr, RawSockAddr, SockAddr};

use super::exchange::Exchanged;
use super::parked::{Parked, Wait};
use super::{
    Answer, DENIED, Engine, Installed, Kernel, LOOPBACK_DEVICE, Place, Probe, Step, Target,
    TwinError, Udp, Whose, is_ip,
};
use crate::Reason;
use crate::audit::{AuditedCall, Pending};
use crate::policy::Verdict;
use crate::stats::Outcome;
use crate::weaken::{Layer, is_off};

/// How a call ended, if it has.
pub(super) type Ended = Option<(Outcome, Reason)>;

impl<K: Kernel> Engine<K> {
    pub(super) fn connect(
        &mut self,
        k: &mut K,
        note: K::Note,
        target: Target,
        at: ForeignAddr,
        len: u64,
        now: Instant,
    ) -> Ended {
        // The kernel looks up the descriptor first, then copies the address.
        let taken = k.take(target.tid, target.fd);
        let sock = match taken {
            Ok(sock) => sock,
            Err(lost) => {
                self.lost(k, note, lost);
                return None;
            }
        };
        let known = k.identity(&sock);
        let id = known.filter(is_ip);
        let fetched = match id {
            Some(_) => k.fetch(target.tid, at, len),
            None => Ok(RawSockAddr::default()),
        };
        self.learn_namespace(k);
        let audit = match (&id, &fetched) {
            (Some(id), Ok(addr)) => self.audit_connect(k, target.tid, &sock, id, addr),
            _ => None,
        };
        // Only now is it sure that all this was of the thread that waits for us.
        if !k.is_alive(&note) {
            return Some((Outcome::Gone, Reason::Allowed));
        }
        let Some(id) = id else {
            self.carry_on(k, note, known.as_ref());
            return None;
        };
        let addr = match fetched {
            Ok(addr) => addr,
            Err(lost) => {
                self.lost(k, note, lost);
                return None;
            }
        };
        if let Some(answer) = self.unheard.take(target.tid, &addr)
            && id.is_tcp()
            && k.tcp_state(&sock) != Some(TcpState::Close)
        {
            drop(sock);
            // It may be interrupted as well.
            return self.answer_connect(k, note, target.tid, &addr, answer, STOOD);
        }
        let call = ConnectCall { target, sock, id, addr };
        let ended = match self.whose(k, &id) {
            Whose::Host if is_off(Layer::Again) => self.go_on_with(k, note),
            Whose::Host if id.is_udp() => self.connect_host_datagram(k, note, call, now),
            Whose::Host => self.connect_host(k, note, call, now),
            Whose::Container if id.is_tcp() => self.connect_container(k, note, call, now),
            Whose::Container if id.is_udp() && self.facts.udp != Udp::Off => {
                self.connect_datagram(k, note, call, now)
            }
            Whose::Container => self.leave_unless_denied(k, note, call, Reason::Protocol, now),
            Whose::Nested => self.leave_unless_denied(k, note, call, Reason::NestedNetns, now),
        };
        log(&target, &addr, ended);
        self.audited(audit, ended);
        ended
    }

    fn audit_connect(
        &self,
        k: &mut K,
        tid: i32,
        sock: &K::Sock,
        id: &Identity,
        addr: &RawSockAddr,
    ) -> Option<Pending> {
        self.auditor.as_ref()?;
        let to = self.leads_to(k, sock, addr.decode().ok()?.ip()?);
        self.audit(k, tid, AuditedCall::Connect, id, to)
    }

    /// A TCP socket of the container's own.
    fn connect_container(
        &mut self,
        k: &mut K,
        note: K::Note,
        call: ConnectCall<K>,
        now: Instant,
    ) -> Ended {
        let Some(dest) = call.destination() else {
            return self.leave(k, note, call, Reason::Address, now);
        };
        let normal = self.leads_to(k, &call.sock, dest);
        let verdict = self.decide(k, call.target.tid, &call.id, normal);
        // The default of the policy is about what is outside, and this is not.
        if verdict != Verdict::Deny(Reason::DenyRule)
            && let Some(service) = self.own_service(k, &call, &normal)
            && k.tcp_state(&call.sock) == Some(TcpState::Close)
        {
            let reason = match verdict {
                Verdict::Leave(reason) => reason,
                _ => Reason::Published,
            };
            return self.connect_own_service(k, note, call, service, reason, now);
        }
        if let Some(service) = self.neighbour(k, &call, &normal, verdict) {
            let reason = match verdict {
                Verdict::Leave(reason) => reason,
                // Its networks lead there, and the host's may lead to somebody else.
                _ => Reason::Neighbour,
            };
            return self.connect_own_service(k, note, call, service, reason, now);
        }
        match verdict {
            Verdict::Leave(reason) => self.leave(k, note, call, reason, now),
            Verdict::Deny(reason) => deny(k, note, call, reason),
            Verdict::Bypass => {
                let source = k.local(&call.sock).filter(|local| local.port() != 0);
                // A socket without a port was never bound, connected or put to listen.
                if source.is_some() && k.tcp_state(&call.sock) != Some(TcpState::Close) {
                    return self.leave(k, note, call, Reason::SocketState, now);
                }
                self.switch(k, note, call, dest, source, now)
            }
        }
    }

    /// A socket that is in the host's namespace already. It is never given an address
    /// again: what may be connected anew is, with a new twin in its place.
    fn connect_host(
        &mut self,
        k: &mut K,
        note: K::Note,
        call: ConnectCall<K>,
        now: Instant,
    ) -> Ended {
        if !call.id.is_tcp() {
            return deny(k, note, call, Reason::Protocol);
        }
        let dest = match call.addr.decode() {
            Ok(SockAddr::Unspec) => return self.dissolve(k, note, call),
            // tcp_v6_connect() looks at the length first.
            Ok(_) if call.id.domain == Domain::Inet6 && call.addr.len() < SIN6_LEN_RFC2133 => {
                Err(Errno::INVAL)
            }
            Ok(_) => call.destination().ok_or(Errno::AFNOSUPPORT),
            Err(malformed) => Err(Errno::from_raw_os_error(malformed.errno())),
        };
        let blocking = k.is_blocking(&call.sock);
        match k.probe(&call.sock, blocking) {
            Probe::Answer(Step::Done) => {
                let ConnectCall { target, sock, addr, .. } = call;
                drop(sock);
                return self.answer_connect(k, note, target.tid, &addr, Answer::Success, STOOD);
            }
            Probe::Answer(Step::InProgress) if blocking => {
                let wait = Wait { success: STOOD, timed_out: Errno::ALREADY, whose: Whose::Host };
                return self.park(k, note, call, wait, now);
            }
            Probe::Answer(Step::InProgress) => {
                return answered(k, note, call, Answer::Fail(Errno::ALREADY));
            }
            Probe::Answer(Step::Failed(errno)) => {
                return answered(k, note, call, Answer::Fail(errno));
            }
            Probe::Unconnected => {}
        }
        let dest = match dest {
            Ok(dest) => dest,
            Err(errno) => return answered(k, note, call, Answer::Fail(errno)),
        };
        let normal = self.leads_to(k, &call.sock, dest);
        match self.decide(k, call.target.tid, &call.id, normal) {
            Verdict::Bypass => {
                let source = k.local(&call.sock).filter(|local| local.port() != 0);
                // The address that it has is the program's choice, and no other socket can have it.
                if source.is_some() && self.facts.host_binds && k.pin_of(&call.sock).is_none() {
                    let success = (Outcome::Host, Reason::Allowed);
                    return self.connect_in_place(k, note, call, success, now);
                }
                self.switch(k, note, call, dest, source, now)
            }
            Verdict::Leave(reason) => self.stay(k, note, call, reason, now),
            Verdict::Deny(reason) => deny(k, note, call, reason),
        }
    }

    /// Makes the connection from the host's namespace.
    pub(super) fn switch(
        &mut self,
        k: &mut K,
        note: K::Note,
        call: ConnectCall<K>,
        dest: SocketAddr,
        source: Option<SocketAddr>,
        now: Instant,
    ) -> Ended {
        let normal = Destination::of(dest);
        let device = match k.egress(normal.ip, normal.scope_id) {
            Egress::Device { ifindex } => Some(ifindex),
            // Bound to lo it could reach 127.0.0.1 as well, so this is no pin at all.
            Egress::Loopback if self.facts.policy.allows_host_loopback() => None,
            Egress::Loopback => return self.stay(k, note, call, Reason::HostLoopback, now),
            Egress::Unroutable(errno) => {
                k.answer(note, Answer::Fail(errno));
                return Some((Outcome::Failed, Reason::NoRoute));
            }
        };
        if source.is_some_and(|local| !is_wildcard(local.ip())) {
            return self.stay(k, note, call, Reason::SourceAddress, now);
        }
        let place = Place::Host { pin: device.filter(|_| self.facts.pin) };
        let twin = match self.twin(k, call.target.tid, &call.sock, &call.id, place) {
            Ok(twin) => twin,
            Err(TwinError::Option(name)) => {
                tracing::debug!(option = name, "not copyable");
                return self.stay(k, note, call, Reason::Option, now);
            }
            Err(TwinError::Pin) => return self.stay(k, note, call, Reason::Pin, now),
            Err(TwinError::Make) => return self.stay(k, note, call, Reason::HostSocket, now),
        };
        if let Some(local) = source {
            let wanted = SockAddr::from(local).encode();
            if k.bind(&twin, &wanted).is_err() {
                return self.stay(k, note, call, Reason::SourcePort, now);
            }
        }
        if is_wildcard(dest.ip()) {
            // The twin is bound to less than the socket that was judged, and goes elsewhere.
            let to = self.leads_to(k, &twin, dest);
            match self.decide(k, call.target.tid, &call.id, to) {
                Verdict::Bypass => {}
                Verdict::Leave(reason) => return self.stay(k, note, call, reason, now),
                Verdict::Deny(reason) => return deny(k, note, call, reason),
            }
        }
        if is_off(Layer::OwnCall) {
            k.finish(&twin, &call.sock, &call.id, place).ok();
            k.install(&note, call.target.tid, call.target.fd, &twin);
            return self.go_on_with(k, note);
        }
        let blocking = k.is_blocking(&call.sock);
        let step = k.connect_twin(&twin, &call.addr, blocking);
        let answer = match step {
            Step::Done => Answer::Success,
            Step::InProgress => Answer::Fail(Errno::INPROGRESS),
            Step::Failed(errno) => {
                drop((call, twin));
                k.answer(note, Answer::Fail(errno));
                return Some((Outcome::Failed, Reason::Allowed));
            }
        };
        if k.finish(&twin, &call.sock, &call.id, place).is_err() {
            return self.stay(k, note, call, Reason::Option, now);
        }
        let ConnectCall { target, sock, id, addr } = call;
        match self.exchange(k, &note, &target, &id, sock, &twin) {
            Exchanged::Done => {}
            Exchanged::Gone => {
                // It may have it all the same. The same call would wait again, if this one does.
                if step == Step::Done || !blocking {
                    self.unheard.remember(target.tid, &addr, answer);
                }
                return Some((Outcome::Gone, Reason::Allowed));
            }
            Exchanged::Refused(sock, reason) => {
                // Its connection must have ended before the program has another.
                drop(twin);
                return self.stay(k, note, ConnectCall { target, sock, id, addr }, reason, now);
            }
        }
        let success = (Outcome::Switched, Reason::Allowed);
        if step == Step::InProgress && blocking {
            let wait = Wait { success, timed_out: Errno::INPROGRESS, whose: Whose::Host };
            return self.park(k, note, ConnectCall { target, sock: twin, id, addr }, wait, now);
        }
        // Were we the last to have it when the program closes it, SO_LINGER would make us wait.
        drop(twin);
        self.answer_connect(k, note, target.tid, &addr, answer, success)
    }

    /// A switch that did not come about: the connection is made where the socket is,
    /// if that is the container.
    pub(super) fn stay(
        &mut self,
        k: &mut K,
        note: K::Note,
        call: ConnectCall<K>,
        reason: Reason,
        now: Instant,
    ) -> Ended {
        if self.whose(k, &call.id) == Whose::Host {
            let ConnectCall { target, sock, id, addr } = call;
            return match self.put_back(k, &note, &target, sock, &id) {
                Ok(sock) => {
                    self.leave(k, note, ConnectCall { target, sock, id, addr }, reason, now)
                }
                Err(installed) => failed_put_back(k, note, installed),
            };
        }
        self.leave(k, note, call, reason, now)
    }

    /// For sockets that are never bypassed: only what a rule denies is refused.
    pub(super) fn leave_unless_denied(
        &mut self,
        k: &mut K,
        note: K::Note,
        call: ConnectCall<K>,
        reason: Reason,
        now: Instant,
    ) -> Ended {
        // Not only what is of the socket's family: a UDP socket of IPv6 connects to IPv4 as well.
        let dest = call.addr.decode().ok().and_then(|addr| addr.ip());
        match dest.map(|dest| self.decide(k, call.target.tid, &call.id, Destination::of(dest))) {
            Some(Verdict::Deny(rule @ Reason::DenyRule)) => deny(k, note, call, rule),
            _ => self.leave(k, note, call, reason, now),
        }
    }

    /// Lets the call act in the container: we make it ourselves, on the socket we hold
    /// and with the address we copied, since the target could exchange both meanwhile.
    pub(super) fn leave(
        &mut self,
        k: &mut K,
        note: K::Note,
        call: ConnectCall<K>,
        reason: Reason,
        now: Instant,
    ) -> Ended {
        if is_off(Layer::OwnCall) {
            return self.go_on_with(k, note);
        }
        self.connect_in_place(k, note, call, (Outcome::Left, reason), now)
    }

    fn connect_in_place(
        &mut self,
        k: &mut K,
        note: K::Note,
        call: ConnectCall<K>,
        success: (Outcome, Reason),
        now: Instant,
    ) -> Ended {
        let blocking = k.is_blocking(&call.sock);
        let answer = match k.connect(&call.sock, &call.addr, blocking) {
            Step::Done => Answer::Success,
            Step::InProgress if blocking => {
                let whose = self.whose(k, &call.id);
                let wait = Wait { success, timed_out: Errno::INPROGRESS, whose };
                return self.park(k, note, call, wait, now);
            }
            Step::InProgress => Answer::Fail(Errno::INPROGRESS),
            Step::Failed(errno) => Answer::Fail(errno),
        };
        let ConnectCall { target, sock, addr, .. } = call;
        // Closed by us after the program, it would wait for what SO_LINGER says.
        drop(sock);
        self.answer_connect(k, note, target.tid, &addr, answer, success)
    }

    pub(super) fn answer_connect(
        &mut self,
        k: &mut K,
        note: K::Note,
        tid: i32,
        addr: &RawSockAddr,
        answer: Answer,
        ended: (Outcome, Reason),
    ) -> Ended {
        if k.answer(note, answer) {
            return Some(ended);
        }
        self.unheard.remember(tid, addr, answer);
        Some((Outcome::Gone, ended.1))
    }

    fn park(
        &mut self,
        k: &mut K,
        note: K::Note,
        call: ConnectCall<K>,
        wait: Wait,
        now: Instant,
    ) -> Ended {
        let deadline = k.send_timeout(&call.sock).and_then(|limit| now.checked_add(limit));
        let ConnectCall { target, sock, addr, .. } = call;
        let parked = Parked { note, tid: target.tid, sock, addr, deadline, wait };
        match self.parked.park(k, parked, now) {
            Ok(()) => None,
            Err(note) => {
                k.answer(note, Answer::Fail(Errno::AGAIN));
                Some((Outcome::Failed, Reason::Limit))
            }
        }
    }

    /// What none of our calls does: see [`weaken`](crate::weaken).
    fn go_on_with(&self, k: &mut K, note: K::Note) -> Ended {
        self.stats.count_continued();
        k.answer(note, Answer::Continue);
        None
    }

    /// `connect(AF_UNSPEC)`: the application gets a container socket again.
    fn dissolve(&mut self, k: &mut K, note: K::Note, call: ConnectCall<K>) -> Ended {
        // First the connection, so that the peer sees it end as it would natively, even
        // where other descriptors still hold the host socket. One that could reach the host's
        // loopback must not be left without a connection: shut down, it can have no other.
        let confined = k.pin_of(&call.sock).is_some_and(|device| device != LOOPBACK_DEVICE);
        if self.facts.pin && !confined && !is_off(Layer::Shutdown) {
            k.shut_down(&call.sock);
        } else if let Err(errno) = k.dissolve(&call.sock) {
            return answered(k, note, call, Answer::Fail(errno));
        }
        match self.put_back(k, &note, &call.target, call.sock, &call.id) {
            Ok(_) => {
                k.answer(note, Answer::Success);
                Some((Outcome::Host, Reason::Dissolve))
            }
            Err(installed) => failed_put_back(k, note, installed),
        }
    }

    /// Puts a fresh container socket in the place of a host socket, with its state.
    pub(super) fn put_back(
        &self,
        k: &mut K,
        note: &K::Note,
        target: &Target,
        sock: K::Sock,
        id: &Identity,
    ) -> Result<K::Sock, Installed> {
        let twin = k
            .twin(target.tid, &sock, id, Place::Container)
            .and_then(|twin| k.finish(&twin, &sock, id, Place::Container).map(|()| twin))
            .map_err(|_unmade| Installed::Refused)?;
        match self.exchange(k, note, target, id, sock, &twin) {
            Exchanged::Done => Ok(twin),
            Exchanged::Gone => Err(Installed::Gone),
            Exchanged::Refused(..) => Err(Installed::Refused),
        }
    }
}

/// What a `connect` acts on: our own copies of everything.
pub(super) struct ConnectCall<K: Kernel> {
    pub(super) target: Target,
    pub(super) sock: K::Sock,
    pub(super) id: Identity,
    pub(super) addr: RawSockAddr,
}

impl<K: Kernel> ConnectCall<K> {
    /// The destination, where this socket can connect to it at all.
    pub(super) fn destination(&self) -> Option<SocketAddr> {
        destination(&self.id, &self.addr)
    }
}

/// The address, where a socket of this kind can connect or send to it at all.
pub(super) fn destination(id: &Identity, addr: &RawSockAddr) -> Option<SocketAddr> {
    match (id.domain, addr.decode()) {
        (Domain::Inet, Ok(SockAddr::V4(addr))) => Some(SocketAddr::V4(addr)),
        (Domain::Inet6, Ok(SockAddr::V6(addr))) => Some(SocketAddr::V6(addr)),
        // __ip6_datagram_connect(), udpv6_sendmsg()
        (Domain::Inet6, Ok(SockAddr::V4(addr))) if id.is_udp() => Some(SocketAddr::V4(addr)),
        _ => None,
    }
}

/// One line per verdict, for those who want to see them all.
fn log(target: &Target, addr: &RawSockAddr, ended: Ended) {
    if tracing::enabled!(tracing::Level::DEBUG) {
        let dest = addr.decode().ok().and_then(|addr| addr.ip());
        let Target { tid, fd } = target;
        match ended {
            Some((outcome, reason)) => {
                let (outcome, reason) = (outcome.name(), reason.name());
                tracing::debug!(tid, fd, ?dest, outcome, reason, "connect");
            }
            None => tracing::debug!(tid, fd, ?dest, "connect waits"),
        }
    }
}

pub(super) fn deny<K: Kernel>(
    k: &mut K,
    note: K::Note,
    call: ConnectCall<K>,
    reason: Reason,
) -> Ended {
    drop(call);
    k.answer(note, Answer::Fail(DENIED));
    Some((Outcome::Denied, reason))
}

/// What the kernel would have answered on this socket without any of us.
pub(super) fn answered<K: Kernel>(
    k: &mut K,
    note: K::Note,
    call: ConnectCall<K>,
    answer: Answer,
) -> Ended {
    drop(call);
    k.answer(note, answer);
    Some(STOOD)
}

/// Of a socket of the host with a connection, or one under way.
const STOOD: (Outcome, Reason) = (Outcome::Host, Reason::SocketState);

/// The target has a host socket that it may not use for this, and there is no other to
/// give: the call fails, confinement holds.
pub(super) fn failed_put_back<K: Kernel>(k: &mut K, note: K::Note, installed: Installed) -> Ended {
    if installed == Installed::Gone {
        return Some((Outcome::Gone, Reason::PutBack));
    }
    k.answer(note, Answer::Fail(DENIED));
    Some((Outcome::Denied, Reason::PutBack))
}

pub(super) fn is_wildcard(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.to_ipv4_mapped() == Some(Ipv4Addr::UNSPECIFIED),
    }
}

/// `<net/ipv6.h>`: an IPv6 address without its scope.
const SIN6_LEN_RFC2133: usize = 24;
