//! UDP: connect, connect elsewhere, dissolve, and sends with an address.

use super::*;
use crate::call::Message;
use crate::policy::DefaultAction;

const UDP: i32 = libc::IPPROTO_UDP;
const WLAN: u32 = 3;
const DENIAL: Errno = Errno::NETUNREACH;

fn scene(udp: Udp) -> Scene {
    let mut scene = Scene::new();
    scene.engine.facts.udp = udp;
    scene.k.open(FD, CONTAINER, Domain::Inet, UDP);
    scene
}

impl Scene {
    fn send_to(&mut self, addr: &str) -> Option<Answer> {
        let addr = SockAddr::from(addr.parse::<SocketAddr>().unwrap()).encode();
        self.k.memory.insert(64, addr);
        let len = addr.as_bytes().len() as u64;
        let data = ForeignAddr::new(0);
        let name = ForeignAddr::new(64);
        let message = Message::To { name, name_len: len, data, len: 3, flags: 0 };
        self.call(7, Call::Send { fd: FD, message })
    }

    fn held(&self) -> usize {
        self.k.table[&FD]
    }
}

#[test]
fn a_connected_socket_is_switched_and_pinned() {
    let mut scene = scene(Udp::Connected);
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, HOST);
    assert_eq!(scene.k.host_connects, [(REMOTE.parse().unwrap(), Some(ETH))]);
    assert_eq!(scene.counted("switched", "allowed"), 1);
}

#[test]
fn without_udp_nothing_is_switched() {
    let mut scene = scene(Udp::Off);
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
    assert_eq!(scene.counted("left", "protocol"), 1);
}

/// Such as one that a sibling has given a socket of the host, before it executed a program that
/// nobody may read.
#[test]
fn who_cannot_be_looked_into_sends_nothing_once_there_are_host_sockets() {
    let mut scene = scene(Udp::Connected);
    let unseen = |scene: &mut Scene| {
        scene.k.faults.insert(Fault::Take(Fail::Denied));
        let answer = scene.send_to(REMOTE);
        scene.k.faults.remove(&Fault::Take(Fail::Denied));
        answer
    };
    assert_eq!(unseen(&mut scene), Some(Answer::Continue));
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    assert_eq!(unseen(&mut scene), Some(Answer::Fail(Errno::ACCESS)));
    // Nor does anybody when we have no descriptor left to look.
    scene.k.faults.insert(Fault::Take(Fail::Bad));
    assert_eq!(scene.send_to(REMOTE), Some(Answer::Fail(Errno::NOBUFS)));
}

#[test]
fn without_udp_a_denied_address_is_refused_nevertheless() {
    for netns in [CONTAINER, NESTED] {
        let mut scene = scene(Udp::Off);
        scene.k.open(FD, netns, Domain::Inet, UDP);
        assert_eq!(scene.connect(DENIED), Some(Answer::Fail(DENIAL)));
        assert_eq!(scene.k.at(FD).peer, None);
        assert_eq!(scene.counted("denied", "deny_rule"), 1);
    }
}

#[test]
fn an_ipv4_address_on_an_ipv6_socket_is_judged_as_on_any_other() {
    for udp in [Udp::Off, Udp::Connected] {
        let mut scene = scene(udp);
        scene.k.open(FD, CONTAINER, Domain::Inet6, UDP);
        assert_eq!(scene.connect(DENIED), Some(Answer::Fail(DENIAL)), "{udp:?}");
        assert_eq!(scene.connect(REMOTE), Some(Answer::Success), "{udp:?}");
        let netns = if udp == Udp::Off { CONTAINER } else { HOST };
        assert_eq!(scene.k.at(FD).netns, netns, "{udp:?}");
    }
}

#[test]
fn rules_and_defaults_are_about_the_protocol_of_the_socket() {
    let policy = |rule: &str, default| {
        let builder = Policy::builder().allow([rule.parse().unwrap()]).default_action(default);
        Arc::new(builder.build())
    };
    for (rule, default, answer, netns) in [
        ("192.0.2.1:80/udp", DefaultAction::Deny, Answer::Success, HOST),
        ("192.0.2.1:80/tcp", DefaultAction::Deny, Answer::Fail(DENIAL), CONTAINER),
        ("192.0.2.1:81/udp", DefaultAction::Deny, Answer::Fail(DENIAL), CONTAINER),
        ("192.0.2.1:80/tcp", DefaultAction::Leave, Answer::Success, CONTAINER),
    ] {
        let mut scene = scene(Udp::Connected);
        scene.engine.facts.policy = policy(rule, default);
        assert_eq!(scene.connect(REMOTE), Some(answer), "{rule}");
        assert_eq!(scene.k.at(FD).netns, netns, "{rule}");
    }
}

