//! From bytes to their meaning, exactly as strict as the kernel.

use std::net::{Ipv6Addr, SocketAddrV4, SocketAddrV6};

use crate::addr::{AbstractName, SockAddr, UnixAddr, UnixPath};
use crate::errno::EINVAL;
use crate::family::{
    AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC, FAMILY_LEN, SOCKADDR_IN_LEN, SOCKADDR_IN6_LEN,
    SOCKADDR_IN6_MIN_LEN, SOCKADDR_UN_LEN,
};
use crate::raw::RawSockAddr;

impl RawSockAddr {
    /// Reads the address as a socket of the address's own family reads it.
    ///
    /// | family | length | where the kernel checks it |
    /// |---|---|---|
    /// | any | at least 2 | `__inet_stream_connect()`, `inet_dgram_connect()` |
    /// | `AF_UNSPEC` | any more is not looked at | the same |
    /// | `AF_INET` | at least 16; more is not looked at | `tcp_v4_connect()`, `__ip4_datagram_connect()`, `inet_bind_sk()`, [ip(7)] |
    /// | `AF_INET6` | at least 24; `sin6_scope_id` counts from 28 on | `tcp_v6_connect()`, `__ip6_datagram_connect()`, `inet6_bind_sk()`, [ipv6(7)] |
    /// | `AF_UNIX` | 2 to 110, where 2 is no name | `unix_validate_addr()`, `unix_bind()`, [unix(7)] |
    /// | other | any | none of these |
    ///
    /// An `AF_UNIX` path ends at its first NUL, or with the address; an abstract name
    /// is all there is after its leading NUL.
    ///
    /// Which family a socket *accepts* is not decided here. A TCP socket refuses the
    /// other IP family (IPv6 ones with `EINVAL` when the length is below 24, else both
    /// with `EAFNOSUPPORT`), whereas an IPv6 datagram socket takes an `AF_INET` address
    /// and talks IPv4.
    ///
    /// # Errors
    ///
    /// [`Malformed`], where `connect(2)` and `bind(2)` on a socket of that family
    /// answer `EINVAL`.
    ///
    /// [ip(7)]: https://man7.org/linux/man-pages/man7/ip.7.html
    /// [ipv6(7)]: https://man7.org/linux/man-pages/man7/ipv6.7.html
    /// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
    pub fn decode(&self) -> Result<SockAddr, Malformed> {
        let bytes = self.as_bytes();
        let Some(family) = self.family() else {
            return Err(Malformed::NoFamily { len: bytes.len() });
        };
        match family {
            AF_UNSPEC => Ok(SockAddr::Unspec),
            AF_UNIX => unix(bytes).map(SockAddr::Unix),
            AF_INET => inet(family, bytes).map(SockAddr::V4),
            AF_INET6 => inet6(bytes).map(SockAddr::V6),
            _ => Ok(SockAddr::Other { family }),
        }
    }

    /// Reads an `AF_INET` *or* `AF_UNSPEC` address as IPv4; `None` for other families.
    ///
    /// For compatibility the kernel lets `AF_UNSPEC` pass for `AF_INET` in two places,
    /// and then the bytes that [`decode`](Self::decode) ignores are the destination:
    ///
    /// - `sendto(2)` and `sendmsg(2)` on an IPv4 datagram or raw socket, to any address
    ///   (`udp_sendmsg()`, `raw_sendmsg()`);
    /// - `bind(2)` on an IPv4 socket, to `0.0.0.0` only: else `EAFNOSUPPORT`
    ///   (`__inet_bind()`).
    ///
    /// A policy for those calls must judge this address. On an IPv6 socket `bind`
    /// refuses `AF_UNSPEC`, and `sendto` treats it as no address at all.
    ///
    /// # Errors
    ///
    /// [`Malformed`] below 16 bytes, where these calls answer `EINVAL`.
    pub fn decode_inet_or_unspec(&self) -> Result<Option<SocketAddrV4>, Malformed> {
        let bytes = self.as_bytes();
        match self.family() {
            None => Err(Malformed::NoFamily { len: bytes.len() }),
            Some(family @ (AF_INET | AF_UNSPEC)) => inet(family, bytes).map(Some),
            Some(_) => Ok(None),
        }
    }
}

