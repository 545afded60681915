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
//! All of them hold one end of the same [`Channel`], whose other end is the parent's; the last
//! loses it by execve.

use std::io;

use rustix::net::SendFlags;
use serde::{Deserialize, Serialize};

use super::landlock::Landlock;
use crate::channel::Channel;
use crate::filter::Traps;

/// The names under which the steps are started; no command of the user's.
pub(super) const STEPS: [&str; 3] = ["<namespace>", "<init>", "<command>"];

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

/// Lets the first step carry on.
pub(super) fn go(control: &Channel) -> io::Result<()> {
    rustix::net::send(control, GO, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for [`go`]. False if the parent has gone.
pub(super) fn wait_for_go(control: &Channel) -> io::Result<bool> {
    let mut buf = [0; GO.len()];
    let (len, _) = rustix::net::recv(control, &mut buf, rustix::net::RecvFlags::empty())?;
    Ok(len == GO.len())
}
