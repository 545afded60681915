//! The relay: user-space forwarding for what cannot be the application's own socket.
//!
//! Nearly all traffic of a published port goes through a host socket that the application
//! itself holds. Two things cannot: datagrams that come by the host's loopback (the
//! application's socket is pinned to another device), and the further host addresses of a
//! port whose one socket is bound to the first. Their *front*, a host socket of ours, is
//! served here, at the cost of two copies and of the client's address, which the
//! application does not see.
//!
//! ```text
//!  client ──▶ front ──▶ relay ──▶ flow's own socket ──▶ application
//!         ◀──       ◀──       ◀──                   ◀──
//! ```
//!
//! One thread serves every front of a [`Relay`]. It sleeps in epoll_wait(2), with a time
//! limit only while something ends by time. What it holds is bounded: so many flows of a
//! front, so many descriptors in all ([`Limits`]), one buffer. A TCP direction needs no
//! buffer: what the one side cannot take yet stays in the receive queue of the other.
//!
//! It passes on payloads and the ends of streams. It does not pass on IP options, ECN marks
//! or TTLs, the urgent mark of TCP data, and ICMP errors towards the client.

mod clients;
mod connection;
mod limits;
mod poller;
mod sources;
mod tcp;
#[cfg(test)]
// All of them with sockets.
#[cfg(not(miri))]
mod tests;
mod turn;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::OFlags;

use self::limits::Limits;
use self::poller::{Poller, Token, Watched};
use self::tcp::TcpRoute;
use self::turn::{Served, Turn};
use self::udp::UdpRoute;
use crate::thread;

/// Opens a connection with the application for a new flow.
pub(crate) trait Backend: Send + 'static {
    /// A socket for the flow of this client (IPv4 as such, never IPv4-mapped): a UDP socket
    /// that is connected, or a TCP socket that is connected or connecting and does not
    /// block. Nobody else may use it.
    ///
    /// Called on the relay's thread, which serves nothing else meanwhile, for every
    /// connection, and for every datagram of a client that has no flow. So it does not wait
    /// for anybody, least of all for who may be dropping a [`Route`]. An error says that
    /// nobody is there: the connection is reset, or the datagram lost.
    fn open(&self, client: SocketAddr) -> io::Result<OwnedFd>;
}

/// The relay of a process. Its thread ends when the last handle and the last [`Route`] have
/// gone.
#[derive(Clone)]
pub(crate) struct Relay(Arc<Owner>);

/// A front that is served. Dropping it closes the front and all its flows before it returns,
/// or within [`CLOSE_WITHIN`] if the thread is held up: connections that are not over are
/// reset, after one last attempt to pass on what has arrived.
pub(crate) struct Route {
    id: u32,
    flows: Arc<AtomicUsize>,
    owner: Arc<Owner>,
}

/// Tells the time. Read once in every turn of the thread.
type Clock = Box<dyn Fn() -> Instant + Send>;

/// How long a dropped route waits for the thread.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// The thread keeps its buffer on the heap; backends run on this stack.
const STACK: usize = 256 * 1024;

impl Relay {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where it, or one of its two descriptors, cannot be had.
    pub(crate) fn start() -> io::Result<Self> {
        Self::start_with(Limits::of_this_process(), Box::new(Instant::now))
    }

    fn start_with(limits: Limits, clock: Clock) -> io::Result<Self> {
        let poller = Poller::new()?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let wake = poller.watch(wake, Token::WAKE, EventFlags::IN)?;
        let shared = Arc::new(Shared { wake, limits, inbox: Mutex::default() });
        let turn = Turn::new(poller.clone(), Arc::clone(&shared), clock);
        let thread = thread::spawn("bypass-relay", STACK, move || turn.run())?.thread().id();
        Ok(Self(Arc::new(Owner { poller, shared, thread })))
    }

