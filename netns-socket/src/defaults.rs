//! What a fresh socket's options read as: the yardstick for "changed".
//!
//! Read once per kind of socket from a socket made in the reader's own namespace. Defaults that
//! are per-namespace settings (`tcp_keepalive_time`, `ip_default_ttl`) may differ in a container;
//! such an option then counts as changed and is copied, so that the program keeps the value it can
//! see.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use rustix::io::Errno;

use crate::options::{
    MAX_VALUE, OPTIONS, Opt, Read, SO_BUF_LOCK, SO_RCVBUF, SO_SNDBUF, SOL_SOCKET, Sockets,
};
use crate::twin::SocketSpec;
use crate::{Domain, Identity, Kind, SockOptError, sys};

/// Defaults of TCP and UDP sockets over IPv4 and IPv6, each kind read when first needed.
#[derive(Debug, Default)]
pub struct Defaults {
    kinds: [OnceLock<Box<[Row]>>; 4],
}

impl Defaults {
    /// Nothing read yet.
    ///
    /// The first thread that needs a kind of socket reads it in *its* network namespace.
    #[must_use]
    pub const fn new() -> Self {
        Self { kinds: [const { OnceLock::new() }; 4] }
    }

    /// The defaults shared by the whole process.
    #[must_use]
    pub fn global() -> &'static Self {
        static GLOBAL: Defaults = Defaults::new();
        &GLOBAL
    }

    /// Reads the defaults of sockets like `id` now, so that no later capture has to.
    ///
    /// # Errors
    /// [`SockOptError::Socket`] if this kernel or namespace has no such sockets.
    pub fn prepare(&self, id: &Identity) -> Result<(), SockOptError> {
        self.rows(id).map(drop)
    }

    /// The rows to read of a socket like `id`; `None` if it is neither TCP nor UDP.
    pub(crate) fn rows(&self, id: &Identity) -> Result<Option<&[Row]>, SockOptError> {
        let Some(on) = class(id) else { return Ok(None) };
        let slot = match on {
            Sockets::TCP4 => 0,
            Sockets::TCP6 => 1,
            Sockets::UDP4 => 2,
            _ => 3,
        };
        let Some(slot) = self.kinds.get(slot) else { return Ok(None) };
        if let Some(rows) = slot.get() {
            return Ok(Some(rows));
        }
        // Threads that race read the same; a failure is not kept.
        let rows = measure(SocketSpec::from(*id), on)?;
        Ok(Some(slot.get_or_init(|| rows)))
    }
}

/// An option that a capture reads, with what it reads as on a fresh socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) index: u8,
    pub(crate) opt: &'static Opt,
    pub(crate) default: Value,
}

/// Which of the table's kinds of socket this is.
pub(crate) fn class(id: &Identity) -> Option<Sockets> {
    Some(match (id.domain, id.is_tcp(), id.is_udp()) {
        (Domain::Inet, true, _) => Sockets::TCP4,
        (Domain::Inet6, true, _) => Sockets::TCP6,
        (Domain::Inet, _, true) => Sockets::UDP4,
        (Domain::Inet6, _, true) => Sockets::UDP6,
        _ => return None,
    })
}

/// Whether the kernel has no such option, or not on this kind of socket.
pub(crate) fn absent(errno: Errno) -> bool {
    matches!(errno, Errno::NOPROTOOPT | Errno::OPNOTSUPP)
}

