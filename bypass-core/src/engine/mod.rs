//! Carries out the verdicts: what happens to one trapped call, step by step.
//!
//! The engine owns no descriptor but those of calls that wait, and does no I/O but
//! through [`Kernel`]. It is told of notifications, of sockets that became ready
//! and of the passing of time; it never waits.
//!
//! The life of a `connect` on a TCP socket:
//!
//! ```text
//! take the socket ─ copy the address ─ still alive? ─ identity ─ policy
//!   ├ bypass ─ twin in the host namespace, pinned ─ connect ─ epolls watch the twin too
//!   │    ├ done         ─ install ─ answer 0
//!   │    ├ failed       ─ answer the errno (the container socket stays)
//!   │    └ in progress  ─ install ─ answer EINPROGRESS, or wait and then answer
//!   ├ leave  ─ connect the taken socket where it is ─ (wait) ─ answer
//!   └ deny   ─ answer the errno of the policy
//! ```
//!
//! A host socket whose connection takes time is installed *before* the wait: then an
//! interrupted call leaves the application with the very socket that goes on
//! connecting, as the kernel does, and the round trip of the installation is hidden
//! behind that of the network.

mod connect;
mod control;
mod datagram;
mod exchange;
#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(not(test), expect(dead_code, reason = "single tests need more than the model"))]
#[expect(clippy::indexing_slicing, clippy::panic, reason = "made to fail, where it must")]
mod fake;
mod host_bind;
mod inside;
mod kernel;
mod local;
#[cfg(any(test, feature = "fuzzing"))]
#[expect(clippy::indexing_slicing, clippy::panic, reason = "a rule that is broken is a panic")]
pub(crate) mod model;
mod names;
mod neighbour;
mod parked;
mod publish;
mod send;
#[cfg(test)]
mod tests;
mod unheard;

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use netns_socket::{Domain, Identity};
use seccomp_notify::Errno;
use sockaddr_inspect::Destination;

pub(crate) use self::control::confine;
pub(crate) use self::kernel::{
    Answer, Beside, Installed, Kernel, Lost, Place, Probe, Step, Token, TwinError,
};
use self::neighbour::Named;
use self::parked::Lot;
use self::send::Decided;
use self::unheard::Unheard;
use crate::Reason;
use crate::audit::{AuditedCall, Auditor, Pending};
use crate::call::Call;
use crate::policy::{Flow, Policy, Verdict};
use crate::ports::Table;
use crate::publish::Protocol;
use crate::share::{Pool, Share};
use crate::stats::{Outcome, Stats};
use crate::weaken::{Layer, is_off};

/// The errno of a denied destination. Programs that try several addresses go on to
/// the next one at once, and its text does not suggest a fault of the peer.
const DENIED: Errno = Errno::NETUNREACH;

/// What the engine needs to know about host and container.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) policy: Arc<Policy>,
    /// What is published.
    pub(crate) ports: Arc<Table>,
    pub(crate) udp: Udp,
    /// Whether the container may have UDP sockets of the host at all.
    pub(crate) host_datagrams: bool,
    /// What the container binds is bound on the host. Only where its loopback may be reached.
    pub(crate) host_binds: bool,
    /// Bind host sockets to their egress device.
    pub(crate) pin: bool,
    /// Published ports of other containers are reached by the addresses of these.
    pub(crate) neighbours: bool,
    /// The cookie of the host's network namespace.
    pub(crate) host_netns: u64,
    /// The cookie of the container's network namespace, where it is known.
    pub(crate) container_netns: Option<u64>,
    /// How many calls may wait at a time whatever others do, and if the pool has as many.
    pub(crate) min_waiting: usize,
    pub(crate) max_waiting: usize,
    /// Calls that may wait, of all containers together.
    pub(crate) waiting: Arc<Pool>,
}

