//! The socket that another one takes the place of: who else has it.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use netns_socket::holders::{self, Witness};
use netns_socket::{Identity, PidFd, Taken, VigilError};

use crate::engine::Beside;

/// How long a holder may take to execute another program. The container's other calls wait as well.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long a child may be in the making.
const PATIENCE_FOR_NOBODY: Duration = Duration::from_millis(5);
const PAUSE: Duration = Duration::from_micros(100);

/// Looks after one socket at a time.
#[derive(Debug, Default)]
pub(super) struct Sight {
    witness: Option<Witness>,
    /// Whether the witness has something to watch over that nobody asks about any more.
    stale: bool,
    inode: Option<u64>,
}

impl Sight {
    /// Looks after this one from now on. False where that fails, such as for lack of descriptors.
    pub(super) fn keep(&mut self, socket: impl AsFd) -> bool {
        self.inode = None;
        if let Err(error) = self.watch(&socket) {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "could not watch over a socket");
            return false;
        }
        self.inode = holders::inode_of(socket).ok();
        true
    }

    fn watch(&mut self, socket: impl AsFd) -> Result<(), VigilError> {
        let witness = match self.witness.take().filter(|_| !self.stale) {
            Some(witness) => witness,
            None => Witness::new()?,
        };
        let watched = witness.watch(socket);
        (self.witness, self.stale) = (Some(witness), true);
        watched
    }

    pub(super) fn let_go(&mut self, socket: OwnedFd) -> bool {
        drop(socket);
        self.stale = self.is_open();
        self.stale
    }

    pub(super) fn is_open(&self) -> bool {
        // What cannot be told is to be looked for.
        self.witness.as_ref().is_some_and(|witness| witness.is_open().unwrap_or(true))
    }

    pub(super) fn numbers(&self, tid: i32) -> Vec<i32> {
        self.inode.map(|inode| holders::numbers_of(tid, inode)).unwrap_or_default()
    }

    /// Takes it of another process that is to keep it.
    ///
    /// Children of every program that starts others have all its sockets for a moment, until they
    /// execute. They are told from workers, as far as can be, by the flag that closes it then: one
    /// that runs in its parent's memory can do nothing else, another one is given some time. A child
    /// that is being made has copied the table before it can be seen, so nobody is given some too.
    pub(super) fn take_beside(&self, tid: i32, id: &Identity) -> Beside<OwnedFd> {
        let Some(inode) = self.inode else { return Beside::Nobody };
        let (start, mut pause) = (Instant::now(), PAUSE);
        loop {
            let mut passes = false;
            let found = holders::find_beside(tid, inode, |process, number| {
                let closes = netns_socket::read_cloexec(process, number).ok()? == Some(true);
                if closes && holders::shares_memory(tid, process) {
                    passes = true;
                    return None;
                }
                let Ok(Taken::Fd(taken)) = PidFd::open(process).ok()?.take_fd(number) else {
                    return None;
                };
                let same = Identity::of(&taken).ok()??.cookie == id.cookie;
                same.then_some((taken, closes))
            });
            let patience = match &found {
                Some((_, false)) => Duration::ZERO,
                Some((_, true)) => PATIENCE,
                None if passes => return Beside::Passes,
                None => PATIENCE_FOR_NOBODY,
            };
            if start.elapsed() >= patience {
                return found.map_or(Beside::Nobody, |(taken, _)| Beside::Keeps(taken));
            }
            drop(found);
            // To look costs more than to ask, so it is done ever less often.
            let again = Instant::now() + pause;
            while self.is_open() && Instant::now() < again {
                // The kernel tells nobody of the last close of a file.
                std::thread::sleep(PAUSE);
            }
            if !self.is_open() {
                return Beside::Nobody;
            }
            pause *= 4;
        }
    }
}
