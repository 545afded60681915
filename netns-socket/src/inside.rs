//! Sockets inside a container's network namespace.
//!
//! An unprivileged process may enter a network namespace only by way of the user namespace that
//! owns it, and only a process with one thread may enter a user namespace. So a short-lived child
//! does it: it joins both, makes the socket, and sends it back.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::identity::{Domain, Kind, netns_cookie_of};
use crate::sys::{self, CHILD_MESSAGE, ChildPlan, Join, Open};
use crate::{SocketSpec, Within};

/// Makes a socket in the network namespace of `target`, close-on-exec.
///
/// `target` is any thread of the container, or the namespace itself. We need to own the container's user namespace (be the
/// user who created it, in its parent), or `CAP_SYS_ADMIN` in it. A target in our own user namespace
/// works with `CAP_SYS_ADMIN` there.
///
/// Costs a process, and with it a copy of our page tables and of our descriptor table, so it is
/// for what a container needs now and then, not for every connection. It blocks the calling thread
/// until the child is done, at most two seconds: the child is then killed. A socket belongs to its
/// namespace for good, so one can be made ahead and used later by any thread.
///
/// The child cannot be traced by the container, runs no signal handler of ours, sends no `SIGCHLD`,
/// and is not seen by a plain `wait`. Nothing stays behind when it fails or is killed.
///
/// # Errors
/// [`InsideError`] with the step that failed.
#[doc(alias = "setns")]
pub fn socket_inside<'a>(
    target: impl Into<Within<'a>>,
    spec: SocketSpec,
    nonblocking: bool,
) -> Result<OwnedFd, InsideError> {
    let [socket] = open_inside(target.into(), sockets(spec, nonblocking, 1))?
        .try_into()
        .or(Err(InsideError::RecvmsgCall { source: Errno::MFILE }))?;
    Ok(socket)
}

/// Makes several such sockets for the price of one [`socket_inside`]: up to `count`, at most
/// [`MAX_AT_ONCE`], and at least one.
///
/// # Errors
/// As [`socket_inside`].
pub fn sockets_inside<'a>(
    target: impl Into<Within<'a>>,
    spec: SocketSpec,
    nonblocking: bool,
    count: usize,
) -> Result<Vec<OwnedFd>, InsideError> {
    open_inside(target.into(), sockets(spec, nonblocking, count.clamp(1, MAX_AT_ONCE)))
}

fn sockets(spec: SocketSpec, nonblocking: bool, count: usize) -> Open {
    let flag = if nonblocking { libc::SOCK_NONBLOCK } else { 0 };
    Open::Sockets {
        domain: spec.domain.as_raw(),
        kind: spec.kind.as_raw() | libc::SOCK_CLOEXEC | flag,
        protocol: spec.protocol,
        count,
    }
}

/// The cookie of the network namespace of `target`, by which sockets that live in it are recognised
/// ([`Identity::netns_cookie`](crate::Identity::netns_cookie)); `None` before Linux 5.14.
///
/// What is said of [`socket_inside`] holds here too.
///
/// # Errors
/// [`InsideError`] with the step that failed.
#[doc(alias = "SO_NETNS_COOKIE")]
pub fn netns_cookie_inside<'a>(target: impl Into<Within<'a>>) -> Result<Option<u64>, InsideError> {
    // A socket of any family will do, and a supervisor may have left itself few of them.
    let spec = SocketSpec {
        domain: Domain::Other(libc::AF_NETLINK),
        kind: Kind::Other(libc::SOCK_RAW),
        protocol: libc::NETLINK_ROUTE,
    };
    Ok(netns_cookie_of(socket_inside(target, spec, true)?).ok().flatten())
}

/// The lowest port that takes no privilege to bind in the network namespace of `target`
/// (`net.ipv4.ip_unprivileged_port_start`, for both families; see [ip(7)]).
///
/// What is said of [`socket_inside`] holds here too. Container engines set it to 0 for containers
/// whose user is not root.
///
/// # Errors
/// [`InsideError`] with the step that failed.
///
/// [ip(7)]: https://man7.org/linux/man-pages/man7/ip.7.html
pub fn unprivileged_port_start<'a>(target: impl Into<Within<'a>>) -> Result<u16, InsideError> {
    let path = c"/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let [file] = open_inside(target.into(), Open::File(path))?
        .try_into()
        .or(Err(InsideError::RecvmsgCall { source: Errno::MFILE }))?;
    let mut text = [0; 8];
    let len =
        rustix::io::read(&file, &mut text).map_err(|source| InsideError::OpenCall { source })?;
    text.get(..len)
        .and_then(|text| std::str::from_utf8(text).ok())
        .and_then(|text| text.trim().parse().ok())
        .ok_or(InsideError::OpenCall { source: Errno::INVAL })
}

