//! What must hold whatever a container does: the engine against the [fake](super::fake) world, driven
//! by bytes.
//!
//! Any bytes are a run: first how the container is configured, then what happens, one thing after
//! the other. A property test makes them up, a fuzzer searches for them. A rule that is broken is a
//! panic. The rules:
//!
//! - Every notification is answered once, or waits, or is let go since nobody waits any more; no more
//!   wait than may, and each wait has its watch ([`ledger`]).
//! - `connect`, `bind` and `listen` on an IP socket are never answered with "continue", and a send
//!   from a UDP socket of the host is not either.
//! - What is done to a socket of the host, the policy and the published ports allow, and no socket
//!   without its pin gets into the container ([`judge`]).
//! - A socket that the container has at several numbers stays one, and is left where it is if another
//!   process has it too.
//! - Nothing is done on the word of a thread that may be gone, and nothing is bound or connected
//!   that the container may have a duplicate of ([`strict`](super::fake::Strict)).

mod bytes;
mod judge;
mod ledger;
mod places;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netns_socket::{Domain, TcpState};
use seccomp_notify::Errno;
use sockaddr_inspect::ForeignAddr;
use sockaddr_inspect::msghdr::WordSize;

use self::bytes::Bytes;
use self::judge::Judge;
use self::ledger::Ledger;
use self::places::{Choices, ENTRIES};
use super::fake::{CONTAINER, Fail, Fake, Fault, HOST, NESTED, Peer, Race};
use super::{Answer, Engine, Facts, Token, Udp};
use crate::audit::{AuditLimits, AuditRecord, AuditSink, Auditor};
use crate::call::{Call, Message, Multiplexed, NameOf};
use crate::neighbours::Service;
use crate::ports::{Families, Table};
use crate::share::Pool;
use crate::stats::Stats;

/// How often what happened, for a test that runs get everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Sockets of the host that were given out: for connections, for published ports, and to reach
    /// these from inside.
    pub(crate) clients: usize,
    pub(crate) servers: usize,
    pub(crate) own_services: usize,
    /// Of these, to published ports of other containers.
    pub(crate) neighbours: usize,
    /// Sent by us.
    pub(crate) datagrams: usize,
    pub(crate) listens: usize,
    pub(crate) dissolved: usize,
    pub(crate) waits: usize,
    pub(crate) continued: usize,
    /// Duplicates that were replaced, and sockets that were left since others have them.
    pub(crate) duplicates: usize,
    pub(crate) shared: usize,
    /// Calls whose caller was found to be gone.
    pub(crate) gone: usize,
}

/// Runs what these bytes say.
///
/// # Panics
/// If a rule is broken.
pub(crate) fn run(bytes: &[u8]) -> Seen {
    let mut bytes = Bytes::new(bytes);
    let mut model = Model::new(&mut bytes);
    while !bytes.is_empty() {
        model.step(&mut bytes);
    }
    model.judge.seen
}

struct Model {
    engine: Engine<Fake>,
    k: Fake,
    ledger: Ledger,
    judge: Judge,
    now: Instant,
}

