//! The networks of another namespace, as they change.

use std::fs;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Instant;

use libtest_mimic::Trial;
use netns_socket::{InterfaceAddress, MAX_ADDRESSES, Namespace, Networks, PidFd, own_netns_cookie};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sendto, socket_with};

use crate::harness::{Fixture, in_new_netns, ip, trial};

pub(crate) fn trials() -> Vec<Trial> {
    [
        ("networks::are_those_of_the_interfaces", of_interfaces as fn()),
        ("networks::changes_are_known_at_once", changes),
        ("networks::an_address_that_is_looked_for_elsewhere_counts", tentative),
        ("networks::point_to_point", point_to_point),
        ("networks::more_than_are_held", too_many),
        ("networks::lost_news_are_news", overrun),
        ("networks::forged_messages_change_nothing", forged),
        ("networks::unchanged_ones_are_not_read_again", unchanged),
    ]
    .into_iter()
    .map(|(name, body)| trial(name, move || in_new_netns(body)))
    .chain([trial("networks::of_a_container", of_a_container)])
    .collect()
}

/// Of the calling thread's namespace.
fn own() -> Networks {
    let tid = rustix::thread::gettid().as_raw_nonzero().get();
    let networks = Networks::of(&Namespace::of(tid).unwrap()).unwrap();
    assert_eq!(networks.netns_cookie(), own_netns_cookie().unwrap());
    networks
}

fn parse(address: &str) -> IpAddr {
    address.parse().unwrap()
}

#[track_caller]
fn expect(networks: &mut Networks, address: &str, contained: impl Into<Option<bool>>) {
    assert_eq!(networks.contain(parse(address)), contained.into(), "{address}");
}

fn device() {
    ip("link add d0 type veth peer name d1").unwrap();
    ip("link set d0 up").unwrap();
    ip("link set d1 up").unwrap();
}

fn of_interfaces() {
    device();
    ip("addr add 10.9.0.1/24 dev d0").unwrap();
    ip("addr add 10.9.1.1/16 dev d1").unwrap();
    ip("addr add 2001:db8:9::1/64 dev d0 nodad").unwrap();
    // Not up.
    ip("link add v0 type veth peer name v1").unwrap();
    ip("addr add 10.8.0.1/24 dev v0").unwrap();
    ip("route add 10.7.0.0/16 via 10.9.0.7").unwrap();
    let mut networks = own();
    for (address, contained) in [
        ("10.9.0.200", true),
        ("10.9.200.1", true),
        ("10.8.0.2", true),
        ("10.8.1.2", false),
        ("10.7.0.1", false),
        ("127.0.0.1", true),
        ("192.0.2.1", false),
        ("2001:db8:9::ffff", true),
        ("2001:db8:8::1", false),
        ("fe80::1", true),
    ] {
        expect(&mut networks, address, contained);
    }
    assert_eq!(networks.have_address(parse("10.9.0.1")), Some(true));
    assert_eq!(networks.have_address(parse("10.9.0.2")), Some(false));
    assert_eq!(networks.have_address(parse("2001:db8:9::1")), Some(true));
}

fn changes() {
    device();
    let mut networks = own();
    for round in 0..50 {
        for (address, neighbour) in
            [("10.9.0.1/24", "10.9.0.7"), ("2001:db8:9::1/64", "2001:db8:9::7")]
        {
            expect(&mut networks, neighbour, false);
            let nodad = if address.contains(':') && round % 2 == 0 { "nodad" } else { "" };
            ip(&format!("addr add {address} dev d0 {nodad}")).unwrap();
            expect(&mut networks, neighbour, true);
            ip(&format!("addr del {address} dev d0")).unwrap();
            expect(&mut networks, neighbour, false);
        }
    }
    ip("addr add 10.9.0.1/24 dev d0").unwrap();
    expect(&mut networks, "10.9.0.7", true);
    ip("link del d0").unwrap();
    expect(&mut networks, "10.9.0.7", false);
}

/// The kernel announces such an address only when it has been looked for, which takes a second.
fn tentative() {
    device();
    let mut networks = own();
    expect(&mut networks, "2001:db8:9::7", false);
    fs::write("/proc/sys/net/ipv6/conf/d0/accept_dad", "1").unwrap();
    let began = Instant::now();
    ip("addr add 2001:db8:9::1/64 dev d0").unwrap();
    expect(&mut networks, "2001:db8:9::7", true);
    assert!(began.elapsed().as_millis() < 900, "the machine is too slow to tell");
}

