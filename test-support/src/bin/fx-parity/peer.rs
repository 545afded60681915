//! The other end of the sequences: one thread, so that what it has seen to is in order.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, bind, getsockname,
    listen, recv, recvfrom, send, sendto, socket_with, sockopt,
};
use test_support::failure::{Context, Failure, Result};

/// The ports that it serves, each by both families.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peers {
    /// Sends back what it gets, by TCP and UDP; a connection that the client has shut down is
    /// closed.
    pub(crate) echo: u16,
    /// Says something to each connection and closes it.
    pub(crate) bye: u16,
    /// Resets each connection.
    pub(crate) reset: u16,
    /// Answers a byte with that byte, once it has seen to all else that has come in.
    pub(crate) sync: u16,
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{},{}", self.echo, self.bye, self.reset, self.sync)
    }
}

impl FromStr for Peers {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        let ports: Vec<u16> =
            text.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?;
        let [echo, bye, reset, sync] = ports[..] else { test_support::fail!("four ports") };
        Ok(Self { echo, bye, reset, sync })
    }
}

/// What a descriptor of the peer's is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Listener(Manner),
    Datagrams,
    Connection(Manner),
}

/// How a connection is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Echo,
    Bye,
    Reset,
    Sync,
}

/// Serves until it is killed.
pub(crate) fn serve() -> Result {
    let (echo, port) = listener(0)?;
    let mut all = vec![(Role::Listener(Manner::Echo), echo)];
    let datagrams = fresh(SocketType::DGRAM)?;
    bind(&datagrams, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    all.push((Role::Datagrams, datagrams));
    let mut further = |manner| -> Result<u16> {
        let (socket, port) = listener(0)?;
        all.push((Role::Listener(manner), socket));
        Ok(port)
    };
    let (bye, reset) = (further(Manner::Bye)?, further(Manner::Reset)?);
    let peers = Peers { echo: port, bye, reset, sync: further(Manner::Sync)? };
    println!("{peers}");
    loop {
        while turn(&mut all, false, Some(Duration::ZERO))? {}
        turn(&mut all, true, Some(Duration::ZERO))?;
        wait(&all, None)?;
    }
}

/// Sees to what is ready, either to those that ask about it or to all others; whether there was
/// anything.
fn turn(all: &mut Vec<(Role, OwnedFd)>, syncs: bool, limit: Option<Duration>) -> Result<bool> {
    let ready = wait(all, limit)?;
    let (mut kept, mut any) = (Vec::new(), false);
    for ((role, socket), ready) in all.drain(..).zip(ready) {
        if !ready || syncs != (role == Role::Connection(Manner::Sync)) {
            kept.push((role, socket));
            continue;
        }
        any = true;
        match role {
            Role::Listener(manner) => {
                if let Ok(connection) = accept_with(&socket, SocketFlags::NONBLOCK) {
                    greet(manner, connection, &mut kept);
                }
                kept.push((role, socket));
            }
            Role::Datagrams => {
                let mut buffer = [0; 2048];
                if let Ok((_, length, Some(from))) =
                    recvfrom(&socket, buffer.as_mut_slice(), RecvFlags::DONTWAIT)
                {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    // Who is gone needs no answer.
                    let _refused = sendto(&socket, bytes, SendFlags::DONTWAIT, &from);
                }
                kept.push((role, socket));
            }
            Role::Connection(_) => {
                let mut buffer = [0; 2048];
                let bytes = match recv(&socket, buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                    Ok((0, _)) => continue,
                    Ok((length, _)) => buffer.get(..length).unwrap_or_default(),
                    Err(Errno::AGAIN) => Default::default(),
                    Err(_reset) => continue,
                };
                if bytes.is_empty() || send(&socket, bytes, SendFlags::NOSIGNAL).is_ok() {
                    kept.push((role, socket));
                }
            }
        }
    }
    *all = kept;
    Ok(any)
}

fn greet(manner: Manner, connection: OwnedFd, kept: &mut Vec<(Role, OwnedFd)>) {
    match manner {
        Manner::Echo | Manner::Sync => kept.push((Role::Connection(manner), connection)),
        Manner::Bye => {
            let _gone = send(&connection, b"bye", SendFlags::NOSIGNAL);
        }
        Manner::Reset => {
            let _gone = sockopt::set_socket_linger(&connection, Some(Duration::ZERO));
        }
    }
}

fn wait(all: &[(Role, OwnedFd)], limit: Option<Duration>) -> Result<Vec<bool>> {
    let mut fds: Vec<_> = all.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)).collect();
    let limit = limit.map(Timespec::try_from).transpose()?;
    match poll(&mut fds, limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(io::Error::from(errno)).context("poll"),
    }
    Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect())
}

fn fresh(kind: SocketType) -> Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET6, kind, flags, None)?;
    sockopt::set_ipv6_v6only(&socket, false)?;
    Ok(socket)
}

fn listener(port: u16) -> Result<(OwnedFd, u16)> {
    let socket = fresh(SocketType::STREAM)?;
    bind(&socket, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    listen(&socket, 64)?;
    let port = SocketAddr::try_from(getsockname(&socket)?)?.port();
    Ok((socket, port))
}
