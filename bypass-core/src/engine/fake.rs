//! A world without a kernel, in which any step can be made to fail.
//!
//! It has two namespaces, one process with a descriptor table, sockets with as much of
//! TCP's state machine as `connect` shows, and servers that accept, refuse or keep
//! silent. It remembers what was done on the host, which is what confinement is about.

mod strict;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use netns_socket::{Domain, Egress, Identity, Kind, TcpState};
use seccomp_notify::Errno;
use sockaddr_inspect::{ForeignAddr, RawSockAddr, SockAddr};

use crate::audit::AuditedProcess;
use crate::call::Message;
use crate::ports::{Choice, Families, Index};

use super::kernel::{Answer, Installed, Kernel, Lost, Place, Probe, Step, Token, TwinError};
pub(super) use strict::{Deed, Race, Strict};

pub(super) const HOST: u64 = 1;
pub(super) const CONTAINER: u64 = 2;
pub(super) const NESTED: u64 = 3;
/// The device behind every address but those on loopback.
pub(super) const ETH: u32 = 2;
/// `IPPROTO_UDP`
const UDP: i32 = 17;

/// What is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Accepts,
    Refuses,
    Silent,
}

#[derive(Clone, Debug)]
pub(super) struct FakeSock {
    pub(super) netns: u64,
    pub(super) domain: Domain,
    pub(super) protocol: i32,
    pub(super) state: TcpState,
    pub(super) blocking: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) local: SocketAddr,
    pub(super) pin: Option<u32>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) v6_only: bool,
    /// What a twin was made as.
    pub(super) place: Option<Place>,
}

/// The steps that can be made to fail, once each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    Take(Fail),
    Fetch(Fail),
    Dead,
    TwinOption,
    TwinPin,
    TwinMake,
    Finish,
    Transplant,
    InstallGone,
    InstallRefused,
    AnswerGone,
    Watch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fail {
    Gone,
    Denied,
    Bad,
}

#[derive(Debug)]
pub(super) struct Fake {
    pub(super) socks: Vec<FakeSock>,
    pub(super) table: HashMap<i32, usize>,
    pub(super) memory: HashMap<u64, RawSockAddr>,
    pub(super) peers: HashMap<(u64, SocketAddr), Peer>,
    pub(super) on_lo: HashSet<IpAddr>,
    /// Addresses of the host beside loopback.
    pub(super) on_host: HashSet<IpAddr>,
    pub(super) host_lookups: usize,
    pub(super) faults: HashSet<Fault>,
    pub(super) answers: Vec<(u32, Answer)>,
    pub(super) watched: HashMap<Token, usize>,
    pub(super) host_connects: Vec<(SocketAddr, Option<u32>)>,
    pub(super) host_listens: usize,
    pub(super) privileged: bool,
    /// Whether threads of the container have ids of their own.
    pub(super) other_ids: bool,
    /// Addresses of the container beside loopback.
    pub(super) own_addresses: HashSet<IpAddr>,
    /// Published addresses that are served, and for what.
    pub(super) served: HashMap<Index, Families>,
    /// What the next bind at a published host address says.
    pub(super) host_bind: Result<(), Errno>,
    /// Host sockets that were bound at a published address, with their pin.
    pub(super) host_binds: Vec<(SocketAddr, Option<u32>)>,
    /// Another program of the host listens at the published addresses.
    pub(super) others_listen: bool,
    pub(super) names_inside: HashMap<Index, SocketAddr>,
    /// Published addresses that a container socket serves, and its own.
    pub(super) from_inside: Vec<(Index, SocketAddr)>,
    pub(super) shut: Vec<usize>,
    /// Devices of destinations that are not behind [`ETH`].
    pub(super) devices: HashMap<IpAddr, u32>,
    /// Sockets whose local address was chosen by their connection, and goes with it.
    pub(super) unbinds_with_connection: HashSet<usize>,
    /// Sockets on which datagrams wait.
    pub(super) waiting: HashSet<usize>,
    /// The destination of the message that was copied last.
    pub(super) gathered: Option<RawSockAddr>,
    /// What was sent by us, from which namespace.
    pub(super) sent: Vec<(u64, SocketAddr)>,
    pub(super) lengths: Vec<(u64, u32)>,
    /// Names that were written to the target.
    pub(super) stored: Vec<RawSockAddr>,
    /// Arguments of socketcall(2), by where they lie.
    pub(super) args: HashMap<u64, [u32; 3]>,
    pub(super) unroutable: HashSet<IpAddr>,
    pub(super) strict: Strict,
}

