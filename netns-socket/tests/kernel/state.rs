//! States as a whole: what single options do not show.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;

use libtest_mimic::Trial;
use netns_socket::{
    Captured, Defaults, Domain, Errno, Identity, Kind, Part, SocketState, create_twin,
};
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, connect, getsockname, sendto,
    socket_with,
};

use crate::harness::{CLASSES, TCP4, TCP6, UDP4, ifindex, in_new_netns, ip, trial};
use crate::sys;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("state::of_a_fresh_socket_is_empty", fresh),
        trial("state::of_another_kind_is_not_copied", other_kind),
        trial("state::keeps_settings_of_the_other_namespace", other_defaults),
        trial("state::priority_after_tos", priority_after_tos),
        trial("state::one_buffer_locked", one_buffer),
        trial("state::segment_size_of_an_attempt_is_not_a_setting", refused_attempt),
        trial("state::window_clamp_of_an_attempt_is_left", unfinished_attempt),
        trial("state::repair_cannot_be_hidden", hidden_repair),
        trial("state::waiting_datagrams_are_left", waiting),
        trial("state::v6_only_has_no_v4_options", v6_only),
        trial("state::tcp_does_not_look_at_unicast_if", unicast_if),
        trial("state::all_at_once", all_at_once),
    ]
}

fn capture(fd: impl AsFd, id: &Identity) -> SocketState {
    match SocketState::capture(fd, id).unwrap() {
        Captured::State(state) => state,
        other => unreachable!("{other:?}"),
    }
}

fn changed(fd: impl AsFd, id: &Identity) -> Vec<&'static str> {
    capture(fd, id).changed().collect()
}

fn not_copyable(fd: impl AsFd, id: &Identity) -> &'static str {
    match SocketState::capture(fd, id).unwrap() {
        Captured::NotCopyable { option, .. } => option,
        Captured::State(state) => unreachable!("{state:?}"),
    }
}

fn fresh() {
    for (class, id) in CLASSES {
        let own = create_twin(&id, false).unwrap();
        assert!(capture(&own, &id).is_empty(), "{class}");
        let foreign = in_new_netns(|| create_twin(&id, true).unwrap());
        assert!(capture(&foreign, &id).is_empty(), "{class}");
        assert!(capture(&own, &id).apply(&foreign).unwrap().complete());
    }
}

fn other_kind() {
    let unix =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    let id = Identity::of(&unix).unwrap().unwrap();
    assert_eq!(not_copyable(&unix, &id), "SO_PROTOCOL");
    assert_eq!((id.domain, id.kind), (Domain::Other(libc::AF_UNIX), Kind::Stream));
}

fn other_defaults() {
    let socket = in_new_netns(|| {
        fs::write("/proc/sys/net/ipv4/tcp_keepalive_time", "1234").unwrap();
        fs::write("/proc/sys/net/ipv4/ip_default_ttl", "99").unwrap();
        create_twin(&TCP4, false).unwrap()
    });
    let state = capture(&socket, &TCP4);
    assert_eq!(state.changed().collect::<Vec<_>>(), ["IP_TTL", "TCP_KEEPIDLE"]);
    let twin = create_twin(&TCP4, false).unwrap();
    assert!(state.apply(&twin).unwrap().complete());
    assert_eq!(sys::get_int(&twin, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE), 1234);
    assert_eq!(sys::get_int(&twin, libc::IPPROTO_IP, libc::IP_TTL), 99);
    // Compared with defaults of its own namespace nothing differs.
    let defaults = Defaults::new();
    in_new_netns(|| {
        fs::write("/proc/sys/net/ipv4/tcp_keepalive_time", "1234").unwrap();
        fs::write("/proc/sys/net/ipv4/ip_default_ttl", "99").unwrap();
        defaults.prepare(&TCP4).unwrap();
    });
    let captured = SocketState::capture_against(&socket, &TCP4, &defaults).unwrap();
    assert!(matches!(captured, Captured::State(state) if state.is_empty()));
}

