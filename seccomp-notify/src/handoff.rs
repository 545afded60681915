//! Receiving a listener from an OCI runtime.
//!
//! With `listenerPath` in its seccomp profile a container's runtime connects to that UNIX stream
//! socket, sends one JSON object, the [container process state], and beside it descriptors, which
//! the object's `fds` array names. It waits for no answer.
//!
//! A stream may split the object anywhere, and ends it with nothing: where it ends is found by
//! [`ObjectEnd`]. Runtimes differ in what they fill in; only what is needed here is required.
//!
//! [container process state]: https://github.com/opencontainers/runtime-spec/blob/main/runtime.md#containerprocessstate

mod object_end;
mod state;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use thiserror::Error;

use crate::error::OpenError;
use crate::listener::Listener;
use crate::pass_fd::{MAX_FDS, receive};
use crate::sys;
use object_end::ObjectEnd;
pub use state::{ContainerProcessState, State};

/// A listener, whose it is, and who brought it.
#[derive(Debug)]
pub struct Handoff {
    /// The listener of the new container process.
    pub listener: Listener,
    /// What the runtime says about the process.
    pub state: ContainerProcessState,
    /// Who connected.
    pub peer: PeerCred,
}

/// The process at the other end of a socket, as of its connect(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "SO_PEERCRED")]
pub struct PeerCred {
    /// Process id; 0 if it is not visible in our PID namespace.
    pub pid: i32,
    /// User id, in our user namespace.
    pub uid: u32,
    /// Group id, in our user namespace.
    pub gid: u32,
}

/// Receives what an OCI runtime sends over a connection, within `deadline` from now.
///
/// Takes at most 1 MiB of JSON, in as many pieces as it comes, and at most 16 descriptors, all of
/// them close-on-exec. The first one that `fds` calls `seccompFd` becomes the listener, the others
/// are closed. Bytes after the object are ignored. The stream itself may be blocking or not; it
/// must not have SO_PASSPIDFD or SO_PASSSEC set.
///
/// `deadline` is for the whole exchange: a sender that dribbles gains no time.
///
/// # Errors
///
/// [`HandoffError`]; all received descriptors are then closed.
#[doc(alias = "listenerPath")]
pub fn receive_handoff(stream: impl AsFd, deadline: Duration) -> Result<Handoff, HandoffError> {
    let stream = stream.as_fd();
    let cred = sys::peer_credentials(stream)
        .map_err(|source| HandoffError::PeerCredentialsCall { source })?;
    let peer = PeerCred { pid: cred.pid, uid: cred.uid, gid: cred.gid };

    let (json, fds) = receive_all(stream, deadline)?;
    let state: ContainerProcessState =
        serde_json::from_slice(&json).map_err(|source| HandoffError::NotJson { source })?;
    if state.fds.len() != fds.len() {
        return Err(HandoffError::FdCountMismatch { named: state.fds.len(), received: fds.len() });
    }
    let fd = state
        .fds
        .iter()
        .zip(fds)
        .find_map(|(name, fd)| (name == SECCOMP_FD_NAME).then_some(fd))
        .ok_or(HandoffError::NoSeccompFd)?;
    let listener = Listener::from_fd(fd).map_err(|source| HandoffError::NotAListener { source })?;
    Ok(Handoff { listener, state, peer })
}