/// An unanswered notification; tells the world if it is lost.
#[derive(Debug)]
pub(super) struct FakeNote {
    pub(super) id: u32,
    pub(super) dropped: std::rc::Rc<std::cell::RefCell<Vec<u32>>>,
}

impl Drop for FakeNote {
    fn drop(&mut self) {
        self.dropped.borrow_mut().push(self.id);
    }
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            socks: Vec::new(),
            table: HashMap::new(),
            memory: HashMap::new(),
            peers: HashMap::new(),
            on_lo: HashSet::new(),
            on_host: HashSet::new(),
            host_lookups: 0,
            faults: HashSet::new(),
            answers: Vec::new(),
            watched: HashMap::new(),
            host_connects: Vec::new(),
            host_listens: 0,
            privileged: true,
            other_ids: false,
            own_addresses: HashSet::new(),
            served: HashMap::new(),
            host_bind: Ok(()),
            host_binds: Vec::new(),
            others_listen: false,
            names_inside: HashMap::new(),
            from_inside: Vec::new(),
            shut: Vec::new(),
            devices: HashMap::new(),
            unbinds_with_connection: HashSet::new(),
            waiting: HashSet::new(),
            gathered: None,
            sent: Vec::new(),
            lengths: Vec::new(),
            stored: Vec::new(),
            args: HashMap::new(),
            unroutable: HashSet::new(),
            strict: Strict::default(),
        }
    }
}

impl Fake {
    /// A fresh socket at a number of the process; its index.
    pub(super) fn open(&mut self, fd: i32, netns: u64, domain: Domain, protocol: i32) -> usize {
        self.socks.push(FakeSock {
            netns,
            domain,
            protocol,
            state: TcpState::Close,
            blocking: true,
            timeout: None,
            local: any(domain),
            pin: None,
            peer: None,
            v6_only: false,
            place: None,
        });
        let sock = self.socks.len() - 1;
        self.table.insert(fd, sock);
        self.strict.held.insert(sock);
        sock
    }

    pub(super) fn at(&self, fd: i32) -> &FakeSock {
        &self.socks[self.table[&fd]]
    }

    fn hit(&mut self, fault: Fault) -> bool {
        let hit = self.faults.remove(&fault);
        let gone =
            [Fault::Take(Fail::Gone), Fault::Fetch(Fail::Gone), Fault::Dead, Fault::InstallGone];
        if hit && gone.contains(&fault) {
            self.strict.gone += 1;
        }
        hit
    }

    fn begin(&mut self, sock: &usize, addr: &RawSockAddr, blocking: bool) -> Step {
        let fake = self.socks[*sock].clone();
        let decoded = match addr.decode() {
            Ok(decoded) => decoded,
            Err(malformed) => return Step::Failed(Errno::from_raw_os_error(malformed.errno())),
        };
        if decoded == SockAddr::Unspec {
            self.unbind_with_connection(*sock);
            let sock = &mut self.socks[*sock];
            (sock.state, sock.peer) = (TcpState::Close, None);
            return Step::Done;
        }
        let Some(dest) = decoded.ip() else { return Step::Failed(Errno::AFNOSUPPORT) };
        // Recorded before any look at the state: what was *asked* of a host socket counts.
        if fake.netns == HOST {
            self.host_connects.push((dest, fake.pin));
        }
        self.remember(*sock, |sock, held| Deed::Connect { sock, to: dest, held });
        if fake.protocol == UDP {
            let peer = self.peer_of(*sock, dest);
            self.socks[*sock].peer = Some(peer);
            self.bind_by_connection(*sock, peer);
            return Step::Done;
        }
        let dest = self.peer_of(*sock, dest);
        let peer = self.peer_at(fake.netns, fake.peer.unwrap_or(dest));
        match fake.state {
            TcpState::Close | TcpState::SynSent => {
                let first = fake.state == TcpState::Close;
                self.bind_by_connection(*sock, dest);
                let this = &mut self.socks[*sock];
                this.peer = Some(fake.peer.unwrap_or(dest));
                match peer {
                    Peer::Accepts if blocking || !first => {
                        this.state = TcpState::Established;
                        Step::Done
                    }
                    Peer::Refuses if blocking || !first => {
                        this.state = TcpState::Close;
                        this.peer = None;
                        self.unbind_with_connection(*sock);
                        Step::Failed(Errno::CONNREFUSED)
                    }
                    _ if first => {
                        this.state = TcpState::SynSent;
                        Step::InProgress
                    }
                    _ if blocking => Step::InProgress,
                    _ => Step::Failed(Errno::ALREADY),
                }
            }
            _ => Step::Failed(Errno::ISCONN),
        }
    }

