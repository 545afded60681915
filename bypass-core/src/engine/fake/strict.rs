//! What a stricter run asks of the fake world besides: to remember every deed on a socket of the
//! host, to change under the engine's feet, and to see that nothing is done on the word of a thread
//! that may be gone.

use std::collections::HashSet;
use std::net::SocketAddr;

use sockaddr_inspect::RawSockAddr;

use super::{Fake, FakeSock, HOST};
use crate::ports::Choice;

/// Something done to a socket of the host, which is shown as it was before.
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

    /// Remembers what is done to a socket of the host.
    pub(super) fn remember(&mut self, sock: usize, deed: impl FnOnce(FakeSock, bool) -> Deed) {
        if self.strict.on && self.socks[sock].netns == HOST {
            let held = self.strict.held.contains(&sock);
            self.strict.deeds.push(deed(self.socks[sock].clone(), held));
        }
    }

    /// A connection chooses the address of a socket that has none.
    pub(super) fn bind_by_connection(&mut self, sock: usize) {
        let fake = &mut self.socks[sock];
        if !self.strict.on || fake.local.port() != 0 {
            return;
        }
        let port = u16::try_from(sock % 10_000).unwrap_or(0) + 40_000;
        let host = fake.netns == HOST;
        let ip: std::net::IpAddr = match fake.local {
            SocketAddr::V4(_) => if host { [198, 18, 0, 1] } else { [10, 0, 2, 100] }.into(),
            SocketAddr::V6(_) => if host { [0xfd; 16] } else { [0xfc; 16] }.into(),
        };
        fake.local = SocketAddr::new(ip, port);
        self.unbinds_with_connection.insert(sock);
    }

    /// The address that a connection chose goes with it.
    pub(in crate::engine) fn unbind_with_connection(&mut self, sock: usize) {
        if self.unbinds_with_connection.contains(&sock) {
            self.socks[sock].local.set_port(0);
        }
    }
}
