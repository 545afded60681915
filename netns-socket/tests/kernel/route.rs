//! Look-ups of the device that a destination is reached by.

use std::net::IpAddr;

use libtest_mimic::Trial;
use netns_socket::{Arrival, Egress, Errno, Router};

use crate::harness::{ifindex, in_new_netns, ip, trial};

pub(crate) fn trials() -> Vec<Trial> {
    [
        ("route::by_a_device", by_a_device as fn()),
        ("route::own_addresses", own_addresses),
        ("route::who_gets_it", arrivals),
        ("route::loopback", loopback),
        ("route::refusals", refusals),
        ("route::link_local", link_local),
        ("route::changes_are_noticed", changes),
        ("route::many_changes_are_noticed", many_changes),
        ("route::several_next_hops", several_next_hops),
        ("route::more_destinations_than_are_kept", many),
    ]
    .into_iter()
    .map(|(name, body)| trial(name, move || in_new_netns(body)))
    .collect()
}

fn egress(router: &Router, address: &str) -> Egress {
    router.egress(address.parse::<IpAddr>().unwrap(), 0).unwrap()
}

/// Two veth pairs: d0 with 10.9.0.1/24 and 2001:db8:9::1/64, and v0 with 10.8.0.1/24.
fn devices() -> (u32, u32) {
    for command in [
        "link add d0 type veth peer name d1",
        "link add v0 type veth peer name v1",
        "addr add 10.9.0.1/24 dev d0",
        "addr add 2001:db8:9::1/64 dev d0 nodad",
        "addr add 10.8.0.1/24 dev v0",
        "link set d0 up",
        "link set d1 up",
        "link set v0 up",
        "link set v1 up",
    ] {
        ip(command).unwrap();
    }
    (ifindex("d0"), ifindex("v0"))
}

fn by_a_device() {
    let (d0, v0) = devices();
    let router = Router::new().unwrap();
    for _ in 0..2 {
        assert_eq!(egress(&router, "10.9.0.7"), Egress::Device { ifindex: d0 });
        assert_eq!(egress(&router, "2001:db8:9::7"), Egress::Device { ifindex: d0 });
        assert_eq!(egress(&router, "10.8.0.7"), Egress::Device { ifindex: v0 });
        assert_eq!(egress(&router, "::ffff:10.8.0.7"), Egress::Device { ifindex: v0 });
    }
}

fn own_addresses() {
    let (d0, v0) = devices();
    ip("addr add 10.7.0.1/32 dev v0").unwrap();
    let router = Router::new().unwrap();
    assert_eq!(egress(&router, "10.9.0.1"), Egress::Device { ifindex: d0 });
    assert_eq!(egress(&router, "10.8.0.1"), Egress::Device { ifindex: v0 });
    assert_eq!(egress(&router, "10.7.0.1"), Egress::Device { ifindex: v0 });
    assert_eq!(egress(&router, "2001:db8:9::1"), Egress::Device { ifindex: d0 });
}

fn arrivals() {
    devices();
    ip("addr add 10.7.0.1/32 dev v0").unwrap();
    ip("addr add 10.6.0.1/24 brd + dev v0").unwrap();
    ip("addr add 10.5.5.5/32 dev lo").unwrap();
    ip("route add default via 10.9.0.254").unwrap();
    ip("route add local 10.4.0.0/16 dev lo").unwrap();
    ip("route add unreachable 198.51.100.0/26").unwrap();
    let router = Router::new().unwrap();
    let arrival = |address: &str| router.arrival(address.parse().unwrap()).unwrap();
    for _ in 0..2 {
        for address in [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "::ffff:127.0.0.1",
            "10.9.0.1",
            "::ffff:10.9.0.1",
            "10.7.0.1",
            "10.5.5.5",
            "10.4.1.2",
            "2001:db8:9::1",
        ] {
            assert_eq!(arrival(address), Arrival::Here, "{address}");
        }
        for address in ["10.6.0.255", "255.255.255.255", "224.0.0.1"] {
            assert_eq!(arrival(address), Arrival::HereToo, "{address}");
        }
        for address in ["10.9.0.7", "203.0.113.1", "198.51.100.1", "2001:db8:ffff::1", "fe80::1"] {
            assert_eq!(arrival(address), Arrival::Elsewhere, "{address}");
        }
    }
    // A router is reached by the subnet-router anycast address of its links (RFC 4291, 2.6.1).
    assert_eq!(arrival("2001:db8:9::"), Arrival::Elsewhere);
    std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    assert_eq!(arrival("2001:db8:9::"), Arrival::HereToo);
    // An address comes and goes.
    ip("addr add 203.0.113.1/32 dev v0").unwrap();
    assert_eq!(arrival("203.0.113.1"), Arrival::Here);
    ip("addr del 203.0.113.1/32 dev v0").unwrap();
    assert_eq!(arrival("203.0.113.1"), Arrival::Elsewhere);
}

fn loopback() {
    devices();
    ip("addr add 10.7.7.7/32 dev lo").unwrap();
    ip("addr add 2001:db8:7::7/128 dev lo nodad").unwrap();
    ip("route add 10.6.0.0/16 dev lo").unwrap();
    let router = Router::new().unwrap();
    for address in [
        "127.0.0.1",
        "127.9.8.7",
        "::1",
        "0.0.0.0",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:0.0.0.0",
        "10.7.7.7",
        "::ffff:10.7.7.7",
        "2001:db8:7::7",
        "10.6.1.2",
    ] {
        assert_eq!(egress(&router, address), Egress::Loopback, "{address}");
    }
}

