//! The engine against the fake world: what must hold whatever happens.

mod audit;
mod calls;
mod datagrams;
mod holders;
mod publishing;
mod restarts;
mod sequences;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netns_socket::{Domain, TcpState};
use proptest::prelude::*;
use seccomp_notify::Errno;
use sockaddr_inspect::{ForeignAddr, RawSockAddr, SockAddr};

use super::fake::{CONTAINER, ETH, Fail, Fake, FakeNote, Fault, HOST, NESTED, Peer};
use super::{Answer, Engine, Facts, Rules, Token, Udp};
use crate::call::Call;
use crate::policy::{Flow, Policy, Verdict};
use crate::publish::Protocol;
use crate::share::Pool;
use crate::stats::Stats;

const TCP: i32 = libc::IPPROTO_TCP;
const FD: i32 = 5;
const REMOTE: &str = "192.0.2.1:80";
const OTHER: &str = "192.0.2.2:80";
const DENIED: &str = "192.0.2.66:80";
const IGNORED: &str = "10.1.2.3:80";
const LOOPBACK: &str = "127.0.0.1:80";

struct Scene {
    engine: Engine<Fake>,
    k: Fake,
    stats: Arc<Stats>,
    policy: Arc<Policy>,
    dropped: Rc<RefCell<Vec<u32>>>,
    next: u32,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        Self::sharing(Pool::new(16))
    }

    /// With others that let calls wait.
    fn sharing(waiting: Arc<Pool>) -> Self {
        let policy = Arc::new(
            Policy::builder()
                .ignore(["10.0.0.0/8".parse().unwrap()])
                .deny(["192.0.2.66/32".parse().unwrap()])
                .build(),
        );
        let stats = Arc::new(Stats::default());
        let facts = Facts {
            policy: Arc::clone(&policy),
            ports: Arc::default(),
            udp: Udp::Connected,
            host_datagrams: true,
            host_binds: false,
            pin: true,
            neighbours: false,
            host_netns: HOST,
            container_netns: Some(CONTAINER),
            min_waiting: 0,
            max_waiting: 2,
            waiting,
        };
        let mut k = Fake::default();
        for addr in [REMOTE, OTHER, IGNORED, LOOPBACK, DENIED] {
            for netns in [HOST, CONTAINER, NESTED] {
                k.peers.insert((netns, addr.parse().unwrap()), Peer::Accepts);
            }
        }
        k.open(FD, CONTAINER, Domain::Inet, TCP);
        Self {
            engine: Engine::new(facts, Arc::clone(&stats)),
            k,
            stats,
            policy,
            dropped: Rc::default(),
            next: 0,
            now: Instant::now(),
        }
    }

    fn peer(&mut self, addr: &str, peer: Peer) {
        for netns in [HOST, CONTAINER] {
            self.k.peers.insert((netns, addr.parse().unwrap()), peer);
        }
    }

    fn call(&mut self, tid: i32, call: Call) -> Option<Answer> {
        let id = self.next;
        self.next += 1;
        let note = FakeNote { id, dropped: Rc::clone(&self.dropped) };
        self.engine.handle(&mut self.k, note, tid, call, self.now);
        self.answer(id)
    }

    fn answer(&self, id: u32) -> Option<Answer> {
        let mut answers = self.k.answers.iter().filter(|(of, _)| *of == id);
        let answer = answers.next().map(|(_, answer)| *answer);
        assert!(answers.next().is_none(), "answered twice");
        answer
    }

    fn connect(&mut self, addr: &str) -> Option<Answer> {
        let addr = SockAddr::from(addr.parse::<SocketAddr>().unwrap()).encode();
        self.connect_raw(7, addr)
    }

    fn connect_raw(&mut self, tid: i32, addr: RawSockAddr) -> Option<Answer> {
        self.k.memory.insert(64, addr);
        let len = addr.as_bytes().len() as u64;
        self.call(tid, Call::Connect { fd: FD, at: ForeignAddr::new(64), len })
    }

    fn counted(&self, outcome: &str, reason: &str) -> u64 {
        let snapshot = self.stats.snapshot();
        snapshot.reasons.get(outcome).and_then(|row| row.get(reason)).copied().unwrap_or(0)
    }
}

