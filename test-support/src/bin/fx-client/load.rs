//! Many connections: in turn, in parallel, blocked, and raced with.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, socket};
use serde_json::{Value, json};
use test_support::census::wait_connecting;
use test_support::failure::{Context, Result};
use test_support::sys;

use crate::{echo, errno_name};

/// Connect, read one byte, close, `count` times; returns percentiles in µs.
pub(crate) fn cycles(address: SocketAddr, count: usize) -> Result<Value> {
    let (mut times, mut failures) = (Vec::with_capacity(count), BTreeMap::<String, u64>::new());
    for _ in 0..count {
        let started = Instant::now();
        match one_cycle(address) {
            Ok(()) => times.push(started.elapsed()),
            Err(error) => *failures.entry(errno_name(&error)).or_default() += 1,
        }
    }
    Ok(summary(times, &failures))
}

fn one_cycle(address: SocketAddr) -> io::Result<()> {
    TcpStream::connect(address)?.read_exact(&mut [0])
}

/// One datagram and its echo over a connected socket, `count` times; returns percentiles in
/// µs. An echo that does not come is counted as `EAGAIN`.
pub(crate) fn datagrams(address: SocketAddr, count: usize) -> Result<Value> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket(family, SocketType::DGRAM, None)?;
    // Without a bind before it, as resolvers do it.
    rustix::net::connect(&socket, &address).context("connect")?;
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(ECHO_LIMIT))?;
    let (mut times, mut failures) = (Vec::with_capacity(count), BTreeMap::<String, u64>::new());
    for number in 0..count {
        let started = Instant::now();
        match one_datagram(&socket, &number.to_ne_bytes()) {
            Ok(()) => times.push(started.elapsed()),
            Err(error) => *failures.entry(errno_name(&error)).or_default() += 1,
        }
    }
    Ok(summary(times, &failures))
}

/// An echo that came too late for the datagram before is passed over.
fn one_datagram(socket: &UdpSocket, sent: &[u8]) -> io::Result<()> {
    socket.send(sent)?;
    let mut back = [0; 64];
    loop {
        let read = socket.recv(&mut back)?;
        if back.get(..read) == Some(sent) {
            return Ok(());
        }
    }
}

/// Percentiles in µs, and what failed how often.
pub(crate) fn summary(mut times: Vec<Duration>, failures: &BTreeMap<String, u64>) -> Value {
    times.sort_unstable();
    json!({
        "done": times.len(),
        "failed": failures,
        "p50_us": percentile(&times, 50),
        "p90_us": percentile(&times, 90),
        "p99_us": percentile(&times, 99),
    })
}

/// `threads` threads make `count` connections each and echo over every one.
pub(crate) fn threads(address: SocketAddr, threads: usize, count: usize) -> Result<Value> {
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            thread::spawn(move || {
                let mut errors = Vec::new();
                for _ in 0..count {
                    let talk = TcpStream::connect(address).context("connect");
                    if let Err(error) = talk.and_then(|mut stream| echo(&mut stream)) {
                        errors.push(error.to_string());
                    }
                }
                errors
            })
        })
        .collect();
    let mut errors = Vec::new();
    for worker in workers {
        errors.extend(worker.join().ok().context("a thread panicked")?);
    }
    Ok(json!({ "done": threads * count - errors.len(), "errors": errors }))
}

/// Cycles to `address`, first alone and then beside `blocked` threads that wait in
/// connect(2) for a peer that never answers.
pub(crate) fn parking(
    silent: SocketAddr,
    address: SocketAddr,
    blocked: usize,
    count: usize,
) -> Result<Value> {
    let before = cycles(address, count)?;
    block(silent, blocked)?;
    let beside = cycles(address, count)?;
    Ok(json!({ "before": before, "beside": beside }))
}

/// `count` threads wait in connect(2) until this process is killed.
pub(crate) fn blocked(silent: SocketAddr, count: usize) -> Result<Value> {
    block(silent, count)?;
    println!("{}", json!({ "blocked": count, "pid": std::process::id() }));
    loop {
        thread::park();
    }
}

/// Returns once all threads are in the call; the process's end takes them along.
fn block(silent: SocketAddr, count: usize) -> Result {
    for _ in 0..count {
        let builder = thread::Builder::new().stack_size(SMALL_STACK);
        builder.spawn(move || drop(TcpStream::connect(silent)))?;
    }
    wait_connecting(std::process::id(), count, Duration::from_secs(20))
}

/// Connects to `address` for a while, as another thread keeps exchanging what the
/// descriptor means: a fresh socket, then one that is connected to `other`.
///
/// Counts what connect returned. Neither thread may hang, and the caller looks at whether
/// `address` was reached.
pub(crate) fn race(address: SocketAddr, other: SocketAddr, millis: u64) -> Result<Value> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let connected: OwnedFd = TcpStream::connect(other)?.into();
    let slot = socket(family, SocketType::STREAM, None)?;
    let deadline = Instant::now() + Duration::from_millis(millis);
    let mut outcomes = BTreeMap::<String, u64>::new();
    let swaps = thread::scope(|scope| {
        let swapper = scope.spawn(|| -> io::Result<u64> {
            let mut swaps = 0;
            while Instant::now() < deadline {
                sys::replace(&slot, socket(family, SocketType::STREAM, None)?)?;
                sys::replace(&slot, &connected)?;
                swaps += 2;
            }
            Ok(swaps)
        });
        while Instant::now() < deadline {
            let outcome = rustix::net::connect(&slot, &address);
            let name = outcome.map_or_else(|error| errno_name(&error.into()), |()| "ok".into());
            *outcomes.entry(name).or_default() += 1;
        }
        swapper.join()
    });
    let swaps = swaps.ok().context("the swapping thread panicked")??;
    Ok(json!({ "outcomes": outcomes, "swaps": swaps }))
}

fn percentile(sorted: &[Duration], percent: usize) -> Option<f64> {
    let at = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(at).map(|time| time.as_secs_f64() * 1e6)
}

const SMALL_STACK: usize = 128 << 10;

/// For an echo, which takes less than a millisecond.
pub(crate) const ECHO_LIMIT: Duration = Duration::from_secs(1);
