//! The time of calls on ports that are published: of those with which a server begins, which
//! a supervisor is asked about, and of those with which it serves, which must stay what they
//! are.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recvfrom, sendto};

use crate::samples::Samples;

/// Nanoseconds for bind(2), listen(2) and close(2) of a TCP socket: the median of a server
/// that is started again and again.
///
/// # Errors
/// When a call fails, such as bind(2) at a port that is taken.
pub fn listen(port: u16) -> io::Result<f64> {
    let times = (0..LISTENS).map(|_| {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        set_socket_reuseaddr(&socket, true)?;
        let started = Instant::now();
        rustix::net::bind(&socket, &any(port))?;
        rustix::net::listen(&socket, BACKLOG)?;
        drop(socket);
        Ok(nanoseconds(started.elapsed()))
    });
    Ok(times.collect::<io::Result<Samples>>()?.median())
}

/// Nanoseconds for sendto(2) and recvfrom(2) of a UDP socket: the median of many batches, of
/// the calling thread alone.
///
/// The datagrams go to `silent`, where nobody may answer: only the calls are to count, not who
/// else gets a processor.
///
/// # Errors
/// When a call fails, such as bind(2) at a port that is taken.
pub fn exchange(port: u16, silent: SocketAddr) -> io::Result<f64> {
    let socket = UdpSocket::bind(any(port))?;
    let batches = (0..BATCHES).map(|_| {
        let started = Instant::now();
        for _ in 0..BATCH {
            sendto(&socket, b"x", SendFlags::empty(), &silent)?;
            match recvfrom(&socket, &mut [0_u8], RecvFlags::DONTWAIT) {
                Ok(_) | Err(Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(nanoseconds(started.elapsed()) / f64::from(BATCH))
    });
    Ok(batches.collect::<io::Result<Samples>>()?.median())
}

fn any(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)
}

fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

const LISTENS: u32 = 200;
const BACKLOG: i32 = 128;
/// Makes reading the clock cost nothing.
const BATCH: u32 = 100;
const BATCHES: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_take_time() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let exchange = exchange(0, silent.local_addr().unwrap()).unwrap();
        for figure in [listen(0).unwrap(), exchange] {
            assert!(figure > 0.0 && figure < 1e7, "{figure} ns");
        }
    }
}
