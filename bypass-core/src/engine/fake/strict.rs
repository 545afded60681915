//! What a stricter run asks of the fake world besides: to remember every deed on a socket,
//! to change under the engine's feet, and to see that nothing is done on the word of a thread
//! that may be gone.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sockaddr_inspect::RawSockAddr;

use super::{Fake, FakeSock, HOST};
use crate::ports::Choice;

/// Something done to a socket, which is shown as it was before.
#[derive(Clone, Debug)]
pub(in crate::engine) enum Deed {
    /// It was asked to connect. `held`: the target has it, or had it.
    Connect {
        sock: FakeSock,
        to: SocketAddr,
        held: bool,
    },
    Bind {
        sock: FakeSock,
        to: SocketAddr,
        held: bool,
    },
    /// `instead` is the one that it is to replace.
    BindPublished {
        sock: FakeSock,
        instead: Option<FakeSock>,
        choice: Choice,
    },
    Listen {
        sock: FakeSock,
        published: bool,
    },
    /// `to` is where it went, be it the peer.
    Send {
        sock: FakeSock,
        to: SocketAddr,
    },
    Dissolve {
        sock: FakeSock,
    },
    /// It was given to the target.
    Install {
        sock: FakeSock,
    },
}

/// What another thread of the container does in the middle of a call.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) enum Race {
    /// Puts a socket at a number, as dup2(2) does.
    Replace {
        fd: i32,
        sock: usize,
    },
    Close {
        fd: i32,
    },
    Write {
        at: u64,
        name: RawSockAddr,
    },
}

/// Off by default.
#[derive(Debug, Default)]
pub(in crate::engine) struct Strict {
    pub(in crate::engine) on: bool,
    pub(in crate::engine) deeds: Vec<Deed>,
    /// Sockets that the target has or had: it may have duplicates.
    pub(in crate::engine) held: HashSet<usize>,
    /// What was taken last in this call.
    pub(in crate::engine) taken: Option<usize>,
    /// The address that was copied last in this call.
    pub(in crate::engine) read: Option<RawSockAddr>,
    /// How often the world said in this call that nobody waits.
    pub(in crate::engine) gone: usize,
    /// At which step of the call, and what.
    pub(in crate::engine) races: Vec<(u8, Race)>,
    steps: u8,
    /// Something was read of the target, and not yet whether it still waits.
    unproven: bool,
}

impl Strict {
    /// Another call begins.
    pub(in crate::engine) fn begin(&mut self) {
        (self.steps, self.unproven, self.gone) = (0, false, 0);
        (self.taken, self.read) = (None, None);
    }

    pub(super) fn reads(&mut self) {
        self.unproven = true;
    }

    pub(super) fn proves(&mut self, alive: bool) {
        self.unproven &= !alive;
    }

    /// Something is done that somebody can tell.
    pub(super) fn acts(&self) {
        assert!(!self.on || !self.unproven, "done on the word of a thread that may be gone");
    }
}

impl Fake {
    /// Time for the others.
    pub(super) fn meanwhile(&mut self) {
        let now = self.strict.steps;
        self.strict.steps = now.saturating_add(1);
        while let Some(at) = self.strict.races.iter().position(|(step, _)| *step == now) {
            match self.strict.races.swap_remove(at).1 {
                Race::Replace { fd, sock } => {
                    self.strict.held.insert(sock);
                    self.table.insert(fd, sock);
                }
                Race::Close { fd } => {
                    self.table.remove(&fd);
                }
                Race::Write { at, name } => {
                    self.memory.insert(at, name);
                }
            }
        }
    }

    pub(super) fn remember(&mut self, sock: usize, deed: impl FnOnce(FakeSock, bool) -> Deed) {
        if self.strict.on {
            let held = self.strict.held.contains(&sock);
            self.strict.deeds.push(deed(self.socks[sock].clone(), held));
        }
    }

    /// The peer that a connection to this address comes to have.
    pub(super) fn peer_of(&self, sock: usize, to: SocketAddr) -> SocketAddr {
        if !self.strict.on || !to.ip().to_canonical().is_unspecified() {
            return to;
        }
        let local = self.socks[sock].local.ip();
        let ip = match (to.ip().to_canonical(), local.to_canonical()) {
            (IpAddr::V4(_), IpAddr::V4(ip)) if !ip.is_unspecified() => local,
            (IpAddr::V6(_), IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
            _ if to.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
            _ => Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
        };
        SocketAddr::new(ip, to.port())
    }

    /// A connection chooses the address of a socket that has none.
    pub(super) fn bind_by_connection(&mut self, sock: usize, peer: SocketAddr) {
        let fake = &mut self.socks[sock];
        if !self.strict.on || fake.local.port() != 0 {
            return;
        }
        let port = u16::try_from(sock % 10_000).unwrap_or(0) + 40_000;
        let v4 = match (peer.ip().to_canonical().is_loopback(), fake.netns) {
            (true, _) => Ipv4Addr::LOCALHOST,
            (false, HOST) => Ipv4Addr::new(198, 18, 0, 1),
            (false, _) => Ipv4Addr::new(10, 0, 2, 100),
        };
        let ip = match (fake.local, peer.ip().to_canonical()) {
            (SocketAddr::V4(_), _) => v4.into(),
            (SocketAddr::V6(_), IpAddr::V4(_)) => v4.to_ipv6_mapped().into(),
            (SocketAddr::V6(_), IpAddr::V6(ip)) if ip.is_loopback() => ip.into(),
            (SocketAddr::V6(_), IpAddr::V6(_)) => IpAddr::from([0xfd; 16]),
        };
        fake.local = SocketAddr::new(ip, port);
        self.unbinds_with_connection.insert(sock);
    }

    /// The address that a connection chose goes with it.
    pub(in crate::engine) fn unbind_with_connection(&mut self, sock: usize) {
        if self.unbinds_with_connection.contains(&sock) {
            let domain = self.socks[sock].domain;
            self.socks[sock].local = super::any(domain);
        }
    }
}
