//! Descriptors that whoever started us left open under a number.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Takes the descriptor with this number, close-on-exec. The original is closed, so that the
/// other end of a pipe sees the end of ours.
pub(crate) fn take(number: i32) -> io::Result<OwnedFd> {
    // A number alone proves nothing about who owns it; a duplicate that the kernel makes is ours.
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    let fd = pidfd_getfd(own, number, PidfdGetfdFlags::empty())?;
    nix::unistd::close(number)?;
    Ok(fd)
}
