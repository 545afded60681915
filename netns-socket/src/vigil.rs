//! Whether a socket that was given away is still open anywhere.
//!
//! A descriptor of one's own would keep the socket open and so could never tell. An epoll can: it
//! holds no reference to what it watches, and forgets a file when the last descriptor of it, in
//! whatever process, is closed. Its fdinfo shows what it still knows.
//!
//! The socket calls the epoll back with every wake-up: 0.15 µs for each datagram of a UDP socket
//! ([`open_udp_sockets`](crate::open_udp_sockets) avoids that), nothing that matters for a listener.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::epoll as ep;
use rustix::io::Errno;

use crate::epoll;

/// Watches over any number of open files without keeping them open.
#[derive(Debug)]
pub struct Vigil {
    epoll: OwnedFd,
    next: AtomicU64,
}

/// One file under a [`Vigil`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Watched(u64);

/// A file could not be watched, or the watched ones not be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VigilError {
    /// No epoll descriptor.
    #[error("epoll_create failed")]
    EpollCreateCall {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The file could not be registered: ENOSPC is the user's limit (`max_user_watches` in
    /// [epoll(7)](https://man7.org/linux/man-pages/man7/epoll.7.html)).
    #[error("epoll_ctl failed")]
    EpollCtlCall {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The list could not be read.
    #[error("reading the epoll's fdinfo failed")]
    ReadFdinfo {
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

impl Vigil {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// [`VigilError::EpollCreateCall`], such as EMFILE.
    pub fn new() -> Result<Self, VigilError> {
        let epoll = ep::create(ep::CreateFlags::CLOEXEC)
            .map_err(|source| VigilError::EpollCreateCall { source })?;
        Ok(Self { epoll, next: AtomicU64::new(0) })
    }

    /// Watches the open file of this descriptor, which may be closed afterwards. It must be of a
    /// kind that epoll takes, as sockets are.
    ///
    /// # Errors
    /// [`VigilError::EpollCtlCall`]; EEXIST if this very descriptor is watched already.
    pub fn watch(&self, file: impl AsFd) -> Result<Watched, VigilError> {
        let watched = Watched(self.next.fetch_add(1, Ordering::Relaxed));
        // Nobody waits on it, so no event matters.
        ep::add(&self.epoll, file, ep::EventData::new_u64(watched.0), ep::EventFlags::ET)
            .map_err(|source| VigilError::EpollCtlCall { source })?;
        Ok(watched)
    }

    /// The files that some process still has open.
    ///
    /// # Errors
    /// [`VigilError::ReadFdinfo`].
    pub fn open(&self) -> Result<Vec<Watched>, VigilError> {
        let path = format!("/proc/thread-self/fdinfo/{}", self.epoll.as_raw_fd());
        let mut open = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| epoll::each_data(file, |data| open.push(Watched(data))))
            .map_err(|source| VigilError::ReadFdinfo { source })?;
        Ok(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn a_socket_is_open_until_its_last_descriptor_is_closed() {
        let vigil = Vigil::new().unwrap();
        let [first, second] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let copy = first.try_clone().unwrap();
        let watched = vigil.watch(&first).unwrap();
        let other = vigil.watch(&second).unwrap();
        drop(first);
        assert_eq!(vigil.open().unwrap().len(), 2);
        drop(copy);
        assert_eq!(vigil.open().unwrap(), [other]);
        assert_ne!(watched, other);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn the_number_of_a_closed_descriptor_may_be_watched_again() {
        let vigil = Vigil::new().unwrap();
        let mut kept = Vec::new();
        for _ in 0..3 {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let passed_on = socket.try_clone().unwrap();
            vigil.watch(&passed_on).unwrap();
            // As after passing it to another process: the number becomes free, the file lives.
            drop(passed_on);
            kept.push(socket);
        }
        assert_eq!(vigil.open().unwrap().len(), 3);
    }
}