/// Why the bytes are no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Too short to name a family.
    #[error("{len} bytes do not hold an address family")]
    NoFamily {
        /// The length in bytes.
        len: usize,
    },
    /// Too short for the structure of its family.
    #[error("{len} bytes are too few for an address of family {family}, which needs {need}")]
    TooShort {
        /// `sa_family`.
        family: u16,
        /// The length in bytes.
        len: usize,
        /// The shortest length the kernel takes.
        need: usize,
    },
    /// Longer than its family allows.
    #[error("{len} bytes are too many for an address of family {family}, which has at most {most}")]
    TooLong {
        /// `sa_family`.
        family: u16,
        /// The length in bytes.
        len: usize,
        /// The longest length the kernel takes.
        most: usize,
    },
}

impl Malformed {
    /// What the kernel's own call returns: `EINVAL`.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        match self {
            Self::NoFamily { .. } | Self::TooShort { .. } | Self::TooLong { .. } => EINVAL,
        }
    }
}

fn inet(family: u16, bytes: &[u8]) -> Result<SocketAddrV4, Malformed> {
    let Some(&[_, _, p0, p1, ip0, ip1, ip2, ip3, ..]) = bytes.first_chunk::<SOCKADDR_IN_LEN>()
    else {
        return Err(Malformed::TooShort { family, len: bytes.len(), need: SOCKADDR_IN_LEN });
    };
    Ok(SocketAddrV4::new([ip0, ip1, ip2, ip3].into(), u16::from_be_bytes([p0, p1])))
}

fn inet6(bytes: &[u8]) -> Result<SocketAddrV6, Malformed> {
    let Some(&[_, _, p0, p1, f0, f1, f2, f3, ref ip @ ..]) =
        bytes.first_chunk::<SOCKADDR_IN6_MIN_LEN>()
    else {
        let need = SOCKADDR_IN6_MIN_LEN;
        return Err(Malformed::TooShort { family: AF_INET6, len: bytes.len(), need });
    };
    let scope_id = match bytes.first_chunk::<SOCKADDR_IN6_LEN>() {
        Some(&[.., s0, s1, s2, s3]) => u32::from_ne_bytes([s0, s1, s2, s3]),
        None => 0,
    };
    Ok(SocketAddrV6::new(
        Ipv6Addr::from(*ip),
        u16::from_be_bytes([p0, p1]),
        u32::from_ne_bytes([f0, f1, f2, f3]),
        scope_id,
    ))
}

