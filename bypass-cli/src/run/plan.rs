//! What the steps of `run` tell each other.
//!
//! The parent starts this program again as a chain of three steps, each of which lives
//! in one more namespace than the one before and is a fresh, small, single-threaded
//! process: no step forks, so none needs to reason about the state of another.
//!
//! ```text
//! parent ── namespace ── init ── command
//!  host      user, net,   pid 1   filter, Landlock,
//!            mount        /proc   then execve
//! ```
//!
//! All of them hold one end of the same SOCK_SEQPACKET pair, whose other end is the
//! parent's; the last loses it by execve. A message is one packet of JSON, with at most
//! one descriptor beside it.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::net::SendFlags;
use serde::{Deserialize, Serialize};

use super::landlock::Landlock;
use crate::filter::Traps;

/// The names under which the steps are started; no command of the user's.
pub(super) const STEPS: [&str; 3] = ["<namespace>", "<init>", "<command>"];

/// Longest message, far beyond what any of them needs.
const MAX_MESSAGE: usize = 4096;

/// What the steps need to know, handed on from each to the next.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Number of the descriptor of the pair's other end.
    pub(super) control: i32,
    /// The process that must still be there when a step has tied its life to it.
    pub(super) parent: u32,
    pub(super) map_root: bool,
    /// What the filter traps beyond the usual.
    pub(super) traps: Traps,
    /// What /etc/resolv.conf shall say, if not what it says already.
    pub(super) resolv_conf: Option<String>,
}

/// From the steps to the parent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// The namespaces stand, with this process in them: a network may be attached, and
    /// then [`GO`] is awaited.
    Namespaces { pid: u32 },
    /// The filter is installed; its listener comes along.
    Listener { netns_cookie: Option<u64>, landlock: Landlock, signals: Landlock },
    /// The command's process; its pidfd comes along.
    Command,
    /// execve failed with this errno.
    ExecFailed { errno: i32 },
    /// A step failed, with a full sentence for the user.
    Failed { what: String },
    /// The command ended: its exit status, with 128 + n for a signal.
    Exited { status: u8 },
}

/// From the parent to the first step: carry on.
pub(super) const GO: &[u8] = b"go";

/// One end of the pair.
#[derive(Debug)]
pub(super) struct Control(OwnedFd);

impl Control {
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (ours, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(ours), Self(theirs)))
    }

    /// The end that was inherited under this number.
    pub(super) fn inherited(number: i32) -> io::Result<Self> {
        crate::inherited::take(number).map(Self)
    }

    /// Makes the end survive one execve; returns its number.
    pub(super) fn pass_on(&self) -> io::Result<i32> {
        rustix::io::fcntl_setfd(&self.0, rustix::io::FdFlags::empty())?;
        Ok(self.0.as_raw_fd())
    }

    pub(super) fn send(&self, message: &Message, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let json = serde_json::to_vec(message)?;
        match fd {
            Some(fd) => seccomp_notify::pass_fd(&self.0, fd, &json).map_err(io::Error::other)?,
            None => {
                rustix::net::send(&self.0, &json, SendFlags::NOSIGNAL)?;
            }
        }
        Ok(())
    }

    /// The next message; `None` when no step is left.
    pub(super) fn receive(&self) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
        let mut buf = [0; MAX_MESSAGE];
        let (len, fd) = seccomp_notify::take_fd(&self.0, &mut buf).map_err(io::Error::other)?;
        if len == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(buf.get(..len).unwrap_or_default())?;
        Ok(Some((message, fd)))
    }

    pub(super) fn go(&self) -> io::Result<()> {
        rustix::net::send(&self.0, GO, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for [`go`](Self::go). False if the parent has gone.
    pub(super) fn wait_for_go(&self) -> io::Result<bool> {
        let mut buf = [0; GO.len()];
        let (len, _) = rustix::net::recv(&self.0, &mut buf, rustix::net::RecvFlags::empty())?;
        Ok(len == GO.len())
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