    fn begin_listening(&mut self, sock: usize) -> Result<(), Errno> {
        self.strict.acts();
        if self.socks[sock].protocol == UDP {
            return Err(Errno::OPNOTSUPP);
        }
        if self.socks[sock].netns == HOST {
            self.host_listens += 1;
        }
        self.socks[sock].state = TcpState::Listen;
        Ok(())
    }

    fn peer_at(&self, netns: u64, addr: SocketAddr) -> Peer {
        self.peers.get(&(netns, addr)).copied().unwrap_or(Peer::Refuses)
    }
}

impl Kernel for Fake {
    type Note = FakeNote;
    type Sock = usize;

    fn take(&mut self, _tid: i32, fd: i32) -> Result<usize, Lost> {
        self.meanwhile();
        self.strict.reads();
        for (fail, lost) in [
            (Fail::Gone, Lost::Gone),
            (Fail::Denied, Lost::Denied),
            (Fail::Bad, Lost::Errno(Errno::NOBUFS)),
        ] {
            if self.hit(Fault::Take(fail)) {
                return Err(lost);
            }
        }
        self.strict.taken = self.table.get(&fd).copied();
        self.strict.taken.ok_or(Lost::Errno(Errno::BADF))
    }

    fn fetch(&mut self, _tid: i32, at: ForeignAddr, _len: u64) -> Result<RawSockAddr, Lost> {
        self.meanwhile();
        self.strict.reads();
        for (fail, lost) in [
            (Fail::Gone, Lost::Gone),
            (Fail::Denied, Lost::Denied),
            (Fail::Bad, Lost::Errno(Errno::FAULT)),
        ] {
            if self.hit(Fault::Fetch(fail)) {
                return Err(lost);
            }
        }
        self.strict.read = self.memory.get(&at.raw()).copied();
        self.strict.read.ok_or(Lost::Errno(Errno::FAULT))
    }

    fn fetch_args(&mut self, _tid: i32, at: ForeignAddr) -> Result<[u32; 3], Lost> {
        self.strict.reads();
        self.args.get(&at.raw()).copied().ok_or(Lost::Errno(Errno::FAULT))
    }

    fn gather(&mut self, tid: i32, message: &Message) -> Result<Option<RawSockAddr>, Lost> {
        let (at, len) = match *message {
            Message::To { name, name_len, .. } => (name, name_len),
            Message::Header { at, .. } => (at, 0),
            Message::Headers { .. } => panic!("one at a time"),
        };
        let name = self.fetch(tid, at, len)?;
        self.gathered = Some(name).filter(|name| !name.is_empty());
        Ok(self.gathered)
    }

    fn is_alive(&mut self, _note: &FakeNote) -> bool {
        let alive = !self.hit(Fault::Dead);
        self.strict.proves(alive);
        self.meanwhile();
        alive
    }

    fn identity(&mut self, sock: &usize) -> Option<Identity> {
        let fake = &self.socks[*sock];
        Some(Identity {
            domain: fake.domain,
            kind: if fake.protocol == UDP { Kind::Datagram } else { Kind::Stream },
            protocol: fake.protocol,
            cookie: *sock as u64,
            netns_cookie: Some(fake.netns),
        })
    }