fn priority_after_tos() {
    let socket = create_twin(&TCP4, false).unwrap();
    sys::set_int(&socket, libc::IPPROTO_IP, libc::IP_TOS, 0x10).unwrap();
    assert_ne!(sys::get_int(&socket, libc::SOL_SOCKET, libc::SO_PRIORITY), 0);
    sys::set_int(&socket, libc::SOL_SOCKET, libc::SO_PRIORITY, 0).unwrap();
    let twin = create_twin(&TCP4, false).unwrap();
    assert!(capture(&socket, &TCP4).apply(&twin).unwrap().complete());
    assert_eq!(sys::get_int(&twin, libc::IPPROTO_IP, libc::IP_TOS), 0x10);
    assert_eq!(sys::get_int(&twin, libc::SOL_SOCKET, libc::SO_PRIORITY), 0);
}

fn one_buffer() {
    let socket = create_twin(&TCP4, false).unwrap();
    sys::set_int(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, 30_000).unwrap();
    assert_eq!(changed(&socket, &TCP4), ["SO_RCVBUF"]);
    let twin = create_twin(&TCP4, false).unwrap();
    assert!(capture(&socket, &TCP4).apply(&twin).unwrap().complete());
    assert_eq!(sys::get_int(&twin, libc::SOL_SOCKET, libc::SO_RCVBUF), 60_000);
}

fn refused_attempt() {
    let socket = create_twin(&TCP4, false).unwrap();
    assert!(connect(&socket, &closed_port()).is_err());
    assert_ne!(sys::get_int(&socket, libc::IPPROTO_TCP, libc::TCP_MAXSEG), 536);
    assert_eq!(changed(&socket, &TCP4), [""; 0]);
    sys::set_int(&socket, libc::IPPROTO_TCP, libc::TCP_MAXSEG, 400).unwrap();
    assert_eq!(changed(&socket, &TCP4), ["TCP_MAXSEG"]);
}

fn unfinished_attempt() {
    let socket = create_twin(&TCP4, true).unwrap();
    connect(&socket, &closed_port()).ok();
    assert_eq!(not_copyable(&socket, &TCP4), "TCP_WINDOW_CLAMP");
}

fn hidden_repair() {
    let attempts: [fn() -> std::os::fd::OwnedFd; 3] = [
        || create_twin(&TCP4, false).unwrap(),
        || {
            let socket = create_twin(&TCP4, false).unwrap();
            connect(&socket, &closed_port()).unwrap_err();
            socket
        },
        || {
            let socket = create_twin(&TCP4, true).unwrap();
            connect(&socket, &closed_port()).ok();
            socket
        },
    ];
    for attempt in attempts {
        let socket = attempt();
        sys::set_int(&socket, libc::IPPROTO_TCP, 19, 1).unwrap();
        sys::set_int(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 0).unwrap();
        sys::set_int(&socket, libc::IPPROTO_TCP, libc::TCP_MAXSEG, 536).unwrap();
        assert_eq!(not_copyable(&socket, &TCP4), "TCP_REPAIR");
        let part = SocketState::capture_part(&socket, &TCP4, Part::BeforeConnect).unwrap();
        assert!(matches!(part, Captured::NotCopyable { .. }));
    }
}

fn waiting() {
    let socket = create_twin(&UDP4, false).unwrap();
    bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = getsockname(&socket).unwrap();
    assert!(capture(&socket, &UDP4).is_empty());
    sendto(create_twin(&UDP4, false).unwrap(), b"x", SendFlags::empty(), &address).unwrap();
    assert_eq!(not_copyable(&socket, &UDP4), "SO_MEMINFO");
}

fn v6_only() {
    let socket = create_twin(&TCP6, false).unwrap();
    sys::set_int(&socket, libc::IPPROTO_IP, libc::IP_TTL, 9).unwrap();
    assert_eq!(changed(&socket, &TCP6), ["IP_TTL"]);
    sys::set_int(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1).unwrap();
    sys::set_int(&socket, libc::IPPROTO_IP, 51, 40_000 | (41_000 << 16_u32)).ok();
    let names = changed(&socket, &TCP6);
    assert!(names.contains(&"IPV6_V6ONLY") && !names.contains(&"IP_TTL"), "{names:?}");
}

