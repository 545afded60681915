//! This program run again: as the target of a supervisor, or as the remote.
//!
//! Its standard input is a socket to the benchmark. A target is told a number of
//! iterations and answers with the time that they took, in nanoseconds.

use std::env;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::parent_id;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use rustix::event::epoll;
use rustix::net::{AddressFamily, SocketType, connect, socket};
use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit,
};
use seccomp_notify::{Filter, Listener, pass_fd, take_fd};
use test_support::failure::{Context, Result};
use test_support::{ensure, fail};

use crate::sandbox;

/// What this program is when it is run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Tells by its exit status whether there are user namespaces.
    Probe,
    /// Is at the other end of the link, and sends one byte over every connection.
    Remote,
    /// Connects, without anybody between.
    OnHost(SocketAddr),
    /// Connects from namespaces of its own, and its connects are trapped.
    InContainer(SocketAddr),
    /// The same, with 10,000 descriptors and perhaps an epoll.
    Crowded(SocketAddr, Watching),
    /// Asks for its parent's id, and that is trapped.
    Getppid,
}

/// What a crowded program has to do with epolls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watching {
    /// Nothing.
    Nothing,
    /// It has one, for other things.
    Others,
    /// That one watches each socket, from before it connects.
    Each,
}

/// The role that the command line asks for.
pub(crate) fn requested() -> Option<Role> {
    let mut arguments = env::args().skip(1);
    if arguments.next()? != MARK {
        return None;
    }
    let name = arguments.next()?;
    let mut address = || arguments.next()?.parse().ok();
    match name.as_str() {
        "probe" => Some(Role::Probe),
        "remote" => Some(Role::Remote),
        "on-host" => address().map(Role::OnHost),
        "in-container" => address().map(Role::InContainer),
        "crowded" => address().map(|to| Role::Crowded(to, Watching::Nothing)),
        "crowded-epoll" => address().map(|to| Role::Crowded(to, Watching::Others)),
        "crowded-watched" => address().map(|to| Role::Crowded(to, Watching::Each)),
        "getppid" => Some(Role::Getppid),
        _ => None,
    }
}

impl Role {
    fn command(self) -> Result<Command> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(MARK);
        match self {
            Self::Probe => command.arg("probe"),
            Self::Remote => command.arg("remote"),
            Self::OnHost(to) => command.args(["on-host", &to.to_string()]),
            Self::InContainer(to) => command.args(["in-container", &to.to_string()]),
            Self::Crowded(to, watching) => {
                let name = match watching {
                    Watching::Nothing => "crowded",
                    Watching::Others => "crowded-epoll",
                    Watching::Each => "crowded-watched",
                };
                command.args([name, &to.to_string()])
            }
            Self::Getppid => command.arg("getppid"),
        };
        Ok(command)
    }
}

/// A running fixture; killed when dropped.
#[derive(Debug)]
pub(crate) struct Fixture {
    child: Child,
    socket: UnixStream,
}

impl Fixture {
    /// Whether there are user namespaces here.
    pub(crate) fn probe() -> Result<bool> {
        Ok(Role::Probe.command()?.stderr(Stdio::null()).status()?.success())
    }

    pub(crate) fn start(role: Role) -> Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let child = role
            .command()?
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .context("starting this program again")?;
        Ok(Self { child, socket })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Takes the listener of a target whose calls are trapped.
    pub(crate) fn listener(&self) -> Result<Listener> {
        let (_, fd) = take_fd(&self.socket, &mut [0])?;
        Ok(Listener::from_fd(fd.context("the fixture has ended")?)?)
    }

    pub(crate) fn send<const N: usize>(&mut self, bytes: [u8; N]) -> Result {
        self.socket.write_all(&bytes).context("telling the fixture")
    }