fn open_inside(target: Within<'_>, open: Open) -> Result<Vec<OwnedFd>, InsideError> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(|source| InsideError::SocketpairCall { source })?;
    let join = match target {
        Within::Thread(thread) => Join::Process(thread.as_fd()),
        Within::Namespace(of) => Join::Namespaces { user: of.user.as_fd(), net: of.net.as_fd() },
    };
    let plan = ChildPlan { join, report: theirs.as_fd(), open };
    let child =
        Child(sys::open_in_namespace(&plan).map_err(|source| InsideError::CloneCall { source })?);
    drop(theirs);
    child.finish()?;
    receive(ours.as_fd())
}

/// A socket could not be made inside another network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsideError {
    /// The target has exited.
    #[error("the target is gone")]
    Gone,
    /// No channel to the child could be made.
    #[error("socketpair failed")]
    SocketpairCall {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The child could not be started.
    #[error("clone failed")]
    CloneCall {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The child could not be waited for.
    #[error("waiting for the child failed")]
    WaitCall {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The child could not protect itself from being traced.
    #[error("prctl(PR_SET_DUMPABLE) failed")]
    PrctlCall {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The child could not enter the target's namespaces.
    #[error("setns failed")]
    SetnsCall {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The child could not make the socket, or open the file.
    #[error("opening failed inside the namespace")]
    OpenCall {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The socket could not be received: most likely we have no free descriptor (EMFILE).
    #[error("receiving the socket failed")]
    RecvmsgCall {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The child ended without a word: it was killed.
    #[error("the child was killed")]
    ChildKilled,
    /// The child took too long, and was killed.
    #[error("the child did not finish in time")]
    TimedOut,
}

/// A child that is reaped whatever happens.
struct Child(OwnedFd);

impl Child {
    /// Waits until the child is done.
    fn finish(self) -> Result<(), InsideError> {
        let deadline = Timespec::try_from(PATIENCE).or(Err(InsideError::TimedOut))?;
        loop {
            let mut watched = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut watched, Some(&deadline)) {
                // Dropping kills.
                Ok(0) => return Err(InsideError::TimedOut),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(source) => return Err(InsideError::WaitCall { source }),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Does nothing to a child that is done; one that is stopped or stuck would otherwise keep
        // copies of our descriptors open.
        pidfd_send_signal(&self.0, Signal::KILL).ok();
        // Children without an exit signal are waited for with __WALL only.
        let options =
            WaitIdOptions::EXITED | WaitIdOptions::from_bits_retain(libc::__WALL.cast_unsigned());
        while let Err(Errno::INTR) = waitid(WaitId::PidFd(self.0.as_fd()), options) {}
    }
}

fn receive(channel: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, InsideError> {
    let mut bytes = [0; CHILD_MESSAGE];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_AT_ONCE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut vectors = [IoSliceMut::new(&mut bytes)];
        match recvmsg(channel, &mut vectors, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => break message.bytes,
            Err(Errno::INTR) => {}
            // Nothing was sent. With the other end closed a datagram socket still says this.
            Err(Errno::AGAIN) => return Err(InsideError::ChildKilled),
            Err(source) => return Err(InsideError::RecvmsgCall { source }),
        }
    };
    let mut opened = Vec::with_capacity(MAX_AT_ONCE);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            opened.extend(descriptors);
        }
    }
    if received != CHILD_MESSAGE {
        return Err(InsideError::ChildKilled);
    }
    let [step, a, b, c, d] = bytes;
    if step == sys::STEP_DONE {
        if opened.is_empty() {
            // The kernel drops what finds no free number.
            return Err(InsideError::RecvmsgCall { source: Errno::MFILE });
        }
        return Ok(opened);
    }
    let source = Errno::from_raw_os_error(i32::from_ne_bytes([a, b, c, d]));
    match step {
        sys::STEP_PROTECT => Err(InsideError::PrctlCall { source }),
        sys::STEP_SETNS if source == Errno::SRCH => Err(InsideError::Gone),
        sys::STEP_SETNS => Err(InsideError::SetnsCall { source }),
        sys::STEP_OPEN => Err(InsideError::OpenCall { source }),
        _ => Err(InsideError::ChildKilled),
    }
}

/// The most sockets that [`sockets_inside`] makes.
pub const MAX_AT_ONCE: usize = sys::MAX_OPENED;

/// The child needs well under a millisecond; it can be slow only if somebody stops it.
const PATIENCE: Duration = Duration::from_secs(2);