impl Model {
    fn new(bytes: &mut Bytes<'_>) -> Self {
        let (facts, choices) = (facts(bytes), Choices::new());
        let ids = bytes.byte();
        let (privileged, other_ids) = (ids % 8 != 7, ids & 8 != 0);
        let knows_container = ids & 32 == 0;
        let mut k = Fake { privileged, other_ids, knows_container, ..Fake::default() };
        k.strict.on = true;
        places::furnish(&mut k);
        for fd in 0..FDS {
            open(&mut k, fd, bytes.byte());
        }
        let mut engine = Engine::new(facts.clone(), Arc::new(Stats::default()));
        if ids & 16 != 0 {
            let limits = AuditLimits { per_second: 2 };
            engine.set_auditor(Auditor::new("model".into(), Arc::new(Nobody), limits));
        }
        Self {
            engine,
            k,
            ledger: Ledger::new(facts.max_waiting),
            judge: Judge::new(facts, choices),
            now: Instant::now(),
        }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) {
        let (what, fd) = (bytes.byte(), i32::from(bytes.byte() % 8) % FDS);
        match what % 32 {
            0..8 => {
                let len = self.write(NAME, bytes);
                let call = Call::Connect { fd, at: ForeignAddr::new(NAME), len };
                self.call(call, bytes);
            }
            8..11 => {
                let len = self.write(NAME, bytes);
                self.call(Call::Bind { fd, at: ForeignAddr::new(NAME), len }, bytes);
            }
            11 | 12 => self.call(Call::Listen { fd, backlog: 1 }, bytes),
            13..15 => {
                let message = self.message(bytes);
                self.call(Call::Send { fd, message }, bytes);
            }
            15 => {
                let end = if bytes.flag() { NameOf::Local } else { NameOf::Peer };
                let at = ForeignAddr::new(if bytes.flag() { 0 } else { NAME });
                let len_at = ForeignAddr::new(NAME);
                self.call(Call::Name { end, fd, at, len_at }, bytes);
            }
            16 => {
                let len = self.write(NAME, bytes);
                let args = [fd.cast_unsigned(), low(NAME), u32::try_from(len).unwrap_or(0)];
                self.k.args.insert(ARGS, args);
                let operation = bytes.pick(&MULTIPLEXED);
                self.call(Call::Multiplexed { operation, at: ForeignAddr::new(ARGS) }, bytes);
            }
            17 => self.call(if bytes.flag() { Call::Other } else { Call::EpollCreate }, bytes),
            18..20 => {
                let mut tokens: Vec<Token> = self.k.watched.keys().copied().collect();
                tokens.sort_unstable();
                let token = match bytes.pick_of(&tokens) {
                    Some(token) => token,
                    None => Token(u32::from(bytes.byte())),
                };
                self.k.strict.begin();
                let exit = what % 32 == 19;
                if exit {
                    self.engine.handle_exit(&mut self.k, token);
                } else {
                    self.engine.handle_ready(&mut self.k, token);
                }
                self.settle(exit);
            }
            20 => {
                self.now += Duration::from_millis(u64::from(bytes.byte()) * 4);
                self.k.strict.begin();
                self.engine.handle_timeout(&mut self.k, self.now);
                let next = self.engine.poll_timeout();
                assert!(next.is_none_or(|at| at > self.now), "the loop would not sleep");
                self.settle(false);
            }
            22 if bytes.flag() => self.neighbour(bytes),
            21 | 22 => {
                let (addr, peer) = (self.judge.choices.addr(bytes), bytes.pick(&PEERS));
                for netns in [HOST, CONTAINER, NESTED] {
                    self.k.peers.insert((netns, addr), peer);
                }
            }
            23 => open(&mut self.k, fd, bytes.byte()),
            24 => {
                let from = i32::from(bytes.byte() % 8) % FDS;
                if let Some(sock) = self.k.table.get(&from).copied() {
                    self.k.table.insert(fd, sock);
                }
            }
            25 => self.accept(fd, bytes),
            26 | 27 => self.turn(fd, bytes),
            28 => {
                self.k.faults.insert(bytes.pick(&FAULTS));
            }
            29 => {
                let step = bytes.byte() % 8;
                let race = self.race(fd, bytes);
                self.k.strict.races.push((step, race));
            }
            30 if bytes.flag() => self.networks(bytes),
            30 => self.publishing(bytes),
            _ => {
                let Some(sock) = self.k.table.get(&fd).copied() else { return };
                let set = match bytes.byte() % 4 {
                    // A child is forked, or it ends.
                    0 => &mut self.k.beside,
                    1 => &mut self.k.in_flight,
                    _ => &mut self.k.waiting,
                };
                if !set.remove(&sock) {
                    set.insert(sock);
                }
            }
        }
    }

    /// Has the engine handle a call.
    fn call(&mut self, call: Call, bytes: &mut Bytes<'_>) {
        let tid = i32::from(bytes.byte() % 4) + 1;
        let note = self.ledger.note(tid);
        let id = note.id;
        self.k.strict.begin();
        // What goes wrong or changes meanwhile may part a socket, and is counted.
        let calm = self.k.faults.is_empty() && self.k.strict.races.is_empty();
        let before = self.k.table.clone();
        self.engine.handle(&mut self.k, note, tid, call, self.now);
        if calm && self.k.strict.gone == 0 {
            self.judge.unity(&self.k, &before);
        }
        self.k.strict.races.clear();
        self.ledger.handled(id, tid, &mut self.k);
        if let Some(Answer::Continue) = self.ledger.answer_of(id) {
            self.judge.continued(&self.k, &call);
        }
        self.settle(false);
    }

    /// After everything that the engine was told.
    fn settle(&mut self, exited: bool) {
        for deed in std::mem::take(&mut self.k.strict.deeds) {
            self.judge.deed(&mut self.k, &deed);
        }
        let waiting = self.engine.waiting();
        self.judge.seen.waits += waiting;
        self.judge.seen.gone += self.k.strict.gone;
        self.ledger.settle(&mut self.k, waiting, exited);
        assert_eq!(self.engine.poll_timeout().is_some(), waiting > 0);
    }

