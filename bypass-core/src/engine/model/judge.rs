//! Whether what was done to a socket of the host may be done to it.
//!
//! What is written here is the rule of `docs/security.md`, not the engine's way to keep it: a deed
//! is looked at by itself, whatever led to it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use netns_socket::{Domain, Egress, TcpState};
use sockaddr_inspect::Destination;

use super::places::Choices;
use super::{Seen, TCP, UDP};
use crate::Reason;
use crate::call::Call;
use crate::engine::fake::{Deed, Fake, FakeSock, HOST};
use crate::engine::{Facts, Kernel, LOOPBACK_DEVICE, Place, Udp};
use crate::policy::{Flow, Verdict};
use crate::ports::in_family;
use crate::publish::Protocol;

pub(super) struct Judge {
    facts: Facts,
    pub(super) choices: Choices,
    pub(super) seen: Seen,
}

impl Judge {
    pub(super) fn new(facts: Facts, choices: Choices) -> Self {
        Self { facts, choices, seen: Seen::default() }
    }

    /// The kernel was told to carry on with this call.
    pub(super) fn continued(&mut self, k: &Fake, call: &Call) {
        self.seen.continued += 1;
        let taken = k.strict.taken.map(|sock| &k.socks[sock]);
        let ip = taken.filter(|sock| !matches!(sock.domain, Domain::Other(_)));
        match call {
            // socketcall(2) of these, and of names, which may go on.
            Call::Connect { .. } | Call::Bind { .. } | Call::Listen { .. } => {
                assert!(ip.is_none(), "continue: {call:?} on {ip:?}");
            }
            Call::Multiplexed { operation, .. } => {
                use crate::call::Multiplexed::{GetPeerName, GetSockName};
                let name = matches!(operation, GetSockName | GetPeerName);
                assert!(name || ip.is_none(), "continue: {call:?} on {ip:?}");
            }
            Call::Send { .. } => {
                let datagrams = ip.filter(|sock| sock.protocol == UDP && sock.netns == HOST);
                assert!(datagrams.is_none(), "continue: {call:?} on {datagrams:?}");
            }
            Call::Name { .. } | Call::EpollCreate | Call::Other => {}
        }
    }

    /// The target had these sockets: what was one is not two now.
    pub(super) fn unity(&mut self, k: &Fake, before: &HashMap<i32, usize>) {
        for (fd, old) in before {
            let replaced = k.table.get(fd) != Some(old);
            let of = || before.iter().filter(|(_, sock)| *sock == old);
            for (other, _) in of() {
                let other = k.table.get(other) != Some(old);
                assert_eq!(other, replaced, "{old} was one: {before:?}, {:?}", k.table);
            }
            let shared = k.beside.contains(old) && k.socks[*old].netns != HOST;
            assert!(!replaced || !shared, "another process has {old}");
            self.seen.duplicates += usize::from(replaced && of().count() > 1);
            self.seen.shared += usize::from(shared && !k.strict.deeds.is_empty());
        }
    }

    pub(super) fn deed(&mut self, k: &mut Fake, deed: &Deed) {
        match deed {
            Deed::Connect { sock, to, .. } | Deed::Send { sock, to } if sock.netns != HOST => {
                // There the container's own network decides, but for what a rule denies.
                let verdict = self.verdict(k, sock, &destination(sock, *to));
                let denied = verdict == Verdict::Deny(Reason::DenyRule);
                // An unspecified address is the container itself, whatever it is called.
                let outside = takes(sock, *to) && !to.ip().to_canonical().is_unspecified();
                assert!(!denied || !outside, "{to} is denied: {sock:?}");
            }
            Deed::Bind { sock, .. }
            | Deed::Listen { sock, .. }
            | Deed::Dissolve { sock }
            | Deed::Install { sock }
                if sock.netns != HOST => {}
            Deed::Connect { sock, to, held } => {
                // One that was bound on the host keeps its address for its connection.
                let own_port =
                    self.facts.host_binds && sock.pin.is_none() && sock.local.port() != 0;
                assert!(
                    !held || own_port || sock.protocol == UDP,
                    "given an address again: {sock:?}"
                );
                self.reaches(k, sock, *to, *held);
            }
            Deed::Bind { sock, to, held } => {
                assert!(!held, "bound again: {sock:?}");
                if self.facts.host_binds && matches!(sock.place, Some(Place::Server { .. })) {
                    return;
                }
                // A source port of a connection, or of a sender.
                let local = to.ip().to_canonical();
                assert!(local.is_unspecified() || local.is_loopback(), "{to}: {sock:?}");
                assert!(matches!(sock.place, Some(Place::Host { .. })), "{to}: {sock:?}");
            }
            Deed::BindPublished { sock, instead, choice } => {
                let bound = instead.as_ref().filter(|of| of.netns != HOST && of.local.port() != 0);
                assert!(bound.is_none(), "it has an address: {bound:?}");
                let Some(protocol) = protocol(sock) else { panic!("published: {sock:?}") };
                choice.assert_narrow(&self.facts.ports, protocol, sock.domain);
            }
            Deed::Listen { sock, published } => {
                self.seen.listens += 1;
                if sock.protocol == TCP {
                    let server = matches!(sock.place, Some(Place::Server { .. }));
                    let everywhere = self.facts.host_binds && (server || sock.local.port() != 0);
                    let covered = *published && self.is_covered(sock);
                    assert!(covered || everywhere, "a port is opened: {sock:?}");
                    let state = matches!(sock.state, TcpState::Close | TcpState::Listen);
                    assert!(state, "listens with a connection: {sock:?}");
                }
            }
            // EINVAL: udp_sendmsg(), udpv6_sendmsg().
            Deed::Send { to, .. } if to.port() == 0 => {}
            Deed::Send { sock, to } => {
                assert_eq!(sock.protocol, UDP);
                self.seen.datagrams += 1;
                self.reaches(k, sock, *to, true);
            }
            Deed::Dissolve { sock } => {
                self.seen.dissolved += 1;
                // Without its connection and its pin it could be connected to loopback.
                let loose = sock.pin.is_none_or(|pin| pin == LOOPBACK_DEVICE);
                let free = self.facts.host_binds && sock.protocol == UDP;
                assert!(!self.facts.pin || !loose || free, "dissolved: {sock:?}");
            }
            Deed::Install { sock } => self.installs(k, sock),
        }
    }