/// The part of the facts that may change while the container runs.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) policy: Arc<Policy>,
    pub(crate) udp: Udp,
    pub(crate) host_datagrams: bool,
    pub(crate) pin: bool,
}

impl Rules {
    pub(crate) fn new(policy: Arc<Policy>, udp: Udp, host_datagrams: bool, pin: bool) -> Self {
        Self { policy, udp: if host_datagrams { udp } else { Udp::Off }, host_datagrams, pin }
    }
}

/// Which UDP sockets are switched, besides those of published ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Udp {
    /// None.
    #[default]
    Off,
    /// Those that `connect`.
    Connected,
    /// Also those that send to an address without being connected or bound.
    All,
}

/// The state of one container.
pub(crate) struct Engine<K: Kernel> {
    facts: Facts,
    stats: Arc<Stats>,
    parked: Lot<K>,
    /// UDP sockets that stay in the container.
    inside: Decided,
    unheard: Unheard,
    auditor: Option<Auditor>,
    /// Whether the container may hold a UDP socket of the host.
    has_datagrams: Cell<bool>,
    /// Connections to other containers.
    named: Named,
}

impl<K: Kernel> Engine<K> {
    pub(crate) fn new(facts: Facts, stats: Arc<Stats>) -> Self {
        let Facts { waiting, min_waiting, max_waiting, .. } = &facts;
        let parked = Lot::new(Share::new(Arc::clone(waiting), *min_waiting, *max_waiting));
        Self {
            facts,
            stats,
            parked,
            inside: Decided::default(),
            unheard: Unheard::default(),
            auditor: None,
            has_datagrams: Cell::new(false),
            named: Named::default(),
        }
    }

    /// Tells this one what is judged.
    pub(crate) fn set_auditor(&mut self, auditor: Auditor) {
        self.auditor = Some(auditor);
    }

    /// Other rules hold from the next call on. Calls that wait were decided, and end as they would have.
    pub(crate) fn set_rules(&mut self, rules: Rules) {
        let Rules { policy, udp, host_datagrams, pin } = rules;
        self.facts = Facts { policy, udp, host_datagrams, pin, ..self.facts.clone() };
        // What stays in the container was a matter of the old ones.
        self.inside = Decided::default();
    }

    /// A notification came in.
    pub(crate) fn handle(&mut self, k: &mut K, note: K::Note, tid: i32, call: Call, now: Instant) {
        // A thread is in one call at a time: what it waited for before, it no longer does.
        self.parked.forget(k, tid);
        let call = match call {
            Call::Multiplexed { operation, at } => match k.fetch_args(tid, at) {
                Ok(args) => Call::demultiplexed(operation, args),
                Err(lost) => return self.lost(k, note, lost),
            },
            call => call,
        };
        if !matches!(call, Call::Connect { .. }) {
            self.unheard.forget(tid);
        }
        match call {
            Call::Connect { fd, at, len } => {
                let target = Target { tid, fd };
                if let Some(done) = self.connect(k, note, target, at, len, now) {
                    self.stats.count(done.0, done.1);
                    self.stats.time_connect(now.elapsed());
                }
            }
            Call::Bind { fd, at, len } => self.bind(k, note, Target { tid, fd }, at, len),
            Call::Listen { fd, backlog } => self.listen(k, note, Target { tid, fd }, backlog),
            Call::EpollCreate => {
                k.note_epoll(tid);
                self.stats.count_continued();
                k.answer(note, Answer::Continue);
            }
            Call::Name { end, fd, at, len_at } => {
                self.name(k, note, Target { tid, fd }, end, at, len_at);
            }
            Call::Send { fd, message } => self.send(k, note, Target { tid, fd }, message),
            Call::Multiplexed { .. } | Call::Other => {
                self.stats.count_continued();
                k.answer(note, Answer::Continue);
            }
        }
    }

