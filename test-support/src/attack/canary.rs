//! A service that nobody inside may reach, and that tells who did.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use serde_json::{Value, json};

use crate::failure::{Context, Result};

/// Something that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hit {
    /// A TCP connection.
    Connection(SocketAddr),
    /// What was said first on one.
    Said(SocketAddr, String),
    /// A datagram, and where it came from.
    Datagram(SocketAddr, String, SocketAddr),
    /// The answer to a datagram, sent back: whoever sent the first has seen the answer.
    Answer(SocketAddr),
}

impl Hit {
    /// For people.
    #[must_use]
    pub fn json(&self) -> Value {
        match self {
            Self::Connection(at) => json!({ "connection": at.to_string() }),
            Self::Said(at, text) => json!({ "said": text, "at": at.to_string() }),
            Self::Datagram(at, text, from) => {
                json!({ "datagram": text, "at": at.to_string(), "from": from.to_string() })
            }
            Self::Answer(at) => json!({ "answer": at.to_string() }),
        }
    }
}

/// TCP and UDP servers, on one thread. It ends with its handle. At a multicast
/// address, for who sends to it by the loopback device, and at [`BROADCAST`] there is UDP only.
#[derive(Debug)]
pub struct Canary {
    wake: OwnedFd,
    hits: mpsc::Receiver<Vec<Hit>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Canary {
    /// Serves TCP and UDP at these addresses of the namespace that the file names, or of ours.
    ///
    /// # Errors
    /// When an address cannot be had.
    pub fn open(namespace: Option<&Path>, addresses: &[SocketAddr]) -> Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC)?;
        let woken = wake.try_clone()?;
        let (sender, hits) = mpsc::channel();
        let (ready, opened) = mpsc::channel();
        let (namespace, addresses) = (namespace.map(PathBuf::from), addresses.to_vec());
        let thread = thread::spawn(move || {
            let made = enter(namespace.as_deref()).and_then(|()| Servers::open(&addresses));
            let (servers, told) = match made {
                Ok(servers) => (Some(servers), Ok(())),
                Err(failure) => (None, Err(failure)),
            };
            if ready.send(told).is_ok()
                && let Some(mut servers) = servers
            {
                servers.serve(&woken, &sender);
            }
        });
        opened.recv().context("the canary's thread")??;
        Ok(Self { wake, hits, thread: Some(thread) })
    }

    /// Everything that has come in since the last time.
    ///
    /// # Errors
    /// When the canary is dead.
    pub fn hits(&self) -> Result<Vec<Hit>> {
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes())?;
        self.hits.recv().context("the canary is dead")
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        // More than one at a time is the end.
        rustix::io::write(&self.wake, &2_u64.to_ne_bytes()).ok();
        // Its addresses are free then.
        self.thread.take().map(thread::JoinHandle::join);
    }
}

/// Runs `what` in the namespace that the file names.
///
/// # Errors
/// When the namespace cannot be entered, and those of `what`.
pub fn within<T: Send + 'static>(
    namespace: &Path,
    what: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let namespace = namespace.to_owned();
    let thread = thread::spawn(move || enter(Some(&namespace)).and_then(|()| what()));
    thread.join().map_err(|_panic| crate::Failure::new("a thread panicked"))?
}

fn enter(namespace: Option<&Path>) -> Result {
    if let Some(path) = namespace {
        let file = File::open(path).context(path.display())?;
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)?;
    }
    Ok(())
}

/// The loopback device's broadcast address.
pub const BROADCAST: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

struct Servers {
    listeners: Vec<(SocketAddr, TcpListener)>,
    sockets: Vec<(SocketAddr, UdpSocket)>,
    connections: Vec<(SocketAddr, TcpStream)>,
    answers: u64,
    hits: Vec<Hit>,
}

impl Servers {
    fn open(addresses: &[SocketAddr]) -> Result<Self> {
        let mut servers = Self {
            listeners: Vec::new(),
            sockets: Vec::new(),
            connections: Vec::new(),
            answers: 0,
            hits: Vec::new(),
        };
        for at in addresses {
            if !at.ip().is_multicast() && at.ip() != BROADCAST {
                let listener = TcpListener::bind(at).context(at)?;
                listener.set_nonblocking(true)?;
                servers.listeners.push((*at, listener));
            }
            let socket = UdpSocket::bind(at).context(at)?;
            socket.set_nonblocking(true)?;
            if let IpAddr::V4(group) = at.ip()
                && group.is_multicast()
            {
                socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).context(group)?;
            }
            servers.sockets.push((*at, socket));
        }
        Ok(servers)
    }

    fn serve(&mut self, wake: &OwnedFd, sender: &mpsc::Sender<Vec<Hit>>) {
        loop {
            let mut fds = vec![PollFd::new(wake, PollFlags::IN)];
            fds.extend(self.descriptors().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let polled = poll(&mut fds, None);
            let woken = fds.first().is_some_and(|fd| !fd.revents().is_empty());
            drop(fds);
            if polled.is_err_and(|errno| errno != rustix::io::Errno::INTR) {
                return;
            }
            self.take();
            if woken {
                let mut count = [0; 8];
                rustix::io::read(wake, &mut count).ok();
                if count != 1_u64.to_ne_bytes() {
                    return;
                }
                // Whoever has not said anything by now has nothing to say.
                self.connections.clear();
                if sender.send(std::mem::take(&mut self.hits)).is_err() {
                    return;
                }
            }
        }
    }

    fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let listeners = self.listeners.iter().map(|(_, one)| one.as_fd());
        let sockets = self.sockets.iter().map(|(_, one)| one.as_fd());
        let connections = self.connections.iter().map(|(_, one)| one.as_fd());
        listeners.chain(sockets).chain(connections)
    }

    /// Takes all that is there.
    fn take(&mut self) {
        for (at, listener) in &self.listeners {
            while let Ok((connection, _)) = listener.accept() {
                self.hits.push(Hit::Connection(*at));
                if connection.set_nonblocking(true).is_ok() {
                    self.connections.push((*at, connection));
                }
            }
        }
        let mut buffer = [0; 256];
        let hits = &mut self.hits;
        self.connections.retain_mut(|(at, connection)| match connection.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            Ok(read) if read > 0 => {
                hits.push(Hit::Said(*at, text(&buffer, read)));
                false
            }
            _ => false,
        });
        for (at, socket) in &self.sockets {
            while let Ok((read, from)) = socket.recv_from(&mut buffer) {
                let said = text(&buffer, read);
                let number = said.strip_prefix("answer ").and_then(|number| number.parse().ok());
                if number.is_some_and(|number: u64| number <= self.answers) {
                    hits.push(Hit::Answer(*at));
                    continue;
                }
                hits.push(Hit::Datagram(*at, said, from));
                self.answers += 1;
                socket.send_to(format!("answer {}", self.answers).as_bytes(), from).ok();
            }
        }
    }
}

fn text(buffer: &[u8], read: usize) -> String {
    String::from_utf8_lossy(buffer.get(..read).unwrap_or_default()).into_owned()
}
