//! Pinning: a socket bound for good to one network device.
//!
//! A socket that is bound to no device may be bound to one without privilege (Linux 5.7). After
//! that, a change needs `CAP_NET_RAW` in the user namespace that owns the socket's network
//! namespace. So whoever receives a pinned host socket without that capability can reach only
//! what the device reaches; in particular not the host's loopback, by no call.

use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::options::{SO_BINDTOIFINDEX, SOL_SOCKET};
use crate::{SockOptError, sys};

/// Proof that a socket was pinned: only [`pin()`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Pinned {
    ifindex: u32,
}

impl Pinned {
    /// The device, by its index in the socket's network namespace.
    #[must_use]
    pub fn ifindex(self) -> u32 {
        self.ifindex
    }
}

/// Pins a socket to the device with index `ifindex` in the socket's network namespace.
///
/// The kernel does not check that the device exists; a socket pinned to a device that does not
/// reaches nothing. Connections are unaffected by the device's name. See `SO_BINDTODEVICE` in
/// [socket(7)].
///
/// # Errors
/// [`PinError::AlreadyPinned`] if the socket is bound to a device and we lack `CAP_NET_RAW` over its
/// network namespace, [`PinError::Unsupported`] before Linux 5.7, [`PinError::NoDevice`] for an
/// index that no device can have. On any error the socket is *not* pinned to `ifindex`.
///
/// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
#[doc(alias = "SO_BINDTOIFINDEX")]
pub fn pin(fd: impl AsFd, ifindex: u32) -> Result<Pinned, PinError> {
    // 0 means *no* device: it would undo a pin, or be taken for one.
    if ifindex == 0 {
        return Err(PinError::NoDevice { ifindex });
    }
    let Ok(index) = i32::try_from(ifindex) else {
        return Err(PinError::NoDevice { ifindex });
    };
    match sys::setsockopt(fd.as_fd(), SOL_SOCKET, SO_BINDTOIFINDEX, &index.to_ne_bytes()) {
        Ok(()) => Ok(Pinned { ifindex }),
        Err(Errno::PERM) => Err(PinError::AlreadyPinned),
        Err(Errno::NOPROTOOPT) => Err(PinError::Unsupported),
        Err(source) => Err(PinError::SetsockoptCall { source }),
    }
}

/// The index of the device a socket is bound to, 0 for none.
///
/// # Errors
/// [`SockOptError::Get`].
pub fn pinned_to(fd: impl AsFd) -> Result<u32, SockOptError> {
    let mut index = [0_u8; 4];
    sys::getsockopt(fd.as_fd(), SOL_SOCKET, SO_BINDTOIFINDEX, &mut index)
        .map_err(|source| SockOptError::Get { option: "SO_BINDTOIFINDEX", source })?;
    Ok(u32::from_ne_bytes(index))
}

/// A socket could not be pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// No device has that index.
    #[error("{ifindex} is not a device index")]
    NoDevice {
        /// What was given.
        ifindex: u32,
    },
    /// The socket is bound to a device already and we may not change that.
    #[error("the socket is bound to a device already")]
    AlreadyPinned,
    /// The kernel is older than 5.7 and has no such option.
    #[error("the kernel cannot bind a socket to a device index")]
    Unsupported,
    /// The call failed.
    #[error("setsockopt(SO_BINDTOIFINDEX) failed")]
    SetsockoptCall {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
}
