//! Containers that reach each other: who they are, where they serve, and whether the networks lead
//! from one to another.
//!
//! A container that publishes a port serves it on the host, so that a neighbour's connection to the
//! container's own address would find nobody there. It is led to the host socket instead, but only if
//! the packets of the one would have arrived at the other: two containers may have the same address
//! in networks that have nothing to do with each other, and a container can give itself whatever
//! address it likes. So nothing is believed. The container's port inside is held by a socket of ours;
//! it listens for a moment, a connection is made to it from the other's namespace, and a number
//! that nobody can guess has to come out of it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use netns_socket::Networks;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags};

use crate::ports::{Index, Ports};
use crate::publish::Protocol;

/// All containers of a supervisor that want to be reached by each other.
#[derive(Debug, Default)]
pub(crate) struct Neighbours(Mutex<Vec<Arc<Neighbour>>>);

/// One of them.
#[derive(Debug)]
struct Neighbour {
    netns: u64,
    ports: Ports,
    /// Asked by the threads of others.
    networks: Mutex<Networks>,
    /// Held while it is tried whether somebody's packets arrive: the port inside is one.
    probed: Mutex<()>,
}

/// A port that a neighbour serves on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// The cookie of the neighbour's namespace.
    pub(crate) netns: u64,
    /// In the neighbour's table.
    pub(crate) index: Index,
    /// Where the host reaches it.
    pub(crate) host: SocketAddr,
}

/// What one container's thread knows of its neighbours. Its own container is one as long as this is.
#[derive(Debug)]
pub(crate) struct Neighbourhood {
    all: Arc<Neighbours>,
    own: Arc<Neighbour>,
    proofs: HashMap<(u64, SocketAddr), Proof>,
}

/// Whether the networks lead to an address of a neighbour.
#[derive(Clone, Copy, Debug)]
struct Proof {
    leads: bool,
    until: Instant,
    /// What [`Networks::changes`] said of both.
    changes: (u64, u64),
}

impl Neighbours {
    /// Makes a container known to the others.
    pub(crate) fn join(
        self: &Arc<Self>,
        netns: u64,
        ports: Ports,
        networks: Networks,
    ) -> Neighbourhood {
        let (networks, probed) = (Mutex::new(networks), Mutex::default());
        let own = Arc::new(Neighbour { netns, ports, networks, probed });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&own));
        Neighbourhood { all: Arc::clone(self), own, proofs: HashMap::new() }
    }
}

impl Drop for Neighbourhood {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| !Arc::ptr_eq(one, &self.own));
    }
}

impl Neighbour {
    /// The port that it serves on the host and in this family, by the socket that holds it inside.
    fn serves(&self, to: SocketAddr) -> Option<(Index, SocketAddr, OwnedFd)> {
        let table = self.ports.table();
        [true, false].into_iter().find_map(|same_family| {
            table
                .of_port(Protocol::Tcp, to.port())
                .filter(|(_, entry)| (entry.host.is_ipv4() == to.is_ipv4()) == same_family)
                .filter(|(index, _)| {
                    self.ports.serving(*index).is_some_and(|families| families.has(to.ip()))
                })
                .find_map(|(index, entry)| {
                    let inside = self.ports.inside(index)?;
                    // Several containers may be given the same ports, of which one has this.
                    let own = netns_socket::netns_cookie_of(&inside).ok()? == Some(self.netns);
                    own.then_some((index, entry.reach(), inside))
                })
        })
    }

    /// Whether it has this address, and what is known of its networks is of.
    fn has(&self, ip: IpAddr) -> Option<u64> {
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        networks.have_address(ip)?.then(|| networks.changes())
    }
}

impl Neighbourhood {
    /// The neighbour's service that is meant by an address, if the networks lead there. `own` are this
    /// container's networks; `socket` makes a socket in its namespace.
    pub(crate) fn find(
        &mut self,
        own: &mut Networks,
        to: SocketAddr,
        mut socket: impl FnMut() -> Option<OwnedFd>,
    ) -> Option<Service> {
        // Others are reached by routers, if at all, and the container's own address is itself.
        if to.ip().is_loopback() || !own.contain(to.ip())? || own.have_address(to.ip())? {
            return None;
        }
        let others: Vec<_> = {
            let all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
            let others = all.iter().filter(|one| one.netns != self.own.netns);
            others.cloned().collect()
        };
        let mut probes = 0;
        for other in others {
            let Some(changes) = other.has(to.ip()) else { continue };
            let Some((index, host, inside)) = other.serves(to) else { continue };
            let changes = (own.changes(), changes);
            let known = self
                .proofs
                .get(&(other.netns, to))
                .filter(|proof| proof.changes == changes && Instant::now() < proof.until);
            let leads = match known {
                Some(proof) => proof.leads,
                None if probes >= MAX_PROBES => continue,
                None => {
                    probes += 1;
                    let _alone = other.probed.lock().unwrap_or_else(PoisonError::into_inner);
                    let leads = socket().is_some_and(|from| leads(&from, to, &inside));
                    let valid = if leads { VALID } else { VALID_NOT };
                    if self.proofs.len() >= MAX_PROOFS {
                        self.proofs.clear();
                    }
                    let until = Instant::now() + valid;
                    self.proofs.insert((other.netns, to), Proof { leads, until, changes });
                    leads
                }
            };
            if leads {
                return Some(Service { netns: other.netns, index, host });
            }
        }
        None
    }

