//! A UDP front: one connected socket towards the application for each client.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use netns_socket::{recv_datagram, send_datagram};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::Backend;
use super::clients::{Client, Clients, IDLE};
use super::limits::{Limits, Permit, UDP};
use super::poller::{Token, Watched};
use super::sources::{Source, netns_of};
use super::turn::{Common, Served};

/// Datagrams taken from one socket before others get their turn.
const BATCH: usize = 64;

/// A front that fails so often, and never says that there is nothing, is given up: it would
/// keep the thread busy for ever.
const FAILURES: u32 = 1024;

pub(super) struct UdpRoute {
    id: u32,
    front: Watched,
    /// Where the front is.
    netns: Option<u64>,
    backend: Box<dyn Backend>,
    clients: Clients<Flow>,
    limit: usize,
    flows: Arc<AtomicUsize>,
    failures: u32,
}

struct Flow {
    socket: Watched,
    _permit: Permit<UDP>,
    _source: Option<Source>,
}

impl UdpRoute {
    pub(super) fn new(
        id: u32,
        front: Watched,
        backend: Box<dyn Backend>,
        limits: Limits,
        flows: Arc<AtomicUsize>,
    ) -> Self {
        let (clients, limit, netns) = (Clients::new(), limits.udp_flows, netns_of(&front));
        Self { id, front, netns, backend, clients, limit, flows, failures: 0 }
    }

    /// Datagrams from clients.
    fn questions(&mut self, events: EventFlags, buffer: &mut [u8], common: &mut Common) {
        // Somebody has shut a duplicate down, which is reported for ever.
        if events.contains(EventFlags::HUP) {
            return self.give_up(Errno::PIPE);
        }
        for _ in 0..BATCH {
            match recv_datagram(&self.front, buffer) {
                Ok(datagram) => {
                    self.failures = 0;
                    let client = Client { address: datagram.from, asked: datagram.to };
                    let data = buffer.get(..datagram.len).unwrap_or_default();
                    self.ask(client, data, common);
                }
                Err(Errno::AGAIN) => {
                    self.failures = 0;
                    return;
                }
                Err(Errno::INTR) => {}
                // What an earlier answer met with: of no use to anybody.
                Err(errno) => {
                    self.failures += 1;
                    if self.failures >= FAILURES {
                        return self.give_up(errno);
                    }
                }
            }
        }
    }

    fn give_up(&mut self, errno: Errno) {
        tracing::warn!(%errno, "datagrams of a published port are no longer relayed");
        self.front.ignore();
    }

    fn ask(&mut self, client: Client, data: &[u8], common: &mut Common) {
        let known = self.clients.id_of(&client);
        let Some(id) = known.or_else(|| self.open(client, common)) else { return };
        self.clients.touch(id, common.now);
        let Some((_, flow)) = self.clients.get(id) else { return };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if let Err(errno) = send(&flow.socket, data, flags)
            && !is_loss(errno)
        {
            self.clients.remove(id);
        }
    }

    fn open(&mut self, client: Client, common: &mut Common) -> Option<u32> {
        if common.sources.has(self.netns, client.address) {
            tracing::debug!("what was relayed to an application came back");
            return None;
        }
        let mut address = client.address;
        address.set_ip(address.ip().to_canonical());
        let socket = self
            .backend
            .open(address)
            .inspect_err(|error| tracing::debug!(%error, "nobody takes a datagram"))
            .ok()?;
        while self.clients.len() >= self.limit {
            self.clients.remove_idlest()?;
        }
        let permit = loop {
            match common.allowance.take(&self.flows) {
                Some(permit) => break permit,
                // It has its part; this one may only renew its own flows.
                None => drop(self.clients.remove_idlest()?),
            }
        };
        let id = self.clients.free_id();
        let token = Token { route: self.id, slot: id };
        let socket = common
            .poller
            .watch(socket, token, EventFlags::IN)
            .inspect_err(|error| tracing::debug!(%error, "a flow cannot be watched"))
            .ok()?;
        let flow = Flow { _source: common.sources.add(socket.as_fd()), socket, _permit: permit };
        self.clients.insert(id, client, flow, common.now);
        common.tick_at(common.now + IDLE);
        Some(id)
    }

    /// Datagrams from the application, or the news that it is not there.
    fn answers(&mut self, id: u32, events: EventFlags, buffer: &mut [u8], common: &mut Common) {
        for _ in 0..BATCH {
            // Ended by an event before this one, or just now.
            let Some((client, flow)) = self.clients.get(id) else { return };
            match recv(&flow.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((len, _)) => {
                    let data = buffer.get(..len).unwrap_or_default();
                    // What cannot be sent is lost, as on any network.
                    send_datagram(&self.front, data, client.address, client.asked).ok();
                    self.clients.touch(id, common.now);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if !events.contains(EventFlags::HUP) => return,
                // ECONNREFUSED of an ICMP message, above all.
                Err(_) => {
                    self.clients.remove(id);
                }
            }
        }
    }
}

impl Served for UdpRoute {
    fn ready(&mut self, slot: u32, events: EventFlags, buffer: &mut [u8], common: &mut Common) {
        match slot {
            0 => self.questions(events, buffer, common),
            id => self.answers(id, events, buffer, common),
        }
    }

    fn tick(&mut self, common: &mut Common) {
        if let Some(at) = self.clients.expire(common.now) {
            common.tick_at(at);
        }
    }

    fn close(self: Box<Self>, _buffer: &mut [u8]) {}
}

/// Whether a send error means that this datagram is lost and the next one may pass.
fn is_loss(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::MSGSIZE | Errno::PERM | Errno::INTR
    )
}
