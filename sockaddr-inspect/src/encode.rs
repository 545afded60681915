//! From a meaning to the bytes the kernel expects.

use crate::addr::{SockAddr, UnixAddr};
use crate::family::SUN_PATH_LEN;
use crate::raw::RawSockAddr;

impl SockAddr {
    /// The structure to hand to a system call, in full: 16 bytes for IPv4, 28 for
    /// IPv6, and for `AF_UNIX` as many as the name needs.
    ///
    /// A path is followed by NUL where there is room for one. [`SockAddr::Unspec`]
    /// and [`SockAddr::Other`] come out as the bare family, 2 bytes: what else the
    /// caller wrote is not known here, and so short an `AF_UNSPEC` address can only
    /// mean *disconnect*, whereas `bind(2)` would read a longer one as IPv4.
    #[must_use]
    pub fn encode(&self) -> RawSockAddr {
        let family = self.family().to_ne_bytes();
        match self {
            Self::V4(addr) => RawSockAddr::joined(&[
                &family,
                &addr.port().to_be_bytes(),
                &addr.ip().octets(),
                &[0; 8],
            ]),
            Self::V6(addr) => RawSockAddr::joined(&[
                &family,
                &addr.port().to_be_bytes(),
                &addr.flowinfo().to_ne_bytes(),
                &addr.ip().octets(),
                &addr.scope_id().to_ne_bytes(),
            ]),
            Self::Unix(UnixAddr::Path(path)) => {
                let path = path.as_bytes();
                let end: &[u8] = if path.len() < SUN_PATH_LEN { &[0] } else { &[] };
                RawSockAddr::joined(&[&family, path, end])
            }
            Self::Unix(UnixAddr::Abstract(name)) => {
                RawSockAddr::joined(&[&family, &[0], name.as_bytes()])
            }
            Self::Unix(UnixAddr::Unnamed) | Self::Unspec | Self::Other { .. } => {
                RawSockAddr::joined(&[&family])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use super::*;
    use crate::addr::{AbstractName, UnixPath};

    fn encoded(addr: SockAddr) -> Vec<u8> {
        addr.encode().as_bytes().to_vec()
    }

    fn with_family(family: u16, rest: &[u8]) -> Vec<u8> {
        [&family.to_ne_bytes(), rest].concat()
    }

    #[test]
    fn ipv4_fills_the_structure() {
        let addr = SockAddr::V4("192.0.2.1:8080".parse().unwrap());
        let rest = [0x1f, 0x90, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(encoded(addr), with_family(2, &rest));
    }

    #[test]
    fn ipv6_fills_the_structure() {
        let ip = "fe80::1".parse().unwrap();
        let bytes = encoded(SockAddr::V6(SocketAddrV6::new(ip, 80, 0x0102_0304, 5)));
        let mut rest = vec![0, 80];
        rest.extend(0x0102_0304_u32.to_ne_bytes());
        rest.extend(ip.octets());
        rest.extend(5_u32.to_ne_bytes());
        assert_eq!(bytes, with_family(10, &rest));
        assert_eq!(bytes.len(), 28);
    }

    #[test]
    fn unix_is_as_long_as_its_name() {
        let path = |len| SockAddr::Unix(UnixAddr::Path(UnixPath::new(&vec![b'p'; len]).unwrap()));
        assert_eq!(encoded(path(1)), with_family(1, b"p\0"));
        assert_eq!(encoded(path(107)).len(), 110);
        assert_eq!(encoded(path(108)).len(), 110);
        let name = AbstractName::new(b"a\0b").unwrap();
        assert_eq!(encoded(SockAddr::Unix(UnixAddr::Abstract(name))), with_family(1, b"\0a\0b"));
        assert_eq!(encoded(SockAddr::Unix(UnixAddr::Unnamed)), with_family(1, b""));
    }

    #[test]
    fn the_rest_is_the_family_alone() {
        assert_eq!(encoded(SockAddr::Unspec), with_family(0, b""));
        assert_eq!(encoded(SockAddr::Other { family: 0x1234 }), with_family(0x1234, b""));
    }
}
