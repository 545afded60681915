//! Sockets and processes that come and go: a great many for one command.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendFlags, SocketType, connect, connect_unspec, send, sendto, socket,
};
use serde_json::{Value, json};
use test_support::ensure;
use test_support::failure::{Context, Result};

use crate::errno_name;
use crate::load::ECHO_LIMIT;

/// `count` UDP sockets, connected to one address after the other, where they send, and dissolved
/// between them. Each begins at the next address and is closed one call later than the one before.
pub(crate) fn moves(count: usize, addresses: &[SocketAddr]) -> Result<Value> {
    let mut outcomes = Outcomes::default();
    for number in 0..count {
        let calls = number % (CALLS * addresses.len() + 1);
        let socket = datagram_socket(addresses)?;
        for call in 0..calls {
            let at = (number + call / CALLS) % addresses.len();
            let address = addresses.get(at).context("no address")?;
            match call % CALLS {
                0 => outcomes.note(connect(&socket, address)),
                1 => outcomes.note(send(&socket, b"moved", SendFlags::NOSIGNAL)),
                _ => outcomes.note(connect_unspec(&socket)),
            }
        }
    }
    Ok(outcomes.told(count))
}

/// connect, send and dissolve.
const CALLS: usize = 3;

/// `count` UDP sockets that send without being connected, to one address after the other; every
/// fourth sends to the next one as well.
pub(crate) fn sends(count: usize, addresses: &[SocketAddr]) -> Result<Value> {
    let mut outcomes = Outcomes::default();
    for number in 0..count {
        let socket = datagram_socket(addresses)?;
        let datagrams = if number % 4 == 3 { 2 } else { 1 };
        for address in addresses.iter().cycle().skip(number % addresses.len()).take(datagrams) {
            outcomes.note(sendto(&socket, b"sent", SendFlags::NOSIGNAL, address));
        }
    }
    Ok(outcomes.told(count))
}

fn datagram_socket(addresses: &[SocketAddr]) -> Result<OwnedFd> {
    let v6 = addresses.iter().any(SocketAddr::is_ipv6);
    let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    Ok(socket(family, SocketType::DGRAM, None)?)
}

/// `count` UDP clients, one after the other, of a server that echoes.
pub(crate) fn askers(address: SocketAddr, count: usize) -> Result<Value> {
    let (mut done, mut failed) = (0, BTreeMap::<String, u64>::new());
    for number in 0..count {
        match ask(address, &number.to_ne_bytes()) {
            Ok(true) => done += 1,
            Ok(false) => *failed.entry("another's echo".into()).or_default() += 1,
            Err(error) => *failed.entry(errno_name(&error)).or_default() += 1,
        }
    }
    Ok(json!({ "done": done, "failed": failed }))
}

fn ask(address: SocketAddr, question: &[u8]) -> io::Result<bool> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = UdpSocket::from(socket(family, SocketType::DGRAM, None)?);
    socket.connect(address)?;
    socket.set_read_timeout(Some(ECHO_LIMIT))?;
    socket.send(question)?;
    let mut back = [0; 64];
    let read = socket.recv(&mut back)?;
    Ok(back.get(..read) == Some(question))
}

/// `count` times a server at `own` and a client of it, which sends to `remote` too, are killed at
/// any moment of their lives.
pub(crate) fn killings(own: SocketAddr, remote: SocketAddr, count: usize) -> Result<Value> {
    let program = std::env::current_exe()?;
    let (own, remote) = (own.to_string(), remote.to_string());
    let any = format!("[::]:{}", own.rsplit_once(':').context("a port")?.1);
    let mut random = Random(0x9e37_79b9);
    for _ in 0..count {
        let server = Command::new(program.with_file_name("fx-server"))
            .args(["--mode", "byte", "--quiet", &any, "--udp", &any])
            .stdout(Stdio::piped())
            .spawn()?;
        let client = Command::new(&program).args(["busy", &own, &remote]).spawn()?;
        // No wait for anything: what they do at that moment is what is random.
        thread::sleep(Duration::from_micros(random.below(LONGEST_LIFE)));
        let mut victims = [server, client];
        if random.below(2) == 0 {
            victims.reverse();
        }
        victims.iter_mut().try_for_each(Child::kill)?;
        for victim in victims {
            let told = String::from_utf8(victim.wait_with_output()?.stdout)?;
            ensure!(!told.contains("failed "), "the server: {told}");
        }
    }
    Ok(json!({ "done": count }))
}

/// Connects to `own` and sends to `remote`, all the time and whatever comes of it.
pub(crate) fn busy(own: SocketAddr, remote: SocketAddr) -> Result<Value> {
    thread::spawn(move || {
        loop {
            sends(1, &[remote]).map_or_else(drop, drop);
            ask(own, b"anybody?").map_or_else(drop, drop);
        }
    });
    loop {
        let byte = TcpStream::connect(own).and_then(|mut stream| stream.read(&mut [0]));
        byte.map_or_else(drop, drop);
    }
}

/// In µs: starting a program is the smaller part of it.
const LONGEST_LIFE: u64 = 20_000;

/// Marsaglia's xorshift: the same sequence every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// How calls ended, by the name of the errno.
#[derive(Debug, Default)]
struct Outcomes(BTreeMap<String, u64>);

impl Outcomes {
    fn note<T>(&mut self, result: rustix::io::Result<T>) {
        let name = result.map_or_else(|error| errno_name(&error.into()), |_value| "ok".into());
        *self.0.entry(name).or_default() += 1;
    }

    fn told(&self, done: usize) -> Value {
        json!({ "done": done, "outcomes": self.0 })
    }
}
