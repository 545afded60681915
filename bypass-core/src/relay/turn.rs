//! The relay's thread: waits for events, and hands each to the route it belongs to.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::Timespec;
use rustix::event::epoll::{Event, EventFlags};

use super::limits::Allowance;
use super::poller::{Poller, Token};
use super::sources::Sources;
use super::{Clock, Shared};

/// Events taken from the kernel at a time.
const EVENTS: usize = 64;

/// Room for the longest datagram that UDP can carry (65,527 bytes over IPv6).
const BUFFER: usize = 64 * 1024;

/// A front and its flows, as the thread sees them.
pub(super) trait Served: Send {
    /// Something happened to what `slot` stands for, or had happened to it before it ended.
    fn ready(&mut self, slot: u32, events: EventFlags, buffer: &mut [u8], common: &mut Common);

    /// Ends what ends by time, and tells `common` when to come again.
    fn tick(&mut self, common: &mut Common);

    /// Closes it.
    fn close(self: Box<Self>, buffer: &mut [u8]);
}

/// What all routes use.
pub(super) struct Common {
    pub(super) poller: Poller,
    pub(super) allowance: Allowance,
    pub(super) sources: Sources,
    /// The time of this turn.
    pub(super) now: Instant,
    /// Nothing ends by time before this.
    deadline: Option<Instant>,
}

impl Common {
    /// Asks for a [`tick`](Served::tick) at this time, or earlier.
    pub(super) fn tick_at(&mut self, at: Instant) {
        self.deadline = self.deadline.into_iter().chain([at]).min();
    }
}

/// What the thread owns.
pub(super) struct Turn {
    shared: Arc<Shared>,
    routes: HashMap<u32, Box<dyn Served>>,
    buffer: Vec<u8>,
    common: Common,
    clock: Clock,
}

impl Turn {
    pub(super) fn new(poller: Poller, shared: Arc<Shared>, clock: Clock) -> Self {
        let allowance = Allowance::new(shared.limits);
        let sources = Sources::default();
        let common = Common { poller, allowance, sources, now: clock(), deadline: None };
        Self { shared, routes: HashMap::new(), buffer: vec![0; BUFFER], common, clock }
    }

    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            if let Err(error) = self.wait(&mut events) {
                tracing::error!(%error, "epoll_wait failed, published ports are not relayed");
                return;
            }
            // Before the inbox is looked at, so that what comes after that wakes us again.
            if events.iter().any(|event| Token::of(event) == Token::WAKE) {
                let mut counter = [0; 8];
                rustix::io::read(&self.shared.wake, &mut counter).ok();
            }
            // Before the other events: one of them may be the first of a new route.
            if !self.obey() {
                return;
            }
            self.common.now = (self.clock)();
            for event in &events {
                let token = Token::of(event);
                if let Some(route) = self.routes.get_mut(&token.route) {
                    route.ready(token.slot, event.flags, &mut self.buffer, &mut self.common);
                }
            }
            self.tick();
        }
    }

    fn wait(&self, events: &mut Vec<Event>) -> io::Result<()> {
        let timeout = self.common.deadline.map(|at| {
            let left = at.saturating_duration_since(self.common.now);
            Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
        });
        self.common.poller.wait(events, timeout.as_ref())
    }

    /// Takes new routes in and closes old ones. False if the thread is to end.
    fn obey(&mut self) -> bool {
        let mut inbox = self.shared.inbox();
        let stop = inbox.stop;
        let arrivals = std::mem::take(&mut inbox.arrivals);
        let departures = std::mem::take(&mut inbox.departures);
        // A backend that is dropped below may own routes, and drop them.
        drop(inbox);
        self.routes.extend(arrivals);
        for (id, closed) in departures {
            if let Some(route) = self.routes.remove(&id) {
                route.close(&mut self.buffer);
            }
            drop(closed);
        }
        !stop
    }

    fn tick(&mut self) {
        if self.common.deadline.is_none_or(|at| self.common.now < at) {
            return;
        }
        self.common.deadline = None;
        for route in self.routes.values_mut() {
            route.tick(&mut self.common);
        }
    }
}

/// Also when a backend has panicked.
impl Drop for Turn {
    fn drop(&mut self) {
        let mut inbox = self.shared.inbox();
        inbox.over = true;
        let rest = (std::mem::take(&mut inbox.arrivals), std::mem::take(&mut inbox.departures));
        drop(inbox);
        self.routes.clear();
        drop(rest);
    }
}
