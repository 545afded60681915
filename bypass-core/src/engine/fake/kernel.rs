//! What the fake world answers to the engine.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netns_socket::{Domain, Egress, Identity, Kind, TcpState};
use seccomp_notify::Errno;
use sockaddr_inspect::{ForeignAddr, RawSockAddr, SockAddr};

use super::{CONTAINER, Deed, ETH, Fail, Fake, FakeNote, FakeSock, Fault, HOST, Peer, UDP, any};
use crate::audit::AuditedProcess;
use crate::call::Message;
use crate::engine::kernel::{
    Answer, Beside, Installed, Kernel, Lost, Place, Probe, Step, Token, TwinError,
};
use crate::neighbours::Service;
use crate::ports::{Choice, Families, Index};

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

    fn container_netns(&mut self) -> Option<u64> {
        self.knows_container.then_some(CONTAINER)
    }

    fn is_in_own_network(&mut self, _tid: i32, netns: Option<u64>, ip: IpAddr) -> Option<bool> {
        assert_ne!(netns, Some(HOST), "the host's networks are not the container's");
        Some(self.own_networks.as_ref()?.contains(&ip))
    }

    fn neighbour(&mut self, _tid: i32, netns: Option<u64>, to: SocketAddr) -> Option<Service> {
        assert_ne!(netns, Some(HOST), "not from the host's networks");
        self.neighbours.get(&to).copied()
    }

    fn is_neighbours(&mut self, service: &Service, host: SocketAddr, _device: u32) -> bool {
        let reached = SocketAddr::new(host.ip().to_canonical(), host.port());
        !self.others_listen && reached == service.host
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
        let server = matches!(fake.place, Some(Place::Server { pin: None }));
        // In a strict run it is for the judge to say.
        let free = datagram || server || self.strict.on;
        assert!(fake.netns != HOST || free, "a host socket was given an address again");
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
        let pinned = fake.protocol == UDP && fake.pin.is_some();
        assert!(fake.netns != HOST || !pinned, "a pin was undone");
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

    fn note_epoll(&mut self, _tid: i32) {}

    fn transplant(&mut self, _tid: i32, _fd: i32, _old: &usize, _new: &usize) -> bool {
        self.meanwhile();
        self.strict.acts();
        let hit = self.hit(Fault::Transplant);
        if std::mem::take(&mut self.second_transplant_fails) {
            self.faults.insert(Fault::Transplant);
        }
        !hit
    }

    fn keep_in_sight(&mut self, old: &usize) -> bool {
        self.in_sight = Some(*old);
        !self.hit(Fault::Sight)
    }

    fn let_go(&mut self, old: usize) -> bool {
        assert_eq!(self.in_sight, Some(old), "another one is watched");
        self.is_in_sight()
    }

    fn is_in_sight(&mut self) -> bool {
        self.in_sight.is_some_and(|old| {
            self.table.values().any(|sock| *sock == old)
                || self.beside.contains(&old)
                || self.in_flight.contains(&old)
        })
    }

    fn numbers_in_sight(&mut self, _tid: i32) -> Vec<i32> {
        let mut numbers: Vec<i32> = self
            .table
            .iter()
            .filter(|(_, sock)| Some(**sock) == self.in_sight)
            .map(|(fd, _)| *fd)
            .collect();
        numbers.sort_unstable();
        numbers
    }

    fn take_beside(&mut self, _tid: i32, _id: &Identity) -> Beside<usize> {
        self.meanwhile();
        self.strict.reads();
        if std::mem::take(&mut self.dies_meanwhile) {
            self.faults.insert(Fault::Dead);
        }
        let keeps = self.in_sight.filter(|sock| self.beside.contains(sock));
        keeps.map_or(Beside::Nobody, Beside::Keeps)
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
        if std::mem::take(&mut self.dies_after_install) {
            self.faults.insert(Fault::Dead);
        }
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