fn refusals() {
    devices();
    ip("route add unreachable 198.51.100.0/26").unwrap();
    ip("route add prohibit 198.51.100.64/26").unwrap();
    ip("route add blackhole 198.51.100.128/26").unwrap();
    ip("route add unreachable 2001:db8:6::/64").unwrap();
    ip("route add prohibit 2001:db8:6:1::/64").unwrap();
    let router = Router::new().unwrap();
    for (address, errno) in [
        ("203.0.113.1", Errno::NETUNREACH),
        ("2001:db8:ffff::1", Errno::NETUNREACH),
        ("198.51.100.1", Errno::HOSTUNREACH),
        ("198.51.100.65", Errno::ACCESS),
        ("198.51.100.129", Errno::INVAL),
        ("2001:db8:6::1", Errno::HOSTUNREACH),
        ("2001:db8:6:1::1", Errno::ACCESS),
    ] {
        assert_eq!(egress(&router, address), Egress::Unroutable(errno), "{address}");
        assert_eq!(egress(&router, address), Egress::Unroutable(errno), "{address}, kept");
    }
}

fn link_local() {
    let (d0, _) = devices();
    let router = Router::new().unwrap();
    let address = "fe80::7".parse().unwrap();
    assert_eq!(router.egress(address, d0).unwrap(), Egress::Device { ifindex: d0 });
    assert_eq!(router.egress(address, 0).unwrap(), Egress::Unroutable(Errno::INVAL));
    assert_eq!(router.egress(address, 1).unwrap(), Egress::Loopback);
}

fn changes() {
    let (d0, v0) = devices();
    let router = Router::new().unwrap();
    let peer = "203.0.113.1";
    assert_eq!(egress(&router, peer), Egress::Unroutable(Errno::NETUNREACH));
    ip("route add default via 10.9.0.254").unwrap();
    assert_eq!(egress(&router, peer), Egress::Device { ifindex: d0 });
    ip("route replace default via 10.8.0.254").unwrap();
    assert_eq!(egress(&router, peer), Egress::Device { ifindex: v0 });
    ip("rule add to 203.0.113.0/24 prohibit").unwrap();
    assert_eq!(egress(&router, peer), Egress::Unroutable(Errno::ACCESS));
    ip("rule del to 203.0.113.0/24 prohibit").unwrap();
    assert_eq!(egress(&router, peer), Egress::Device { ifindex: v0 });
    ip("link set v0 down").unwrap();
    assert_eq!(egress(&router, peer), Egress::Unroutable(Errno::NETUNREACH));

    // An address of another host becomes our own, on `lo`.
    assert_eq!(egress(&router, "10.9.0.7"), Egress::Device { ifindex: d0 });
    ip("addr add 10.9.0.7/32 dev lo").unwrap();
    assert_eq!(egress(&router, "10.9.0.7"), Egress::Loopback);

    let peer = "2001:db8:ffff::1";
    assert_eq!(egress(&router, peer), Egress::Unroutable(Errno::NETUNREACH));
    ip("-6 route add default dev d0").unwrap();
    assert_eq!(egress(&router, peer), Egress::Device { ifindex: d0 });
    ip("-6 rule add to 2001:db8:ffff::/48 prohibit").unwrap();
    assert_eq!(egress(&router, peer), Egress::Unroutable(Errno::ACCESS));
}

fn many_changes() {
    let (d0, _) = devices();
    let router = Router::new().unwrap();
    assert_eq!(egress(&router, "10.1.255.1"), Egress::Unroutable(Errno::NETUNREACH));
    // More messages than are read at once, and then than the socket's buffer holds.
    for count in [100, 3000] {
        let mut batch = String::new();
        for number in 0..count {
            let (high, low) = (number / 250, number % 250);
            batch.push_str(&format!("route add 10.1.{high}.{low}/32 dev d0\n"));
        }
        batch.push_str("route add 10.1.255.0/24 dev d0\n");
        run_batch(&batch);
        assert_eq!(egress(&router, "10.1.255.1"), Egress::Device { ifindex: d0 });
        run_batch(&batch.replace("route add", "route del"));
        assert_eq!(egress(&router, "10.1.255.1"), Egress::Unroutable(Errno::NETUNREACH));
    }
}

fn run_batch(batch: &str) {
    use std::io::Write;
    let mut child = std::process::Command::new("ip")
        .args(["-batch", "-"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(batch.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn several_next_hops() {
    let (d0, v0) = devices();
    ip("route add 203.0.113.0/24 nexthop via 10.9.0.254 nexthop via 10.8.0.254").unwrap();
    let router = Router::new().unwrap();
    let Egress::Device { ifindex } = egress(&router, "203.0.113.1") else { unreachable!() };
    assert!(ifindex == d0 || ifindex == v0);
}

fn many() {
    let (d0, _) = devices();
    ip("route add default via 10.9.0.254").unwrap();
    let router = Router::new().unwrap();
    for number in 0..5000_u32 {
        let address = IpAddr::from((0x0b00_0000 + number).to_be_bytes());
        assert_eq!(router.egress(address, 0).unwrap(), Egress::Device { ifindex: d0 });
    }
}
