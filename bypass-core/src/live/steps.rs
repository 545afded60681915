//! connect(2) by us, and how far it got: the calls never wait.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use seccomp_notify::Errno;
use sockaddr_inspect::RawSockAddr;

use crate::engine::Step;

/// An address of a family that does not exist, long enough for every TCP socket to look at
/// the family: EAFNOSUPPORT, and nothing else happens (tcp_v4_connect, tcp_v6_connect).
pub(super) const NOWHERE: [u8; 28] = [0xff; 28];

/// Runs a call on a socket whose file the target may share, so that it cannot block.
///
/// A target that clears O_NONBLOCK at the wrong moment makes its own supervisor thread
/// wait, and nobody else's.
pub(super) fn without_waiting(
    sock: impl AsFd,
    call: impl FnOnce() -> Result<(), Errno>,
) -> Result<(), Errno> {
    let flags = rustix::fs::fcntl_getfl(&sock)?;
    if flags.contains(OFlags::NONBLOCK) {
        return call();
    }
    rustix::fs::fcntl_setfl(&sock, flags | OFlags::NONBLOCK)?;
    let result = call();
    rustix::fs::fcntl_setfl(&sock, flags).ok();
    result
}

pub(super) fn connect_at_once(
    sock: &OwnedFd,
    addr: &RawSockAddr,
    blocking: bool,
) -> Result<(), Errno> {
    match netns_socket::connect(sock, addr.as_bytes()) {
        // A second call finishes what the network answered during the first, and leaves
        // the socket in the state that a blocking connect leaves it in.
        Err(Errno::INPROGRESS) if blocking => netns_socket::connect(sock, addr.as_bytes()),
        result => result,
    }
}

pub(super) fn step(result: Result<(), Errno>, blocking: bool) -> Step {
    match result {
        Ok(()) => Step::Done,
        Err(Errno::INPROGRESS) => Step::InProgress,
        Err(Errno::ALREADY) if blocking => Step::InProgress,
        Err(errno) => Step::Failed(errno),
    }
}
