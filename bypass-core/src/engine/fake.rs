//! A world without a kernel, in which any step can be made to fail.
//!
//! It has two namespaces, one process with a descriptor table, sockets with as much of
//! TCP's state machine as `connect` shows, and servers that accept, refuse or keep
//! silent. It remembers what was done on the host, which is what confinement is about.

mod kernel;
mod strict;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use netns_socket::{Domain, TcpState};
use seccomp_notify::Errno;
use sockaddr_inspect::{RawSockAddr, SockAddr};

use super::kernel::{Answer, Place, Step, Token};
use crate::neighbours::Service;
use crate::ports::{Families, Index};
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
    Sight,
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
    /// Whether it can be told which namespace the container was started in.
    pub(super) knows_container: bool,
    /// Addresses in networks of the container's interfaces; `None` where these cannot be told.
    pub(super) own_networks: Option<HashSet<IpAddr>>,
    /// Services of other containers, by the addresses that these have where the networks lead to them.
    pub(super) neighbours: HashMap<SocketAddr, Service>,
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
    /// Sockets that another process of the container has as well, and those that are in flight.
    pub(super) beside: HashSet<usize>,
    pub(super) in_flight: HashSet<usize>,
    pub(super) in_sight: Option<usize>,
    /// The fault comes with the second of them.
    pub(super) second_transplant_fails: bool,
    pub(super) dies_after_install: bool,
    /// The thread ends while others are looked at.
    pub(super) dies_meanwhile: bool,
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
            knows_container: false,
            own_networks: Some(HashSet::new()),
            neighbours: HashMap::new(),
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
            beside: HashSet::new(),
            in_flight: HashSet::new(),
            in_sight: None,
            second_transplant_fails: false,
            dies_after_install: false,
            dies_meanwhile: false,
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

fn any(domain: Domain) -> SocketAddr {
    let ip = match domain {
        Domain::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, 0)
}
