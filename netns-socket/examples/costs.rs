//! Prints what the operations of this crate cost, in microseconds: best of several rounds, each
//! the mean of many calls. Run with `cargo run --release --example costs`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "an example that prints; it ends at the first surprise"
)]

use std::fs;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::time::Instant;

use netns_socket::{
    Captured, Domain, FileFlags, Identity, Kind, Networks, Part, PidFd, Router, SocketSpec,
    SocketState, Taken, create_twin, epoll, holders, own_netns_cookie, pin, read_cloexec,
    socket_inside, tcp_state,
};

const ROUNDS: u32 = 20;
const CALLS: u32 = 500;

fn main() {
    let tcp4 = kind(Domain::Inet, Kind::Stream, libc::IPPROTO_TCP);
    let tcp6 = kind(Domain::Inet6, Kind::Stream, libc::IPPROTO_TCP);
    let udp4 = kind(Domain::Inet, Kind::Datagram, libc::IPPROTO_UDP);
    let udp6 = kind(Domain::Inet6, Kind::Datagram, libc::IPPROTO_UDP);

    let own = PidFd::open(std::process::id().cast_signed()).unwrap();
    let socket = create_twin(&tcp4, false).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&socket);
    print("PidFd::open + close", || PidFd::open(std::process::id().cast_signed()).unwrap());
    print("take_fd + close", || match own.take_fd(number).unwrap() {
        Taken::Fd(fd) => fd,
        other => unreachable!("{other:?}"),
    });
    print("Identity::of", || Identity::of(&socket).unwrap());
    print("tcp_state", || tcp_state(&socket).unwrap());
    print("own_netns_cookie", || own_netns_cookie().unwrap());
    print("FileFlags::capture", || FileFlags::capture(&socket).unwrap());
    print("read_cloexec", || read_cloexec(std::process::id().cast_signed(), number).unwrap());

    let witness = holders::Witness::new().unwrap();
    print("twin + close", || create_twin(&tcp4, true).unwrap());
    print("the same, with a witness", || {
        let twin = create_twin(&tcp4, true).unwrap();
        let inode = holders::inode_of(&twin);
        witness.watch(&twin).unwrap();
        drop(twin);
        assert!(!witness.is_open().unwrap());
        inode
    });
    let own_tid = rustix::thread::gettid().as_raw_nonzero().get();
    let inode = holders::inode_of(&socket).unwrap();
    print("numbers_of, few descriptors", || holders::numbers_of(own_tid, inode));
    let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
    let at = std::os::fd::AsRawFd::as_raw_fd(&epoll);
    print("watches_in, one epoll", || epoll::watches_in(own_tid, at, &socket, 3).unwrap());
    print("open_descriptors", || epoll::open_descriptors(own_tid));

    for (name, id) in [("TCP/4", tcp4), ("TCP/6", tcp6), ("UDP/4", udp4), ("UDP/6", udp6)] {
        let Ok(socket) = create_twin(&id, false) else {
            println!("{name}: no such sockets here");
            continue;
        };
        print(&format!("capture {name}, default"), || capture(&socket, &id));
        print(&format!("create_twin {name} + close"), || create_twin(&id, true).unwrap());
    }

    for part in [Part::BeforeConnect, Part::AfterConnect] {
        print(&format!("capture TCP/4, {part:?}"), || {
            SocketState::capture_part(&socket, &tcp4, part).unwrap()
        });
    }
    let used = create_twin(&tcp4, false).unwrap();
    rustix::net::sockopt::set_tcp_nodelay(&used, true).unwrap();
    rustix::net::sockopt::set_socket_keepalive(&used, true).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&used, 65536).unwrap();
    print("capture TCP/4, 3 changed", || capture(&used, &tcp4));
    let Captured::State(state) = capture(&used, &tcp4) else { unreachable!("all can be copied") };
    print("apply 3 changed", || state.apply(&socket).unwrap());

    let loopback = 1;
    print("create_twin + pin + close", || {
        let twin = create_twin(&tcp4, true).unwrap();
        assert_eq!(pin(&twin, loopback).unwrap().ifindex(), loopback);
        twin
    });

    let router = Router::new().unwrap();
    let peer = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    print("egress, cached", || router.egress(peer, 0).unwrap());
    print("egress, not cached", || {
        router.clear();
        router.egress(peer, 0).unwrap()
    });

    match Networks::of(&own) {
        Ok(mut networks) => {
            print("Networks::contain, no news", || networks.contain(peer).unwrap());
        }
        Err(error) => println!("Networks::of: {error}"),
    }

    // Page tables are what a child costs: have as many pages as a busy supervisor.
    let ballast = vec![1_u8; 6 << 20];
    println!("resident: {} kB", resident_kilobytes());
    match socket_inside(&own, SocketSpec::from(tcp4), true) {
        Ok(_) => print_of("socket_inside + close", 20, 20, || {
            socket_inside(&own, SocketSpec::from(tcp4), true).unwrap()
        }),
        Err(error) => println!("socket_inside: {error}"),
    }
    black_box(ballast);
}

fn kind(domain: Domain, kind: Kind, protocol: i32) -> Identity {
    Identity::kind_only(domain, kind, protocol)
}

fn capture(fd: impl AsFd, id: &Identity) -> Captured {
    SocketState::capture(fd, id).unwrap()
}

fn print<T>(what: &str, call: impl FnMut() -> T) {
    print_of(what, ROUNDS, CALLS, call);
}

fn print_of<T>(what: &str, rounds: u32, calls: u32, mut call: impl FnMut() -> T) {
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        let start = Instant::now();
        for _ in 0..calls {
            black_box(call());
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e6 / f64::from(calls));
    }
    println!("{what:32} {best:8.2}");
}

fn resident_kilobytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
