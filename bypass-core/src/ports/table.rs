//! Which host address a bind in the container stands for: pure look-ups.
//!
//! A [`Table`] has one [`Entry`] for every host address that was asked for, each of one
//! family: a map without a host address is two of them, `0.0.0.0` and `[::]`.

#[cfg(any(test, feature = "fuzzing"))]
#[expect(clippy::panic, reason = "a rule that is broken is a panic")]
mod rules;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netns_socket::Domain;

use crate::publish::Protocol;

/// One host address and port, published for a container port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) protocol: Protocol,
    /// Never IPv4-mapped. `[::]` is IPv6 only.
    pub(crate) host: SocketAddr,
    pub(crate) container_port: u16,
}

impl Entry {
    /// Where the host itself reaches what is bound there.
    pub(crate) fn reach(&self) -> SocketAddr {
        let ip = match self.host.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.host.port())
    }

    fn is_wildcard(&self) -> bool {
        self.host.ip().is_unspecified()
    }
}

/// Position of an [`Entry`] in its table.
pub(crate) type Index = usize;

/// Address families that a socket is to be reached by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Families {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

impl Families {
    pub(crate) fn has(self, ip: IpAddr) -> bool {
        if ip.is_ipv4() { self.v4 } else { self.v6 }
    }
}

/// A bind(2) in the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) protocol: Protocol,
    pub(crate) domain: Domain,
    /// `IPV6_V6ONLY`
    pub(crate) v6_only: bool,
    pub(crate) addr: SocketAddr,
}

impl Wanted {
    /// The families in which others than the container itself are to reach the socket: none
    /// where it is bound to loopback, to one link, or to a group.
    pub(crate) fn families(&self) -> Families {
        let none = Families::default();
        let v4_only = Families { v4: true, v6: false };
        let v6_only = Families { v4: false, v6: true };
        let local = |ip: IpAddr| {
            ip.is_loopback() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)
        };
        match (self.domain, self.addr.ip().to_canonical()) {
            (_, ip) if local(ip) => none,
            (Domain::Inet, IpAddr::V4(_)) => v4_only,
            // IPv4-mapped: on a socket with IPV6_V6ONLY bind(2) refuses it.
            (Domain::Inet6, IpAddr::V4(_)) if !self.v6_only => v4_only,
            (Domain::Inet6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)) if !self.v6_only => {
                Families { v4: true, v6: true }
            }
            (Domain::Inet6, IpAddr::V6(ip)) if !ip.is_unicast_link_local() => v6_only,
            _ => none,
        }
    }
}

/// Which entries a socket takes, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Whose host address the socket is bound to: one, or the wildcards of both families.
    pub(crate) own: Vec<Index>,
    /// Whose host address it cannot be bound to as well: these are relayed to it.
    pub(crate) relayed: Vec<Index>,
    /// What the host socket is bound to, in its own family.
    pub(crate) bind: SocketAddr,
    /// What `IPV6_V6ONLY` must be so that it is bound no wider than that.
    pub(crate) v6_only: bool,
    /// The families that the application serves.
    pub(crate) families: Families,
}

/// Everything that is published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    entries: Box<[Entry]>,
}

impl Table {
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        Self { entries: entries.into() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn get(&self, index: Index) -> Option<&Entry> {
        self.entries.get(index)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (Index, &Entry)> {
        self.entries.iter().enumerate()
    }

    /// The entries that this container port is published by.
    pub(crate) fn of_port(
        &self,
        protocol: Protocol,
        container_port: u16,
    ) -> impl Iterator<Item = (Index, &Entry)> {
        self.entries()
            .filter(move |(_, e)| e.protocol == protocol && e.container_port == container_port)
    }

    /// Whether all that a socket with this local address can be reached by is published. `both`
    /// says that it is an IPv6 socket without `IPV6_V6ONLY`: its wildcard is that of IPv4 as well.
    pub(crate) fn covers(&self, protocol: Protocol, local: SocketAddr, both: bool) -> bool {
        let v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), local.port());
        let dual = both && local.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        self.is_published(protocol, local) && (!dual || self.is_published(protocol, v4))
    }