    fn tcp_state(&mut self, sock: &usize) -> Option<TcpState> {
        Some(self.socks[*sock].state)
    }

    fn local(&mut self, sock: &usize) -> Option<SocketAddr> {
        Some(self.socks[*sock].local)
    }

    fn peer(&mut self, sock: &usize) -> Option<SocketAddr> {
        self.socks[*sock].peer
    }

    fn send(&mut self, sock: &usize, _flags: i32) -> Result<u32, Lost> {
        self.strict.acts();
        let fake = &self.socks[*sock];
        let named = self.gathered.map(|name| named(fake.domain, &name)).transpose()?.flatten();
        let to = named.or(fake.peer).ok_or(Lost::Errno(Errno::DESTADDRREQ))?;
        self.sent.push((fake.netns, to));
        self.remember(*sock, |sock, _| Deed::Send { sock, to });
        Ok(3)
    }

    fn store_len(
        &mut self,
        _note: &FakeNote,
        _tid: i32,
        at: ForeignAddr,
        len: u32,
    ) -> Result<(), Lost> {
        self.lengths.push((at.raw(), len));
        Ok(())
    }

    fn has_waiting(&mut self, sock: &usize) -> bool {
        self.waiting.contains(sock)
    }

    fn is_v6_only(&mut self, sock: &usize) -> bool {
        self.socks[*sock].v6_only
    }

    fn pin_of(&mut self, sock: &usize) -> Option<u32> {
        self.socks[*sock].pin
    }

    fn is_blocking(&mut self, sock: &usize) -> bool {
        self.socks[*sock].blocking
    }

    fn send_timeout(&mut self, sock: &usize) -> Option<Duration> {
        self.socks[*sock].timeout
    }

    fn may_bind_privileged(&mut self, _tid: i32, _port: u16) -> bool {
        self.privileged
    }

    fn egress(&mut self, ip: IpAddr, _scope_id: u32) -> Egress {
        if ip.is_loopback() || self.on_lo.contains(&ip) {
            Egress::Loopback
        } else if self.unroutable.contains(&ip) {
            Egress::Unroutable(Errno::NETUNREACH)
        } else {
            Egress::Device { ifindex: self.devices.get(&ip).copied().unwrap_or(ETH) }
        }
    }

    fn is_of_host(&mut self, ip: IpAddr) -> Option<bool> {
        self.host_lookups += 1;
        Some(self.on_host.contains(&ip))
    }

    fn egress_of_server(&mut self, host: IpAddr) -> Egress {
        if host.is_unspecified() {
            return Egress::Device { ifindex: ETH };
        }
        self.egress(host, 0)
    }

    fn is_own_address(&mut self, _tid: i32, ip: IpAddr) -> bool {
        self.own_addresses.contains(&ip)
    }

    fn twin(
        &mut self,
        _tid: i32,
        model: &usize,
        _id: &Identity,
        place: Place,
    ) -> Result<usize, TwinError> {
        self.meanwhile();
        self.strict.acts();
        if self.hit(Fault::TwinOption) {
            return Err(TwinError::Option("SO_TEST"));
        }
        if self.hit(Fault::TwinMake) {
            return Err(TwinError::Make);
        }
        let (netns, pin) = match place {
            Place::Host { pin } | Place::Server { pin } => (HOST, pin),
            Place::Container => (CONTAINER, None),
        };
        if pin.is_some() && self.hit(Fault::TwinPin) {
            return Err(TwinError::Pin);
        }
        let model = &self.socks[*model];
        let twin = FakeSock {
            netns,
            pin,
            state: TcpState::Close,
            peer: None,
            local: any(model.domain),
            place: Some(place),
            ..model.clone()
        };
        self.socks.push(twin);
        Ok(self.socks.len() - 1)
    }

    fn connect_twin(&mut self, twin: &usize, addr: &RawSockAddr, blocking: bool) -> Step {
        self.strict.acts();
        assert!(!self.strict.held.contains(twin), "the target holds it already");
        self.begin(twin, addr, blocking)
    }

