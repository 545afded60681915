//! Everything that is published, without contradictions.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::{HostPort, PortMap, Protocol, Publish};

/// What is published: checked for contradictions.
///
/// One container port may have several maps, as long as no two maps want one port of one
/// protocol at one host address. No host address overlaps every address, and a wildcard
/// overlaps its family.
///
/// Nothing here says whether a port is free on the host: that only shows when it is
/// reserved. Fixed ports are to be reserved before ranges, which give way to them.
///
/// ```
/// use bypass_core::{Publish, PublishList};
///
/// let publish = |text: &str| text.parse::<Publish>().unwrap();
/// assert!(PublishList::new(vec![publish("8080:80"), publish("8081:80")]).is_ok());
/// assert!(PublishList::new(vec![publish("[::1]:8080:80"), publish("[::]:8080:81")]).is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishList {
    all: Vec<Publish>,
}

impl PublishList {
    /// Checks each map against all others.
    ///
    /// # Errors
    /// The first two that contradict each other, in the order given. A range contradicts
    /// others if their fixed ports leave it none; ranges do not contradict each other.
    pub fn new(all: Vec<Publish>) -> Result<Self, PublishConflict> {
        let list = Self { all };
        let mut seen = HashMap::new();
        let mut fixed: Fixed<'_> = HashMap::new();
        for (publish, map) in list.iter() {
            match seen.entry(map) {
                Entry::Vacant(entry) => entry.insert(publish),
                Entry::Occupied(entry) => {
                    return Err(PublishConflict::Twice {
                        first: entry.get().as_str().into(),
                        second: publish.as_str().into(),
                    });
                }
            };
            let HostPort::Fixed(port) = map.host_port else { continue };
            if let Some(first) = holder(&fixed, map, port) {
                return Err(PublishConflict::HostPort {
                    first: first.as_str().into(),
                    second: publish.as_str().into(),
                    port,
                    protocol: map.protocol,
                });
            }
            fixed.entry((map.protocol, port)).or_default().push((publish, map));
        }
        for (range, map) in list.iter() {
            let HostPort::FirstFreeOf { first, last } = map.host_port else { continue };
            // The first free port ends the walk, so long ranges cost no more than short ones.
            let mut holders = (first..=last).map(|port| holder(&fixed, map, port));
            if let Some(Some(one)) = holders.next()
                && holders.all(|holder| holder.is_some())
            {
                return Err(PublishConflict::RangeFull {
                    range: range.as_str().into(),
                    fixed: one.as_str().into(),
                });
            }
        }
        Ok(list)
    }

    /// Every map, with the `-p` it comes from, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = (&Publish, &PortMap)> {
        self.all.iter().flat_map(|publish| publish.maps().iter().map(move |map| (publish, map)))
    }

    /// Whether nothing is published.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

type Fixed<'a> = HashMap<(Protocol, u16), Vec<(&'a Publish, &'a PortMap)>>;

/// The `-p` that has `port` at a host address of `map`.
fn holder<'a>(fixed: &Fixed<'a>, map: &PortMap, port: u16) -> Option<&'a Publish> {
    fixed
        .get(&(map.protocol, port))?
        .iter()
        .find(|(_, other)| map.shares_address(other))
        .map(|&(publish, _)| publish)
}