    /// Whether a host socket with this local address is bound to a published port, and not to
    /// the source port of some connection.
    pub(crate) fn is_published(&self, protocol: Protocol, local: SocketAddr) -> bool {
        self.by_host(protocol, local).is_some()
    }

    /// The entry by which a host address is published. On wildcard entries every address of
    /// the host is.
    pub(crate) fn by_host(&self, protocol: Protocol, local: SocketAddr) -> Option<&Entry> {
        self.find(protocol, local).map(|(_, entry)| entry)
    }

    /// [`by_host`](Self::by_host), with its position.
    pub(crate) fn find(&self, protocol: Protocol, local: SocketAddr) -> Option<(Index, &Entry)> {
        let ip = local.ip().to_canonical();
        self.entries().find(|(_, entry)| {
            entry.protocol == protocol
                && entry.host.port() == local.port()
                && (entry.host.ip() == ip
                    || entry.is_wildcard() && entry.host.is_ipv4() == ip.is_ipv4())
        })
    }

    /// The entries whose host address a socket has that is bound to `local`; `v6_only` is its
    /// `IPV6_V6ONLY`.
    pub(crate) fn covered(
        &self,
        protocol: Protocol,
        local: SocketAddr,
        v6_only: bool,
    ) -> Vec<Index> {
        let ip = local.ip().to_canonical();
        let both = ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !v6_only;
        self.entries()
            .filter(|(_, entry)| {
                entry.protocol == protocol
                    && entry.host.port() == local.port()
                    && (entry.host.ip() == ip || both && entry.is_wildcard())
            })
            .map(|(index, _)| index)
            .collect()
    }

    /// What becomes of a bind; `None` if it is the container's own affair. `direct` says which
    /// entries a socket may be bound to, and with which pin: an equal one is asked of both halves of
    /// a dual-stack socket.
    pub(crate) fn choose<P: PartialEq + Copy>(
        &self,
        wanted: &Wanted,
        mut direct: impl FnMut(&Entry) -> Option<P>,
    ) -> Option<(Choice, P)> {
        let families = wanted.families();
        let mut matching: Vec<(Index, &Entry)> = self
            .of_port(wanted.protocol, wanted.addr.port())
            .filter(|(_, entry)| families.has(entry.host.ip()))
            .collect();
        // The address that others than the host itself use is the one that must not be relayed.
        matching.sort_by_key(|(_, entry)| entry.host.ip().is_loopback());
        let able: Vec<(Index, &Entry, P)> =
            matching.iter().filter_map(|(i, entry)| Some((*i, *entry, direct(entry)?))).collect();
        let &(first, entry, pin) = able.first()?;
        let both = families.v4 && families.v6;
        let half = able.iter().find(|(i, other, other_pin)| {
            both && *i != first
                && entry.is_wildcard()
                && other.is_wildcard()
                && other.host.is_ipv4() != entry.host.is_ipv4()
                && other.host.port() == entry.host.port()
                && *other_pin == pin
        });
        let (own, bind, v6_only) = match half {
            Some(&(second, ..)) => {
                let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), entry.host.port());
                (vec![first, second], any, false)
            }
            None => {
                let bind = in_family(wanted.domain, entry.host)?;
                (vec![first], bind, entry.host.is_ipv6())
            }
        };
        let relayed = matching.iter().map(|(i, _)| *i).filter(|i| !own.contains(i)).collect();
        Some((Choice { own, relayed, bind, v6_only, families }, pin))
    }
}