fn unspec() -> RawSockAddr {
    SockAddr::Unspec.encode()
}

#[test]
fn the_container_is_not_who_comes_first_where_that_is_known() {
    for (knows, nested, own) in [(true, NESTED, HOST), (false, HOST, CONTAINER)] {
        let mut scene = Scene::new();
        scene.engine.facts.container_netns = None;
        scene.k.knows_container = knows;
        scene.k.open(FD, NESTED, Domain::Inet, TCP);
        assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
        assert_eq!(scene.k.at(FD).netns, nested, "{knows}");
        scene.k.open(FD, CONTAINER, Domain::Inet, TCP);
        assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
        assert_eq!(scene.k.at(FD).netns, own, "{knows}");
    }
}

#[test]
fn what_the_containers_interfaces_are_connected_to_is_left() {
    let mut scene = Scene::new();
    let policy = Policy::builder().ignore_own_networks(true).build();
    scene.engine.facts.policy = Arc::new(policy);
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, HOST);
    scene.k.open(FD, CONTAINER, Domain::Inet, TCP);
    // Attached meanwhile.
    let attached = REMOTE.parse::<SocketAddr>().unwrap().ip();
    scene.k.own_networks = Some([attached].into());
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
    scene.k.open(FD, CONTAINER, Domain::Inet, TCP);
    assert_eq!(scene.connect(OTHER), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, HOST);
    scene.k.open(FD, CONTAINER, Domain::Inet, TCP);
    scene.k.own_networks = None;
    assert_eq!(scene.connect(OTHER), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
    assert_eq!(scene.counted("left", "own_network"), 1);
    assert_eq!(scene.counted("left", "networks_unknown"), 1);
    assert_eq!(scene.counted("switched", "allowed"), 2);
}

#[test]
fn an_allowed_connect_is_switched_and_pinned() {
    let mut scene = Scene::new();
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, HOST);
    assert_eq!(scene.k.at(FD).state, TcpState::Established);
    assert_eq!(scene.k.host_connects, [(REMOTE.parse().unwrap(), Some(ETH))]);
    assert_eq!(scene.counted("switched", "allowed"), 1);
}