/// Two `-p` that cannot both be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishConflict {
    /// They hold the same map.
    #[error("`-p {first}` and `-p {second}` publish the same: leave out one of them")]
    Twice {
        /// The one given first.
        first: Box<str>,
        /// The one given later.
        second: Box<str>,
    },
    /// They want the same port at overlapping host addresses.
    #[error(
        "`-p {first}` and `-p {second}` both need host port {port}/{protocol}: change the host \
         port or address of one"
    )]
    HostPort {
        /// The one given first.
        first: Box<str>,
        /// The one given later.
        second: Box<str>,
        /// The port that both want.
        port: u16,
        /// The protocol of it.
        protocol: Protocol,
    },
    /// Every port of a range is wanted by others.
    #[error(
        "`-p {range}` is left no host port by `-p {fixed}` and the like: widen or move the range"
    )]
    RangeFull {
        /// The one with the range.
        range: Box<str>,
        /// The one that has the first port of the range.
        fixed: Box<str>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(texts: &[&str]) -> Result<PublishList, PublishConflict> {
        PublishList::new(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn maps_that_share_no_host_address_and_port_agree() {
        for texts in [
            &["8080:80", "8081:80"][..],
            &["127.0.0.1:8080:80", "8081:80"],
            &["8080:80", "8080:80/udp"],
            &["8080:80", "80:8080"],
            &["127.0.0.1:8080:80", "127.0.0.2:8080:80"],
            &["127.0.0.1:8080:80", "[::1]:8080:80"],
            &["0.0.0.0:8080:80", "[::]:8080:81"],
            &["0.0.0.0:8080:80", "[::1]:8080:81"],
            &["80", "127.0.0.1::80", "80/udp"],
            &["8000-8010:80", "8000-8010:81"],
            &["8000-8001:80", "8000:81"],
            &["127.0.0.1:8000-8001:80", "[::]:8000-8001:1-2"],
            &["8000-8001:80", "8000-8001:1-2/udp"],
        ] {
            assert!(list(texts).is_ok(), "{texts:?}");
        }
    }

    #[test]
    fn one_port_at_one_host_address_goes_to_one_map() {
        for (first, second, port) in [
            ("8080:80", "8080:81", 8080),
            ("8080:80", "127.0.0.1:8080:80", 8080),
            ("8080:80", "[::]:8080:80", 8080),
            ("0.0.0.0:8080:80", "127.0.0.1:8080:81", 8080),
            ("[::]:8080:80/udp", "[::1]:8080:80/udp", 8080),
            ("[::ffff:127.0.0.1]:8080:80", "0.0.0.0:8080:81", 8080),
            ("8000-8009:80-89", "127.0.0.1:8005:1", 8005),
        ] {
            let Err(PublishConflict::HostPort { first: one, second: two, port: at, .. }) =
                list(&[first, second])
            else {
                panic!("{first} and {second} are taken");
            };
            assert_eq!((&*one, &*two, at), (first, second, port));
        }
    }

    #[test]
    fn the_same_map_twice_is_a_mistake_however_it_is_written() {
        for (first, second) in [
            ("8080:80", "8080:80/TCP"),
            ("80", ":80"),
            ("[::ffff:1.2.3.4]::80", "1.2.3.4::80/tcp"),
            ("8000-8001:80-81", "8001:81"),
            ("8000-8010:80", "8000-8010:80"),
        ] {
            let conflict = list(&["53:53/udp", first, second]).unwrap_err();
            assert!(matches!(conflict, PublishConflict::Twice { .. }), "{conflict}");
            let message = conflict.to_string();
            assert!(message.contains(&format!("-p {first}` and `-p {second}`")), "{message}");
        }
    }

    #[test]
    fn a_range_needs_one_port_that_no_fixed_map_takes() {
        assert!(list(&["8000-8002:80", "8000:81", "127.0.0.1:8002:82"]).is_ok());
        let conflict =
            list(&["8000-8002:80", "8000:81", "127.0.0.1:8002:82", "[::1]:8001:83"]).unwrap_err();
        assert_eq!(
            conflict,
            PublishConflict::RangeFull { range: "8000-8002:80".into(), fixed: "8000:81".into() }
        );
    }

    #[test]
    fn the_widest_lists_are_checked_in_no_time() {
        let wide = ["1-65535:1-65535", "1-65535:1-65535/udp", "1-65535:1/udp"];
        assert!(matches!(list(&wide), Err(PublishConflict::RangeFull { .. })));
    }

    #[test]
    fn maps_come_with_the_option_they_come_from() {
        let list = list(&["8000-8001:80-81", "53/udp"]).unwrap();
        let all: Vec<String> =
            list.iter().map(|(publish, map)| format!("{} {map}", publish.as_str())).collect();
        assert_eq!(
            all,
            ["8000-8001:80-81 8000:80/tcp", "8000-8001:80-81 8001:81/tcp", "53/udp :53/udp"]
        );
        assert!(!list.is_empty() && PublishList::default().is_empty());
    }

    /// Few addresses and ports, so that maps meet often.
    fn any_text() -> impl Strategy<Value = String> {
        let ip = prop::sample::select(vec![
            "",
            "0.0.0.0:",
            "[::]:",
            "127.0.0.1:",
            "192.0.2.1:",
            "[::1]:",
            "[::ffff:127.0.0.1]:",
        ]);
        let ports = prop::sample::select(vec![
            ":1", "1:1", "1:2", "2:1", "2:2", "1-2:1", "1-2:2", "1-2:1-2", "2-3:1",
        ]);
        let protocol = prop::sample::select(vec!["", "/tcp", "/udp"]);
        (ip, ports, protocol).prop_map(|(ip, ports, protocol)| format!("{ip}{ports}{protocol}"))
    }

    proptest! {
        #[test]
        fn whether_maps_conflict_does_not_depend_on_their_order(
            texts in prop::collection::vec(any_text(), 2..5),
        ) {
            let forth: Vec<&str> = texts.iter().map(String::as_str).collect();
            let back: Vec<&str> = texts.iter().rev().map(String::as_str).collect();
            prop_assert_eq!(list(&forth).is_err(), list(&back).is_err());
        }

        #[test]
        fn a_list_that_holds_has_no_two_fixed_maps_on_one_port(
            texts in prop::collection::vec(any_text(), 1..5),
        ) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let Ok(list) = list(&texts) else { return Ok(()) };
            let maps: Vec<&PortMap> = list.iter().map(|(_, map)| map).collect();
            for (index, one) in maps.iter().enumerate() {
                for two in maps.iter().skip(index + 1) {
                    let meet = matches!(one.host_port, HostPort::Fixed(_))
                        && one.host_port == two.host_port
                        && one.protocol == two.protocol
                        && one.shares_address(two);
                    prop_assert!(!meet, "{one} and {two}");
                }
            }
        }
    }
}
