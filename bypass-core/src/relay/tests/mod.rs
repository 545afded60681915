//! The relay between real sockets of the loopback device. Each test has its own.

mod costs;
mod tcp;
mod udp;

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::AtomicU64;

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::*;

/// Nothing here takes so long unless it is broken.
const LIMIT: Duration = Duration::from_secs(10);

const MANY: Limits = Limits { udp_flows: 512, tcp_connections: 256, descriptors: 2048 };

/// A relay whose time can be moved on.
struct Fixture {
    relay: Relay,
    skipped: Arc<AtomicU64>,
    turns: Arc<AtomicUsize>,
}

impl Fixture {
    fn new(limits: Limits) -> Self {
        let (skipped, turns) = (Arc::<AtomicU64>::default(), Arc::<AtomicUsize>::default());
        let (skip, turn) = (Arc::clone(&skipped), Arc::clone(&turns));
        let clock = move || {
            turn.fetch_add(1, Ordering::Relaxed);
            Instant::now() + Duration::from_secs(skip.load(Ordering::Relaxed))
        };
        let relay = Relay::start_with(limits, Box::new(clock)).unwrap();
        Self { relay, skipped, turns }
    }

    fn skip(&self, time: Duration) {
        self.skipped.fetch_add(time.as_secs(), Ordering::Relaxed);
    }

    /// How often the thread has woken up.
    fn turns(&self) -> usize {
        self.turns.load(Ordering::Relaxed)
    }

    /// A front at a free port of this address, relayed to a UDP socket.
    fn udp(&self, front: &str, application: SocketAddr) -> (Route, SocketAddr) {
        let front = UdpSocket::bind(front).unwrap();
        let address = front.local_addr().unwrap();
        let backend = Open(move |_| udp_to(application));
        (self.relay.udp(front.into(), Box::new(backend)).unwrap(), address)
    }

    /// The same for a listening TCP socket.
    fn tcp(&self, front: &str, application: SocketAddr) -> (Route, SocketAddr) {
        let front = TcpListener::bind(front).unwrap();
        let address = front.local_addr().unwrap();
        let backend = Open(move |_| tcp_to(application));
        (self.relay.tcp(front.into(), Box::new(backend)).unwrap(), address)
    }
}

/// A backend that is a function.
struct Open<F>(F);

impl<F: Fn(SocketAddr) -> io::Result<OwnedFd> + Send + 'static> Backend for Open<F> {
    fn open(&self, client: SocketAddr) -> io::Result<OwnedFd> {
        (self.0)(client)
    }
}

fn nobody() -> io::Result<OwnedFd> {
    Err(io::ErrorKind::ConnectionRefused.into())
}

fn udp_to(application: SocketAddr) -> io::Result<OwnedFd> {
    let socket = UdpSocket::bind(any_port(application))?;
    socket.connect(application)?;
    Ok(socket.into())
}

fn tcp_to(application: SocketAddr) -> io::Result<OwnedFd> {
    let family = if application.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &application) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno.into()),
    }
}

fn any_port(of: SocketAddr) -> SocketAddr {
    SocketAddr::new(of.ip(), 0)
}

/// A UDP socket that does not wait for ever.
fn udp_socket(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

/// A connection that does not wait for ever.
fn limited(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Accepts no later than [`LIMIT`].
#[track_caller]
fn accept(listener: &TcpListener) -> TcpStream {
    let timeout = rustix::net::sockopt::Timeout::Recv;
    rustix::net::sockopt::set_socket_timeout(listener, timeout, Some(LIMIT)).unwrap();
    limited(listener.accept().unwrap().0)
}

fn dial(address: SocketAddr) -> TcpStream {
    limited(TcpStream::connect_timeout(&address, LIMIT).unwrap())
}

/// Waits for what nobody announces.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::yield_now();
    }
}
