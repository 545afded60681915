//! Where a container's sockets may go: pure decisions, no I/O.
//!
//! A [`Policy`] looks at one [`Destination`] and says what becomes of the
//! connection. It is total (every destination gets a verdict) and is asked again
//! for every later address a socket is given, so it has no memory.

mod ranges;

use std::net::IpAddr;

use ipnet::IpNet;
use sockaddr_inspect::Destination;

use self::ranges::RangeSet;
use crate::Reason;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The socket is made in the host's network namespace.
    Bypass,
    /// The socket stays in the container's network namespace.
    Leave(Reason),
    /// The call fails and no socket is made.
    Deny(Reason),
}

/// Which destinations are bypassed, left to the container or denied.
///
/// Denied networks win over ignored ones; what neither names is bypassed. The
/// host's loopback is left to the container unless
/// [`allow_host_loopback`](PolicyBuilder::allow_host_loopback) was called: it is
/// where a host keeps what it trusts.
///
/// ```
/// use bypass_core::{Policy, Reason, Verdict};
/// use sockaddr_inspect::Destination;
///
/// let policy = Policy::builder()
///     .ignore(["10.0.2.0/24".parse().unwrap()])
///     .deny(["169.254.0.0/16".parse().unwrap()])
///     .build();
/// let to = |addr: &str| policy.decide(&Destination::of(addr.parse().unwrap()));
/// assert_eq!(to("192.0.2.1:443"), Verdict::Bypass);
/// assert_eq!(to("10.0.2.3:53"), Verdict::Leave(Reason::Ignored));
/// assert_eq!(to("[::ffff:127.0.0.1]:22"), Verdict::Leave(Reason::HostLoopback));
/// assert_eq!(to("169.254.169.254:80"), Verdict::Deny(Reason::DenyRule));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    deny: RangeSet,
    ignore: RangeSet,
    host_loopback: bool,
}

impl Policy {
    /// Starts a policy that bypasses everything but the host's loopback.
    #[must_use]
    pub fn builder() -> PolicyBuilder {
        PolicyBuilder::default()
    }

    /// The verdict on one destination, which must be the address that is used
    /// afterwards (never one that the container can still change).
    #[must_use]
    pub fn decide(&self, to: &Destination) -> Verdict {
        if self.deny.contains(to.ip) {
            Verdict::Deny(Reason::DenyRule)
        } else if self.ignore.contains(to.ip) {
            Verdict::Leave(Reason::Ignored)
        } else if to.is_loopback() && !self.host_loopback {
            Verdict::Leave(Reason::HostLoopback)
        } else if is_group(to.ip) {
            Verdict::Leave(Reason::Multicast)
        } else if matches!(to.ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            Verdict::Leave(Reason::LinkLocal)
        } else {
            Verdict::Bypass
        }
    }

    /// Whether the user asked for the host's loopback to be reachable.
    #[must_use]
    pub fn allows_host_loopback(&self) -> bool {
        self.host_loopback
    }
}

/// Collects what a [`Policy`] is made of.
#[derive(Clone, Debug, Default)]
pub struct PolicyBuilder {
    deny: Vec<IpNet>,
    ignore: Vec<IpNet>,
    host_loopback: bool,
}

impl PolicyBuilder {
    /// Leaves these networks to the container's own network.
    #[must_use]
    pub fn ignore(mut self, nets: impl IntoIterator<Item = IpNet>) -> Self {
        self.ignore.extend(nets);
        self
    }

    /// Refuses connections to these networks.
    #[must_use]
    pub fn deny(mut self, nets: impl IntoIterator<Item = IpNet>) -> Self {
        self.deny.extend(nets);
        self
    }

    /// Lets containers reach services on the host's loopback addresses.
    ///
    /// # Warning
    /// Many services take a connection from loopback for one from a trusted user
    /// of the host. With this, every program in the container is such a user.
    #[must_use]
    pub fn allow_host_loopback(mut self, allow: bool) -> Self {
        self.host_loopback = allow;
        self
    }

    /// Makes the policy.
    #[must_use]
    pub fn build(self) -> Policy {
        Policy {
            deny: RangeSet::new(&normalised(&self.deny)),
            ignore: RangeSet::new(&normalised(&self.ignore)),
            host_loopback: self.host_loopback,
        }
    }
}

/// Destinations are normalised before they are looked up, so a rule that names
/// IPv4-mapped addresses must name the IPv4 ones instead, or it would never match.
fn normalised(nets: &[IpNet]) -> Vec<IpNet> {
    const MAPPED_BITS: u8 = 96;
    nets.iter()
        .map(|net| match net {
            IpNet::V6(v6) if v6.prefix_len() >= MAPPED_BITS => v6
                .network()
                .to_ipv4_mapped()
                .and_then(|ip| ipnet::Ipv4Net::new(ip, v6.prefix_len() - MAPPED_BITS).ok())
                .map_or(*net, IpNet::V4),
            _ => *net,
        })
        .collect()
}