#[test]
fn a_published_socket_does_not_reach_what_is_not_allowed() {
    for default in [DefaultAction::Leave, DefaultAction::Deny] {
        let mut scene = scene(Udp::Connected);
        let entry = crate::ports::Entry {
            protocol: Protocol::Udp,
            host: "0.0.0.0:5300".parse().unwrap(),
            container_port: 53,
        };
        scene.engine.facts.ports = Arc::new(crate::ports::Table::new(vec![entry]));
        let allow = Policy::builder().allow(["192.0.2.1".parse().unwrap()]);
        scene.engine.facts.policy = Arc::new(allow.default_action(default).build());
        scene.connect(REMOTE);
        let held = scene.held();
        scene.k.socks[held].local = "0.0.0.0:5300".parse().unwrap();
        assert_eq!(scene.send_to(REMOTE), Some(Answer::Value(3)));
        for answer in [scene.send_to(OTHER), scene.connect(OTHER)] {
            assert_eq!(answer, Some(Answer::Fail(DENIAL)), "{default}");
        }
        assert_eq!(scene.k.sent.len(), 1);
        assert_eq!(scene.k.at(FD).peer, Some(REMOTE.parse().unwrap()));
    }
}

#[test]
fn an_unspecified_address_is_judged_as_what_the_socket_makes_of_it() {
    const OWN: &str = "192.0.2.77";
    let with = |deny: &str, loopback| {
        let policy = Policy::builder().deny([deny.parse().unwrap()]);
        Arc::new(policy.allow_host_loopback(loopback).build())
    };
    for (deny, loopback, refused) in
        [(OWN, true, true), ("127.0.0.1", true, false), (OWN, false, false)]
    {
        for sends in [false, true] {
            let mut scene = scene(Udp::Connected);
            scene.engine.facts.policy = with(deny, loopback);
            scene.connect(REMOTE);
            let held = scene.held();
            // Connected, it has a source.
            scene.k.socks[held].local = SocketAddr::new(OWN.parse().unwrap(), 40000);
            let answer =
                if sends { scene.send_to("0.0.0.0:9") } else { scene.connect("0.0.0.0:9") };
            let failed = answer == Some(Answer::Fail(DENIAL));
            assert_eq!(failed, refused, "{deny}, {loopback}, {sends}");
        }
    }
}

#[test]
fn an_unspecified_ipv6_address_is_ipv4_loopback_to_a_socket_that_is_bound_to_ipv4() {
    for (local, refused) in [("[::ffff:0.0.0.0]:4000", true), ("[::]:4000", false)] {
        for (protocol, sends) in [(UDP, false), (UDP, true), (TCP, false)] {
            let mut scene = scene(Udp::Connected);
            scene.k.open(FD, CONTAINER, Domain::Inet6, protocol);
            let deny = Policy::builder().deny(["127.0.0.0/8".parse().unwrap()]);
            scene.engine.facts.policy = Arc::new(deny.allow_host_loopback(true).build());
            if protocol == UDP {
                scene.connect("[2001:db8::1]:80");
            }
            let held = scene.held();
            scene.k.socks[held].local = local.parse().unwrap();
            let answer = if sends { scene.send_to("[::]:9") } else { scene.connect("[::]:9") };
            let denied = answer == Some(Answer::Fail(DENIAL));
            assert_eq!(denied, refused, "{local}, {protocol}, {sends}: {answer:?}");
        }
    }
}

