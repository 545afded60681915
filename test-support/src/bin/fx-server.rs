//! A server for tests: answers TCP and UDP in one of a few simple ways.
//!
//! ```text
//! fx-server [--mode echo|byte|http|sink|reset|peer] [--quiet] [--reuseport] [--workers N]
//!           [--v6only 0|1] [--detach] [--udp ADDR]... ADDR...
//! ```
//!
//! It prints `listening ADDR` for each address, then `ready`, then `peer ADDR`
//! for every TCP connection and the first datagram of every UDP sender. With workers, each
//! is a process that binds every address and prints all of this. They end with the first
//! process, and before it. With `--detach` the process that has bound everything leaves it to
//! a child and ends. A server that cannot go on prints `failed WHY`.

#![expect(clippy::print_stdout, reason = "what it prints is its interface")]

use std::collections::HashSet;
use std::env;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use rustix::net::sockopt::{
    set_ipv6_v6only, set_socket_linger, set_socket_reuseaddr, set_socket_reuseport,
};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
use rustix::process::{kill_process, set_parent_process_death_signal};
use test_support::failure::{Context, Result};
use test_support::process::pid_of;
use test_support::{ensure, fail, sys};

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Everything is sent back.
    Echo,
    /// One byte is sent and the connection closed.
    Byte,
    /// A request is read and answered with `hello`.
    Http,
    /// Everything is read and dropped.
    Sink,
    /// The connection is reset as soon as something was received.
    Reset,
    /// The address that the client is seen with is sent, a space, our process id.
    Peer,
}

/// How sockets are bound.
#[derive(Debug, Clone, Copy, Default)]
struct Options {
    reuseport: bool,
    v6only: Option<bool>,
    detach: bool,
}

fn main() -> Result {
    let ended = run();
    if let Err(why) = &ended {
        println!("failed {why}");
    }
    ended
}

fn run() -> Result {
    let (mut mode, mut quiet, mut workers) = (Mode::Echo, false, 0);
    let (mut options, mut addresses) = (Options::default(), Vec::new());
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().context(format!("{argument} takes a value"));
        match argument.as_str() {
            "--mode" => mode = parse_mode(&value()?)?,
            "--quiet" => quiet = true,
            "--reuseport" => options.reuseport = true,
            "--detach" => options.detach = true,
            "--workers" => workers = value()?.parse()?,
            "--v6only" => options.v6only = Some(value()? == "1"),
            "--udp" => addresses.push((SocketType::DGRAM, value()?.parse()?)),
            address => addresses.push((SocketType::STREAM, address.parse().context(address)?)),
        }
    }
    if workers > 0 && !is_worker(workers)? {
        return Ok(());
    }
    serve_all(&addresses, options, mode, quiet)
}

/// Forks the workers; true in each of them. The first process returns when it was told to
/// end and all workers have ended, so that with its end their sockets are closed.
fn is_worker(count: usize) -> Result<bool> {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGCHLD].into_iter().collect();
    // Blocked before the first child exists, so that none can be missed.
    signals.thread_block()?;
    let mut workers = Vec::new();
    for _ in 0..count {
        let Some(child) = sys::fork()? else {
            set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            signals.thread_unblock()?;
            return Ok(true);
        };
        workers.push(pid_of(child)?);
    }
    let told = signals.wait()?;
    for worker in &workers {
        // One that has ended already is no failure.
        let _gone = kill_process(*worker, rustix::process::Signal::KILL);
    }
    for _ in &workers {
        nix::sys::wait::wait()?;
    }
    ensure!(told == Signal::SIGTERM, "a worker ended");
    Ok(false)
}

fn parse_mode(name: &str) -> Result<Mode> {
    Ok(match name {
        "echo" => Mode::Echo,
        "byte" => Mode::Byte,
        "http" => Mode::Http,
        "sink" => Mode::Sink,
        "reset" => Mode::Reset,
        "peer" => Mode::Peer,
        _ => fail!("no mode `{name}`"),
    })
}

fn serve_all(
    addresses: &[(SocketType, SocketAddr)],
    options: Options,
    mode: Mode,
    quiet: bool,
) -> Result {
    let mut sockets = Vec::new();
    for (kind, address) in addresses {
        let socket = bound(*kind, *address, options).context(address)?;
        if *kind == SocketType::STREAM {
            listen(&socket, BACKLOG).context(address)?;
        }
        println!("listening {}", SocketAddr::try_from(getsockname(&socket)?)?);
        sockets.push((*kind, socket));
    }
    // Before the first thread, which a child would not have.
    if options.detach && sys::fork()?.is_some() {
        return Ok(());
    }
    let start = |(kind, socket): (SocketType, OwnedFd)| {
        thread::spawn(move || match kind {
            SocketType::DGRAM => answer_datagrams(&UdpSocket::from(socket), mode),
            _ => serve(&TcpListener::from(socket), mode, quiet),
        })
    };
    let threads: Vec<_> = sockets.into_iter().map(start).collect();
    println!("ready");
    for thread in threads {
        thread.join().ok().context("a server thread ended")?.context("serving")?;
    }
    Ok(())
}

fn bound(kind: SocketType, address: SocketAddr, options: Options) -> Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket(family, kind, None).context("socket")?;
    if kind == SocketType::STREAM {
        set_socket_reuseaddr(&socket, true)?;
    }
    set_socket_reuseport(&socket, options.reuseport)?;
    if let (Some(v6only), true) = (options.v6only, address.is_ipv6()) {
        set_ipv6_v6only(&socket, v6only)?;
    }
    bind(&socket, &address).context("bind")?;
    Ok(socket)
}

fn serve(listener: &TcpListener, mode: Mode, quiet: bool) -> io::Result<()> {
    loop {
        let (mut stream, peer) = listener.accept()?;
        if !quiet {
            println!("peer {}", canonical(peer));
        }
        // A client that is gone is its affair.
        match mode {
            // Not on a thread of its own: it is measured.
            Mode::Byte => drop((&stream).write_all(b"x")),
            Mode::Peer => drop(stream.write_all(introduction(peer).as_bytes())),
            _ => drop(thread::spawn(move || talk(stream, mode))),
        }
    }
}

fn introduction(peer: SocketAddr) -> String {
    format!("{} {}\n", canonical(peer), std::process::id())
}

fn talk(mut stream: TcpStream, mode: Mode) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        let received = buffer.get(..read).unwrap_or_default();
        match mode {
            Mode::Echo => stream.write_all(received)?,
            Mode::Http if received.ends_with(b"\r\n\r\n") => return stream.write_all(ANSWER),
            // Closing with a lingering time of nothing resets.
            Mode::Reset => return Ok(set_socket_linger(&stream, Some(Duration::ZERO))?),
            _ => {}
        }
    }
}

fn answer_datagrams(socket: &UdpSocket, mode: Mode) -> io::Result<()> {
    let (mut buffer, mut known) = (vec![0; 1 << 16], HashSet::new());
    loop {
        let (read, peer) = socket.recv_from(&mut buffer)?;
        if known.insert(peer) {
            println!("peer {}", canonical(peer));
        }
        if mode == Mode::Peer {
            socket.send_to(introduction(peer).as_bytes(), peer)?;
        } else {
            socket.send_to(buffer.get(..read).unwrap_or_default(), peer)?;
        }
    }
}

/// An IPv4 client of a dual-stack socket is shown as IPv4.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

const ANSWER: &[u8] = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello\n";

/// As in the standard library, which is what servers in Rust listen with.
const BACKLOG: i32 = 128;
