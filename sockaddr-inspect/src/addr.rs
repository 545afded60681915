//! The meaning of a socket address.

use std::fmt;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::family::{AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC, SUN_PATH_LEN};
use crate::inline::InlineBytes;

/// What the bytes of a `struct sockaddr` say.
///
/// Only what the kernel itself would take is represented; see
/// [`RawSockAddr::decode`](crate::RawSockAddr::decode) for its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SockAddr {
    /// `AF_INET`.
    V4(SocketAddrV4),
    /// `AF_INET6`.
    ///
    /// `flowinfo` is the field as it lies in the structure, unswapped, which is how
    /// the standard library and `nix` hand it to the kernel. The flow label is
    /// `u32::from_be(addr.flowinfo()) & 0xfffff`.
    V6(SocketAddrV6),
    /// `AF_UNIX`.
    Unix(UnixAddr),
    /// `AF_UNSPEC`: in `connect(2)`, dissolve the association.
    ///
    /// `bind(2)` and an IPv4 datagram socket's `sendto(2)` take such an address for
    /// an IPv4 one: see [`decode_inet_or_unspec`](crate::RawSockAddr::decode_inet_or_unspec).
    Unspec,
    /// Any other family, contents not looked at.
    Other {
        /// `sa_family`.
        family: u16,
    },
}

impl SockAddr {
    /// The address and port, when this is an IP address.
    #[must_use]
    pub const fn ip(&self) -> Option<SocketAddr> {
        match *self {
            Self::V4(addr) => Some(SocketAddr::V4(addr)),
            Self::V6(addr) => Some(SocketAddr::V6(addr)),
            Self::Unix(_) | Self::Unspec | Self::Other { .. } => None,
        }
    }

    /// `sa_family`.
    #[must_use]
    pub const fn family(&self) -> u16 {
        match *self {
            Self::V4(_) => AF_INET,
            Self::V6(_) => AF_INET6,
            Self::Unix(_) => AF_UNIX,
            Self::Unspec => AF_UNSPEC,
            Self::Other { family } => family,
        }
    }
}

impl From<SocketAddr> for SockAddr {
    fn from(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(addr) => Self::V4(addr),
            SocketAddr::V6(addr) => Self::V6(addr),
        }
    }
}

/// An `AF_UNIX` address. See [unix(7)].
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnixAddr {
    /// The family and nothing else. `getsockname(2)` reports an unbound socket so,
    /// and `bind(2)` takes it as a request to choose an abstract name; `connect(2)`
    /// and `sendto(2)` refuse it with `EINVAL`.
    Unnamed,
    /// A name in the file system.
    Path(UnixPath),
    /// A name in the network namespace's own table.
    Abstract(AbstractName),
}

/// A file system path of 1 to 108 bytes without NUL, stored inline.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnixPath(InlineBytes<SUN_PATH_LEN>);

impl UnixPath {
    /// Takes a copy of `path`, or `None` when it is empty, too long or contains NUL.
    #[must_use]
    pub fn new(path: &[u8]) -> Option<Self> {
        if path.is_empty() || path.contains(&0) {
            return None;
        }
        InlineBytes::copied_from(path).map(Self)
    }

    /// The path, without a terminating NUL. No encoding is promised.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for UnixPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

/// An abstract name of 0 to 107 bytes, stored inline.
///
/// The name's length is part of it, and NUL is a byte like any other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AbstractName(InlineBytes<{ SUN_PATH_LEN - 1 }>);

impl AbstractName {
    /// Takes a copy of `name`, or `None` when it is too long.
    #[must_use]
    pub fn new(name: &[u8]) -> Option<Self> {
        InlineBytes::copied_from(name).map(Self)
    }

    /// The name, without the NUL that marks it as abstract.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for AbstractName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_what_the_kernel_can_look_up() {
        assert_eq!(UnixPath::new(b""), None);
        assert_eq!(UnixPath::new(b"a\0b"), None);
        assert_eq!(UnixPath::new(&[b'a'; 109]), None);
        assert_eq!(UnixPath::new(&[b'a'; 108]).unwrap().as_bytes(), [b'a'; 108]);
    }

    #[test]
    fn abstract_names_may_be_empty_and_hold_nul() {
        assert_eq!(AbstractName::new(b"").unwrap().as_bytes(), b"");
        assert_eq!(AbstractName::new(b"a\0").unwrap().as_bytes(), b"a\0");
        assert_ne!(AbstractName::new(b"a\0"), AbstractName::new(b"a"));
        assert_eq!(AbstractName::new(&[0; 108]), None);
    }

    #[test]
    fn names_print_on_one_line() {
        let path = UnixPath::new(b"/run/\n\xff").unwrap();
        assert_eq!(format!("{path:?}"), r#""/run/\n\xff""#);
        let name = AbstractName::new(b"\0\"").unwrap();
        assert_eq!(format!("{name:?}"), r#""\x00\"""#);
    }

    #[test]
    fn only_ip_addresses_have_one() {
        let v4: SocketAddr = "192.0.2.1:80".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:80".parse().unwrap();
        assert_eq!(SockAddr::from(v4).ip(), Some(v4));
        assert_eq!(SockAddr::from(v6).ip(), Some(v6));
        assert_eq!(SockAddr::from(v6).family(), AF_INET6);
        for other in
            [SockAddr::Unspec, SockAddr::Unix(UnixAddr::Unnamed), SockAddr::Other { family: 16 }]
        {
            assert_eq!(other.ip(), None);
        }
    }
}
