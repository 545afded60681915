//! How processes of ours that start each other talk: a SOCK_SEQPACKET pair. A message is one packet of
//! JSON, with at most one descriptor beside it.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::net::SendFlags;
use seccomp_notify::TakeFdError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message. A request of the daemon's API is no longer than a quarter of it, and the kernel
/// takes no more in one packet by default (`net.core.wmem_default`).
const MAX_MESSAGE: usize = 192 * 1024;

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (ours, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(ours), Self(theirs)))
    }

    /// The end that was inherited under this number.
    pub(crate) fn inherited(number: i32) -> io::Result<Self> {
        crate::inherited::take(number).map(Self)
    }

    /// Makes the end survive one execve; returns its number.
    pub(crate) fn pass_on(&self) -> io::Result<i32> {
        rustix::io::fcntl_setfd(&self.0, rustix::io::FdFlags::empty())?;
        Ok(self.0.as_raw_fd())
    }

    /// The same end once more.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.0, true)?)
    }

    pub(crate) fn send(
        &self,
        message: &impl Serialize,
        fd: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let json = serde_json::to_vec(message)?;
        match fd {
            Some(fd) => seccomp_notify::pass_fd(&self.0, fd, &json).map_err(io::Error::other)?,
            None => {
                rustix::net::send(&self.0, &json, SendFlags::NOSIGNAL)?;
            }
        }
        Ok(())
    }

    /// The next message; `None` when nobody has the other end any more.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        let mut buf = vec![0; MAX_MESSAGE];
        let (len, fd) = match seccomp_notify::take_fd(&self.0, &mut buf) {
            Ok(received) => received,
            Err(TakeFdError::RecvMsgCall { source }) => return Err(source.into()),
            Err(error) => return Err(io::Error::other(error)),
        };
        if len == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(buf.get(..len).unwrap_or_default())?;
        Ok(Some((message, fd)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