/// No listener could be received from a runtime.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HandoffError {
    /// SO_PEERCRED failed: not a connected UNIX socket.
    #[error("getsockopt(SO_PEERCRED) failed")]
    PeerCredentialsCall {
        /// What getsockopt(2) gave.
        #[source]
        source: Errno,
    },
    /// poll(2) failed.
    #[error("poll failed")]
    PollCall {
        /// What poll(2) gave.
        #[source]
        source: Errno,
    },
    /// recvmsg(2) failed.
    #[error("recvmsg failed")]
    RecvMsgCall {
        /// What recvmsg(2) gave.
        #[source]
        source: Errno,
    },
    /// The deadline passed before the object was complete.
    #[error("container process state was not complete in time")]
    Timeout,
    /// The object is longer than 1 MiB.
    #[error("container process state is longer than 1 MiB")]
    TooLarge,
    /// The peer closed the connection without a byte.
    #[error("peer closed the connection")]
    PeerClosed,
    /// What came is not a container process state. If the connection ended within the object, the
    /// source says so.
    #[error("container process state is malformed")]
    NotJson {
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// More than 16 descriptors came in one message, or our own descriptor table is full: the
    /// kernel has discarded some, so that names and descriptors no longer match.
    #[error("received descriptors were discarded by the kernel")]
    ControlTruncated,
    /// More than 16 descriptors came in several messages.
    #[error("more than 16 descriptors were sent")]
    TooManyFds,
    /// There are not as many names as descriptors.
    #[error("{named} descriptors are named, {received} were received")]
    FdCountMismatch {
        /// Length of the `fds` array.
        named: usize,
        /// Number of descriptors.
        received: usize,
    },
    /// None of the descriptors is called `seccompFd`.
    #[error("no descriptor is named seccompFd")]
    NoSeccompFd,
    /// The descriptor called `seccompFd` cannot be used as a listener.
    #[error("seccompFd is no usable listener")]
    NotAListener {
        /// Why.
        #[source]
        source: OpenError,
    },
}

/// Everything up to the end of the object or of the stream.
fn receive_all(
    stream: BorrowedFd<'_>,
    deadline: Duration,
) -> Result<(Vec<u8>, Vec<OwnedFd>), HandoffError> {
    let start = Instant::now();
    let mut chunk = [0; 8192];
    let (mut json, mut fds) = (Vec::new(), Vec::new());
    let mut end = ObjectEnd::new();
    loop {
        wait_readable(stream, start, deadline)?;
        let mut too_many = false;
        let received = receive(stream, &mut chunk, RecvFlags::DONTWAIT, |fd| {
            if fds.len() < MAX_FDS {
                fds.push(fd);
            } else {
                too_many = true;
            }
        });
        let received = match received {
            Ok(received) => received,
            // Another reader of the same socket was quicker.
            Err(Errno::AGAIN | Errno::INTR) => continue,
            Err(Errno::CONNRESET) if json.is_empty() => return Err(HandoffError::PeerClosed),
            Err(source) => return Err(HandoffError::RecvMsgCall { source }),
        };
        if received.truncated {
            return Err(HandoffError::ControlTruncated);
        }
        if too_many {
            return Err(HandoffError::TooManyFds);
        }
        let bytes = chunk.get(..received.bytes).unwrap_or_default();
        if bytes.is_empty() {
            // What is there may yet be a good object to the parser; if not, it says why.
            return if json.is_empty() { Err(HandoffError::PeerClosed) } else { Ok((json, fds)) };
        }
        let (object, complete) = match end.find(bytes) {
            Some(len) => (bytes.get(..len).unwrap_or_default(), true),
            None => (bytes, false),
        };
        if json.len() + object.len() > MAX_JSON {
            return Err(HandoffError::TooLarge);
        }
        json.extend_from_slice(object);
        if complete {
            return Ok((json, fds));
        }
    }
}

/// Returns when there is something to receive, be it the end of the stream.
fn wait_readable(
    stream: BorrowedFd<'_>,
    start: Instant,
    deadline: Duration,
) -> Result<(), HandoffError> {
    loop {
        let left = deadline.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(HandoffError::Timeout);
        }
        // A time beyond the kernel's range means for ever.
        let timeout = Timespec::try_from(left).ok();
        let mut polled = [PollFd::from_borrowed_fd(stream, PollFlags::IN)];
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(0) => return Err(HandoffError::Timeout),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(source) => return Err(HandoffError::PollCall { source }),
        }
    }
}

/// The longest object accepted, in bytes. Real ones are a few kilobytes: they hold the
/// container's annotations.
const MAX_JSON: usize = 1 << 20;

/// The name the runtime specification gives to the listener.
const SECCOMP_FD_NAME: &str = "seccompFd";
