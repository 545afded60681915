//! One descriptor over a UNIX stream socket, with a few bytes beside it.
//!
//! For a program's own use, as between a child that installs a filter and the parent that serves
//! it. What an OCI runtime sends is for [`receive_handoff`](crate::receive_handoff).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use thiserror::Error;

/// Sends `payload` with a descriptor attached to its first byte.
///
/// Blocks as `stream` does. A receiver that has gone gives EPIPE, without a signal.
///
/// # Errors
///
/// [`PassFdError`]; after [`PassFdError::Short`] the descriptor has been sent.
///
/// See [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
#[doc(alias = "SCM_RIGHTS")]
pub fn pass_fd(stream: impl AsFd, fd: BorrowedFd<'_>, payload: &[u8]) -> Result<(), PassFdError> {
    // On a stream, a descriptor needs a byte to ride on.
    if payload.is_empty() {
        return Err(PassFdError::EmptyPayload);
    }
    let fds = [fd];
    let sent = retry_on_intr(|| {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(Errno::NOBUFS);
        }
        let iov = [IoSlice::new(payload)];
        rustix::net::sendmsg(&stream, &iov, &mut control, SendFlags::NOSIGNAL)
    })
    .map_err(|source| PassFdError::SendMsgCall { source })?;
    if sent < payload.len() {
        return Err(PassFdError::Short { sent });
    }
    Ok(())
}

/// Receives into `buf`; gives the number of bytes (0 at the end of the stream) and the descriptor
/// that came with them, close-on-exec. Further descriptors are closed.
///
/// Blocks as `stream` does. The bytes may be fewer than were sent at once; a descriptor comes with
/// the first of them.
///
/// # Errors
///
/// [`TakeFdError`].
#[doc(alias = "SCM_RIGHTS")]
pub fn take_fd(stream: impl AsFd, buf: &mut [u8]) -> Result<(usize, Option<OwnedFd>), TakeFdError> {
    if buf.is_empty() {
        return Err(TakeFdError::EmptyBuffer);
    }
    let mut first = None;
    let received = retry_on_intr(|| {
        receive(stream.as_fd(), buf, RecvFlags::empty(), |fd| {
            first.get_or_insert(fd);
        })
    })
    .map_err(|source| TakeFdError::RecvMsgCall { source })?;
    if received.truncated && first.is_none() {
        return Err(TakeFdError::ControlTruncated);
    }
    Ok((received.bytes, first))
}

/// Something could not be sent with its descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PassFdError {
    /// A stream carries no descriptor without at least one byte.
    #[error("no bytes to send the descriptor with")]
    EmptyPayload,
    /// sendmsg(2) failed.
    #[error("sendmsg failed")]
    SendMsgCall {
        /// What sendmsg(2) gave.
        #[source]
        source: Errno,
    },
    /// The socket took only part of the payload.
    #[error("only {sent} bytes of the payload were sent")]
    Short {
        /// How many.
        sent: usize,
    },
}

/// Nothing could be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TakeFdError {
    /// With a buffer of no bytes the end of the stream cannot be told from data.
    #[error("no space to receive into")]
    EmptyBuffer,
    /// recvmsg(2) failed.
    #[error("recvmsg failed")]
    RecvMsgCall {
        /// What recvmsg(2) gave.
        #[source]
        source: Errno,
    },
    /// A descriptor was sent, but our own descriptor table is full.
    #[error("received descriptor was discarded by the kernel")]
    ControlTruncated,
}

/// The most descriptors one receive accepts; the kernel closes what is beyond.
pub(crate) const MAX_FDS: usize = 16;

/// What one receive gave, its descriptors aside.
pub(crate) struct Chunk {
    pub(crate) bytes: usize,
    /// The kernel had to discard descriptors.
    pub(crate) truncated: bool,
}

/// One recvmsg(2), every descriptor close-on-exec and handed to `each`.
pub(crate) fn receive(
    stream: BorrowedFd<'_>,
    buf: &mut [u8],
    flags: RecvFlags,
    mut each: impl FnMut(OwnedFd),
) -> Result<Chunk, Errno> {
    // Room for credentials too, which a caller's SO_PASSCRED would put here before descriptors.
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [IoSliceMut::new(buf)];
    let message =
        rustix::net::recvmsg(stream, &mut iov, &mut control, flags | RecvFlags::CMSG_CLOEXEC)?;
    for item in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = item {
            fds.for_each(&mut each);
        }
    }
    Ok(Chunk { bytes: message.bytes, truncated: message.flags.contains(ReturnFlags::CTRUNC) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn descriptor_and_bytes_arrive() {
        let (a, b) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        pass_fd(&a, file.as_fd(), b"hello").unwrap();
        let mut buf = [0; 16];
        let (len, fd) = take_fd(&b, &mut buf).unwrap();
        assert_eq!(&buf[..len], b"hello");
        let fd = fd.unwrap();
        assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        assert_eq!(
            rustix::fs::fstat(&fd).unwrap().st_rdev,
            rustix::fs::fstat(&file).unwrap().st_rdev
        );
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn bytes_without_descriptor_and_the_end() {
        let (a, b) = UnixStream::pair().unwrap();
        rustix::io::write(&a, b"x").unwrap();
        drop(a);
        let mut buf = [0; 4];
        assert!(matches!(take_fd(&b, &mut buf), Ok((1, None))));
        assert!(matches!(take_fd(&b, &mut buf), Ok((0, None))));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn nothing_to_ride_on() {
        let (a, b) = UnixStream::pair().unwrap();
        assert_eq!(pass_fd(&a, b.as_fd(), b""), Err(PassFdError::EmptyPayload));
        assert!(matches!(take_fd(&b, &mut []), Err(TakeFdError::EmptyBuffer)));
        drop(b);
        let gone = PassFdError::SendMsgCall { source: Errno::PIPE };
        assert_eq!(pass_fd(&a, a.as_fd(), b"x"), Err(gone));
    }
}