/// The address as a socket of this domain takes it.
pub(crate) fn in_family(domain: Domain, addr: SocketAddr) -> Option<SocketAddr> {
    match (domain, addr.ip()) {
        (Domain::Inet, IpAddr::V4(_)) | (Domain::Inet6, IpAddr::V6(_)) => Some(addr),
        (Domain::Inet6, IpAddr::V4(ip)) => {
            Some(SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(host: &str, container_port: u16) -> Entry {
        Entry { protocol: Protocol::Tcp, host: host.parse().unwrap(), container_port }
    }

    fn table(entries: &[(&str, u16)]) -> Table {
        Table::new(entries.iter().map(|(host, port)| entry(host, *port)).collect())
    }

    fn wanted(domain: Domain, v6_only: bool, addr: &str) -> Wanted {
        Wanted { protocol: Protocol::Tcp, domain, v6_only, addr: addr.parse().unwrap() }
    }

    /// Bound address, `IPV6_V6ONLY`, own and relayed entries.
    fn chosen(table: &Table, wanted: &Wanted) -> Option<(String, bool, Vec<usize>, Vec<usize>)> {
        let (choice, ()) = table.choose(wanted, |_| Some(()))?;
        Some((choice.bind.to_string(), choice.v6_only, choice.own, choice.relayed))
    }

    const ANY: &[(&str, u16)] = &[("0.0.0.0:8080", 80), ("[::]:8080", 80)];

    #[test]
    fn without_a_host_address_the_applications_wildcard_decides() {
        let table = table(ANY);
        for (domain, v6_only, addr, bind, strict, own) in [
            (Domain::Inet, false, "0.0.0.0:80", "0.0.0.0:8080", false, vec![0]),
            (Domain::Inet6, true, "[::]:80", "[::]:8080", true, vec![1]),
            (Domain::Inet6, false, "[::]:80", "[::]:8080", false, vec![0, 1]),
            (Domain::Inet6, false, "[::ffff:0.0.0.0]:80", "[::ffff:0.0.0.0]:8080", false, vec![0]),
            (Domain::Inet, false, "10.0.2.100:80", "0.0.0.0:8080", false, vec![0]),
            (Domain::Inet6, false, "[fd00::2]:80", "[::]:8080", true, vec![1]),
        ] {
            let got = chosen(&table, &wanted(domain, v6_only, addr));
            assert_eq!(got, Some((bind.to_owned(), strict, own, vec![])), "{addr}");
        }
    }

    #[test]
    fn a_host_address_is_never_widened() {
        for (host, domain, addr, bind, strict) in [
            ("127.0.0.1:8080", Domain::Inet, "0.0.0.0:80", "127.0.0.1:8080", false),
            ("127.0.0.1:8080", Domain::Inet6, "[::]:80", "[::ffff:127.0.0.1]:8080", false),
            ("0.0.0.0:8080", Domain::Inet6, "[::]:80", "[::ffff:0.0.0.0]:8080", false),
            ("[::]:8080", Domain::Inet6, "[::]:80", "[::]:8080", true),
            ("[::1]:8080", Domain::Inet6, "[::]:80", "[::1]:8080", true),
        ] {
            let got = chosen(&table(&[(host, 80)]), &wanted(domain, false, addr));
            assert_eq!(got, Some((bind.to_owned(), strict, vec![0], vec![])), "{host} {addr}");
        }
    }

    #[test]
    fn what_only_the_container_should_reach_is_its_own_affair() {
        let table = table(ANY);
        for (domain, addr) in [
            (Domain::Inet, "127.0.0.1:80"),
            (Domain::Inet, "127.8.8.8:80"),
            (Domain::Inet6, "[::1]:80"),
            (Domain::Inet6, "[::ffff:127.0.0.1]:80"),
            (Domain::Inet6, "[fe80::1]:80"),
            (Domain::Inet, "224.0.0.251:80"),
            (Domain::Inet6, "[ff02::fb]:80"),
            (Domain::Inet, "0.0.0.0:81"),
            (Domain::Inet, "0.0.0.0:0"),
            (Domain::Inet, "0.0.0.0:8080"),
        ] {
            assert_eq!(chosen(&table, &wanted(domain, false, addr)), None, "{addr}");
        }
        let v6 = Table::new(vec![entry("[::]:8080", 80)]);
        assert_eq!(chosen(&v6, &wanted(Domain::Inet, false, "0.0.0.0:80")), None);
        let mut udp = wanted(Domain::Inet, false, "0.0.0.0:80");
        udp.protocol = Protocol::Udp;
        assert_eq!(chosen(&table, &udp), None);
    }

    #[test]
    fn further_addresses_are_relayed() {
        let table = table(&[("127.0.0.1:8080", 80), ("198.18.0.1:80", 80), ("[::1]:8080", 80)]);
        let got = chosen(&table, &wanted(Domain::Inet, false, "0.0.0.0:80"));
        assert_eq!(got, Some(("198.18.0.1:80".into(), false, vec![1], vec![0])));
        let got = chosen(&table, &wanted(Domain::Inet6, false, "[::]:80"));
        assert_eq!(got, Some(("[::ffff:198.18.0.1]:80".into(), false, vec![1], vec![0, 2])));
    }

    #[test]
    fn entries_that_a_socket_may_not_take_are_relayed_or_left() {
        let table = table(&[("127.0.0.1:8080", 80), ("198.18.0.1:80", 80)]);
        let wanted = wanted(Domain::Inet, false, "0.0.0.0:80");
        let pin = |entry: &Entry| (!entry.host.ip().is_loopback()).then_some(2);
        let (choice, device) = table.choose(&wanted, pin).unwrap();
        assert_eq!((choice.own, choice.relayed, device), (vec![1], vec![0], 2));
        assert_eq!(table.choose(&wanted, |_| None::<u32>), None);
    }

    #[test]
    fn halves_behind_different_devices_do_not_become_one_socket() {
        let table = table(ANY);
        let wanted = wanted(Domain::Inet6, false, "[::]:80");
        let pin = |entry: &Entry| Some(if entry.host.is_ipv4() { 2 } else { 3 });
        let (choice, device) = table.choose(&wanted, pin).unwrap();
        assert_eq!((choice.own, choice.relayed, device), (vec![0], vec![1], 2));
        assert_eq!(choice.bind.to_string(), "[::ffff:0.0.0.0]:8080");
    }

    #[test]
    fn a_bound_socket_covers_its_own_addresses() {
        let table = table(&[("0.0.0.0:8080", 80), ("[::]:8080", 80), ("127.0.0.1:9090", 90)]);
        for (local, v6_only, covered) in [
            ("0.0.0.0:8080", false, vec![0]),
            ("[::ffff:0.0.0.0]:8080", false, vec![0]),
            ("[::]:8080", false, vec![0, 1]),
            ("[::]:8080", true, vec![1]),
            ("127.0.0.1:9090", false, vec![2]),
            ("[::ffff:127.0.0.1]:9090", false, vec![2]),
            ("0.0.0.0:80", false, vec![]),
        ] {
            let got = table.covered(Protocol::Tcp, local.parse().unwrap(), v6_only);
            assert_eq!(got, covered, "{local}");
        }
    }

    #[test]
    fn the_wildcard_of_both_families_is_covered_only_if_both_are_published() {
        let (v4, v6) = (("0.0.0.0:8080", 80), ("[::]:8080", 80));
        for (entries, local, both, covered) in [
            (&[v4][..], "[::]:8080", false, false),
            (&[v4], "[::]:8080", true, false),
            (&[v4], "[::ffff:0.0.0.0]:8080", true, true),
            (&[v6], "[::]:8080", false, true),
            (&[v6], "[::]:8080", true, false),
            (&[v6], "0.0.0.0:8080", false, false),
            (&[v4, v6], "[::]:8080", true, true),
            (&[("198.18.0.1:8080", 80)], "0.0.0.0:8080", false, false),
            (&[("[fd00::1]:8080", 80)], "[::]:8080", false, false),
        ] {
            let covers = table(entries).covers(Protocol::Tcp, local.parse().unwrap(), both);
            assert_eq!(covers, covered, "{entries:?} {local} {both}");
        }
    }

    #[test]
    fn a_host_socket_on_a_published_port_is_told_by_its_address() {
        let table = table(&[("0.0.0.0:8080", 80), ("[::]:8080", 80), ("127.0.0.1:9090", 90)]);
        for (local, port) in [
            ("0.0.0.0:8080", Some(80)),
            ("198.18.0.1:8080", Some(80)),
            ("[::ffff:198.18.0.1]:8080", Some(80)),
            ("[::]:8080", Some(80)),
            ("[fd00::1]:8080", Some(80)),
            ("127.0.0.1:9090", Some(90)),
            ("198.18.0.1:9090", None),
            ("[::1]:9090", None),
            ("0.0.0.0:80", None),
        ] {
            let found = table.by_host(Protocol::Tcp, local.parse().unwrap());
            assert_eq!(found.map(|entry| entry.container_port), port, "{local}");
            assert_eq!(table.by_host(Protocol::Udp, local.parse().unwrap()), None);
        }
    }
}