    /// Puts an address into the container's memory; its length.
    fn write(&mut self, at: u64, bytes: &mut Bytes<'_>) -> u64 {
        let name = self.judge.choices.name(bytes);
        self.k.memory.insert(at, name);
        name.len() as u64
    }

    fn message(&mut self, bytes: &mut Bytes<'_>) -> Message {
        let flags = 0;
        let word_size = if bytes.flag() { WordSize::Bits32 } else { WordSize::Bits64 };
        match bytes.byte() % 3 {
            0 => {
                let name_len = self.write(NAME, bytes);
                let (name, data) = (ForeignAddr::new(NAME), ForeignAddr::new(0));
                Message::To { name, name_len, data, len: 3, flags }
            }
            1 => {
                self.write(NAME, bytes);
                Message::Header { at: ForeignAddr::new(NAME), word_size, flags }
            }
            _ => {
                let count = u32::from(bytes.byte() % 4);
                for index in 0..u64::from(count) {
                    self.write(NAME + index * word_size.mmsghdr_size(), bytes);
                }
                // Sometimes more than there are, and more than are sent at once.
                let count = if bytes.flag() { u32::MAX } else { count };
                Message::Headers { at: ForeignAddr::new(NAME), count, word_size, flags }
            }
        }
    }

    /// A published server has a client.
    fn accept(&mut self, fd: i32, bytes: &mut Bytes<'_>) {
        let listener = self.k.table.values().copied().find(|sock| {
            let fake = &self.k.socks[*sock];
            fake.netns == HOST && fake.state == TcpState::Listen
        });
        let Some(listener) = listener else { return };
        let model = self.k.socks[listener].clone();
        let sock = self.k.open(fd, HOST, model.domain, model.protocol);
        let accepted = &mut self.k.socks[sock];
        accepted.state = TcpState::Established;
        accepted.peer = Some(self.judge.choices.addr(bytes));
        accepted.local = model.local;
    }

    /// What becomes of a socket by itself, by the network, and by setsockopt(2) and fcntl(2).
    fn turn(&mut self, fd: i32, bytes: &mut Bytes<'_>) {
        let Some(sock) = self.k.table.get(&fd).copied() else { return };
        let local = self.judge.choices.addr(bytes);
        let fake = &mut self.k.socks[sock];
        match bytes.byte() % 8 {
            0 | 1 => fake.blocking = !fake.blocking,
            2 => fake.timeout = Some(Duration::from_millis(u64::from(bytes.byte()) * 8)),
            3 => fake.v6_only = !fake.v6_only,
            4 if fake.state == TcpState::Established => fake.state = TcpState::CloseWait,
            4 | 5 if fake.protocol == TCP => {
                // The connection is over, and somebody was told.
                (fake.state, fake.peer) = (TcpState::Close, None);
                if bytes.flag() {
                    self.k.unbind_with_connection(sock);
                }
            }
            6 if fake.netns != HOST && local.is_ipv4() == fake.local.is_ipv4() => {
                fake.local = local;
            }
            _ if fake.netns != HOST => {
                fake.state = bytes.pick(&[TcpState::SynSent, TcpState::Listen, TcpState::Close]);
            }
            _ => {}
        }
    }

    fn race(&mut self, fd: i32, bytes: &mut Bytes<'_>) -> Race {
        match bytes.byte() % 4 {
            0 => Race::Close { fd },
            1 => Race::Write { at: NAME, name: self.judge.choices.name(bytes) },
            _ => {
                let sock = usize::from(bytes.byte()) % self.k.socks.len();
                // Of those that it has, or had.
                if self.k.strict.held.contains(&sock) {
                    Race::Replace { fd, sock }
                } else {
                    Race::Close { fd }
                }
            }
        }
    }

    /// The container's interfaces are given addresses, or lose them.
    fn networks(&mut self, bytes: &mut Bytes<'_>) {
        let ip = self.judge.choices.addr(bytes).ip().to_canonical();
        match &mut self.k.own_networks {
            _ if bytes.byte() % 8 == 7 => self.k.own_networks = None,
            None => self.k.own_networks = Some(HashSet::new()),
            Some(networks) => {
                if !networks.remove(&ip) {
                    networks.insert(ip);
                }
            }
        }
    }

