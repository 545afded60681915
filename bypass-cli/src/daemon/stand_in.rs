//! The process whose id the API and the pid files tell.
//!
//! In bypass4netnsd each bypass is a process of its own. Clients look whether it is alive, may expect
//! it to be gone once they have stopped it, and may end it themselves. No process of ours could be
//! ended for the sake of one container, so there is one that does nothing: it is there while
//! anything is bypassed.

use std::io;
use std::process::{Child, ChildStdin, ExitCode, Stdio};

use nix::sys::signal::SigSet;

use super::{STAND_IN, this_program};

/// The life of it: until our end of its input is closed. Only SIGKILL ends it earlier.
pub(super) fn stand() -> ExitCode {
    SigSet::all().thread_block().ok();
    io::copy(&mut io::stdin(), &mut io::sink()).ok();
    ExitCode::SUCCESS
}

/// Such a process.
#[derive(Debug)]
pub(super) struct StandIn {
    child: Child,
    input: Option<ChildStdin>,
}

impl StandIn {
    pub(super) fn start() -> io::Result<Self> {
        let mut child = this_program(STAND_IN).stdin(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        Ok(Self { child, input })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        drop(self.input.take());
        self.child.wait().ok();
    }
}