    /// Whether connections to this host address, which come in by this device, are those of the
    /// neighbour's application.
    pub(crate) fn is_applications(&self, service: &Service, host: SocketAddr, device: u32) -> bool {
        let all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        let other = all.iter().find(|one| one.netns == service.netns).cloned();
        drop(all);
        other.is_some_and(|other| other.ports.is_applications(service.index, host, device))
    }
}

/// Whether a connection from the one namespace comes out of a socket in the other, which is bound
/// there and does not listen.
fn leads(from: &OwnedFd, to: SocketAddr, inside: &OwnedFd) -> bool {
    let led = rustix::io::ioctl_fionbio(inside, true)
        .and_then(|()| rustix::net::listen(inside, BACKLOG))
        .and_then(|()| comes_out(from, to, inside));
    // It listens no more and keeps its address.
    rustix::net::shutdown(inside, Shutdown::Read).ok();
    led.inspect_err(|error| tracing::debug!(%error, %to, "a neighbour cannot be tried"))
        .unwrap_or(false)
}

fn comes_out(from: &OwnedFd, to: SocketAddr, inside: &OwnedFd) -> Result<bool, Errno> {
    let mut nonce = [0; NONCE];
    rustix::rand::getrandom(&mut nonce[..], rustix::rand::GetRandomFlags::empty())?;
    let deadline = Instant::now() + WITHIN;
    // What is left of it must not wait in the namespace.
    rustix::net::sockopt::set_socket_linger(from, Some(Duration::ZERO))?;
    match rustix::net::connect(from, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        // Refused: by whoever it is, it is not the socket that listens.
        Err(_refused) => return Ok(false),
    }
    let mut sent = false;
    let mut accepted: Vec<OwnedFd> = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(left) = Timespec::try_from(left) else { return Ok(false) };
        let out = if sent { PollFlags::empty() } else { PollFlags::OUT };
        let more = if accepted.len() < MAX_ACCEPTED { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = vec![PollFd::new(from, out), PollFd::new(inside, more)];
        fds.extend(accepted.iter().map(|one| PollFd::new(one, PollFlags::IN)));
        match poll(&mut fds, Some(&left)) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let mut ready = fds.iter().map(|fd| fd.revents());
        let (of_from, of_inside) = (ready.next(), ready.next());
        let readable: Vec<bool> = ready.map(|events| !events.is_empty()).collect();
        drop(fds);
        if !sent && of_from.is_some_and(|events| !events.is_empty()) {
            if rustix::net::send(from, &nonce, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_err() {
                return Ok(false);
            }
            sent = true;
        }
        let mut readable = readable.into_iter();
        let mut found = false;
        accepted.retain(|one| {
            if !readable.next().unwrap_or(false) {
                return true;
            }
            let mut said = [0; NONCE];
            let got = rustix::net::recv(one, &mut said, RecvFlags::DONTWAIT);
            // Sent at once, it comes at once.
            found |= got.is_ok_and(|(len, _)| len == NONCE) && said == nonce;
            false
        });
        if found {
            return Ok(true);
        }
        if of_inside.is_some_and(|events| events.contains(PollFlags::IN)) {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            if let Ok(one) = rustix::net::accept_with(inside, flags) {
                accepted.push(one);
            }
        }
    }
}

const NONCE: usize = 16;
const BACKLOG: i32 = 8;
/// Connections of others that come meanwhile.
const MAX_ACCEPTED: usize = 8;
/// How long a connection may take: all neighbours are on this machine.
const WITHIN: Duration = Duration::from_millis(20);
/// How long is believed what was found out, if neither's addresses change: what routers and filters in
/// between do is not seen from here.
const VALID: Duration = Duration::from_secs(5);
const VALID_NOT: Duration = Duration::from_secs(1);
/// Found out for one connect: several neighbours may have the same address.
const MAX_PROBES: u32 = 4;
const MAX_PROOFS: usize = 256;