fn is_group(ip: IpAddr) -> bool {
    ip.is_multicast() || ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    fn decide(policy: &Policy, addr: &str) -> Verdict {
        policy.decide(&Destination::of(addr.parse().unwrap()))
    }

    #[test]
    fn every_spelling_of_host_loopback_is_left() {
        let policy = Policy::builder().build();
        for addr in [
            "127.0.0.1:80",
            "127.255.255.254:80",
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
            "0.0.0.0:80",
            "[::]:80",
            "[::ffff:0.0.0.0]:80",
        ] {
            assert_eq!(decide(&policy, addr), Verdict::Leave(Reason::HostLoopback), "{addr}");
        }
    }

    #[test]
    fn host_loopback_needs_words() {
        let policy = Policy::builder().allow_host_loopback(true).build();
        assert_eq!(decide(&policy, "127.0.0.1:80"), Verdict::Bypass);
        assert_eq!(decide(&policy, "[::]:80"), Verdict::Bypass);
    }

    #[test]
    fn deny_beats_ignore_and_host_loopback() {
        let policy = Policy::builder()
            .deny(nets(&["10.1.0.0/16", "127.0.0.0/8"]))
            .ignore(nets(&["10.0.0.0/8"]))
            .allow_host_loopback(true)
            .build();
        assert_eq!(decide(&policy, "10.1.2.3:80"), Verdict::Deny(Reason::DenyRule));
        assert_eq!(decide(&policy, "10.2.2.3:80"), Verdict::Leave(Reason::Ignored));
        assert_eq!(decide(&policy, "0.0.0.0:80"), Verdict::Deny(Reason::DenyRule));
    }

    #[test]
    fn rules_written_for_mapped_addresses_match() {
        let policy = Policy::builder().deny(nets(&["::ffff:10.0.0.0/104"])).build();
        assert_eq!(decide(&policy, "10.9.9.9:1"), Verdict::Deny(Reason::DenyRule));
        assert_eq!(decide(&policy, "[::ffff:10.9.9.9]:1"), Verdict::Deny(Reason::DenyRule));
    }

    #[test]
    fn groups_are_left() {
        let policy = Policy::builder().build();
        for addr in ["224.0.0.1:1", "255.255.255.255:1", "[ff02::1]:1"] {
            assert_eq!(decide(&policy, addr), Verdict::Leave(Reason::Multicast), "{addr}");
        }
    }

    #[test]
    fn a_scope_of_the_container_means_nothing_to_the_host() {
        let policy = Policy::builder().build();
        assert_eq!(decide(&policy, "[fe80::1%2]:80"), Verdict::Leave(Reason::LinkLocal));
        assert_eq!(decide(&policy, "169.254.1.1:80"), Verdict::Bypass);
    }

    fn any_addr() -> impl Strategy<Value = SocketAddr> {
        prop_oneof![
            (any::<u32>(), any::<u16>())
                .prop_map(|(ip, port)| SocketAddr::new(IpAddr::V4(ip.into()), port)),
            (any::<u128>(), any::<u16>())
                .prop_map(|(ip, port)| SocketAddr::new(IpAddr::V6(ip.into()), port)),
        ]
    }

    proptest! {
        #[test]
        fn an_ignored_network_never_adds_a_bypass(
            addr in any_addr(),
            bits in any::<u32>(),
            len in 0u8..=32,
        ) {
            let net: IpNet = ipnet::Ipv4Net::new(bits.into(), len).unwrap().into();
            let before = Policy::builder().build().decide(&Destination::of(addr));
            let after = Policy::builder().ignore([net]).build().decide(&Destination::of(addr));
            if after == Verdict::Bypass {
                prop_assert_eq!(before, Verdict::Bypass);
            }
        }

        #[test]
        fn mapped_and_plain_addresses_get_the_same_verdict(
            ip in any::<u32>(), bits in any::<u32>(), len in 0u8..=32,
        ) {
            let net: IpNet = ipnet::Ipv4Net::new(bits.into(), len).unwrap().into();
            let policy = Policy::builder().deny([net]).build();
            let plain = std::net::Ipv4Addr::from(ip);
            let at = |ip| policy.decide(&Destination::of(SocketAddr::new(ip, 80)));
            prop_assert_eq!(at(IpAddr::V4(plain)), at(IpAddr::V6(plain.to_ipv6_mapped())));
        }
    }
}