fn measure(spec: SocketSpec, on: Sockets) -> Result<Box<[Row]>, SockOptError> {
    let fresh = spec.create(false).map_err(|source| SockOptError::Socket { source })?;
    let fresh = fresh.as_fd();
    let mut rows = Vec::with_capacity(OPTIONS.len());
    let mut buffers_known = false;
    for (index, opt) in (0_u8..).zip(OPTIONS) {
        let locked_by_hand = opt.level == SOL_SOCKET
            && matches!(opt.number, SO_SNDBUF | SO_RCVBUF)
            && !buffers_known;
        let wanted = match opt.read {
            Read::Always | Read::UnlessV6Only | Read::ForListening | Read::WherePrivileged => true,
            Read::OnDemand => locked_by_hand,
            Read::Memory | Read::Never => false,
        };
        if !wanted || !opt.on.meets(on) {
            continue;
        }
        let default = match Value::read(fresh, opt) {
            Ok(default) => default,
            Err(errno) if absent(errno) => continue,
            Err(source) => return Err(SockOptError::Get { option: opt.name, source }),
        };
        if opt.level == SOL_SOCKET && opt.number == SO_BUF_LOCK {
            buffers_known = true;
        }
        if opt.read == Read::WherePrivileged && default.is_zero() && !may_raise(fresh, opt) {
            continue;
        }
        rows.push(Row { index, opt, default });
    }
    Ok(rows.into_boxed_slice())
}

/// Whether we may set to 1 what is 0. The socket is thrown away, so nothing is put back.
fn may_raise(fresh: BorrowedFd<'_>, opt: &Opt) -> bool {
    sys::setsockopt(fresh, opt.level, opt.number, &1_i32.to_ne_bytes()).is_ok()
}

/// The value of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    len: u8,
    bytes: [u8; MAX_VALUE],
}

impl Value {
    pub(crate) const EMPTY: Self = Self { len: 0, bytes: [0; MAX_VALUE] };

    pub(crate) fn read(fd: BorrowedFd<'_>, opt: &Opt) -> Result<Self, Errno> {
        let mut bytes = [0; MAX_VALUE];
        // Every row's size is at most MAX_VALUE, which a test of the table checks.
        let buffer = bytes.get_mut(..opt.width.size()).unwrap_or_default();
        let len = sys::getsockopt(fd, opt.level, opt.number, buffer)?;
        Ok(Self { len: u8::try_from(len).unwrap_or(0), bytes })
    }

    pub(crate) fn from_int(value: i32) -> Self {
        let mut bytes = [0; MAX_VALUE];
        for (to, from) in bytes.iter_mut().zip(value.to_ne_bytes()) {
            *to = from;
        }
        Self { len: 4, bytes }
    }

    pub(crate) fn as_int(&self) -> i32 {
        let [a, b, c, d, ..] = self.bytes;
        i32::from_ne_bytes([a, b, c, d])
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.as_bytes().iter().all(|byte| *byte == 0)
    }
}

impl Identity {
    /// The identity of no socket in particular, for [`Defaults::prepare`].
    #[must_use]
    pub fn kind_only(domain: Domain, kind: Kind, protocol: i32) -> Self {
        Self { domain, kind, protocol, cookie: 0, netns_cookie: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_survive_the_round_trip() {
        for value in [0, 1, -1, i32::MIN, i32::MAX] {
            assert_eq!(Value::from_int(value).as_int(), value);
            assert_eq!(Value::from_int(value).is_zero(), value == 0);
        }
        assert!(Value::EMPTY.is_zero() && Value::EMPTY.as_bytes().is_empty());
    }

    #[test]
    fn other_sockets_have_no_rows() {
        let id = Identity::kind_only(Domain::Other(libc::AF_UNIX), Kind::Stream, 0);
        assert!(Defaults::new().rows(&id).unwrap().is_none());
        let id = Identity::kind_only(Domain::Inet, Kind::Stream, libc::IPPROTO_MPTCP);
        assert!(Defaults::new().rows(&id).unwrap().is_none());
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn a_fresh_socket_is_read_once() {
        let defaults = Defaults::new();
        let id = Identity::kind_only(Domain::Inet, Kind::Stream, libc::IPPROTO_TCP);
        let first = defaults.rows(&id).unwrap().unwrap().as_ptr();
        assert_eq!(defaults.rows(&id).unwrap().unwrap().as_ptr(), first);
    }
}