    fn finish(
        &mut self,
        _twin: &usize,
        _model: &usize,
        _id: &Identity,
        _place: Place,
    ) -> Result<(), TwinError> {
        self.meanwhile();
        if self.hit(Fault::Finish) { Err(TwinError::Make) } else { Ok(()) }
    }

    fn connect(&mut self, sock: &usize, addr: &RawSockAddr, blocking: bool) -> Step {
        self.strict.acts();
        let fake = &self.socks[*sock];
        let datagram = fake.protocol == UDP;
        assert!(fake.netns != HOST || datagram, "a host socket was given an address again");
        self.begin(sock, addr, blocking)
    }

    fn probe(&mut self, sock: &usize, _blocking: bool) -> Probe {
        let FakeSock { netns, state, peer, .. } = self.socks[*sock];
        let waits_for = peer.map(|peer| self.peer_at(netns, peer));
        let this = &mut self.socks[*sock];
        match (state, waits_for) {
            (TcpState::Close, None) => Probe::Unconnected,
            // A connection that failed: the first to ask is told.
            (TcpState::Close, Some(_)) | (TcpState::SynSent, Some(Peer::Refuses)) => {
                (this.state, this.peer) = (TcpState::Close, None);
                self.unbind_with_connection(*sock);
                Probe::Answer(Step::Failed(Errno::CONNREFUSED))
            }
            (TcpState::SynSent, Some(Peer::Accepts)) => {
                this.state = TcpState::Established;
                Probe::Answer(Step::Done)
            }
            (TcpState::SynSent, _) => Probe::Answer(Step::InProgress),
            _ => Probe::Answer(Step::Failed(Errno::ISCONN)),
        }
    }

    fn bind(&mut self, sock: &usize, addr: &RawSockAddr) -> Result<(), Errno> {
        self.strict.acts();
        let dest = addr.decode().ok().and_then(|addr| addr.ip()).ok_or(Errno::INVAL)?;
        self.remember(*sock, |sock, held| Deed::Bind { sock, to: dest, held });
        if self.strict.on && dest.is_ipv4() != self.socks[*sock].local.is_ipv4() {
            return Err(Errno::AFNOSUPPORT);
        }
        self.socks[*sock].local = dest;
        Ok(())
    }

    fn process(&mut self, tid: i32) -> Option<AuditedProcess> {
        Some(AuditedProcess { pid: tid, comm: "fake".into() })
    }

    fn has_our_ids(&mut self, _tid: i32) -> bool {
        !self.other_ids
    }

    fn listen(&mut self, sock: &usize, _backlog: i32) -> Result<(), Errno> {
        self.remember(*sock, |sock, _| Deed::Listen { sock, published: false });
        self.begin_listening(*sock)
    }

    fn shut_down(&mut self, sock: &usize) {
        self.strict.acts();
        self.shut.push(*sock);
    }

    fn dissolve(&mut self, sock: &usize) -> Result<(), Errno> {
        let fake = &self.socks[*sock];
        let datagram = fake.protocol == UDP;
        assert!(fake.netns != HOST || !datagram, "a pin was undone");
        self.strict.acts();
        self.remember(*sock, |sock, _| Deed::Dissolve { sock });
        self.unbind_with_connection(*sock);
        let sock = &mut self.socks[*sock];
        (sock.state, sock.peer) = (TcpState::Close, None);
        Ok(())
    }

    fn bind_published(
        &mut self,
        twin: &usize,
        choice: &Choice,
        pin: Option<u32>,
        _beside: Option<&usize>,
    ) -> Result<(), Errno> {
        self.strict.acts();
        assert!(!self.strict.held.contains(twin), "the target holds it already");
        let instead = self.strict.taken.map(|sock| self.socks[sock].clone());
        let choice_of = choice.clone();
        self.remember(*twin, |sock, _| Deed::BindPublished { sock, instead, choice: choice_of });
        self.host_bind?;
        self.socks[*twin].local = choice.bind;
        self.host_binds.push((choice.bind, pin));
        Ok(())
    }