#[test]
fn a_send_to_an_unspecified_address_is_judged_so_as_well() {
    let deny = Policy::builder().deny(["127.0.0.0/8".parse().unwrap()]);
    let mut scene = scene(Udp::All);
    scene.engine.facts.policy = Arc::new(deny.allow_host_loopback(true).build());
    scene.connect(REMOTE);
    let held = scene.held();
    // What it is judged by lies behind another device, so a twin takes its place.
    scene.k.socks[held].local = "192.0.2.77:40000".parse().unwrap();
    scene.k.devices.insert("192.0.2.77".parse().unwrap(), WLAN);
    assert_eq!(scene.send_to("0.0.0.0:9"), Some(Answer::Fail(DENIAL)));
    assert_eq!(scene.k.sent, []);
}

#[test]
fn an_unspecified_address_is_judged_as_what_the_twin_makes_of_it() {
    let deny = || Policy::builder().deny(["127.0.0.0/8".parse().unwrap()]);
    let policy = Arc::new(deny().allow_host_loopback(true).build());
    // Of the container, and not connected before.
    let mut inside = scene(Udp::Connected);
    inside.engine.facts.policy = Arc::clone(&policy);
    inside.k.open(FD, CONTAINER, Domain::Inet6, UDP);
    let held = inside.held();
    inside.k.socks[held].local = "[::ffff:0.0.0.0]:4000".parse().unwrap();
    assert_eq!(inside.connect("[::]:9"), Some(Answer::Fail(DENIAL)));
    // Of the host, from an address that is reached by another device.
    let mut host = scene(Udp::Connected);
    host.engine.facts.policy = policy;
    host.connect(REMOTE);
    let held = host.held();
    host.k.socks[held].local = "192.0.2.77:40000".parse().unwrap();
    host.k.devices.insert("192.0.2.77".parse().unwrap(), WLAN);
    assert_eq!(host.connect("0.0.0.0:9"), Some(Answer::Fail(DENIAL)));
    for scene in [inside, host] {
        let to = |text: &str| scene.k.host_connects.iter().any(|(to, _)| to.to_string() == text);
        assert!(!to("[::]:9") && !to("0.0.0.0:9"), "{:?}", scene.k.host_connects);
    }
}

#[test]
fn the_hosts_addresses_are_looked_up_only_for_rules_that_name_them() {
    let mut scene = scene(Udp::Connected);
    scene.k.on_host.insert("192.0.2.2".parse().unwrap());
    scene.connect(OTHER);
    assert_eq!(scene.k.host_lookups, 0);
    let deny = Policy::builder().deny(["host".parse().unwrap()]).build();
    scene.engine.facts.policy = Arc::new(deny);
    assert_eq!(scene.connect(OTHER), Some(Answer::Fail(DENIAL)));
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    assert_eq!(scene.k.host_lookups, 2);
}

#[test]
fn where_the_container_goes_by_itself_it_goes() {
    for (dest, reason) in [(IGNORED, "ignored"), (LOOPBACK, "host_loopback")] {
        let mut scene = scene(Udp::Connected);
        assert_eq!(scene.connect(dest), Some(Answer::Success));
        assert_eq!(scene.k.at(FD).netns, CONTAINER);
        assert_eq!(scene.counted("left", reason), 1);
        // From there to the outside: the port that the first connect chose is no hindrance.
        let held = scene.held();
        scene.k.socks[held].local = "10.0.2.100:40000".parse().unwrap();
        scene.k.unbinds_with_connection.insert(held);
        assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
        assert_eq!(scene.k.at(FD).netns, HOST);
        // And back.
        assert_eq!(scene.connect(dest), Some(Answer::Success));
        assert_eq!(scene.k.at(FD).netns, CONTAINER);
    }
}

#[test]
fn the_same_socket_is_connected_again_behind_its_device() {
    let mut scene = scene(Udp::Connected);
    scene.connect(REMOTE);
    let held = scene.held();
    assert_eq!(scene.connect(OTHER), Some(Answer::Success));
    assert_eq!(scene.held(), held);
    assert_eq!(scene.k.at(FD).peer, Some(OTHER.parse().unwrap()));
}

#[test]
fn behind_another_device_it_is_another_socket() {
    let mut scene = scene(Udp::Connected);
    scene.connect(REMOTE);
    scene.k.devices.insert("192.0.2.2".parse().unwrap(), WLAN);
    let held = scene.held();
    assert_eq!(scene.connect(OTHER), Some(Answer::Success));
    assert_ne!(scene.held(), held);
    assert_eq!((scene.k.at(FD).netns, scene.k.at(FD).pin), (HOST, Some(WLAN)));
}