    /// A connection that a call waits for has ended, one way or the other.
    pub(crate) fn handle_ready(&mut self, k: &mut K, token: Token) {
        if let Some((outcome, reason)) = self.parked.complete(k, token, &mut self.unheard) {
            self.stats.count(outcome, reason);
        }
    }

    /// The thread whose call waits has ended.
    pub(crate) fn handle_exit(&mut self, k: &mut K, token: Token) {
        if self.parked.drop_one(k, token) {
            self.stats.count(Outcome::Gone, Reason::Allowed);
        }
    }

    /// Time has passed: answers calls whose `SO_SNDTIMEO` is over and drops those that
    /// were interrupted (of which the kernel sends no word).
    pub(crate) fn handle_timeout(&mut self, k: &mut K, now: Instant) {
        let stats = &self.stats;
        self.parked.expire(k, now, |outcome, reason| stats.count(outcome, reason));
        // On every turn of the loop, so whoever reads it sees what the last one left.
        stats.set_waiting(self.parked.len());
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.parked.next_deadline()
    }

    /// How many calls wait.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn waiting(&self) -> usize {
        self.parked.len()
    }

    fn lost(&self, k: &mut K, note: K::Note, lost: Lost) {
        match lost {
            Lost::Gone => {
                self.stats.count(Outcome::Gone, Reason::Allowed);
                drop(note);
            }
            Lost::Denied => {
                self.stats.count(Outcome::Denied, Reason::Uninspectable);
                k.answer(note, Answer::Fail(Errno::ACCESS));
            }
            Lost::Errno(errno) => {
                self.stats.count(Outcome::Left, Reason::Address);
                k.answer(note, Answer::Fail(errno));
            }
        }
    }

    /// Where a socket of the host, or one that is to take the place of this one, would connect or
    /// send to with this address. What an unspecified address means depends on what the socket is
    /// bound to: see [`Destination`]. It matters only where loopback may be reached.
    fn leads_to(&self, k: &mut K, sock: &K::Sock, dest: SocketAddr) -> Destination {
        let ip = dest.ip().to_canonical();
        if !ip.is_unspecified() || !self.facts.policy.allows_host_loopback() {
            return Destination::of(dest);
        }
        let ip = match (ip, k.local(sock).map(|local| local.ip().to_canonical())) {
            // ip_route_output_key_hash_rcu(): the other end is this socket's own address.
            (IpAddr::V4(_), Some(IpAddr::V4(local))) => local.into(),
            // tcp_v6_connect(), __ip6_datagram_connect(), udpv6_sendmsg(): one that is bound to
            // IPv4 stays there.
            (IpAddr::V6(_), Some(IpAddr::V4(_))) => Ipv4Addr::LOCALHOST.into(),
            _ => ip,
        };
        Destination::of(SocketAddr::new(ip, dest.port()))
    }

    /// A socket that is to take the place of this one.
    fn twin(
        &self,
        k: &mut K,
        tid: i32,
        sock: &K::Sock,
        id: &Identity,
        place: Place,
    ) -> Result<K::Sock, TwinError> {
        if id.is_udp() && place != Place::Container {
            self.has_datagrams.set(true);
        }
        k.twin(tid, sock, id, place)
    }

    /// The verdict on a destination of a socket of this thread's.
    fn decide(&self, k: &mut K, tid: i32, id: &Identity, to: Destination) -> Verdict {
        let flow = self.flow(k, tid, id, to);
        self.facts.policy.decide(&flow)
    }

    fn flow(&self, k: &mut K, tid: i32, id: &Identity, to: Destination) -> Flow {
        // Asking costs a call, and most policies do not want to know.
        let host = if self.facts.policy.names_host() { k.is_of_host(to.ip) } else { None };
        let own = if self.facts.policy.ignores_own_networks() {
            k.is_in_own_network(tid, self.facts.container_netns, to.ip)
        } else {
            None
        };
        Flow::to(protocol_of(id), to).of_host(host).in_own_network(own)
    }

    /// Begins to write a destination down, for an auditor that wants one. What is read of the
    /// process is its own only if the notification is found alive afterwards.
    fn audit(
        &self,
        k: &mut K,
        tid: i32,
        call: AuditedCall,
        id: &Identity,
        to: Destination,
    ) -> Option<Pending> {
        let auditor = self.auditor.as_ref()?;
        let flow = self.flow(k, tid, id, to);
        let decision = self.facts.policy.explain(&flow);
        let dest = SocketAddr::new(to.ip, to.port);
        auditor.begin(call, flow.protocol, dest, decision, || k.process(tid))
    }

    fn audited(&self, pending: Option<Pending>, ended: Option<(Outcome, Reason)>) {
        if let (Some(auditor), Some(pending)) = (&self.auditor, pending) {
            auditor.end(&pending, &self.facts.policy, ended);
        }
    }

    /// Lets a call act on what is no IP socket, which only its caller can make (peer credentials, path
    /// look-ups); `known` is what it is, if it is a socket.
    fn carry_on(&self, k: &mut K, note: K::Note, known: Option<&Identity>) {
        if known.is_some_and(|id| self.was_ip(id)) {
            self.stats.count(Outcome::Denied, Reason::Protocol);
            k.answer(note, Answer::Fail(Errno::ACCESS));
        } else {
            self.stats.count_continued();
            k.answer(note, Answer::Continue);
        }
    }

    /// Whether a socket of another family may have been an IP socket of the host. We make no other,
    /// and the user may give UNIX sockets away; but `TCP_ULP` has a protocol that turns a TCP
    /// socket into one of `AF_SMC` (`smc_ulp_init()`), which then connects or listens in its place.
    fn was_ip(&self, id: &Identity) -> bool {
        id.netns_cookie == Some(self.facts.host_netns)
            && matches!(id.domain, Domain::Other(family) if family != AF_UNIX)
    }

    /// Finds out which namespace is the container's, if that is not known yet.
    fn learn_namespace(&mut self, k: &mut K) {
        if self.facts.container_netns.is_none() {
            self.facts.container_netns = k.container_netns();
        }
    }

    /// Whose a socket is, by the cookie of its namespace. Where nobody can tell which namespace is the
    /// container's, the first one seen that is not the host's is taken for it.
    fn whose(&mut self, k: &mut K, id: &Identity) -> Whose {
        let Some(cookie) = id.netns_cookie else { return Whose::Nested };
        if cookie == self.facts.host_netns {
            return Whose::Host;
        }
        self.learn_namespace(k);
        if cookie == *self.facts.container_netns.get_or_insert(cookie) || is_off(Layer::Nested) {
            Whose::Container
        } else {
            Whose::Nested
        }
    }
}

/// Whose call it is, and on which of its descriptors.
#[derive(Clone, Copy, Debug)]
struct Target {
    tid: i32,
    fd: i32,
}

/// Whose namespace a socket lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Host,
    Container,
    /// A namespace that a container made for itself.
    Nested,
}

/// For ever, as the kernel's interface has it.
const AF_UNIX: i32 = 1;

/// Every network namespace has its `lo` first, and the kernel relies on this number.
pub(crate) const LOOPBACK_DEVICE: u32 = 1;

/// The protocol by which a port of this socket can be published.
fn protocol_of(id: &Identity) -> Option<Protocol> {
    if id.is_tcp() {
        Some(Protocol::Tcp)
    } else if id.is_udp() {
        Some(Protocol::Udp)
    } else {
        None
    }
}

/// Whether a published socket, which stays on the host, must not reach what is to be left to the
/// container for this reason.
fn binds_servers(reason: Reason) -> bool {
    matches!(reason, Reason::HostLoopback | Reason::NotAllowed)
}

fn is_ip(id: &Identity) -> bool {
    matches!(id.domain, Domain::Inet | Domain::Inet6)
}
