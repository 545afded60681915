//! Published ports: bind and listen on the host, connections and names inside.

use super::*;
use crate::call::NameOf;
use crate::neighbours::Service;
use crate::policy::DefaultAction;
use crate::ports::{Families, Table};

const UDP: i32 = libc::IPPROTO_UDP;

/// A scene in which these host addresses are published for container ports.
fn published(maps: &[(Protocol, &str, u16)]) -> Scene {
    let entries = maps.iter().map(|(protocol, host, container_port)| crate::ports::Entry {
        protocol: *protocol,
        host: host.parse().unwrap(),
        container_port: *container_port,
    });
    let mut scene = Scene::new();
    scene.engine.facts.ports = Arc::new(Table::new(entries.collect()));
    scene
}

fn web() -> Scene {
    published(&[(Protocol::Tcp, "0.0.0.0:8080", 80), (Protocol::Tcp, "[::]:8080", 80)])
}

impl Scene {
    fn bind(&mut self, addr: &str) -> Option<Answer> {
        self.bind_raw(SockAddr::from(addr.parse::<SocketAddr>().unwrap()).encode())
    }

    fn bind_raw(&mut self, addr: RawSockAddr) -> Option<Answer> {
        self.k.memory.insert(64, addr);
        let len = addr.as_bytes().len() as u64;
        self.call(7, Call::Bind { fd: FD, at: ForeignAddr::new(64), len })
    }

    fn listen(&mut self) -> Option<Answer> {
        self.call(7, Call::Listen { fd: FD, backlog: 5 })
    }

    fn name(&mut self, end: NameOf) -> Option<Answer> {
        let (at, len_at) = (ForeignAddr::new(64), ForeignAddr::new(96));
        self.call(7, Call::Name { end, fd: FD, at, len_at })
    }