#[test]
fn a_denied_address_is_never_connected() {
    for first in [None, Some(REMOTE), Some(IGNORED)] {
        let mut scene = scene(Udp::Connected);
        if let Some(first) = first {
            scene.connect(first);
        }
        assert_eq!(scene.connect(DENIED), Some(Answer::Fail(Errno::NETUNREACH)), "{first:?}");
        let denied: SocketAddr = DENIED.parse().unwrap();
        assert!(scene.k.host_connects.iter().all(|(to, _)| *to != denied));
    }
}

#[test]
fn without_its_connection_it_is_the_containers_again() {
    let mut scene = scene(Udp::Connected);
    scene.connect(REMOTE);
    let held = scene.held();
    assert_eq!(scene.connect_raw(7, unspec()), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
    assert!(scene.k.socks[held].peer.is_some(), "dissolved, it would be pinned no more");
    assert_eq!(scene.counted("host", "dissolve"), 1);
}

#[test]
fn a_published_socket_stays_published() {
    let mut scene = scene(Udp::Connected);
    scene.engine.facts.ports = Arc::new(crate::ports::Table::new(vec![crate::ports::Entry {
        protocol: Protocol::Udp,
        host: "0.0.0.0:5300".parse().unwrap(),
        container_port: 53,
    }]));
    let local = SockAddr::from("0.0.0.0:53".parse::<SocketAddr>().unwrap()).encode();
    scene.k.memory.insert(64, local);
    scene.call(7, Call::Bind { fd: FD, at: ForeignAddr::new(64), len: 16 });
    let held = scene.held();
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    assert_eq!(scene.connect_raw(7, unspec()), Some(Answer::Success));
    assert_ne!(scene.held(), held, "another, on the same address and with the same pin");
    let held = scene.held();
    let at = scene.k.at(FD);
    assert_eq!((at.local, at.pin, at.peer), ("0.0.0.0:5300".parse().unwrap(), Some(ETH), None));
    assert_eq!(scene.connect(LOOPBACK), Some(Answer::Fail(Errno::NETUNREACH)));
    assert_eq!(scene.connect(IGNORED), Some(Answer::Success), "where a client may be");
    assert_eq!((scene.held(), scene.k.at(FD).netns), (held, HOST));
    assert_eq!(scene.send_to(LOOPBACK), Some(Answer::Fail(Errno::NETUNREACH)));
    assert_eq!(scene.send_to(DENIED), Some(Answer::Fail(Errno::NETUNREACH)));
    assert_eq!(scene.send_to(IGNORED), Some(Answer::Value(3)));
    assert_eq!((scene.held(), scene.k.sent.len()), (held, 1));
}

#[test]
fn a_send_that_the_kernel_refuses_decides_nothing() {
    let mut scene = scene(Udp::All);
    for nowhere in ["192.0.2.1:0", "127.0.0.1:0"] {
        assert_eq!(scene.send_to(nowhere), Some(Answer::Continue), "{nowhere}");
    }
    assert_eq!(scene.send_to(REMOTE), Some(Answer::Value(3)));
    let held = scene.held();
    assert_eq!(scene.k.at(FD).netns, HOST);
    scene.send_to("127.0.0.1:0");
    assert_eq!(scene.held(), held, "it stays where it is");
}

#[test]
fn a_send_to_where_no_route_leads_is_not_left_to_the_device() {
    let mut scene = scene(Udp::All);
    assert_eq!(scene.send_to(REMOTE), Some(Answer::Value(3)));
    scene.k.unroutable.insert("192.0.2.2".parse().unwrap());
    assert_eq!(scene.send_to(OTHER), Some(Answer::Fail(Errno::NETUNREACH)));
    assert_eq!(scene.k.sent.len(), 1);
}

#[test]
fn the_first_send_decides() {
    let mut scene = scene(Udp::All);
    assert_eq!(scene.send_to(REMOTE), Some(Answer::Value(3)));
    assert_eq!((scene.k.at(FD).netns, scene.k.at(FD).pin), (HOST, Some(ETH)));
    let held = scene.held();
    assert_eq!(scene.send_to(OTHER), Some(Answer::Value(3)));
    assert_eq!(scene.held(), held);
    let sent = [(HOST, REMOTE.parse().unwrap()), (HOST, OTHER.parse().unwrap())];
    assert_eq!(scene.k.sent, sent);
}

#[test]
fn a_send_that_stays_decides_for_good() {
    let mut scene = scene(Udp::All);
    assert_eq!(scene.send_to(IGNORED), Some(Answer::Continue));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
    assert_eq!(scene.send_to(REMOTE), Some(Answer::Continue));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
}

#[test]
fn a_bound_sender_keeps_its_port() {
    let mut scene = scene(Udp::All);
    let held = scene.held();
    scene.k.socks[held].local = "0.0.0.0:5353".parse().unwrap();
    assert_eq!(scene.send_to(REMOTE), Some(Answer::Value(3)));
    assert_eq!(scene.k.at(FD).netns, HOST);
    assert_eq!(scene.k.at(FD).local, "0.0.0.0:5353".parse().unwrap());
    // An address of the container is none of the host.
    scene.k.open(FD, CONTAINER, Domain::Inet, UDP);
    let held = scene.held();
    scene.k.socks[held].local = "10.0.2.100:5353".parse().unwrap();
    assert_eq!(scene.send_to(REMOTE), Some(Answer::Continue));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
}

#[test]
fn a_connected_socket_is_no_unconnected_sender() {
    let mut scene = scene(Udp::All);
    scene.connect(IGNORED);
    assert_eq!(scene.send_to(REMOTE), Some(Answer::Continue));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
}

#[test]
fn only_all_moves_senders() {
    let mut scene = scene(Udp::Connected);
    assert_eq!(scene.send_to(REMOTE), Some(Answer::Continue));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
}

#[test]
fn a_host_socket_sends_only_where_the_policy_allows() {
    for (dest, netns) in [(DENIED, None), (IGNORED, Some(CONTAINER)), (LOOPBACK, Some(CONTAINER))] {
        let mut scene = scene(Udp::All);
        scene.send_to(REMOTE);
        scene.k.sent.clear();
        let answer = if netns.is_some() { Answer::Value(3) } else { Answer::Fail(DENIAL) };
        assert_eq!(scene.send_to(dest), Some(answer), "{dest}");
        let sent: Vec<_> = netns.map(|netns| (netns, dest.parse().unwrap())).into_iter().collect();
        assert_eq!(scene.k.sent, sent, "{dest}");
        assert_eq!(scene.k.at(FD).netns, netns.unwrap_or(HOST), "{dest}");
    }
}

#[test]
fn without_a_pin_no_address_on_the_loopback_device_is_sent_to() {
    for (published, answer, netns) in
        [(false, Answer::Value(3), CONTAINER), (true, Answer::Fail(DENIAL), HOST)]
    {
        let mut scene = scene(Udp::Connected);
        scene.engine.facts.pin = false;
        let entry = crate::ports::Entry {
            protocol: Protocol::Udp,
            host: "0.0.0.0:5300".parse().unwrap(),
            container_port: 53,
        };
        scene.engine.facts.ports = Arc::new(crate::ports::Table::new(vec![entry]));
        scene.connect(REMOTE);
        let held = scene.held();
        if published {
            scene.k.socks[held].local = "0.0.0.0:5300".parse().unwrap();
        }
        scene.k.on_lo.insert("10.9.9.9".parse().unwrap());
        scene.engine.facts.policy = Arc::new(Policy::builder().build());
        assert_eq!(scene.send_to("10.9.9.9:80"), Some(answer));
        assert_eq!(scene.k.at(FD).netns, netns);
        assert!(scene.k.sent.iter().all(|(netns, _)| *netns == CONTAINER));
    }
}

#[test]
fn a_connected_host_socket_is_held_to_the_policy_as_well() {
    let mut scene = scene(Udp::Connected);
    scene.connect(REMOTE);
    assert_eq!(scene.send_to(DENIED), Some(Answer::Fail(DENIAL)));
    assert_eq!(scene.k.sent, []);
    // Without a name it goes to the peer.
    scene.k.memory.insert(64, RawSockAddr::default());
    let word_size = sockaddr_inspect::msghdr::WordSize::Bits64;
    let message = Message::Header { at: ForeignAddr::new(64), word_size, flags: 0 };
    assert_eq!(scene.call(7, Call::Send { fd: FD, message }), Some(Answer::Value(3)));
    assert_eq!(scene.k.sent, [(HOST, REMOTE.parse().unwrap())]);
}

#[test]
fn a_host_socket_that_cannot_be_put_back_sends_nothing() {
    for fault in
        [Fault::TwinMake, Fault::TwinOption, Fault::Transplant, Fault::Sight, Fault::InstallRefused]
    {
        let mut scene = scene(Udp::All);
        scene.send_to(REMOTE);
        scene.k.sent.clear();
        scene.k.faults.insert(fault);
        assert_eq!(scene.send_to(LOOPBACK), Some(Answer::Fail(DENIAL)), "{fault:?}");
        assert_eq!(scene.k.sent, [], "{fault:?}");
    }
}

#[test]
fn nothing_is_sent_for_a_caller_that_has_gone() {
    let mut scene = scene(Udp::All);
    scene.send_to(REMOTE);
    scene.k.sent.clear();
    scene.k.faults.insert(Fault::Dead);
    assert_eq!(scene.send_to(REMOTE), None);
    assert_eq!(scene.k.sent, []);
}

#[test]
fn no_datagram_that_waits_is_lost_by_a_send() {
    let mut scene = scene(Udp::All);
    scene.send_to(REMOTE);
    let held = scene.held();
    scene.k.waiting.insert(held);
    assert_eq!(scene.send_to(IGNORED), Some(Answer::Fail(Errno::AGAIN)));
    assert_eq!(scene.held(), held);
    scene.k.waiting.clear();
    assert_eq!(scene.send_to(IGNORED), Some(Answer::Value(3)));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
}

#[test]
fn several_messages_are_sent_as_one_by_one() {
    let mut scene = scene(Udp::Connected);
    scene.connect(REMOTE);
    let name = |addr: &str| SockAddr::from(addr.parse::<SocketAddr>().unwrap()).encode();
    let word_size = sockaddr_inspect::msghdr::WordSize::Bits64;
    for (second, sent) in [(OTHER, 2), (DENIED, 1), (IGNORED, 1)] {
        scene.k.sent.clear();
        scene.k.lengths.clear();
        scene.k.memory.insert(0x1000, name(REMOTE));
        scene.k.memory.insert(0x1040, name(second));
        let at = ForeignAddr::new(0x1000);
        let message = Message::Headers { at, count: 2, word_size, flags: 0 };
        let answer = scene.call(7, Call::Send { fd: FD, message });
        assert_eq!(answer, Some(Answer::Value(sent)), "{second}");
        let lengths = [(0x1038, 3), (0x1078, 3)];
        assert_eq!(scene.k.lengths, lengths[..sent as usize], "{second}");
        assert_eq!(scene.k.sent.len(), sent as usize, "{second}");
        assert_eq!(scene.k.at(FD).netns, HOST);
    }
}

#[test]
fn sends_of_other_sockets_go_on() {
    let mut scene = scene(Udp::All);
    scene.k.open(FD, CONTAINER, Domain::Inet, TCP);
    assert_eq!(scene.send_to(REMOTE), Some(Answer::Continue));
    scene.k.open(FD, NESTED, Domain::Inet, UDP);
    assert_eq!(scene.send_to(REMOTE), Some(Answer::Continue));
    scene.k.table.clear();
    assert_eq!(scene.send_to(REMOTE), Some(Answer::Continue));
    assert_eq!(scene.k.host_connects, []);
    assert_eq!(scene.k.sent, []);
}

#[test]
fn what_is_connected_outlives_a_change_of_the_containers_networks() {
    let mut scene = scene(Udp::All);
    let policy = Policy::builder().ignore_own_networks(true).build();
    scene.engine.facts.policy = Arc::new(policy);
    scene.k.own_networks = Some([].into());
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    let held = scene.held();
    scene.k.own_networks = None;
    // It names nobody.
    let (name, data) = (ForeignAddr::new(0), ForeignAddr::new(0));
    let message = Message::To { name, name_len: 0, data, len: 3, flags: 0 };
    scene.call(7, Call::Send { fd: FD, message });
    assert_eq!((scene.held(), scene.k.at(FD).netns), (held, HOST));
    // To name the same address is to ask anew.
    scene.send_to(REMOTE);
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
}
