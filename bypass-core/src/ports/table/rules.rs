//! What must hold for every choice, told apart from how it is made.

use netns_socket::Domain;

use super::{Choice, Table, Wanted, in_family};
use crate::publish::Protocol;

impl Choice {
    /// # Panics
    /// If a socket of this kind would have a host address that was not asked for.
    pub(crate) fn assert_narrow(&self, table: &Table, protocol: Protocol, domain: Domain) {
        let own: Vec<_> = self.own.iter().filter_map(|index| table.get(*index)).collect();
        assert_eq!(own.len(), self.own.len(), "{self:?}");
        let wildcard = self.bind.is_ipv6() && self.bind.ip().is_unspecified();
        match own[..] {
            [one] => {
                assert_eq!(Some(self.bind), in_family(domain, one.host), "{self:?}");
                assert!(self.v6_only || !wildcard, "IPv4 as well: {self:?}");
            }
            [one, other] => {
                assert!(wildcard && !self.v6_only && domain == Domain::Inet6, "{self:?}");
                assert!(one.host.is_ipv4() != other.host.is_ipv4(), "{self:?}");
                assert!(own.iter().all(|entry| entry.host.ip().is_unspecified()), "{self:?}");
            }
            _ => panic!("one, or both families: {self:?}"),
        }
        for entry in own {
            assert_eq!((entry.protocol, entry.host.port()), (protocol, self.bind.port()));
        }
    }

    /// # Panics
    /// If this is no answer to the question.
    pub(crate) fn assert_answers(&self, table: &Table, wanted: &Wanted) {
        self.assert_narrow(table, wanted.protocol, wanted.domain);
        assert_eq!(self.families, wanted.families());
        let mut all = [&self.own[..], &self.relayed].concat();
        all.sort_unstable();
        let matching: Vec<_> = table
            .of_port(wanted.protocol, wanted.addr.port())
            .filter(|(_, entry)| self.families.has(entry.host.ip()))
            .map(|(index, _)| index)
            .collect();
        assert_eq!(all, matching, "every host address once: {self:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::ports::table::Entry;

    /// Few of each, so that they meet often.
    const HOSTS: [&str; 6] = ["0.0.0.0", "[::]", "127.0.0.1", "198.18.0.1", "[::1]", "[fd00::1]"];
    const BOUND: [&str; 8] = [
        "0.0.0.0",
        "127.0.0.1",
        "10.0.2.100",
        "[::]",
        "[::1]",
        "[fd00::2]",
        "[::ffff:0.0.0.0]",
        "[::ffff:10.0.2.100]",
    ];

    fn protocol() -> impl Strategy<Value = Protocol> {
        select(&[Protocol::Tcp, Protocol::Udp][..])
    }

    fn at(ip: &str, port: u16) -> SocketAddr {
        format!("{ip}:{port}").parse().unwrap()
    }

    prop_compose! {
        fn any_entry()(
            protocol in protocol(),
            ip in select(&HOSTS[..]),
            port in 8080_u16..8082,
            container_port in 80_u16..82,
        ) -> Entry {
            Entry { protocol, host: at(ip, port), container_port }
        }
    }

    proptest! {
        #[test]
        fn no_choice_is_wider_than_what_is_published(
            mut entries in prop::collection::vec((any_entry(), 0..3_u32), 0..6),
            protocol in protocol(),
            ip in select(&BOUND[..]),
            port in 80_u16..82,
            v6_only in any::<bool>(),
        ) {
            entries.sort_by_key(|(entry, _)| (entry.host, entry.protocol));
            entries.dedup_by_key(|(entry, _)| (entry.host, entry.protocol));
            let table = Table::new(entries.iter().map(|(entry, _)| *entry).collect());
            let addr = at(ip, port);
            let domain = if addr.is_ipv4() { Domain::Inet } else { Domain::Inet6 };
            let wanted = Wanted { protocol, domain, v6_only, addr };
            // Device 0 stands for one that cannot be had.
            let device = |entry: &Entry| {
                let found = entries.iter().find(|(other, _)| other == entry)?;
                (found.1 != 0).then_some(found.1)
            };
            if let Some((choice, pin)) = table.choose(&wanted, device) {
                choice.assert_answers(&table, &wanted);
                for index in &choice.own {
                    prop_assert_eq!(device(table.get(*index).unwrap()), Some(pin));
                }
            }
        }
    }
}
