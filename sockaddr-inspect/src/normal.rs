//! Where a connection really goes: the one view of an address that policy judges.
//!
//! Several addresses lead to the same place. Were a policy to compare them as
//! written, `::ffff:127.0.0.1` or `0.0.0.0` would slip past a rule about
//! `127.0.0.0/8`. [`Destination::of`] undoes what the kernel itself does with an
//! address, and nothing else.
//!
//! # Unwrapped
//!
//! - IPv4-mapped `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2): an IPv6 socket sends IPv4.
//! - `0.0.0.0`, `::` and `::ffff:0.0.0.0`: a connect to them reaches this host, by
//!   default over loopback.
//! - `sin6_scope_id` where the kernel ignores it: on all but link-local unicast and
//!   interface- or link-local multicast addresses.
//!
//! # Not unwrapped
//!
//! These embed an IPv4 address and are still ordinary IPv6 to the socket layer: the
//! kernel routes them by the IPv6 tables and sends IPv6 packets, so no listener on
//! the IPv4 address can see the connection.
//!
//! - IPv4-compatible `::a.b.c.d` (deprecated), so `::127.0.0.1` is not loopback. Only
//!   `::1` and `::` are special in that prefix.
//! - 6to4 `2002::/16`, Teredo `2001::/32`, ISATAP: a tunnel device may wrap the packet
//!   in IPv4, but then towards a *router*, as protocol 41 or UDP.
//! - NAT64 `64:ff9b::/96` and `64:ff9b:1::/48`, SIIT `::ffff:0:a.b.c.d`: translated by a
//!   gateway, from whose place in the network the embedded address means something
//!   else than it means here.
//!
//! A policy that wants to refuse them can: as the IPv6 prefixes they are.
//!
//! # Not known here
//!
//! The host's own non-loopback addresses lead to the host, too; which they are is for
//! the policy to learn. On a socket that is already bound to a source address,
//! `0.0.0.0` means that address and not `127.0.0.1` (`ip_route_output_key_hash_rcu()`),
//! and `::` on one bound to an IPv4-mapped address means `127.0.0.1`
//! (`tcp_v6_connect()`). Either way the destination is this host; a policy that opens
//! loopback but not the host's other addresses should refuse unspecified addresses on
//! bound sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A destination in normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// The address packets go to.
    pub ip: IpAddr,
    /// The port.
    pub port: u16,
    /// The zone of an address that needs one (an interface index), else 0.
    pub scope_id: u32,
}

impl Destination {
    /// Where a connect or a send to `addr` goes.
    #[must_use]
    pub fn of(addr: SocketAddr) -> Self {
        let ip = normal_ip(addr.ip());
        let scope_id = match addr {
            SocketAddr::V6(v6) if needs_zone(v6.ip()) => v6.scope_id(),
            _ => 0,
        };
        Self { ip, port: addr.port(), scope_id }
    }

    /// Whether the destination is this host's loopback: `127.0.0.0/8` or `::1`.
    ///
    /// True also for a value that was put together by hand from an address not in
    /// normal form.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        normal_ip(self.ip).is_loopback()
    }
}

impl From<SocketAddr> for Destination {
    fn from(addr: SocketAddr) -> Self {
        Self::of(addr)
    }
}

fn normal_ip(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// The kernel's `__ipv6_addr_needs_scope_id()`.
fn needs_zone(ip: &Ipv6Addr) -> bool {
    let [first, second, ..] = ip.octets();
    let multicast_scope = second & 0x0f;
    ip.is_unicast_link_local() || (first == 0xff && matches!(multicast_scope, 1 | 2))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use super::*;

    fn normal(ip: &str) -> IpAddr {
        Destination::of(SocketAddr::new(ip.parse().unwrap(), 80)).ip
    }

    #[test]
    fn every_spelling_of_loopback() {
        for (written, reached) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.255.255.254", "127.255.255.254"),
            ("0.0.0.0", "127.0.0.1"),
            ("::1", "::1"),
            ("::", "::1"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("::ffff:127.9.9.9", "127.9.9.9"),
            ("::ffff:0.0.0.0", "127.0.0.1"),
        ] {
            let destination = Destination::of(SocketAddr::new(written.parse().unwrap(), 80));
            assert_eq!(destination.ip, reached.parse::<IpAddr>().unwrap(), "{written}");
            assert!(destination.is_loopback(), "{written}");
        }
    }

    #[test]
    fn what_only_looks_like_loopback() {
        for written in [
            "::127.0.0.1",
            "::2",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::127.0.0.1",
            "2002:7f00:1::",
            "2001:0:7f00:1::",
            "fe80::5efe:127.0.0.1",
            "0.0.0.1",
            "128.0.0.1",
        ] {
            let destination = Destination::of(SocketAddr::new(written.parse().unwrap(), 80));
            assert_eq!(destination.ip, written.parse::<IpAddr>().unwrap());
            assert!(!destination.is_loopback(), "{written}");
        }
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert_eq!(normal("::ffff:192.0.2.1"), normal("192.0.2.1"));
        assert_eq!(normal("2001:db8::1"), "2001:db8::1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn a_hand_made_value_cannot_hide_loopback() {
        for ip in ["::ffff:127.0.0.1", "0.0.0.0", "::", "::ffff:0.0.0.0"] {
            let ip = ip.parse().unwrap();
            assert!(Destination { ip, port: 1, scope_id: 0 }.is_loopback());
        }
    }

    #[test]
    fn zones_count_only_where_the_kernel_looks() {
        for (ip, kept) in [
            ("fe80::1", 7),
            ("febf::1", 7),
            ("ff01::1", 7),
            ("ff02::fb", 7),
            ("ff12::1", 7),
            ("ff05::1", 0),
            ("fec0::1", 0),
            ("2001:db8::1", 0),
            ("::1", 0),
            ("::", 0),
            ("::ffff:169.254.0.1", 0),
        ] {
            let addr = SocketAddrV6::new(ip.parse().unwrap(), 80, 9, 7);
            assert_eq!(Destination::of(addr.into()).scope_id, kept, "{ip}");
        }
    }
}