    fn serve(&mut self, twin: &usize, choice: &Choice, _pin: Option<u32>, inside: Option<&usize>) {
        assert!(self.table.values().any(|sock| sock == twin), "the target does not hold it");
        if let Some(inside) = inside {
            assert!(*inside > *twin, "the target may have duplicates of it");
            assert_eq!(self.socks[*inside].netns, CONTAINER);
        }
        self.served.extend(choice.own.iter().map(|index| (*index, choice.families)));
    }

    fn serve_from_inside(
        &mut self,
        note: &FakeNote,
        _tid: i32,
        sock: &usize,
        indices: &[Index],
        addr: SocketAddr,
    ) {
        self.strict.acts();
        assert!(self.answers.iter().all(|(id, _)| *id != note.id), "the target may be gone");
        assert_ne!(self.socks[*sock].netns, HOST);
        self.from_inside.extend(indices.iter().map(|index| (*index, addr)));
    }

    fn listen_published(
        &mut self,
        sock: &usize,
        _backlog: i32,
        local: SocketAddr,
    ) -> Result<(), Errno> {
        assert_eq!(self.socks[*sock].local, local);
        self.remember(*sock, |sock, _| Deed::Listen { sock, published: true });
        self.begin_listening(*sock)
    }

    fn settle_ports(&mut self) {}

    fn name_inside(&mut self, index: Index) -> Option<SocketAddr> {
        self.names_inside.get(&index).copied()
    }

    fn serving(&mut self, index: Index) -> Option<Families> {
        self.served.get(&index).copied()
    }

    fn is_applications(&mut self, index: Index, _host: SocketAddr, _device: u32) -> bool {
        self.served.contains_key(&index) && !self.others_listen
    }

    fn note_epoll(&mut self) {}

    fn transplant(&mut self, _tid: i32, _fd: i32, _old: &usize, _new: &usize) -> bool {
        self.meanwhile();
        self.strict.acts();
        !self.hit(Fault::Transplant)
    }

    fn store_name(
        &mut self,
        _note: &FakeNote,
        _tid: i32,
        name: &RawSockAddr,
        at: ForeignAddr,
        _len_at: ForeignAddr,
    ) -> Result<(), Lost> {
        if at.is_null() {
            return Err(Lost::Errno(Errno::FAULT));
        }
        self.stored.push(*name);
        Ok(())
    }

    fn install(&mut self, _note: &FakeNote, _tid: i32, fd: i32, sock: &usize) -> Installed {
        if self.hit(Fault::InstallGone) {
            return Installed::Gone;
        }
        if self.hit(Fault::InstallRefused) {
            return Installed::Refused;
        }
        self.strict.acts();
        self.remember(*sock, |sock, _| Deed::Install { sock });
        self.strict.held.insert(*sock);
        self.table.insert(fd, *sock);
        Installed::Done
    }

    fn answer(&mut self, note: FakeNote, answer: Answer) -> bool {
        let gone = self.hit(Fault::AnswerGone);
        self.answers.push((note.id, answer));
        let id = note.id;
        let dropped = std::rc::Rc::clone(&note.dropped);
        drop(note);
        dropped.borrow_mut().retain(|other| *other != id);
        !gone
    }

    fn watch(&mut self, token: Token, _tid: i32, sock: &usize) -> bool {
        if self.hit(Fault::Watch) {
            return false;
        }
        self.watched.insert(token, *sock);
        true
    }

    fn unwatch(&mut self, token: Token, _sock: &usize) {
        self.watched.remove(&token);
    }
}

fn any(domain: Domain) -> SocketAddr {
    let ip = match domain {
        Domain::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, 0)
}

/// Where the kernel sends a datagram with this name; `None` is the peer.
fn named(domain: Domain, name: &RawSockAddr) -> Result<Option<SocketAddr>, Lost> {
    let malformed = Lost::Errno(Errno::INVAL);
    if domain == Domain::Inet {
        let v4 = name.decode_inet_or_unspec().map_err(|_malformed| malformed)?;
        return v4.map(|v4| Some(v4.into())).ok_or(Lost::Errno(Errno::AFNOSUPPORT));
    }
    match name.decode().map_err(|_malformed| malformed)? {
        SockAddr::Unspec => Ok(None),
        other => other.ip().map(Some).ok_or(malformed),
    }
}
