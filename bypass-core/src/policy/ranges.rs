//! A set of addresses that answers "is it in?" in logarithmic time.
//!
//! Networks are merged into disjoint, sorted ranges when the set is built, so a
//! look-up is one binary search, however many networks there are and however
//! they overlap.

use std::net::IpAddr;

use ipnet::IpNet;

/// Addresses of both families, as disjoint sorted inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RangeSet {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl RangeSet {
    pub(super) fn new(nets: &[IpNet]) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for net in nets {
            match net {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        Self { v4: Ranges::merge(v4), v6: Ranges::merge(v6) }
    }

    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.v4.contains(ip.to_bits()),
            IpAddr::V6(ip) => self.v6.contains(ip.to_bits()),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges<T>(Box<[(T, T)]>);

impl<T: Copy + Ord> Ranges<T> {
    fn merge(mut ranges: Vec<(T, T)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(open) if first <= open.1 => open.1 = open.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged.into_boxed_slice())
    }

    fn contains(&self, value: T) -> bool {
        let after = self.0.partition_point(|&(first, _)| first <= value);
        after
            .checked_sub(1)
            .and_then(|index| self.0.get(index))
            .is_some_and(|&(_, last)| value <= last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(nets: &[&str]) -> RangeSet {
        RangeSet::new(&nets.iter().map(|net| net.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn edges_of_a_network_are_inside_and_their_neighbours_are_not() {
        let set = set(&["10.1.2.0/24", "fd00::/64"]);
        for (ip, inside) in [
            ("10.1.1.255", false),
            ("10.1.2.0", true),
            ("10.1.2.255", true),
            ("10.1.3.0", false),
            ("fcff:ffff::", false),
            ("fd00::", true),
            ("fd00::ffff:ffff:ffff:ffff", true),
            ("fd00:0:0:1::", false),
        ] {
            assert_eq!(set.contains(ip.parse().unwrap()), inside, "{ip}");
        }
    }

    #[test]
    fn nested_and_overlapping_networks_merge() {
        let set = set(&["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0"]);
        assert_eq!(set.v4.0.len(), 1);
        assert!(set.contains("255.255.255.255".parse().unwrap()));
    }

    #[test]
    fn the_empty_set_holds_nothing() {
        assert!(!set(&[]).contains("::".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn agrees_with_asking_every_network(
            nets in prop::collection::vec((any::<u32>(), 0u8..=32), 0..40),
            ip in any::<u32>(),
            pick in any::<prop::sample::Index>(),
        ) {
            let nets: Vec<IpNet> = nets
                .into_iter()
                .map(|(bits, len)| ipnet::Ipv4Net::new(bits.into(), len).unwrap().into())
                .collect();
            let set = RangeSet::new(&nets);
            // A random address rarely falls into a long prefix, so take edges as well.
            let mut ips = vec![IpAddr::V4(ip.into())];
            if !nets.is_empty() {
                let net = pick.get(&nets);
                ips.extend([net.network(), net.broadcast()]);
            }
            for ip in ips {
                prop_assert_eq!(set.contains(ip), nets.iter().any(|net| net.contains(&ip)));
            }
        }
    }
}
