//! `-p` as users write it, a line each, and binds in a container that has these ports published.
//!
//! Input: a bind (4 bytes: kind of address, port, which host addresses cannot be had), then the lines.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bypass_core::{HostPort, PortMap, Protocol, Publish, PublishList};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some(([kind, port @ .., refused], text)) = input.split_first_chunk::<4>() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let mut all = Vec::new();
    for line in text.split('\n').take(6) {
        match line.parse::<Publish>() {
            Ok(publish) => {
                assert_eq!(publish.as_str(), line);
                maps(&publish);
                all.push(publish);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    // Only what the longest ranges cost is left out.
    if all.iter().map(|publish| publish.maps().len()).sum::<usize>() > 64 {
        return;
    }
    let backwards = all.iter().rev().cloned().collect();
    let conflict = PublishList::new(backwards).is_err();
    match PublishList::new(all) {
        Err(error) => assert!(conflict && !error.to_string().is_empty()),
        Ok(list) => {
            assert!(!conflict, "only in this order");
            apart(&list);
            bind(&list, *kind, u16::from_le_bytes(*port), *refused);
        }
    }
});

/// What is written for a map means that map.
fn maps(publish: &Publish) {
    let maps = publish.maps();
    let ports: Vec<u16> = maps.iter().map(|map| map.container_port).collect();
    assert!(!ports.is_empty() && !ports.contains(&0) && ports.is_sorted_by(|a, b| a < b));
    for map in maps.iter().take(3).chain(maps.last()) {
        let again: Result<Publish, _> = map.to_string().parse();
        assert_eq!(again.as_ref().map(Publish::maps), Ok(&[*map][..]), "{map}");
        let fixed = match map.host_port {
            HostPort::Ephemeral => None,
            HostPort::Fixed(port) => Some(port),
            HostPort::FirstFreeOf { first, last } => {
                assert!(first < last);
                Some(first)
            }
        };
        assert_ne!(fixed, Some(0));
        assert_eq!(map.host_ip, map.host_ip.map(|ip| ip.to_canonical()));
    }
}

/// No port of a host address belongs to two.
fn apart(list: &PublishList) {
    let maps: Vec<&PortMap> = list.iter().map(|(_, map)| map).collect();
    for (index, one) in maps.iter().enumerate() {
        for two in maps.iter().skip(index + 1) {
            let same = matches!(one.host_port, HostPort::Fixed(_))
                && (one.host_port, one.protocol) == (two.host_port, two.protocol);
            assert!(!same || !share_address(one, two), "{one} and {two}");
        }
    }
}

fn share_address(one: &PortMap, two: &PortMap) -> bool {
    let (Some(a), Some(b)) = (one.host_ip, two.host_ip) else { return true };
    a == b || a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified())
}

fn bind(list: &PublishList, kind: u8, port: u16, refused: u8) {
    let any6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let ip = match kind % 8 {
        0 => Ipv4Addr::UNSPECIFIED.into(),
        1 => Ipv4Addr::LOCALHOST.into(),
        2 => Ipv4Addr::new(10, 0, 2, 100).into(),
        3 => Ipv6Addr::LOCALHOST.into(),
        4 => Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().into(),
        5 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).into(),
        _ => any6,
    };
    let protocol = if kind & 8 == 0 { Protocol::Tcp } else { Protocol::Udp };
    // The ports that are published are few among all.
    let ports = list.iter().map(|(_, map)| map.container_port);
    for port in ports.chain([port]).take(8) {
        let at = SocketAddr::new(ip, port);
        bypass_core::fuzzing::bind(list, protocol, at, kind & 16 != 0, refused);
    }
}