    fn told(&self) -> Vec<SocketAddr> {
        self.k.stored.iter().map(|name| name.decode().unwrap().ip().unwrap()).collect()
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn a_published_port_is_bound_and_listened_on_by_the_host() {
    let mut scene = web();
    assert_eq!(scene.bind("0.0.0.0:80"), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, HOST);
    assert_eq!(scene.k.host_binds, [(addr("0.0.0.0:8080"), None)]);
    assert_eq!(scene.listen(), Some(Answer::Success));
    assert_eq!(scene.listen(), Some(Answer::Success), "again, for another backlog");
    assert_eq!(scene.k.host_listens, 2);
    assert_eq!(scene.counted("switched", "published"), 1);
}

#[test]
fn whatever_is_not_published_is_bound_in_the_container() {
    for local in ["127.0.0.1:80", "0.0.0.0:81", "0.0.0.0:0", "0.0.0.0:8080", "224.0.0.1:80"] {
        let mut scene = web();
        assert_eq!(scene.bind(local), Some(Answer::Success), "{local}");
        assert_eq!(scene.k.at(FD).netns, CONTAINER, "{local}");
        assert_eq!(scene.listen(), Some(Answer::Success));
        assert_eq!((scene.k.host_binds.len(), scene.k.host_listens), (0, 0), "{local}");
    }
}

#[test]
fn an_unspecified_family_is_ipv4() {
    let mut scene = web();
    let mut bytes = [0; 16];
    bytes[3] = 80;
    scene.bind_raw(RawSockAddr::from_bytes(&bytes).unwrap());
    assert_eq!(scene.k.host_binds, [(addr("0.0.0.0:8080"), None)]);
}

#[test]
fn a_failed_host_bind_is_the_applications_error_and_its_socket_as_before() {
    let mut scene = web();
    scene.k.host_bind = Err(Errno::ADDRINUSE);
    assert_eq!(scene.bind("0.0.0.0:80"), Some(Answer::Fail(Errno::ADDRINUSE)));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
    assert_eq!(scene.k.at(FD).local.port(), 0);
    scene.k.host_bind = Ok(());
    assert_eq!(scene.bind("0.0.0.0:80"), Some(Answer::Success));
}

#[test]
fn a_bound_socket_is_not_bound_again() {
    let mut scene = web();
    scene.bind("0.0.0.0:80");
    assert_eq!(scene.bind("0.0.0.0:80"), Some(Answer::Fail(Errno::INVAL)));
    let mut scene = web();
    scene.bind("127.0.0.1:5000");
    scene.bind("0.0.0.0:80");
    assert_eq!(scene.k.host_binds, []);
}

#[test]
fn a_privileged_container_port_takes_the_containers_privilege() {
    let mut scene = web();
    scene.k.privileged = false;
    assert_eq!(scene.bind("0.0.0.0:80"), Some(Answer::Fail(Errno::ACCESS)));
    assert_eq!(scene.k.host_binds, []);
}

#[test]
fn sockets_that_cannot_be_switched_are_bound_in_the_container() {
    for (fault, reason) in [
        (Fault::TwinOption, "option"),
        (Fault::TwinMake, "host_socket"),
        (Fault::Finish, "host_socket"),
        (Fault::Transplant, "epoll"),
        (Fault::Sight, "host_socket"),
        (Fault::InstallRefused, "install"),
    ] {
        let mut scene = web();
        scene.k.faults.insert(fault);
        assert_eq!(scene.bind("0.0.0.0:80"), Some(Answer::Success), "{fault:?}");
        assert_eq!(scene.k.at(FD).netns, CONTAINER, "{fault:?}");
        assert_eq!(scene.k.at(FD).local, addr("0.0.0.0:80"), "{fault:?}");
        assert_eq!(scene.counted("left", reason), 1, "{fault:?}");
        assert!(scene.k.served.is_empty(), "{fault:?}");
    }
}

#[test]
fn nobody_listens_on_a_host_port_that_is_not_published() {
    let mut scene = web();
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    // Its connection has ended, its source port is one of the host.
    let held = scene.k.table[&FD];
    scene.k.socks[held].state = TcpState::Close;
    scene.k.socks[held].local = addr("198.18.0.1:40000");
    assert_eq!(scene.listen(), Some(Answer::Fail(Errno::INVAL)));
    assert_eq!(scene.k.host_listens, 0);
}

#[test]
fn a_source_port_with_a_published_number_opens_no_further_address() {
    for (v6_only, host) in [(true, "0.0.0.0:8080"), (false, "0.0.0.0:8080"), (false, "[::]:8080")] {
        let mut scene = published(&[(Protocol::Tcp, host, 80)]);
        scene.k.open(FD, HOST, Domain::Inet6, TCP);
        // A client that had bound this source port, and whose connection was refused.
        let held = scene.k.table[&FD];
        scene.k.socks[held].v6_only = v6_only;
        scene.k.socks[held].local = addr("[::]:8080");
        assert_eq!(scene.listen(), Some(Answer::Fail(Errno::INVAL)), "{v6_only} {host}");
        assert_eq!(scene.k.host_listens, 0, "{v6_only} {host}");
    }
}

#[test]
fn datagram_servers_are_pinned_or_stay() {
    for (host, bound) in [
        ("0.0.0.0:5300", Some(addr("0.0.0.0:5300"))),
        ("198.18.0.1:5300", Some(addr("198.18.0.1:5300"))),
        ("127.0.0.1:5300", None),
    ] {
        let mut scene = published(&[(Protocol::Udp, host, 53)]);
        scene.k.open(FD, CONTAINER, Domain::Inet, UDP);
        assert_eq!(scene.bind("0.0.0.0:53"), Some(Answer::Success), "{host}");
        let binds: Vec<_> = bound.map(|bound| (bound, Some(ETH))).into_iter().collect();
        assert_eq!(scene.k.host_binds, binds, "{host}");
        let netns = if bound.is_some() { HOST } else { CONTAINER };
        assert_eq!(scene.k.at(FD).netns, netns, "{host}");
    }
}

#[test]
fn without_host_datagrams_udp_is_relayed() {
    let mut scene = published(&[(Protocol::Udp, "0.0.0.0:5300", 53)]);
    scene.engine.facts.host_datagrams = false;
    scene.k.open(FD, CONTAINER, Domain::Inet, UDP);
    assert_eq!(scene.bind("0.0.0.0:53"), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
    assert_eq!(scene.k.from_inside, [(0, addr("127.0.0.1:53"))]);
}

#[test]
fn the_own_service_is_reached_by_the_containers_loopback_and_addresses() {
    for (dest, own) in [("127.0.0.1:80", None), ("10.0.2.100:80", Some("10.0.2.100"))] {
        let mut scene = web();
        scene.k.own_addresses.extend(own.map(|ip| ip.parse::<std::net::IpAddr>().unwrap()));
        scene.k.served.insert(0, Families { v4: true, v6: false });
        scene.peer("127.0.0.1:8080", Peer::Accepts);
        assert_eq!(scene.connect(dest), Some(Answer::Success), "{dest}");
        assert_eq!(scene.k.host_connects, [(addr("127.0.0.1:8080"), Some(1))], "{dest}");
        assert_eq!(scene.k.at(FD).netns, HOST);
        assert_eq!(scene.counted("switched", "published"), 1);
    }
}

#[test]
fn only_a_blocking_caller_is_told_that_the_own_service_is_connected() {
    let mut scene = web();
    scene.k.served.insert(0, Families { v4: true, v6: false });
    scene.peer("127.0.0.1:8080", Peer::Accepts);
    let held = scene.k.table[&FD];
    scene.k.socks[held].blocking = false;
    assert_eq!(scene.connect("127.0.0.1:80"), Some(Answer::Fail(Errno::INPROGRESS)));
    assert_eq!(scene.k.at(FD).netns, HOST);
}

#[test]
fn without_an_own_service_loopback_is_the_containers() {
    // Not served; served in the other family; refused; not the container's address.
    let no_v4 = Families { v4: false, v6: true };
    let v4 = Families { v4: true, v6: false };
    for (served, peer, dest) in [
        (None, Peer::Accepts, "127.0.0.1:80"),
        (Some(no_v4), Peer::Accepts, "127.0.0.1:80"),
        (Some(v4), Peer::Refuses, "127.0.0.1:80"),
        (Some(v4), Peer::Silent, "127.0.0.1:80"),
        (Some(v4), Peer::Accepts, "10.9.9.9:80"),
    ] {
        let mut scene = web();
        scene.k.served.extend(served.map(|served| (0, served)));
        scene.k.peers.insert((HOST, addr("127.0.0.1:8080")), peer);
        scene.peer(dest, Peer::Accepts);
        assert_eq!(scene.connect(dest), Some(Answer::Success), "{served:?} {peer:?} {dest}");
        assert_eq!(scene.k.at(FD).netns, CONTAINER, "{served:?} {peer:?} {dest}");
    }
}

#[test]
fn another_program_of_the_host_is_not_the_own_service() {
    let mut scene = web();
    // The application has bound its port and does not listen there.
    scene.k.served.insert(0, Families { v4: true, v6: false });
    scene.k.others_listen = true;
    scene.peer("127.0.0.1:8080", Peer::Accepts);
    assert_eq!(scene.connect("127.0.0.1:80"), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
    assert_eq!(scene.k.at(FD).peer, Some(addr("127.0.0.1:80")));
}

#[test]
fn a_denied_loopback_is_denied_on_published_ports_too() {
    let mut scene = web();
    let deny = Policy::builder().deny(["127.0.0.0/8".parse().unwrap()]).build();
    scene.engine.facts.policy = Arc::new(deny);
    scene.k.served.insert(0, Families { v4: true, v6: false });
    assert_eq!(scene.connect("127.0.0.1:80"), Some(Answer::Fail(Errno::NETUNREACH)));
    assert_eq!(scene.k.host_connects, []);
}

#[test]
fn the_own_service_is_not_what_a_default_is_about() {
    for default in DefaultAction::ALL {
        for (dest, loopback) in [("127.0.0.1:80", true), ("10.88.0.5:80", false)] {
            let mut scene = web();
            let policy = Policy::builder().default_action(*default).allow_host_loopback(loopback);
            scene.engine.facts.policy = Arc::new(policy.build());
            scene.k.own_addresses.insert("10.88.0.5".parse().unwrap());
            scene.k.served.insert(0, Families { v4: true, v6: false });
            scene.peer("127.0.0.1:8080", Peer::Accepts);
            assert_eq!(scene.connect(dest), Some(Answer::Success), "{dest}, {default}");
            assert_eq!(scene.k.at(FD).peer, Some(addr("127.0.0.1:8080")), "{dest}, {default}");
            assert_eq!(scene.counted("switched", "published"), 1, "{dest}, {default}");
        }
    }
}

#[test]
fn a_connection_over_loopback_is_never_left_unconnected() {
    let mut scene = web();
    scene.k.served.insert(0, Families { v4: true, v6: false });
    scene.peer("127.0.0.1:8080", Peer::Accepts);
    scene.connect("127.0.0.1:80");
    let held = scene.k.table[&FD];
    assert_eq!(scene.connect_raw(7, unspec()), Some(Answer::Success));
    // Others may hold it still: it was shut down, and its connection not dissolved.
    assert_eq!(scene.k.shut, [held]);
    assert_eq!(scene.k.socks[held].state, TcpState::Established);
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
}

#[test]
fn names_tell_the_containers_port() {
    let mut scene = published(&[(Protocol::Tcp, "127.0.0.1:8080", 80)]);
    scene.bind("0.0.0.0:80");
    assert_eq!(scene.name(NameOf::Local), Some(Answer::Success));
    // As accepted from a client.
    let held = scene.k.table[&FD];
    scene.k.socks[held].local = addr("127.0.0.1:8080");
    scene.k.socks[held].peer = Some(addr("127.0.0.1:50000"));
    assert_eq!(scene.name(NameOf::Local), Some(Answer::Success));
    assert_eq!(scene.told(), [addr("0.0.0.0:80"), addr("127.0.0.1:80")]);
    assert_eq!(scene.name(NameOf::Peer), Some(Answer::Continue), "a client's own port");
    assert_eq!(scene.k.stored.len(), 2);
}

#[test]
fn the_peer_is_the_containers_port_only_for_connections_from_inside() {
    let mut scene = web();
    scene.k.served.insert(0, Families { v4: true, v6: false });
    scene.peer("127.0.0.1:8080", Peer::Accepts);
    scene.connect("127.0.0.1:80");
    assert_eq!(scene.name(NameOf::Peer), Some(Answer::Success));
    assert_eq!(scene.told(), [addr("127.0.0.1:80")]);
    // Another host's port 8080.
    let mut scene = web();
    scene.peer("192.0.2.1:8080", Peer::Accepts);
    scene.connect("192.0.2.1:8080");
    assert_eq!(scene.name(NameOf::Peer), Some(Answer::Continue));
}

#[test]
fn other_names_are_the_kernels_affair() {
    let mut scene = web();
    assert_eq!(scene.name(NameOf::Local), Some(Answer::Continue), "of the container");
    scene.connect(REMOTE);
    assert_eq!(scene.name(NameOf::Local), Some(Answer::Continue), "a client's");
    scene.k.table.clear();
    assert_eq!(scene.name(NameOf::Local), Some(Answer::Continue), "of nothing");
    let mut same = published(&[(Protocol::Tcp, "0.0.0.0:80", 80)]);
    same.bind("0.0.0.0:80");
    assert_eq!(same.name(NameOf::Local), Some(Answer::Continue), "not mapped");
    assert_eq!(same.k.stored, []);
}

/// A scene in which every bind is one of the host's.
fn as_the_host() -> Scene {
    let mut scene = Scene::new();
    scene.engine.facts.policy = Arc::new(Policy::builder().allow_host_loopback(true).build());
    scene.engine.facts.host_binds = true;
    scene.engine.facts.udp = Udp::All;
    scene
}

#[test]
fn every_bind_may_be_one_of_the_host() {
    for (protocol, at) in [(TCP, "127.0.0.1:80"), (TCP, "0.0.0.0:0"), (UDP, "127.0.0.1:53")] {
        let mut scene = as_the_host();
        scene.k.open(FD, CONTAINER, Domain::Inet, protocol);
        assert_eq!(scene.bind(at), Some(Answer::Success), "{at}");
        let bound = scene.k.at(FD);
        assert_eq!((bound.netns, bound.local, bound.pin), (HOST, addr(at), None), "{at}");
    }
    let mut scene = as_the_host();
    assert_eq!(scene.bind("127.0.0.1:8000"), Some(Answer::Success));
    assert_eq!(scene.listen(), Some(Answer::Success));
    assert_eq!((scene.k.at(FD).netns, scene.k.at(FD).state), (HOST, TcpState::Listen));
}

#[test]
fn datagrams_are_bound_on_the_host_only_where_their_sends_are_judged() {
    let mut scene = as_the_host();
    scene.engine.facts.udp = Udp::Connected;
    scene.k.open(FD, CONTAINER, Domain::Inet, UDP);
    assert_eq!(scene.bind("127.0.0.1:53"), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
}

#[test]
fn what_was_bound_on_the_host_connects_from_there() {
    let mut scene = as_the_host();
    assert_eq!(scene.bind("0.0.0.0:4000"), Some(Answer::Success));
    let held = scene.k.table[&FD];
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    assert_eq!((scene.k.table[&FD], scene.k.at(FD).peer), (held, Some(addr(REMOTE))));
}

#[test]
fn what_cannot_be_bound_on_the_host_is_bound_in_the_container() {
    for fault in
        [Fault::TwinOption, Fault::TwinMake, Fault::Finish, Fault::Transplant, Fault::Sight]
    {
        let mut scene = as_the_host();
        scene.k.faults.insert(fault);
        assert_eq!(scene.bind("0.0.0.0:80"), Some(Answer::Success), "{fault:?}");
        assert_eq!(scene.k.at(FD).netns, CONTAINER, "{fault:?}");
    }
}

/// A scene in which another container serves [`REMOTE`] at a port of the host.
fn neighbour() -> Scene {
    let mut scene = Scene::new();
    scene.engine.facts.neighbours = true;
    let service = Service { netns: 9, index: 0, host: addr("127.0.0.1:8090") };
    scene.k.neighbours.insert(addr(REMOTE), service);
    scene.k.peers.insert((HOST, service.host), Peer::Accepts);
    scene
}

#[test]
fn a_neighbours_port_is_reached_by_the_host_and_named_as_asked() {
    let mut scene = neighbour();
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, HOST);
    assert_eq!(scene.k.at(FD).peer, Some(addr("127.0.0.1:8090")));
    assert_eq!(scene.k.at(FD).pin, Some(1), "it reaches nothing but loopback");
    assert_eq!(scene.counted("switched", "neighbour"), 1);
    assert_eq!(scene.name(NameOf::Peer), Some(Answer::Success));
    assert_eq!(scene.told(), [addr(REMOTE)]);
    // The other end is the kernel's affair.
    assert_eq!(scene.name(NameOf::Local), Some(Answer::Continue));
}

#[test]
fn a_neighbour_is_held_to_the_policy() {
    let own = Policy::builder().ignore_own_networks(true).build();
    let deny = Policy::builder().deny([REMOTE.parse().unwrap()]).build();
    let default = Policy::builder().default_action(DefaultAction::Deny).build();
    for (policy, answer) in [
        (own, Answer::Success),
        (deny, Answer::Fail(Errno::NETUNREACH)),
        (default, Answer::Fail(Errno::NETUNREACH)),
    ] {
        let mut scene = neighbour();
        scene.k.own_networks = Some([addr(REMOTE).ip()].into());
        scene.engine.facts.policy = Arc::new(policy);
        assert_eq!(scene.connect(REMOTE), Some(answer));
        let led = usize::from(answer == Answer::Success);
        assert_eq!(scene.k.host_connects.len(), led);
    }
}

#[test]
fn what_is_no_neighbours_is_not_led_to_one() {
    // Nobody asked for it.
    let mut scene = neighbour();
    scene.engine.facts.neighbours = false;
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).peer, Some(addr(REMOTE)));
    // The port is another program's at the moment, or nobody's: the networks lead there all the same.
    for others in [true, false] {
        let mut scene = neighbour();
        scene.k.others_listen = others;
        if !others {
            scene.k.peers.insert((HOST, addr("127.0.0.1:8090")), Peer::Refuses);
        }
        assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
        assert_eq!(scene.k.at(FD).netns, CONTAINER);
        assert_eq!(scene.counted("left", "neighbour"), 1);
    }
}

#[test]
fn an_ipv6_connection_looks_at_the_length_of_an_address_first() {
    let mut scene = as_the_host();
    scene.k.open(FD, CONTAINER, Domain::Inet6, TCP);
    assert_eq!(scene.bind("[::1]:8000"), Some(Answer::Success));
    assert_eq!(scene.connect(REMOTE), Some(Answer::Fail(Errno::INVAL)));
}