    /// Relays the datagrams that come to `front`, a bound UDP socket.
    ///
    /// The option that tells where a datagram was sent to (`IP_PKTINFO`,
    /// `IPV6_RECVPKTINFO`) stays set for every duplicate of it.
    ///
    /// # Errors
    /// What setsockopt or epoll_ctl said, or that the thread has ended.
    pub(crate) fn udp(&self, front: OwnedFd, backend: Box<dyn Backend>) -> io::Result<Route> {
        netns_socket::report_destination(&front)?;
        self.route(front, EventFlags::IN, |id, front, flows| {
            Box::new(UdpRoute::new(id, front, backend, self.0.shared.limits, flows))
        })
    }

    /// Relays the connections that come to `front`, a listening TCP socket.
    ///
    /// It becomes non-blocking, and so do its duplicates. Connections beyond the limit wait
    /// in its accept queue.
    ///
    /// # Errors
    /// What fcntl or epoll_ctl said, or that the thread has ended.
    pub(crate) fn tcp(&self, front: OwnedFd, backend: Box<dyn Backend>) -> io::Result<Route> {
        let flags = rustix::fs::fcntl_getfl(&front)?;
        rustix::fs::fcntl_setfl(&front, flags | OFlags::NONBLOCK)?;
        self.route(front, tcp::ACCEPT, |id, front, flows| {
            Box::new(TcpRoute::new(id, front, backend, self.0.shared.limits, flows))
        })
    }

    fn route(
        &self,
        front: OwnedFd,
        events: EventFlags,
        serve: impl FnOnce(u32, Watched, Arc<AtomicUsize>) -> Box<dyn Served>,
    ) -> io::Result<Route> {
        let flows = Arc::default();
        // The first event may come before the thread has taken the route in. It looks for new
        // ones first, and finds this one: whoever looks waits until we are done.
        let mut inbox = self.0.shared.inbox();
        if inbox.over {
            return Err(io::Error::other("the relay's thread has ended"));
        }
        let id = inbox.next_id();
        let front = self.0.poller.watch(front, Token::front(id), events)?;
        inbox.arrivals.push((id, serve(id, front, Arc::clone(&flows))));
        Ok(Route { id, flows, owner: Arc::clone(&self.0) })
    }
}

impl Route {
    /// How many flows, clients of UDP or connections, it has now.
    pub(crate) fn flows(&self) -> usize {
        self.flows.load(Ordering::Relaxed)
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        let (closed, wait) = mpsc::channel();
        self.owner.shared.depart(self.id, closed);
        // A backend may own routes, and so drop them on the thread itself.
        if std::thread::current().id() != self.owner.thread {
            // Nothing is ever sent: the other end is dropped once all is closed.
            wait.recv_timeout(CLOSE_WITHIN).ok();
        }
    }
}

/// Ends the thread when nobody can use it any more.
struct Owner {
    poller: Poller,
    shared: Arc<Shared>,
    thread: ThreadId,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.inbox().stop = true;
        self.shared.wake();
    }
}

/// What the thread shares with the handles.
struct Shared {
    wake: Watched,
    limits: Limits,
    inbox: Mutex<Inbox>,
}

#[derive(Default)]
struct Inbox {
    last_id: u32,
    arrivals: Vec<(u32, Box<dyn Served>)>,
    /// Routes to close, and what to drop after that.
    departures: Vec<(u32, mpsc::Sender<()>)>,
    stop: bool,
    /// The thread takes nothing more.
    over: bool,
}

impl Inbox {
    /// Never that of [`Token::WAKE`].
    fn next_id(&mut self) -> u32 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }
}

impl Shared {
    fn inbox(&self) -> std::sync::MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // A full counter has woken the thread already.
        rustix::io::write(self.wake.as_fd(), &1_u64.to_ne_bytes()).ok();
    }

    fn depart(&self, id: u32, closed: mpsc::Sender<()>) {
        let mut inbox = self.inbox();
        if !inbox.over {
            inbox.departures.push((id, closed));
            drop(inbox);
            self.wake();
        }
    }
}
