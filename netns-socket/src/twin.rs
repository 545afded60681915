//! Twins: new sockets of the same kind as another one.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};

use crate::{Domain, Identity, Kind};

/// What to create: the three arguments of `socket(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketSpec {
    /// Address family.
    pub domain: Domain,
    /// Communication type, without flags.
    pub kind: Kind,
    /// Protocol number, 0 for the family's default.
    pub protocol: i32,
}

impl SocketSpec {
    /// Makes such a socket in the calling thread's network namespace, close-on-exec.
    ///
    /// # Errors
    /// What `socket(2)` said; EINVAL for numbers that no socket can have.
    pub(crate) fn create(self, nonblocking: bool) -> Result<OwnedFd, Errno> {
        let domain = u16::try_from(self.domain.as_raw()).or(Err(Errno::INVAL))?;
        let kind = u32::try_from(self.kind.as_raw()).or(Err(Errno::INVAL))?;
        let protocol = u32::try_from(self.protocol).or(Err(Errno::INVAL))?;
        let mut flags = SocketFlags::CLOEXEC;
        flags.set(SocketFlags::NONBLOCK, nonblocking);
        socket_with(
            AddressFamily::from_raw(domain),
            SocketType::from_raw(kind),
            flags,
            NonZeroU32::new(protocol).map(Protocol::from_raw),
        )
    }
}

impl From<Identity> for SocketSpec {
    fn from(id: Identity) -> Self {
        Self { domain: id.domain, kind: id.kind, protocol: id.protocol }
    }
}

/// Makes a fresh socket of the same domain, type and protocol, in the calling thread's network
/// namespace, close-on-exec.
///
/// # Errors
/// What [socket(2)] said, such as EMFILE, or EAFNOSUPPORT where this namespace's host has no IPv6.
///
/// [socket(2)]: https://man7.org/linux/man-pages/man2/socket.2.html
pub fn create_twin(id: &Identity, nonblocking: bool) -> io::Result<OwnedFd> {
    SocketSpec::from(*id).create(nonblocking).map_err(io::Error::from)
}
