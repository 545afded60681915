//! The world of a run: addresses of every kind that the engine treats apart, and what is there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::LazyLock;

use sockaddr_inspect::{RawSockAddr, SockAddr};

use super::bytes::Bytes;
use crate::engine::fake::{CONTAINER, Fake, HOST, NESTED, Peer};
use crate::policy::{DefaultAction, Pattern, Policy, PolicyBuilder};
use crate::ports::Entry;
use crate::publish::Protocol;

/// Where the host reaches published ports of another container.
pub(super) const NEIGHBOURS: [SocketAddr; 2] = [
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8090)),
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(198, 18, 0, 1), 8091)),
];

/// A device besides that of most addresses.
const WLAN: u32 = 3;
pub(super) const ENTRIES: usize = 8;

/// Addresses that calls name.
pub(super) struct Choices(&'static [SocketAddr]);

impl Choices {
    pub(super) fn new() -> Self {
        Self(&ADDRS)
    }

    pub(super) fn addr(&self, bytes: &mut Bytes<'_>) -> SocketAddr {
        self.0[usize::from(bytes.byte()) % self.0.len()]
    }

    /// Some of them: one, and then every so many.
    pub(super) fn every(&self, first: usize, step: usize) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().skip(first % self.0.len()).step_by(step).copied()
    }

    /// One of them as the container wrote it, or something else.
    pub(super) fn name(&self, bytes: &mut Bytes<'_>) -> RawSockAddr {
        let which = bytes.byte();
        if which < 224 {
            return SockAddr::from(self.0[usize::from(which) % self.0.len()]).encode();
        }
        let whole = SockAddr::from(self.addr(bytes)).encode();
        let mut name = whole.as_bytes().to_vec();
        match which % 8 {
            0 | 1 => name.truncate(2),
            // AF_UNSPEC, which some calls take for AF_INET.
            2 | 3 => name[..2].fill(0),
            4 => name.truncate(usize::from(bytes.byte()) % (name.len() + 1)),
            5 => name.resize(128, 0xee),
            6 => return SockAddr::Unspec.encode(),
            _ => name = bytes.take(28),
        }
        RawSockAddr::from_bytes(&name).unwrap_or_default()
    }
}

/// Puts into the world what is there in every run.
pub(super) fn furnish(k: &mut Fake) {
    for addr in ADDRS.iter() {
        for netns in [HOST, CONTAINER, NESTED] {
            k.peers.insert((netns, *addr), Peer::Accepts);
        }
    }
    for addr in NEIGHBOURS {
        let mapped = SocketAddr::new(
            Ipv4Addr::to_ipv6_mapped(&match addr {
                SocketAddr::V4(addr) => *addr.ip(),
                SocketAddr::V6(_) => continue,
            })
            .into(),
            addr.port(),
        );
        for addr in [addr, mapped] {
            k.peers.insert((HOST, addr), Peer::Accepts);
        }
    }
    k.on_lo.extend(ON_LO.iter());
    k.devices.extend(OTHER_DEVICE.iter().map(|ip| (*ip, WLAN)));
    k.unroutable.extend(UNROUTABLE.iter());
    k.own_addresses.extend(OWN.iter());
    k.on_host.extend(OF_HOST.iter());
}

pub(super) fn entries() -> [Entry; ENTRIES] {
    *PUBLISHED
}

pub(super) fn policy(which: u8, allow_host_loopback: bool) -> Policy {
    POLICIES[usize::from(which % 9) * 2 + usize::from(allow_host_loopback)].clone()
}

