//! A TCP front: accepts, opens the application's side, and keeps the connections.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use super::Backend;
use super::connection::{Connection, Side, State, reset};
use super::limits::{Limits, TCP};
use super::poller::{Token, Watched};
use super::turn::{Common, Served};

/// Reported once, then asked for again: while no connection can be taken, the front is silent.
pub(super) const ACCEPT: EventFlags = EventFlags::IN.union(EventFlags::ONESHOT);

/// Connections accepted before others get their turn.
const BATCH: usize = 16;

/// How long to wait for descriptors or memory that are not there. Others use them too, and
/// nothing tells when they have given some back.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct TcpRoute {
    id: u32,
    front: Watched,
    backend: Box<dyn Backend>,
    connections: HashMap<u32, Connection>,
    last_id: u32,
    limit: usize,
    flows: Arc<AtomicUsize>,
    accepting: Accepting,
}

/// Whether the front will report the next connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Yes,
    /// When a connection has ended.
    Full,
    /// At that time, or when a connection has ended.
    Paused(Instant),
    /// Never again.
    Ended,
}

impl TcpRoute {
    pub(super) fn new(
        id: u32,
        front: Watched,
        backend: Box<dyn Backend>,
        limits: Limits,
        flows: Arc<AtomicUsize>,
    ) -> Self {
        let connections = HashMap::new();
        let (limit, accepting) = (limits.tcp_connections, Accepting::Yes);
        Self { id, front, backend, connections, last_id: 0, limit, flows, accepting }
    }

    fn accept(&mut self, common: &mut Common) {
        self.accepting = self.accept_some(common);
        match self.accepting {
            Accepting::Yes => self.rearm(common),
            Accepting::Paused(until) => common.tick_at(until),
            Accepting::Full | Accepting::Ended => {}
        }
    }

    fn accept_some(&mut self, common: &mut Common) -> Accepting {
        let pause = Accepting::Paused(common.now + PAUSE);
        let mut accepted = false;
        for _ in 0..BATCH {
            if self.connections.len() >= self.limit {
                return Accepting::Full;
            }
            if !common.allowance.has_room::<TCP>(&self.flows) {
                return pause;
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match acceptfrom_with(&self.front, flags) {
                Ok((client, address)) => {
                    let address = address.and_then(|any| SocketAddr::try_from(any).ok());
                    self.open(client, address, common);
                    accepted = true;
                }
                Err(Errno::AGAIN) => return Accepting::Yes,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => return pause,
                // The front itself is not, or no longer, one that listens.
                Err(errno @ (Errno::INVAL | Errno::BADF | Errno::NOTSOCK)) => {
                    tracing::warn!(%errno, "connections of a published port are not relayed");
                    return Accepting::Ended;
                }
                // What became of this one connection (accept(2)); the next may be better.
                Err(_) => {}
            }
        }
        // So many of those in a row may well be an error of the front.
        if accepted { Accepting::Yes } else { pause }
    }

    fn open(&mut self, client: OwnedFd, address: Option<SocketAddr>, common: &Common) {
        let Some(mut address) = address else { return };
        address.set_ip(address.ip().to_canonical());
        let application = match self.backend.open(address) {
            Ok(application) => application,
            Err(error) => {
                tracing::debug!(%error, "nobody takes a connection");
                // The nearest to a refusal that is left.
                return reset(&client);
            }
        };
        let Some(permit) = common.allowance.take(&self.flows) else { return reset(&client) };
        let id = self.free_id();
        let token = |side| Token { route: self.id, slot: slot(id, side) };
        let client = (client, token(Side::Client));
        let application = (application, token(Side::Application));
        match Connection::new(&common.poller, client, application, permit) {
            Ok(connection) => drop(self.connections.insert(id, connection)),
            Err(error) => tracing::debug!(%error, "a connection cannot be watched"),
        }
    }

    /// Never 0, and small enough for [`slot`].
    fn free_id(&mut self) -> u32 {
        loop {
            self.last_id = if self.last_id < u32::MAX / 2 { self.last_id + 1 } else { 1 };
            if !self.connections.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    fn rearm(&mut self, common: &mut Common) {
        self.accepting = match self.front.rearm(ACCEPT) {
            Ok(()) => Accepting::Yes,
            Err(_) => {
                let until = common.now + PAUSE;
                common.tick_at(until);
                Accepting::Paused(until)
            }
        };
    }
}

impl Served for TcpRoute {
    fn ready(&mut self, at: u32, events: EventFlags, buffer: &mut [u8], common: &mut Common) {
        let Some((id, side)) = of_slot(at) else { return self.accept(common) };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.ready(side, events, buffer) == State::Over {
            self.connections.remove(&id);
            if matches!(self.accepting, Accepting::Full | Accepting::Paused(_)) {
                self.rearm(common);
            }
        }
    }

    fn tick(&mut self, common: &mut Common) {
        match self.accepting {
            Accepting::Paused(until) if until <= common.now => self.rearm(common),
            Accepting::Paused(until) => common.tick_at(until),
            Accepting::Yes | Accepting::Full | Accepting::Ended => {}
        }
    }

    fn close(self: Box<Self>, buffer: &mut [u8]) {
        for connection in self.connections.into_values() {
            connection.close(buffer);
        }
    }
}

/// The slot of a socket: the connection's number and one bit for the side.
fn slot(id: u32, side: Side) -> u32 {
    match side {
        Side::Client => id << 1,
        Side::Application => (id << 1) | 1,
    }
}

/// None for the front.
fn of_slot(slot: u32) -> Option<(u32, Side)> {
    let side = if slot & 1 == 0 { Side::Client } else { Side::Application };
    let id = slot >> 1;
    (id != 0).then_some((id, side))
}
