//! A server for tests: answers TCP and UDP in one of a few simple ways.
//!
//! ```text
//! fx-server [--mode echo|byte|http|sink|reset] [--quiet] [--udp ADDR]... ADDR...
//! ```
//!
//! It prints `listening ADDR` for each address, then `ready`, then `peer ADDR`
//! for every TCP connection and the first datagram of every UDP sender.

#![expect(clippy::print_stdout, reason = "what it prints is its interface")]

use std::collections::HashSet;
use std::env;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use test_support::failure::{Context, Result};

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
}

fn main() -> Result {
    let (mut mode, mut quiet) = (Mode::Echo, false);
    let mut threads = Vec::new();
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--mode" => mode = parse_mode(&arguments.next().context("--mode takes a value")?)?,
            "--quiet" => quiet = true,
            "--udp" => {
                let address = arguments.next().context("--udp takes an address")?;
                let socket = UdpSocket::bind(&address).context(&address)?;
                println!("listening {}", socket.local_addr()?);
                threads.push(thread::spawn(move || echo_datagrams(&socket)));
            }
            address => {
                let listener = TcpListener::bind(address).context(address)?;
                println!("listening {}", listener.local_addr()?);
                threads.push(thread::spawn(move || serve(&listener, mode, quiet)));
            }
        }
    }
    println!("ready");
    for thread in threads {
        thread.join().ok().context("a server thread ended")?.context("serving")?;
    }
    Ok(())
}

fn parse_mode(name: &str) -> Result<Mode> {
    Ok(match name {
        "echo" => Mode::Echo,
        "byte" => Mode::Byte,
        "http" => Mode::Http,
        "sink" => Mode::Sink,
        "reset" => Mode::Reset,
        _ => test_support::fail!("no mode `{name}`"),
    })
}

fn serve(listener: &TcpListener, mode: Mode, quiet: bool) -> io::Result<()> {
    loop {
        let (stream, peer) = listener.accept()?;
        if !quiet {
            println!("peer {}", canonical(peer));
        }
        match mode {
            // Not on a thread of its own: it is measured. A client that is gone is its affair.
            Mode::Byte => drop((&stream).write_all(b"x")),
            _ => drop(thread::spawn(move || talk(stream, mode))),
        }
    }
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

fn echo_datagrams(socket: &UdpSocket) -> io::Result<()> {
    let (mut buffer, mut known) = (vec![0; 1 << 16], HashSet::new());
    loop {
        let (read, peer) = socket.recv_from(&mut buffer)?;
        if known.insert(peer) {
            println!("peer {}", canonical(peer));
        }
        socket.send_to(buffer.get(..read).unwrap_or_default(), peer)?;
    }
}

/// An IPv4 client of a dual-stack socket is shown as IPv4.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

const ANSWER: &[u8] = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello\n";