// Parsed once: a fuzzer makes thousands of runs a second.
static ADDRS: LazyLock<Vec<SocketAddr>> = LazyLock::new(|| {
    let texts = [
        "192.0.2.1:80",
        "192.0.2.2:80", // by another device
        "192.0.2.66:80",
        "10.1.2.3:80",
        "127.0.0.1:80",
        "127.0.0.1:8080",
        "127.0.0.1:9090",
        "127.0.0.1:5300",
        "0.0.0.0:80",
        "0.0.0.0:0",
        "0.0.0.0:53",
        "0.0.0.0:8080",
        "0.0.0.0:4000",
        "[::1]:80",
        "[::1]:8081",
        "[::]:80",
        "[::]:0",
        "[::]:53",
        "[::]:8081",
        "[::ffff:127.0.0.1]:80",
        "[::ffff:192.0.2.1]:80",
        "[::ffff:192.0.2.66]:80",
        "[::ffff:0.0.0.0]:80",
        "[2001:db8::1]:80",
        "[2001:db8::2]:80", // by another device
        "[2001:db8:66::1]:80",
        "[fe80::1%2]:80",
        "224.0.0.1:80",
        "255.255.255.255:80",
        "198.51.100.9:80", // lives on lo
        "[::ffff:198.51.100.9]:53",
        "203.0.113.7:80", // no route
        "10.0.2.100:80",  // the container's own
        "10.0.2.100:53",
        "192.0.2.1:8080",
        "198.18.0.1:80",
        "198.18.0.1:5301",
    ];
    texts.iter().filter_map(|text| text.parse().ok()).collect()
});
static ON_LO: LazyLock<Vec<IpAddr>> = LazyLock::new(|| ips(&["198.51.100.9"]));
static OTHER_DEVICE: LazyLock<Vec<IpAddr>> = LazyLock::new(|| ips(&["192.0.2.2", "2001:db8::2"]));
static UNROUTABLE: LazyLock<Vec<IpAddr>> = LazyLock::new(|| ips(&["203.0.113.7"]));
static OF_HOST: LazyLock<Vec<IpAddr>> = LazyLock::new(|| ips(&["198.18.0.1", "198.51.100.9"]));
static OWN: LazyLock<Vec<IpAddr>> = LazyLock::new(|| ips(&["10.0.2.100", "fd00::100"]));

static PUBLISHED: LazyLock<[Entry; ENTRIES]> = LazyLock::new(|| {
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    [
        (tcp, "0.0.0.0:8080", 80),
        (tcp, "[::]:8080", 80),
        (tcp, "127.0.0.1:9090", 80),
        (tcp, "198.18.0.1:80", 80),
        (udp, "0.0.0.0:5300", 53),
        (udp, "[::]:5300", 53),
        (udp, "127.0.0.1:5300", 53),
        (tcp, "[::1]:8081", 8081),
    ]
    .map(|(protocol, host, container_port)| {
        let host = host.parse().unwrap_or_else(|_| SocketAddr::from(([0; 4], 0)));
        Entry { protocol, host, container_port }
    })
});

/// Each once without and once with the host's loopback.
static POLICIES: LazyLock<Vec<Policy>> = LazyLock::new(|| {
    let usual = || {
        let deny = patterns(&["192.0.2.66", "2001:db8:66::/48"]);
        Policy::builder().deny(deny).ignore(["10.0.0.0/8".parse().unwrap_or_default()])
    };
    let wide = ["192.0.2.2/32", "0.0.0.0/1"];
    let wide = wide.iter().filter_map(|net| net.parse().ok());
    let bare = Policy::builder;
    let all = [
        usual(),
        usual().ignore_own_networks(true),
        usual().deny(patterns(&["127.0.0.0/8"])),
        usual().ignore(wide),
        bare(),
        bare().allow(patterns(&["192.0.2.1:80/tcp"])).default_action(DefaultAction::Deny),
        usual().allow(patterns(&["192.0.2.0/24/udp"])).default_action(DefaultAction::Leave),
        usual().deny(patterns(&["host"])),
        usual().allow(patterns(&["any:8080", "private"])).deny(patterns(&["any/udp", "any:53"])),
    ];
    let both = |policy: PolicyBuilder| {
        [false, true].map(|loopback| policy.clone().allow_host_loopback(loopback).build())
    };
    all.into_iter().flat_map(both).collect()
});

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
