//! The time of calls that no filter of ours traps, which must stay what it is.

use std::env;
use std::fs::File;
use std::hint::black_box;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Instant;

use rustix::fs::fcntl_getfl;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send};

use crate::samples::Samples;

/// The calls, in the order of [`measure`]'s figures.
pub const CALLS: [&str; 4] = [
    "close() of a plain file",
    "fcntl(F_GETFL)",
    "send() and recv() of 1 byte, UNIX socket",
    "send() and recv() of 64 bytes, TCP",
];

/// Nanoseconds per call: the medians of many batches, of the calling thread alone.
///
/// # Errors
/// When a call fails, such as by a limit on open files below 256.
pub fn measure() -> io::Result<[f64; 4]> {
    let mut figures = <[Samples; 4]>::default();
    let [close, fcntl, exchange, messages] = &mut figures;
    let file = File::open(env::current_exe()?)?;
    let (here, there) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // Over its own loopback, which delivers within the call, so that one thread is enough.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    for _ in 0..BATCHES {
        close.push(time_closes()?);
        fcntl.push(time(|| fcntl_getfl(black_box(&file)).map(drop))?);
        exchange.push(time(|| {
            send(&here, b"x", SendFlags::empty())?;
            recv(&there, &mut [0_u8], RecvFlags::empty()).map(drop)
        })?);
        messages.push(time(|| {
            send(&client, &[0; MESSAGE], SendFlags::empty())?;
            recv(&server, &mut [0_u8; MESSAGE], RecvFlags::empty()).map(drop)
        })?);
    }
    Ok(figures.map(|samples| samples.median()))
}

/// Opening takes much longer than closing, so it is kept out of the time.
fn time_closes() -> io::Result<f64> {
    let path = env::current_exe()?;
    let files = (0..BATCH).map(|_| File::open(&path)).collect::<io::Result<Vec<_>>>()?;
    let started = Instant::now();
    drop(files);
    Ok(per_call(started))
}

fn time(mut call: impl FnMut() -> rustix::io::Result<()>) -> io::Result<f64> {
    let started = Instant::now();
    for _ in 0..BATCH {
        call()?;
    }
    Ok(per_call(started))
}

fn per_call(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e9 / f64::from(BATCH)
}

/// Bytes.
const MESSAGE: usize = 64;
/// Stays below the usual limit on open files, and makes reading the clock cost nothing.
const BATCH: u32 = 200;
/// All together take some 50 ms.
const BATCHES: u32 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_takes_time() {
        for (call, figure) in CALLS.iter().zip(measure().unwrap()) {
            assert!(figure > 0.0 && figure < 1e6, "{call} takes {figure} ns");
        }
    }
}