    /// A host socket is made to talk to `to`. `held`: it may be one that the container had before.
    fn reaches(&self, k: &mut Fake, sock: &FakeSock, to: SocketAddr, held: bool) {
        if let Err(wrong) = self.ordinary(k, sock, to, held) {
            let own =
                !held && (self.is_own_service(k, sock, to) || self.is_neighbours(k, sock, to));
            assert!(own, "{wrong}, {to}: {sock:?}");
        }
    }

    /// Whether the policy allows it, by the device of the socket.
    fn ordinary(
        &self,
        k: &mut Fake,
        sock: &FakeSock,
        to: SocketAddr,
        held: bool,
    ) -> Result<(), &'static str> {
        let dest = destination(sock, to);
        let server = self.is_published(sock) && sock.protocol == UDP && held;
        match self.verdict(k, sock, &dest) {
            Verdict::Deny(_) => Err("denied"),
            Verdict::Leave(Reason::HostLoopback) => Err("the host's loopback"),
            Verdict::Leave(Reason::NotAllowed) => Err("not allowed"),
            Verdict::Leave(_) if server => Ok(()),
            // Connected before an address was added, it stays what it is.
            Verdict::Leave(Reason::OwnNetwork | Reason::NetworksUnknown)
                if held && sock.peer == Some(to) =>
            {
                Ok(())
            }
            Verdict::Leave(_) => Err("left to the container"),
            Verdict::Bypass => match k.egress(dest.ip, dest.scope_id) {
                Egress::Loopback if self.facts.policy.allows_host_loopback() => Ok(()),
                Egress::Loopback => Err("on lo"),
                // A server keeps to its own device, and what the user gave has none.
                Egress::Device { .. } if server || (held && sock.pin.is_none()) => Ok(()),
                Egress::Device { ifindex } if self.facts.pin && sock.pin != Some(ifindex) => {
                    Err("pinned elsewhere")
                }
                Egress::Device { .. } | Egress::Unroutable(_) => Ok(()),
            },
        }
    }

    fn verdict(&self, k: &mut Fake, sock: &FakeSock, to: &Destination) -> Verdict {
        let own = k.is_in_own_network(1, None, to.ip);
        let flow = Flow::to(protocol(sock), *to).of_host(k.is_of_host(to.ip)).in_own_network(own);
        // Both ways to look at the rules say the same.
        let decision = self.facts.policy.explain(&flow);
        assert_eq!(self.facts.policy.decide(&flow), decision.verdict, "{flow:?}");
        decision.verdict
    }

    fn installs(&mut self, k: &mut Fake, sock: &FakeSock) {
        match sock.place {
            Some(Place::Server { pin }) => {
                self.seen.servers += 1;
                let everywhere = self.facts.host_binds;
                assert!(everywhere || self.is_published(sock), "not published: {sock:?}");
                assert_eq!((sock.state, sock.peer), (TcpState::Close, None), "{sock:?}");
                if sock.protocol == UDP && everywhere {
                    assert_eq!(self.facts.udp, Udp::All, "its sends are not judged: {sock:?}");
                } else if sock.protocol == UDP {
                    assert!(self.facts.host_datagrams, "no host datagrams: {sock:?}");
                    assert!(!self.facts.pin || pin.is_some(), "without a pin: {sock:?}");
                    assert_ne!(pin, Some(LOOPBACK_DEVICE), "{sock:?}");
                }
            }
            Some(Place::Host { pin }) => {
                self.seen.clients += 1;
                assert!(sock.peer.is_some() || sock.protocol == UDP, "goes nowhere: {sock:?}");
                if sock.protocol == UDP && sock.peer.is_none() {
                    assert_ne!(self.facts.udp, Udp::Off, "{sock:?}");
                }
                let open = self.facts.policy.allows_host_loopback();
                assert!(!self.facts.pin || pin.is_some() || open, "without a pin: {sock:?}");
                assert!(sock.peer.is_some() || pin != Some(LOOPBACK_DEVICE), "loose: {sock:?}");
                if let Some(peer) = sock.peer
                    && self.ordinary(k, sock, peer, false).is_err()
                {
                    self.seen.own_services += 1;
                    let neighbour = self.is_neighbours(k, sock, peer);
                    self.seen.neighbours += usize::from(neighbour);
                    let own = self.is_own_service(k, sock, peer) || neighbour;
                    let own = own && !k.others_listen;
                    assert!(own, "not the container's: {sock:?}");
                    // Only then no call but one that is trapped leads it elsewhere.
                    assert_eq!(sock.state, TcpState::Established, "{sock:?}");
                }
            }
            Some(Place::Container) | None => panic!("no twin of the host: {sock:?}"),
        }
    }

    /// Whether this is where the host reaches the published port that the container asked for by an
    /// address of its own, and nothing else can be reached.
    fn is_own_service(&self, k: &mut Fake, sock: &FakeSock, to: SocketAddr) -> bool {
        let Some(asked) = k.strict.read.and_then(|name| name.decode().ok()?.ip()) else {
            return false;
        };
        let asked = Destination::of(asked);
        let verdict = self.verdict(k, sock, &asked);
        let device = match k.egress(Destination::of(to).ip, 0) {
            Egress::Device { ifindex } => ifindex,
            Egress::Loopback | Egress::Unroutable(_) => LOOPBACK_DEVICE,
        };
        sock.protocol == TCP
            && (asked.is_loopback() || k.own_addresses.contains(&asked.ip))
            && verdict != Verdict::Deny(Reason::DenyRule)
            && (!self.facts.pin || sock.pin == Some(device))
            && self.facts.ports.entries().any(|(_, entry)| {
                entry.protocol == Protocol::Tcp
                    && entry.container_port == asked.port
                    && in_family(sock.domain, entry.reach()) == Some(to)
            })
    }

    /// Whether this is where the host reaches a published port of another container that was asked for
    /// by an address to which the networks lead, and the policy does not refuse.
    fn is_neighbours(&self, k: &mut Fake, sock: &FakeSock, to: SocketAddr) -> bool {
        let Some(asked) = k.strict.read.and_then(|name| name.decode().ok()?.ip()) else {
            return false;
        };
        let asked = Destination::of(asked);
        let device = match k.egress(Destination::of(to).ip, 0) {
            Egress::Device { ifindex } => ifindex,
            Egress::Loopback | Egress::Unroutable(_) => LOOPBACK_DEVICE,
        };
        let verdict = self.verdict(k, sock, &asked);
        let service = k.neighbours.get(&SocketAddr::new(asked.ip, asked.port));
        self.facts.neighbours
            && sock.protocol == TCP
            && !matches!(verdict, Verdict::Deny(_) | Verdict::Leave(Reason::HostLoopback))
            && (!self.facts.pin || sock.pin == Some(device))
            && service.is_some_and(|service| in_family(sock.domain, service.host) == Some(to))
    }

    fn is_published(&self, sock: &FakeSock) -> bool {
        protocol(sock).is_some_and(|of| self.facts.ports.is_published(of, sock.local))
    }

    fn is_covered(&self, sock: &FakeSock) -> bool {
        let both = sock.domain == Domain::Inet6 && !sock.v6_only;
        self.facts.ports.covers(Protocol::Tcp, sock.local, both)
    }
}

/// Where the kernel sends what a socket with this local address sends to `to`.
fn destination(sock: &FakeSock, to: SocketAddr) -> Destination {
    let (ip, local) = (to.ip().to_canonical(), sock.local.ip().to_canonical());
    let ip = match (ip, local) {
        (IpAddr::V4(ip), IpAddr::V4(local)) if ip.is_unspecified() => local.into(),
        (IpAddr::V6(ip), IpAddr::V4(_)) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        _ => to.ip(),
    };
    let mut to = to;
    to.set_ip(ip);
    Destination::of(to)
}

/// Whether the kernel takes an address of this family on this socket.
fn takes(sock: &FakeSock, to: SocketAddr) -> bool {
    match sock.domain {
        Domain::Inet => to.is_ipv4(),
        _ => to.is_ipv6() || sock.protocol != TCP,
    }
}

fn protocol(sock: &FakeSock) -> Option<Protocol> {
    match sock.protocol {
        TCP => Some(Protocol::Tcp),
        UDP => Some(Protocol::Udp),
        _ => None,
    }
}
