//! How much of one thing is done in a time, and how long one thing takes: for the benchmark report.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::ensure;
use test_support::failure::{Context, Result};

use crate::load::summary;

/// `clients` threads connect, read to the end and close for a while; returns how often they did.
///
/// The server closes first, so that the port which stays taken for a minute is on its side.
pub(crate) fn connections(address: SocketAddr, clients: usize, millis: u64) -> Result<Value> {
    let started = Instant::now();
    let deadline = started + Duration::from_millis(millis);
    let client = move || -> io::Result<u64> {
        let mut done = 0;
        while Instant::now() < deadline {
            let read = TcpStream::connect(address)?.read_to_end(&mut Vec::new())?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            done += 1;
        }
        Ok(done)
    };
    let clients: Vec<_> = (0..clients).map(|_| thread::spawn(client)).collect();
    let mut done = 0;
    for client in clients {
        done += client.join().ok().context("a thread panicked")?.context("a connection")?;
    }
    Ok(json!({ "done": done, "seconds": started.elapsed().as_secs_f64() }))
}

/// 64 bytes and their echo over one connection, `count` times; returns percentiles in µs.
pub(crate) fn requests(address: SocketAddr, count: usize) -> Result<Value> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        stream.write_all(&[b'x'; 64])?;
        stream.read_exact(&mut [0; 64])?;
        times.push(started.elapsed());
    }
    Ok(summary(times, &[].into()))
}

/// Opens and closes a file, `count` times each of a few; returns percentiles in µs of one open and
/// close.
pub(crate) fn opens(path: &str, count: u32) -> Result<Value> {
    let batches = (0..BATCHES).map(|_| {
        let started = Instant::now();
        for _ in 0..count {
            drop(File::open(path)?);
        }
        Ok(started.elapsed() / count)
    });
    Ok(summary(batches.collect::<io::Result<_>>()?, &[].into()))
}

/// Runs a command that must end with 0, `count` times; returns percentiles in µs.
pub(crate) fn commands(count: usize, words: &[&str]) -> Result<Value> {
    let (program, arguments) = words.split_first().context("no command")?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        let mut command = Command::new(program);
        let status = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        times.push(started.elapsed());
        ensure!(status.success(), "{program} ended with {status}");
    }
    Ok(summary(times, &[].into()))
}

const BATCHES: u32 = 20;