fn point_to_point() {
    device();
    ip("addr add 10.9.0.1 peer 10.8.0.1/24 dev d0").unwrap();
    let mut networks = own();
    let found = networks.addresses().unwrap().iter().find(|one| one.ip == parse("10.9.0.1"));
    let expected = |found: &InterfaceAddress| (found.peer, found.prefix_len);
    assert_eq!(found.map(expected), Some((parse("10.8.0.1"), 24)));
    expect(&mut networks, "10.8.0.77", true);
    expect(&mut networks, "10.9.0.2", false);
    assert_eq!(networks.have_address(parse("10.8.0.1")), Some(false));
}

fn batch(lines: impl Iterator<Item = String>) {
    let file = std::env::temp_dir().join(format!("networks-{}", std::process::id()));
    fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    ip(&format!("-batch {}", file.display())).unwrap();
    fs::remove_file(file).unwrap();
}

fn many(what: &str, which: Range<usize>) {
    let line = |at: usize| format!("addr {what} 10.{}.{}.1/32 dev d0", at / 256, at % 256);
    batch(which.map(line));
}

fn too_many() {
    // Link-local addresses come by themselves, some time after a device is up.
    fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
    device();
    let mut networks = own();
    expect(&mut networks, "10.9.0.7", false);
    let before = networks.addresses().unwrap().len();
    many("add", before..MAX_ADDRESSES);
    assert_eq!(networks.addresses().map(<[_]>::len), Some(MAX_ADDRESSES));
    ip("addr add 10.99.0.1/24 dev d0").unwrap();
    for _ in 0..3 {
        // Which of them are missing nobody knows.
        expect(&mut networks, "192.0.2.1", None);
        expect(&mut networks, "10.99.0.7", None);
    }
    many("add", MAX_ADDRESSES..8 * MAX_ADDRESSES);
    expect(&mut networks, "192.0.2.1", None);
    ip("link del d0").unwrap();
    // It is read on in the old answer, a piece at each call.
    let known = (0..1000).find_map(|_| networks.contain(parse("10.99.0.7")));
    assert_eq!(known, Some(false));
    expect(&mut networks, "192.0.2.1", false);
}

fn overrun() {
    device();
    let mut networks = own();
    expect(&mut networks, "10.200.0.7", false);
    // More news than its buffer holds.
    many("add", 0..600);
    many("del", 0..600);
    ip("addr add 10.200.0.1/24 dev d0").unwrap();
    expect(&mut networks, "10.200.0.7", true);
    expect(&mut networks, "10.0.1.1", false);
}

/// Root of the container may write to the sockets of its namespace.
fn forged() {
    device();
    ip("addr add 10.9.0.1/24 dev d0").unwrap();
    let mut networks = own();
    expect(&mut networks, "10.9.0.7", true);
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None).unwrap();
    let list = fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    let port = |line: &str| line.split_whitespace().nth(2)?.parse().ok().filter(|port| *port != 0);
    let ports: Vec<u32> = list.lines().skip(1).filter_map(port).collect();
    let forge = |bytes: &[u8]| {
        for port in &ports {
            let to = SocketAddrNetlink::new(*port, 0);
            sendto(&socket, bytes, SendFlags::DONTWAIT, &to).unwrap();
        }
    };
    assert!(ports.len() >= 2, "{list}");
    // Ends of the answers to come, of which each would leave nothing.
    for sequence in 2..8_u32 {
        let mut done = vec![20, 0, 0, 0, 3, 0, 2, 0];
        done.extend(sequence.to_ne_bytes());
        done.extend([0; 8]);
        forge(&done);
    }
    ip("addr add 10.8.0.1/24 dev d0").unwrap();
    for address in ["10.8.0.7", "10.9.0.7"] {
        expect(&mut networks, address, true);
    }
    forge(&[0xff; 64]);
    forge(&[1]);
    ip("addr del 10.8.0.1/24 dev d0").unwrap();
    expect(&mut networks, "10.8.0.7", false);
    expect(&mut networks, "10.9.0.7", true);
}

fn unchanged() {
    device();
    let mut networks = own();
    expect(&mut networks, "192.0.2.1", false);
    let before = networks.changes();
    for _ in 0..10 {
        expect(&mut networks, "192.0.2.1", false);
    }
    assert_eq!(networks.changes(), before);
    ip("addr add 10.8.0.1/24 dev d0").unwrap();
    expect(&mut networks, "192.0.2.1", false);
    assert_ne!(networks.changes(), before);
}

fn of_a_container() {
    let mut fixture = Fixture::start("container");
    let [cookie] = fixture.numbers()[..] else { unreachable!() };
    let handle = PidFd::open(fixture.pid()).unwrap();
    let several = Networks::several(&handle, 2).unwrap();
    assert_eq!(several.len(), 2);
    for mut networks in several {
        assert_eq!(networks.netns_cookie(), Some(cookie));
        // Not those of the sandbox, whose `lo` is up.
        assert_eq!(networks.addresses().map(<[_]>::len), Some(0));
    }
    drop(fixture);
    assert!(Networks::of(&handle).is_err());
}