/// Why `IP_UNICAST_IF` is not read of TCP sockets: the source address shows which device was chosen.
fn unicast_if() {
    in_new_netns(|| {
        for command in [
            "link add d0 type veth peer name d1",
            "link add v0 type veth peer name v1",
            "addr add 10.9.0.1/24 dev d0",
            "addr add 10.8.0.1/24 dev v0",
            "addr add 2001:db8:9::1/64 dev d0 nodad",
            "addr add 2001:db8:8::1/64 dev v0 nodad",
            "link set d0 up",
            "link set d1 up",
            "link set v0 up",
            "link set v1 up",
            "route add 203.0.113.0/24 dev d0",
            "route add 203.0.113.0/24 dev v0 metric 9",
            "-6 route add 2001:db8:7::/64 dev d0 metric 1",
            "-6 route add 2001:db8:7::/64 dev v0 metric 9",
        ] {
            ip(command).unwrap();
        }
        let other = ifindex("v0").cast_signed().to_be();
        for (id, level, name, peer, source) in [
            (TCP4, libc::IPPROTO_IP, 50, "203.0.113.1:9", "10.9.0.1"),
            (TCP6, libc::IPPROTO_IPV6, 76, "[2001:db8:7::1]:9", "2001:db8:9::1"),
        ] {
            let socket = create_twin(&id, true).unwrap();
            sys::set_int(&socket, level, name, other).unwrap();
            let peer: std::net::SocketAddr = peer.parse().unwrap();
            assert_eq!(connect(&socket, &peer), Err(Errno::INPROGRESS));
            let local: std::net::SocketAddr = getsockname(&socket).unwrap().try_into().unwrap();
            assert_eq!(local.ip().to_string(), source);
        }
        // The control: a datagram socket does look at it.
        let socket = create_twin(&UDP4, true).unwrap();
        sys::set_int(&socket, libc::IPPROTO_IP, 50, other).unwrap();
        let peer: std::net::SocketAddr = "203.0.113.1:9".parse().unwrap();
        connect(&socket, &peer).unwrap();
        let local: std::net::SocketAddr = getsockname(&socket).unwrap().try_into().unwrap();
        assert_eq!(local.ip().to_string(), "10.8.0.1");
    });
}

fn all_at_once() {
    let settings = [
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::SOL_SOCKET, libc::SO_REUSEADDR, 1),
        (libc::SOL_SOCKET, libc::SO_OOBINLINE, 1),
        (libc::SOL_SOCKET, libc::SO_PRIORITY, 3),
        (libc::IPPROTO_IP, libc::IP_TOS, 8),
        (libc::IPPROTO_IP, libc::IP_TTL, 7),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 11),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 9000),
    ];
    let socket = in_new_netns(|| create_twin(&TCP4, false).unwrap());
    for (level, name, value) in settings {
        sys::set_int(&socket, level, name, value).unwrap();
    }
    sys::set_int(&socket, libc::SOL_SOCKET, libc::SO_PRIORITY, 3).unwrap();
    let twin = create_twin(&TCP4, false).unwrap();
    // In two steps, as around a connect.
    let early = SocketState::capture_part(&socket, &TCP4, Part::BeforeConnect).unwrap();
    let late = SocketState::capture_part(&socket, &TCP4, Part::AfterConnect).unwrap();
    let (Captured::State(early), Captured::State(late)) = (early, late) else { unreachable!() };
    assert!(early.apply(&twin).unwrap().complete());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    connect(&twin, &listener.local_addr().unwrap()).unwrap();
    assert!(late.apply(&twin).unwrap().complete());
    for (level, name, value) in settings {
        assert_eq!(sys::get_int(&twin, level, name), value, "{level} {name}");
    }
}

/// An address that refuses connections: its port is bound, but nobody listens.
fn closed_port() -> std::net::SocketAddr {
    let socket = create_twin(&TCP4, false).unwrap();
    bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = getsockname(&socket).unwrap();
    address.try_into().unwrap()
}