    pub(crate) fn receive<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.socket.read_exact(&mut bytes).context("the fixture has ended")?;
        Ok(bytes)
    }

    /// Tells a target to go ahead.
    pub(crate) fn order(&mut self, iterations: u64) -> Result {
        self.send(iterations.to_ne_bytes())
    }

    /// How long the iterations that were ordered took.
    pub(crate) fn took(&mut self) -> Result<Duration> {
        self.receive().map(u64::from_ne_bytes).map(Duration::from_nanos)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // It has ended by itself if it failed.
        let _gone = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Is that fixture, until the benchmark closes the socket or ends.
pub(crate) fn run(role: Role) -> Result {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    match role {
        Role::Probe => sandbox::enter_as_root(),
        Role::Remote => remote(&mut socket),
        Role::OnHost(to) => obey(&mut socket, || cycle(to)),
        Role::InContainer(to) => {
            sandbox::enter_as_root()?;
            let calls = [libc::SYS_connect, libc::SYS_bind, libc::SYS_listen];
            hand_over(&socket, trap(&calls)?)?;
            obey(&mut socket, || cycle(to))
        }
        Role::Crowded(to, watching) => {
            sandbox::enter_as_root()?;
            let calls =
                [libc::SYS_connect, libc::SYS_bind, libc::SYS_listen, libc::SYS_epoll_create1];
            hand_over(&socket, trap(&calls)?)?;
            let crowd = crowd()?;
            // Nobody answers that call before the first order.
            let mut epoll = None;
            obey(&mut socket, || {
                if epoll.is_none() && watching != Watching::Nothing {
                    epoll = Some(epoll::create(epoll::CreateFlags::CLOEXEC)?);
                }
                cycle_watched(to, epoll.as_ref().filter(|_| watching == Watching::Each))
            })?;
            drop(crowd);
            Ok(())
        }
        Role::Getppid => {
            hand_over(&socket, trap(&[libc::SYS_getppid])?)?;
            obey(&mut socket, || {
                ensure!(parent_id() == ANSWER, "the call was not trapped");
                Ok(())
            })
        }
    }
}

fn trap(calls: &[libc::c_long]) -> Result<Listener> {
    let filter = calls.iter().try_fold(Filter::allow_all(), |filter, call| {
        Ok::<_, std::num::TryFromIntError>(filter.notify(i32::try_from(*call)?))
    });
    Ok(filter?.install()?)
}

/// Nobody but the supervisor may hold the listener: at its end our calls are to fail.
fn hand_over(socket: &UnixStream, listener: Listener) -> Result {
    pass_fd(socket, listener.as_fd(), b"L").context("handing over the listener")
}

fn obey(socket: &mut UnixStream, mut call: impl FnMut() -> Result) -> Result {
    loop {
        let mut iterations = [0; 8];
        if socket.read_exact(&mut iterations).is_err() {
            return Ok(());
        }
        let started = Instant::now();
        for _ in 0..u64::from_ne_bytes(iterations) {
            call()?;
        }
        let took = u64::try_from(started.elapsed().as_nanos())?;
        socket.write_all(&took.to_ne_bytes())?;
    }
}

/// Connect, one byte, close.
fn cycle(to: SocketAddr) -> Result {
    TcpStream::connect(to).context("connect")?.read_exact(&mut [0]).context("one byte")
}

/// Most of what a busy server has open.
fn crowd() -> Result<Vec<OwnedFd>> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let one = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    (0..10_000).map(|_| Ok(one.try_clone()?)).collect()
}

/// As [`cycle`], with a socket that an epoll watches from the start.
fn cycle_watched(to: SocketAddr, epoll: Option<&OwnedFd>) -> Result {
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    if let Some(epoll) = epoll {
        epoll::add(epoll, &stream, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    }
    connect(&stream, &to).context("connect")?;
    TcpStream::from(stream).read_exact(&mut [0]).context("one byte")
}

/// Enters a network namespace, waits for its device, and serves there.
fn remote(socket: &mut UnixStream) -> Result {
    unshare(CloneFlags::CLONE_NEWNET).context("network namespace")?;
    socket.write_all(&[0])?;
    socket.read_exact(&mut [0])?;
    sandbox::set_up_device(sandbox::REMOTE)?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.write_all(&listener.local_addr()?.port().to_ne_bytes())?;
    for stream in listener.incoming() {
        // A client that is gone is its own affair.
        drop(stream?.write_all(b"x"));
    }
    fail!("the remote has stopped listening");
}

/// What the trapped getppid(2) is answered with.
pub(crate) const ANSWER: u32 = 4711;

const MARK: &str = "--fixture";