fn unix(bytes: &[u8]) -> Result<UnixAddr, Malformed> {
    let name = bytes.get(FAMILY_LEN..).unwrap_or_default();
    let addr = match name {
        [] => Some(UnixAddr::Unnamed),
        [0, name @ ..] => AbstractName::new(name).map(UnixAddr::Abstract),
        // Checked on the announced length, not on where the path ends: so does the kernel.
        _ if bytes.len() > SOCKADDR_UN_LEN => None,
        path => path.split(|byte| *byte == 0).next().and_then(UnixPath::new).map(UnixAddr::Path),
    };
    let (len, most) = (bytes.len(), SOCKADDR_UN_LEN);
    addr.ok_or(Malformed::TooLong { family: AF_UNIX, len, most })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_SOCKADDR;

    fn raw(family: u16, rest: &[u8], len: usize) -> RawSockAddr {
        let mut bytes = [&family.to_ne_bytes(), rest].concat();
        bytes.resize(len, 0xee);
        RawSockAddr::from_bytes(&bytes).unwrap()
    }

    fn decode(family: u16, rest: &[u8], len: usize) -> Result<SockAddr, Malformed> {
        raw(family, rest, len).decode()
    }

    #[test]
    fn without_a_family_there_is_no_address() {
        for len in [0, 1] {
            let expected = Err(Malformed::NoFamily { len });
            assert_eq!(decode(AF_INET, b"", len), expected);
            let none = raw(AF_INET, b"", len).decode_inet_or_unspec();
            assert_eq!(none, Err(Malformed::NoFamily { len }));
        }
    }

    #[test]
    fn ipv4_by_length() {
        let rest = [0x1f, 0x90, 192, 0, 2, 1];
        for len in 2..16 {
            let expected = Malformed::TooShort { family: AF_INET, len, need: 16 };
            assert_eq!(decode(AF_INET, &rest, len), Err(expected));
        }
        for len in 16..=MAX_SOCKADDR {
            let expected = SockAddr::V4("192.0.2.1:8080".parse().unwrap());
            assert_eq!(decode(AF_INET, &rest, len), Ok(expected));
        }
    }

    #[test]
    fn ipv6_by_length() {
        let ip: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let mut rest = vec![0x1f, 0x90];
        rest.extend(0x0a0b_0c0d_u32.to_ne_bytes());
        rest.extend(ip.octets());
        rest.extend(7_u32.to_ne_bytes());
        for len in 2..24 {
            let expected = Malformed::TooShort { family: AF_INET6, len, need: 24 };
            assert_eq!(decode(AF_INET6, &rest, len), Err(expected));
        }
        for len in 24..=MAX_SOCKADDR {
            let scope_id = if len < 28 { 0 } else { 7 };
            let expected = SocketAddrV6::new(ip, 8080, 0x0a0b_0c0d, scope_id);
            assert_eq!(decode(AF_INET6, &rest, len), Ok(SockAddr::V6(expected)));
        }
    }

    #[test]
    fn flowinfo_is_the_structures_own_byte_order() {
        // Traffic class 0, flow label 0x12345, as they go on the wire.
        let rest = [0, 80, 0x00, 0x01, 0x23, 0x45];
        let Ok(SockAddr::V6(addr)) = decode(AF_INET6, &rest, 28) else { panic!("not IPv6") };
        assert_eq!(u32::from_be(addr.flowinfo()), 0x12345);
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes")]
    fn unix_by_length() {
        assert_eq!(decode(AF_UNIX, b"", 2), Ok(SockAddr::Unix(UnixAddr::Unnamed)));
        for len in 3..=110 {
            let path = UnixPath::new(&[0xee].repeat(len - 2)).unwrap();
            assert_eq!(decode(AF_UNIX, b"", len), Ok(SockAddr::Unix(UnixAddr::Path(path))));
            let name = AbstractName::new(&[0xee].repeat(len - 3)).unwrap();
            assert_eq!(decode(AF_UNIX, b"\0", len), Ok(SockAddr::Unix(UnixAddr::Abstract(name))));
        }
        for len in 111..=MAX_SOCKADDR {
            let expected = Err(Malformed::TooLong { family: AF_UNIX, len, most: 110 });
            assert_eq!(decode(AF_UNIX, b"", len), expected);
            assert_eq!(decode(AF_UNIX, b"\0", len), expected);
            assert_eq!(decode(AF_UNIX, b"short\0", len), expected);
        }
    }

    #[test]
    fn a_path_ends_at_its_first_nul() {
        let path = UnixPath::new(b"/a").unwrap();
        let expected = Ok(SockAddr::Unix(UnixAddr::Path(path)));
        assert_eq!(decode(AF_UNIX, b"/a\0/b\0", 10), expected);
        assert_eq!(decode(AF_UNIX, b"/a\0", 110), expected);
        assert_eq!(decode(AF_UNIX, b"/a", 4), expected);
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes")]
    fn other_families_are_named_only() {
        for len in 2..=MAX_SOCKADDR {
            assert_eq!(decode(AF_UNSPEC, b"", len), Ok(SockAddr::Unspec));
            for family in [3, 9, 11, 16, 17, 40, u16::MAX] {
                assert_eq!(decode(family, b"", len), Ok(SockAddr::Other { family }));
            }
        }
    }

    #[test]
    fn unspec_passes_for_ipv4_where_asked() {
        let rest = [0, 80, 127, 0, 0, 1];
        let addr: SocketAddrV4 = "127.0.0.1:80".parse().unwrap();
        for family in [AF_UNSPEC, AF_INET] {
            assert_eq!(raw(family, &rest, 16).decode_inet_or_unspec(), Ok(Some(addr)));
            let short = Malformed::TooShort { family, len: 15, need: 16 };
            assert_eq!(raw(family, &rest, 15).decode_inet_or_unspec(), Err(short));
        }
        for family in [AF_UNIX, AF_INET6, 16] {
            assert_eq!(raw(family, &rest, 16).decode_inet_or_unspec(), Ok(None));
        }
    }

    #[test]
    fn every_refusal_is_the_kernels() {
        let too_long = Malformed::TooLong { family: 1, len: 111, most: 110 };
        let too_short = Malformed::TooShort { family: 2, len: 3, need: 16 };
        for refusal in [Malformed::NoFamily { len: 1 }, too_short, too_long] {
            assert_eq!(refusal.errno(), EINVAL);
        }
    }
}
