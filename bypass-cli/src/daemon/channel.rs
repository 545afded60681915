//! What the two processes of the daemon tell each other.
//!
//! They hold the ends of a SOCK_SEQPACKET pair. A message is one packet of JSON, with at most one
//! descriptor beside it; to each request there is one reply, with the same number.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use ipnet::IpNet;
use rustix::net::SendFlags;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The longest message. A request of the API is no longer than a quarter of it, and the kernel takes
/// no more in one packet by default (`net.core.wmem_default`).
const MAX_MESSAGE: usize = 192 * 1024;

/// From the process that serves the API to the one that serves containers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Numbered<T> {
    pub(super) number: u64,
    pub(super) message: T,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// The descriptor beside it is the log of the next bypass.
    Log { id: String },
    /// Serve a container, whose runtime connects to the descriptor beside it. None with this id is
    /// served.
    Serve(Bypass),
    /// Serve it no longer, whether it runs or not.
    Stop { id: String },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Bypass {
    pub(super) id: String,
    /// Where the socket is, to be removed at the end.
    pub(super) socket: PathBuf,
    /// In the grammar of `-p`.
    pub(super) publish: Vec<String>,
    pub(super) ignore: Vec<IpNet>,
    /// Ignore the networks that the container is in, too.
    pub(super) ignore_own: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// To nothing in particular, once: requests may come.
    Ready,
    /// Instead of that; the sentence is for the user.
    Failed {
        what: String,
    },
    Done,
    Refused {
        what: String,
    },
}

/// One end.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
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

    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.0, true)?)
    }

    pub(super) fn send(
        &self,
        number: u64,
        message: &impl Serialize,
        fd: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let json = serde_json::to_vec(&Numbered { number, message })?;
        match fd {
            Some(fd) => seccomp_notify::pass_fd(&self.0, fd, &json).map_err(io::Error::other)?,
            None => {
                rustix::net::send(&self.0, &json, SendFlags::NOSIGNAL)?;
            }
        }
        Ok(())
    }

    /// The next message; `None` when the other process has gone.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<Received<T>>> {
        let mut buf = vec![0; MAX_MESSAGE];
        let (len, fd) = match seccomp_notify::take_fd(&self.0, &mut buf) {
            Ok(received) => received,
            Err(seccomp_notify::TakeFdError::RecvMsgCall { source }) => return Err(source.into()),
            Err(error) => return Err(io::Error::other(error)),
        };
        if len == 0 {
            return Ok(None);
        }
        let Numbered { number, message } =
            serde_json::from_slice(buf.get(..len).unwrap_or_default())?;
        Ok(Some(Received { number, message, fd }))
    }
}

#[derive(Debug)]
pub(super) struct Received<T> {
    pub(super) number: u64,
    pub(super) message: T,
    pub(super) fd: Option<OwnedFd>,
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