#[test]
fn a_refused_connect_leaves_the_container_socket() {
    let mut scene = Scene::new();
    scene.peer(REMOTE, Peer::Refuses);
    assert_eq!(scene.connect(REMOTE), Some(Answer::Fail(Errno::CONNREFUSED)));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
    assert_eq!(scene.connect(LOOPBACK), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
}

#[test]
fn ignored_and_loopback_destinations_stay_in_the_container() {
    for (addr, reason) in [(IGNORED, "ignored"), (LOOPBACK, "host_loopback")] {
        let mut scene = Scene::new();
        assert_eq!(scene.connect(addr), Some(Answer::Success));
        assert_eq!(scene.k.at(FD).netns, CONTAINER);
        assert_eq!(scene.k.host_connects, []);
        assert_eq!(scene.counted("left", reason), 1);
    }
}

#[test]
fn an_address_that_lives_on_lo_is_host_loopback() {
    let mut scene = Scene::new();
    scene.k.on_lo.insert("192.0.2.1".parse().unwrap());
    scene.connect(REMOTE);
    assert_eq!(scene.k.host_connects, []);
    assert_eq!(scene.counted("left", "host_loopback"), 1);
}

#[test]
fn a_denied_destination_fails_and_opens_nothing() {
    let mut scene = Scene::new();
    assert_eq!(scene.connect(DENIED), Some(Answer::Fail(Errno::NETUNREACH)));
    assert_eq!(scene.k.socks.len(), 1);
    assert_eq!(scene.counted("denied", "deny_rule"), 1);
}

#[test]
fn a_non_blocking_connect_is_installed_at_once() {
    let mut scene = Scene::new();
    let sock = scene.k.table[&FD];
    scene.k.socks[sock].blocking = false;
    scene.peer(REMOTE, Peer::Silent);
    assert_eq!(scene.connect(REMOTE), Some(Answer::Fail(Errno::INPROGRESS)));
    assert_eq!(scene.k.at(FD).netns, HOST);
    assert_eq!(scene.engine.waiting(), 0);
}

#[test]
fn a_slow_blocking_connect_waits_and_ends_with_its_connection() {
    let mut scene = Scene::new();
    scene.peer(REMOTE, Peer::Silent);
    assert_eq!(scene.connect(REMOTE), None);
    assert_eq!(scene.k.at(FD).netns, HOST, "installed before the wait");
    assert_eq!(scene.engine.waiting(), 1);
    // Others go on meanwhile.
    scene.k.open(6, CONTAINER, Domain::Inet, TCP);
    scene.k.memory.insert(96, SockAddr::from(OTHER.parse::<SocketAddr>().unwrap()).encode());
    let other = Call::Connect { fd: 6, at: ForeignAddr::new(96), len: 16 };
    assert_eq!(scene.call(8, other), Some(Answer::Success));

    scene.peer(REMOTE, Peer::Accepts);
    scene.engine.handle_ready(&mut scene.k, Token(0));
    assert_eq!(scene.answer(0), Some(Answer::Success));
    assert_eq!(scene.engine.waiting(), 0);
    assert!(scene.k.watched.is_empty());
}

#[test]
fn a_stale_event_does_nothing() {
    let mut scene = Scene::new();
    scene.peer(REMOTE, Peer::Silent);
    scene.connect(REMOTE);
    scene.engine.handle_exit(&mut scene.k, Token(0));
    scene.engine.handle_ready(&mut scene.k, Token(0));
    scene.engine.handle_exit(&mut scene.k, Token(77));
    assert_eq!(scene.answer(0), None);
    assert_eq!(*scene.dropped.borrow(), [0]);
}

#[test]
fn the_send_timeout_ends_a_wait() {
    let mut scene = Scene::new();
    let sock = scene.k.table[&FD];
    scene.k.socks[sock].timeout = Some(Duration::from_millis(30));
    scene.peer(REMOTE, Peer::Silent);
    assert_eq!(scene.connect(REMOTE), None);
    let at = scene.engine.poll_timeout().unwrap();
    assert_eq!(at, scene.now + Duration::from_millis(30));
    scene.engine.handle_timeout(&mut scene.k, at - Duration::from_millis(1));
    assert_eq!(scene.answer(0), None);
    scene.engine.handle_timeout(&mut scene.k, at);
    assert_eq!(scene.answer(0), Some(Answer::Fail(Errno::INPROGRESS)));
    assert_eq!(scene.engine.poll_timeout(), None);
}

#[test]
fn an_interrupted_wait_is_noticed() {
    let mut scene = Scene::new();
    scene.peer(REMOTE, Peer::Silent);
    scene.connect(REMOTE);
    let check = scene.engine.poll_timeout().unwrap();
    scene.k.faults.insert(Fault::Dead);
    scene.engine.handle_timeout(&mut scene.k, check);
    assert_eq!(scene.engine.waiting(), 0);
}

#[test]
fn a_restarted_call_waits_for_the_same_connection() {
    let mut scene = Scene::new();
    scene.peer(REMOTE, Peer::Silent);
    assert_eq!(scene.connect(REMOTE), None);
    let sockets = scene.k.socks.len();
    assert_eq!(scene.connect(REMOTE), None);
    assert_eq!(scene.engine.waiting(), 1, "the first wait is over");
    assert_eq!(scene.k.socks.len(), sockets, "no second connection");
    scene.peer(REMOTE, Peer::Accepts);
    scene.engine.handle_ready(&mut scene.k, Token(1));
    assert_eq!(scene.answer(1), Some(Answer::Success));
}

/// As often as it takes: a timer may ring all the time.
#[test]
fn a_call_that_is_interrupted_before_its_answer_again_and_again_is_answered() {
    let mut scene = Scene::new();
    for _ in 0..5 {
        scene.k.faults.insert(Fault::AnswerGone);
        scene.connect(REMOTE);
    }
    scene.k.faults.clear();
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    assert_eq!(scene.connect(REMOTE), Some(Answer::Fail(Errno::ISCONN)));
    assert_eq!(scene.k.host_connects.len(), 1);
}

#[test]
fn a_connected_host_socket_says_so_whatever_the_address() {
    for addr in [REMOTE, OTHER, LOOPBACK, IGNORED] {
        let mut scene = Scene::new();
        scene.connect(REMOTE);
        assert_eq!(scene.connect(addr), Some(Answer::Fail(Errno::ISCONN)), "{addr}");
    }
}

#[test]
fn dissolving_puts_a_container_socket_back() {
    let mut scene = Scene::new();
    scene.connect(REMOTE);
    assert_eq!(scene.connect_raw(7, unspec()), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
    assert_eq!(scene.connect(LOOPBACK), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
    assert_eq!(scene.k.host_connects.len(), 1);
}

#[test]
fn a_host_socket_that_failed_does_not_reach_what_is_left() {
    let mut scene = Scene::new();
    let sock = scene.k.table[&FD];
    scene.k.socks[sock].blocking = false;
    scene.peer(REMOTE, Peer::Silent);
    scene.connect(REMOTE);
    let sock = scene.k.table[&FD];
    scene.k.socks[sock].state = TcpState::Close;
    scene.k.socks[sock].peer = None;
    scene.k.socks[sock].blocking = true;
    assert_eq!(scene.connect(LOOPBACK), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
}

#[test]
fn listening_on_a_host_socket_opens_no_port_of_the_host() {
    let mut scene = Scene::new();
    scene.k.open(FD, HOST, Domain::Inet, TCP);
    assert_eq!(scene.call(7, Call::Listen { fd: FD, backlog: 1 }), Some(Answer::Success));
    assert_eq!(scene.k.host_listens, 0);
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
    // A connected one takes no listen at all.
    scene.k.open(FD, CONTAINER, Domain::Inet, TCP);
    scene.connect(REMOTE);
    assert_eq!(
        scene.call(7, Call::Listen { fd: FD, backlog: 1 }),
        Some(Answer::Fail(Errno::INVAL))
    );
}

#[test]
fn binding_a_privileged_port_needs_the_targets_own_capability() {
    let mut scene = Scene::new();
    scene.k.privileged = false;
    let bind = |scene: &mut Scene, addr: &str| {
        let addr = SockAddr::from(addr.parse::<SocketAddr>().unwrap()).encode();
        scene.k.memory.insert(64, addr);
        scene.call(7, Call::Bind { fd: FD, at: ForeignAddr::new(64), len: 16 })
    };
    assert_eq!(bind(&mut scene, "0.0.0.0:80"), Some(Answer::Fail(Errno::ACCESS)));
    assert_eq!(bind(&mut scene, "0.0.0.0:8080"), Some(Answer::Success));
    scene.k.privileged = true;
    assert_eq!(bind(&mut scene, "0.0.0.0:80"), Some(Answer::Success));
}

#[test]
fn other_families_continue_and_ip_never_does() {
    let mut scene = Scene::new();
    scene.k.open(FD, CONTAINER, Domain::Other(libc::AF_UNIX), 0);
    assert_eq!(scene.connect(REMOTE), Some(Answer::Continue));
    assert_eq!(scene.call(7, Call::Other), Some(Answer::Continue));
    scene.k.open(FD, CONTAINER, Domain::Inet, libc::IPPROTO_UDP);
    assert_eq!(scene.connect(LOOPBACK), Some(Answer::Success));
}

#[test]
fn other_families_listen_by_us_where_nobody_can_tell() {
    let mut scene = Scene::new();
    scene.k.open(FD, CONTAINER, Domain::Other(libc::AF_UNIX), 0);
    assert_eq!(scene.call(7, Call::Listen { fd: FD, backlog: 5 }), Some(Answer::Success));
    scene.k.other_ids = true;
    assert_eq!(scene.call(7, Call::Listen { fd: FD, backlog: 5 }), Some(Answer::Continue));
}

#[test]
fn a_host_socket_that_became_one_of_another_family_does_nothing() {
    const AF_SMC: i32 = 43;

    let mut scene = Scene::new();
    let bind = || Call::Bind { fd: FD, at: ForeignAddr::new(64), len: 16 };
    let listen = || Call::Listen { fd: FD, backlog: 5 };
    let refused = Some(Answer::Fail(Errno::ACCESS));
    let (goes_on, listens) = (Some(Answer::Continue), Some(Answer::Success));
    for (family, netns, carried_on, listened) in [
        (AF_SMC, HOST, refused, refused),
        (AF_SMC, CONTAINER, goes_on, listens),
        (libc::AF_UNIX, HOST, goes_on, listens),
    ] {
        scene.k.open(FD, netns, Domain::Other(family), 0);
        assert_eq!(scene.connect(REMOTE), carried_on, "{family} {netns}");
        assert_eq!(scene.call(7, bind()), carried_on, "{family} {netns}");
        assert_eq!(scene.call(7, listen()), listened, "{family} {netns}");
        scene.k.other_ids = true;
        assert_eq!(scene.call(7, listen()), carried_on, "{family} {netns}");
        scene.k.other_ids = false;
    }
}

#[test]
fn a_socket_of_a_nested_namespace_is_left() {
    let mut scene = Scene::new();
    scene.k.open(FD, NESTED, Domain::Inet, TCP);
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, NESTED);
    assert_eq!(scene.counted("left", "nested_netns"), 1);
}

#[test]
fn a_chosen_source_port_is_kept_and_a_chosen_address_keeps_the_socket() {
    let mut scene = Scene::new();
    let sock = scene.k.table[&FD];
    scene.k.socks[sock].local = "0.0.0.0:4000".parse().unwrap();
    scene.connect(REMOTE);
    assert_eq!(scene.k.at(FD).netns, HOST);
    assert_eq!(scene.k.at(FD).local.port(), 4000);

    let mut scene = Scene::new();
    let sock = scene.k.table[&FD];
    scene.k.socks[sock].local = "10.0.2.100:4000".parse().unwrap();
    scene.connect(REMOTE);
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
    assert_eq!(scene.counted("left", "source_address"), 1);
}

#[test]
fn every_fault_leaves_the_socket_in_the_container_or_ends_the_call() {
    let faults = [
        Fault::Take(Fail::Gone),
        Fault::Take(Fail::Denied),
        Fault::Take(Fail::Bad),
        Fault::Fetch(Fail::Gone),
        Fault::Fetch(Fail::Denied),
        Fault::Fetch(Fail::Bad),
        Fault::Dead,
        Fault::TwinOption,
        Fault::TwinPin,
        Fault::TwinMake,
        Fault::Finish,
        Fault::Transplant,
        Fault::Sight,
        Fault::InstallGone,
        Fault::InstallRefused,
    ];
    for fault in faults {
        let mut scene = Scene::new();
        scene.k.faults.insert(fault);
        let answer = scene.connect(REMOTE);
        assert!(scene.k.faults.is_empty(), "{fault:?} was not met");
        assert_eq!(scene.k.at(FD).netns, CONTAINER, "{fault:?}");
        assert_ne!(answer, Some(Answer::Continue), "{fault:?}");
        // Unanswered only where nobody waits.
        let gone =
            [Fault::Take(Fail::Gone), Fault::Fetch(Fail::Gone), Fault::Dead, Fault::InstallGone];
        assert_eq!(answer.is_none(), gone.contains(&fault), "{fault:?}: {answer:?}");
        assert_eq!(scene.stats.snapshot().verdicts.values().sum::<u64>(), 1, "{fault:?}");
    }
}

#[test]
fn calls_that_wait_leave_some_to_other_containers() {
    let pool = Pool::new(3);
    let remote = SockAddr::from(REMOTE.parse::<SocketAddr>().unwrap()).encode();
    let [mut one, mut other] = [(); 2].map(|()| Scene::sharing(Arc::clone(&pool)));
    let full = Some(Answer::Fail(Errno::AGAIN));
    let connect = |scene: &mut Scene, tid| {
        scene.peer(REMOTE, Peer::Silent);
        scene.k.open(FD, CONTAINER, Domain::Inet, TCP);
        scene.connect_raw(tid, remote)
    };
    assert_eq!([1, 2].map(|tid| connect(&mut one, tid)), [None, None]);
    assert_eq!([1, 2].map(|tid| connect(&mut other, tid)), [None, full]);
    // A container that ends gives back what it has, answered or not.
    drop(one);
    assert_eq!(connect(&mut other, 2), None);
    assert_eq!(other.engine.waiting(), 2);
}

#[test]
fn a_full_lot_fails_the_call_instead_of_growing() {
    let mut scene = Scene::new();
    scene.peer(REMOTE, Peer::Silent);
    scene.k.faults.insert(Fault::Watch);
    assert_eq!(scene.connect(REMOTE), Some(Answer::Fail(Errno::AGAIN)));
    assert_eq!(scene.counted("failed", "limit"), 1);

    let mut scene = Scene::new();
    scene.peer(REMOTE, Peer::Silent);
    let remote = SockAddr::from(REMOTE.parse::<SocketAddr>().unwrap()).encode();
    for (tid, answer) in [(1, None), (2, None), (3, Some(Answer::Fail(Errno::AGAIN)))] {
        scene.k.open(FD, CONTAINER, Domain::Inet, TCP);
        assert_eq!(scene.connect_raw(tid, remote), answer, "thread {tid}");
    }
    // A place becomes free with the end of a wait.
    scene.engine.handle_exit(&mut scene.k, Token(0));
    scene.k.open(FD, CONTAINER, Domain::Inet, TCP);
    assert_eq!(scene.connect_raw(4, remote), None);
}

#[test]
fn low_ports_are_seen_in_every_form_of_address() {
    let mut scene = Scene::new();
    scene.k.privileged = false;
    let mut unspec = [0; 16];
    unspec[2..4].copy_from_slice(&80_u16.to_be_bytes());
    for addr in [
        RawSockAddr::from_bytes(&unspec).unwrap(),
        SockAddr::from("[::]:80".parse::<SocketAddr>().unwrap()).encode(),
    ] {
        scene.k.memory.insert(64, addr);
        let bind = Call::Bind { fd: FD, at: ForeignAddr::new(64), len: 16 };
        assert_eq!(scene.call(7, bind), Some(Answer::Fail(Errno::ACCESS)), "{addr:?}");
    }
}

#[test]
fn other_rules_hold_from_the_next_call_on() {
    let mut scene = Scene::new();
    scene.peer(REMOTE, Peer::Silent);
    assert_eq!(scene.connect(REMOTE), None);
    let policy = Policy::builder().deny(["192.0.2.0/24".parse().unwrap()]).build();
    scene.engine.set_rules(Rules::new(Arc::new(policy), Udp::Off, false, true));

    scene.k.open(6, CONTAINER, Domain::Inet, TCP);
    for (addr, answer) in [(REMOTE, Answer::Fail(Errno::NETUNREACH)), (IGNORED, Answer::Success)] {
        let addr = SockAddr::from(addr.parse::<SocketAddr>().unwrap()).encode();
        scene.k.memory.insert(96, addr);
        let call = Call::Connect { fd: 6, at: ForeignAddr::new(96), len: 16 };
        assert_eq!(scene.call(8, call), Some(answer));
    }
    assert_eq!(scene.k.socks[scene.k.table[&6]].netns, HOST, "ignored no longer");

    scene.peer(REMOTE, Peer::Accepts);
    scene.engine.handle_ready(&mut scene.k, Token(0));
    assert_eq!(scene.answer(0), Some(Answer::Success), "decided before");
}