    /// Another container serves ports by some of the addresses, or does no more.
    fn neighbour(&mut self, bytes: &mut Bytes<'_>) {
        let host = bytes.pick(&places::NEIGHBOURS);
        if bytes.byte() % 4 == 3 {
            self.k.neighbours.clear();
        }
        let (first, step) = (bytes.byte(), bytes.byte() % 4 + 1);
        for to in self.judge.choices.every(usize::from(first), usize::from(step)) {
            let to = SocketAddr::new(to.ip().to_canonical(), to.port());
            self.k.neighbours.insert(to, Service { netns: 9, index: 0, host });
        }
    }

    fn publishing(&mut self, bytes: &mut Bytes<'_>) {
        let index = usize::from(bytes.byte()) % ENTRIES;
        match bytes.byte() % 8 {
            0 => self.k.host_bind = Err(Errno::ADDRINUSE),
            1 => self.k.host_bind = Ok(()),
            2 => self.k.others_listen = !self.k.others_listen,
            3 => {
                self.k.served.remove(&index);
            }
            4 => {
                self.k.names_inside.insert(index, self.judge.choices.addr(bytes));
            }
            which => {
                let families = Families { v4: which != 5, v6: which != 6 };
                self.k.served.insert(index, families);
            }
        }
    }
}

/// Whom no record interests.
#[derive(Debug)]
struct Nobody;

impl AuditSink for Nobody {
    fn record(&self, record: &AuditRecord<'_>) {
        assert!(record.outcome.is_none() || !record.reason.name().is_empty());
    }
}

fn facts(bytes: &mut Bytes<'_>) -> Facts {
    let (first, rare) = (bytes.byte(), bytes.byte());
    let (published, policy) = (bytes.byte(), bytes.byte());
    let udp = [Udp::All, Udp::Connected, Udp::Off, Udp::All][usize::from(first % 4)];
    let host_datagrams = rare % 4 != 3;
    let open = rare >> 6 == 3;
    // As `run` has it, which takes no ports then.
    let host_binds = open && rare >> 4 & 1 != 0;
    let published = if host_binds { 0 } else { published };
    let entries = places::entries().into_iter().enumerate();
    let entries = entries.filter(|(at, _)| published & (1 << at) != 0).map(|(_, entry)| entry);
    Facts {
        policy: Arc::new(places::policy(policy, open)),
        ports: Arc::new(Table::new(entries.collect())),
        // As `Supervisor::attach` has it.
        udp: if host_datagrams { udp } else { Udp::Off },
        host_datagrams,
        host_binds,
        pin: first >> 2 & 3 != 3,
        neighbours: rare >> 4 & 1 == 0,
        host_netns: HOST,
        container_netns: (rare >> 2 & 3 != 3).then_some(CONTAINER),
        min_waiting: 0,
        max_waiting: usize::from(first >> 6) + 1,
        waiting: Pool::new(16),
    }
}

fn open(k: &mut Fake, fd: i32, what: u8) {
    let ip = if what & 1 == 0 { Domain::Inet } else { Domain::Inet6 };
    let transport = if what & 4 == 0 { TCP } else { UDP };
    let (netns, domain, protocol) = match what >> 4 {
        // A gift of the user.
        12 => (HOST, ip, transport),
        13 => (NESTED, ip, transport),
        14 => (CONTAINER, Domain::Other(AF_UNIX), 0),
        15 => (CONTAINER, ip, ICMP),
        _ => (CONTAINER, ip, transport),
    };
    let sock = k.open(fd, netns, domain, protocol);
    k.socks[sock].blocking = what & 2 == 0;
}

fn low(address: u64) -> u32 {
    u32::try_from(address).unwrap_or(0)
}

const FDS: i32 = 5;
const NAME: u64 = 0x1000;
const ARGS: u64 = 0x800;
const TCP: i32 = 6;
const UDP: i32 = 17;
const ICMP: i32 = 1;
const AF_UNIX: i32 = 1;
const PEERS: [Peer; 4] = [Peer::Accepts, Peer::Silent, Peer::Refuses, Peer::Accepts];
const MULTIPLEXED: [Multiplexed; 5] = [
    Multiplexed::Connect,
    Multiplexed::Bind,
    Multiplexed::Listen,
    Multiplexed::GetSockName,
    Multiplexed::GetPeerName,
];
const FAULTS: [Fault; 17] = [
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
    Fault::InstallGone,
    Fault::InstallRefused,
    Fault::AnswerGone,
    Fault::Watch,
    Fault::Sight,
];
