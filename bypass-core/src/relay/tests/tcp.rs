//! Connections.

use std::io::{Read, Write};
use std::net::Shutdown;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::relay::connection::reset;

/// An application and what it accepts.
fn application(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A client and the application's end of the same connection.
fn joined(front: SocketAddr, application: &TcpListener) -> (TcpStream, TcpStream) {
    let mut client = dial(front);
    let mut server = accept(application);
    crosses(&mut client, &mut server, b"hello");
    (client, server)
}

#[track_caller]
fn crosses(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).unwrap();
    let mut buffer = vec![0; bytes.len()];
    to.read_exact(&mut buffer).unwrap();
    assert!(buffer == bytes);
}

#[track_caller]
fn rest(mut stream: &TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    rest
}

#[track_caller]
fn is_reset(mut stream: &TcpStream) {
    let error = stream.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn bytes_cross_both_ways_in_both_families() {
    let fixture = Fixture::new(MANY);
    for (outside, inside) in [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("[::1]:0", "[::1]:0"),
        ("0.0.0.0:0", "[::1]:0"),
        ("[::]:0", "127.0.0.1:0"),
    ] {
        let (listener, target) = application(inside);
        let (route, mut front) = fixture.tcp(outside, target);
        front.set_ip(if front.is_ipv4() { [127, 0, 0, 1].into() } else { "::1".parse().unwrap() });
        let (mut client, mut server) = joined(front, &listener);
        crosses(&mut server, &mut client, b"answer");
        crosses(&mut client, &mut server, &[7; 50_000]);
        assert_eq!(route.flows(), 1);
        drop((client, server));
        until("the connection ends", || route.flows() == 0);
    }
}

#[test]
fn either_end_may_stop_talking_first_and_still_hears_the_other() {
    let fixture = Fixture::new(MANY);
    let (listener, target) = application("127.0.0.1:0");
    let (route, front) = fixture.tcp("127.0.0.1:0", target);
    for client_first in [true, false] {
        let (client, server) = joined(front, &listener);
        let (mut first, mut second) =
            if client_first { (client, server) } else { (server, client) };
        first.write_all(b"last words").unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&second), b"last words");
        crosses(&mut second, &mut first, b"one");
        crosses(&mut second, &mut first, b"two");
        drop(second);
        assert_eq!(rest(&first), b"");
    }
    until("the connections end", || route.flows() == 0);
}

#[test]
fn a_client_may_stop_talking_before_the_application_is_connected() {
    let fixture = Fixture::new(MANY);
    let (listener, target) = application("127.0.0.1:0");
    let (_route, front) = fixture.tcp("127.0.0.1:0", target);
    for _ in 0..50 {
        let client = dial(front);
        client.shutdown(Shutdown::Write).unwrap();
        let mut server = accept(&listener);
        assert_eq!(rest(&server), b"");
        server.write_all(b"the time of day").unwrap();
        drop(server);
        assert_eq!(rest(&client), b"the time of day");
    }
}

#[test]
fn the_end_of_a_stream_waits_for_an_application_that_is_slow_to_accept() {
    let fixture = Fixture::new(MANY);
    let (listener, target) = application("127.0.0.1:0");
    // Room for one connection. The kernel drops what it gets beyond that, and the sender tries
    // again a second later.
    rustix::net::listen(&listener, 0).unwrap();
    let first = dial(target);
    let (route, front) = fixture.tcp("127.0.0.1:0", target);
    let client = dial(front);
    client.shutdown(Shutdown::Write).unwrap();
    until("the relay connects", || route.flows() == 1);
    assert_eq!(accept(&listener).peer_addr().unwrap(), first.local_addr().unwrap());
    let mut server = accept(&listener);
    assert_eq!(rest(&server), b"");
    server.write_all(b"at last").unwrap();
    drop(server);
    assert_eq!(rest(&client), b"at last");
}

#[test]
fn a_slow_reader_slows_the_writer_and_gets_everything() {
    let fixture = Fixture::new(MANY);
    let (listener, target) = application("127.0.0.1:0");
    let (_route, front) = fixture.tcp("127.0.0.1:0", target);
    let (mut client, mut server) = joined(front, &listener);
    let stall = Timespec { tv_sec: 0, tv_nsec: 300_000_000 };
    for _ in 0..2 {
        client.set_nonblocking(true).unwrap();
        let mut sent = 0;
        loop {
            match client.write(&pattern(sent, 100_000)) {
                Ok(len) => sent += len,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    let mut fds = [PollFd::new(&client, PollFlags::OUT)];
                    if poll(&mut fds, Some(&stall)).unwrap() == 0 {
                        break;
                    }
                }
            }
            assert!(sent < 256 << 20, "it is kept somewhere");
        }
        client.set_nonblocking(false).unwrap();
        let mut got = vec![0; sent];
        server.read_exact(&mut got).unwrap();
        assert!(got == pattern(0, sent));
        // The other way it can be the same.
        std::mem::swap(&mut client, &mut server);
    }
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&server), b"");
}

/// Part of an endless stream whose bytes tell where they are.
fn pattern(begin: usize, len: usize) -> Vec<u8> {
    (begin..begin + len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[test]
fn large_transfers_cross_at_the_same_time() {
    let fixture = Fixture::new(MANY);
    let (listener, target) = application("127.0.0.1:0");
    let (_route, front) = fixture.tcp("127.0.0.1:0", target);
    let (client, server) = joined(front, &listener);
    std::thread::scope(|scope| {
        for stream in [&client, &server] {
            scope.spawn(move || {
                let mut stream = stream;
                stream.write_all(&pattern(0, 16 << 20)).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(move || assert!(rest(stream) == pattern(0, 16 << 20)));
        }
    });
}

#[test]
fn nobody_there_is_a_reset() {
    let fixture = Fixture::new(MANY);
    let front = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = front.local_addr().unwrap();
    let route = fixture.relay.tcp(front.into(), Box::new(Open(|_| nobody()))).unwrap();
    is_refused(address);

    // Bound, so that nobody else listens there.
    let taken = tcp_socket();
    rustix::net::bind(&taken, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let target = SocketAddr::try_from(rustix::net::getsockname(&taken).unwrap()).unwrap();
    let (refused, front) = fixture.tcp("127.0.0.1:0", target);
    is_refused(front);
    until("both have ended", || route.flows() + refused.flows() == 0);
}

/// The reset may come while we still look whether we are connected.
#[track_caller]
fn is_refused(front: SocketAddr) {
    match TcpStream::connect_timeout(&front, LIMIT) {
        Ok(client) => is_reset(&limited(client)),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

fn tcp_socket() -> OwnedFd {
    socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
}

#[test]
fn a_reset_crosses_either_way_also_after_the_end_of_the_stream() {
    let fixture = Fixture::new(MANY);
    let (listener, target) = application("127.0.0.1:0");
    let (route, front) = fixture.tcp("127.0.0.1:0", target);
    for client_resets in [true, false] {
        let (client, server) = joined(front, &listener);
        let (culprit, victim) = if client_resets { (client, server) } else { (server, client) };
        reset(&culprit);
        drop(culprit);
        is_reset(&victim);

        let (client, server) = joined(front, &listener);
        let (culprit, victim) = if client_resets { (client, server) } else { (server, client) };
        culprit.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&victim), b"");
        reset(&culprit);
        drop(culprit);
        until("the victim is told", || victim.take_error().unwrap().is_some());
    }
    until("all have ended", || route.flows() == 0);
}

#[test]
fn an_answer_arrives_though_the_application_never_read_the_question() {
    let fixture = Fixture::new(MANY);
    let (listener, target) = application("127.0.0.1:0");
    let (_route, front) = fixture.tcp("127.0.0.1:0", target);
    let mut client = dial(front);
    client.write_all(b"a long question").unwrap();
    let mut server = accept(&listener);
    assert_eq!(server.peek(&mut [0; 1]).unwrap(), 1);
    server.write_all(b"go away").unwrap();
    // With data unread, this is a reset right behind the answer.
    drop(server);
    let mut answer = [0; 7];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"go away");
}

#[test]
fn an_urgent_byte_is_a_byte_among_others() {
    let fixture = Fixture::new(MANY);
    let (listener, target) = application("127.0.0.1:0");
    let (_route, front) = fixture.tcp("127.0.0.1:0", target);
    let (mut client, mut server) = joined(front, &listener);
    client.write_all(b"ab").unwrap();
    rustix::net::send(&client, b"c", rustix::net::SendFlags::OOB).unwrap();
    client.write_all(b"de").unwrap();
    let mut got = [0; 5];
    server.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"abcde");
    rustix::net::send(&client, b"!", rustix::net::SendFlags::OOB).unwrap();
    server.read_exact(&mut got[..1]).unwrap();
}

#[test]
fn connections_beyond_the_limit_wait_their_turn() {
    let fixture = Fixture::new(Limits { tcp_connections: 2, ..MANY });
    let (listener, target) = application("127.0.0.1:0");
    let (route, front) = fixture.tcp("127.0.0.1:0", target);
    let mut pairs = [joined(front, &listener), joined(front, &listener)];
    let mut third = dial(front);
    third.write_all(b"patience").unwrap();
    for _ in 0..20 {
        for (client, server) in &mut pairs {
            crosses(client, server, b"meanwhile");
        }
    }
    assert_eq!(route.flows(), 2);
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    listener.set_nonblocking(false).unwrap();

    drop(pairs);
    let mut server = accept(&listener);
    let mut got = [0; 8];
    server.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"patience");
}

#[test]
fn a_front_that_finds_no_room_looks_again() {
    let fixture = Fixture::new(Limits { descriptors: 3, ..MANY });
    let (listener, target) = application("127.0.0.1:0");
    let (first, front) = fixture.tcp("127.0.0.1:0", target);
    let (second, other_front) = fixture.tcp("127.0.0.1:0", target);
    let pair = joined(front, &listener);
    let waiting = dial(other_front);
    drop(pair);
    until("the first ends", || first.flows() == 0);
    // Nothing tells the second front of it.
    let served = accept(&listener);
    until("the second begins", || second.flows() == 1);
    drop((waiting, served));
}

#[test]
fn a_dropped_route_ends_its_connections_and_no_others() {
    let fixture = Fixture::new(MANY);
    let (listener, target) = application("127.0.0.1:0");
    let (route, front) = fixture.tcp("127.0.0.1:0", target);
    let (_other, other_front) = fixture.tcp("127.0.0.1:0", target);
    let (client, server) = joined(front, &listener);
    let (mut stays, mut served) = joined(other_front, &listener);
    drop(route);
    is_reset(&client);
    is_reset(&server);
    assert!(TcpStream::connect(front).is_err());
    TcpListener::bind(front).unwrap();
    crosses(&mut stays, &mut served, b"still here");
}

#[test]
fn a_front_that_does_not_listen_is_left_alone() {
    let fixture = Fixture::new(MANY);
    let backend = || Box::new(Open(|_| nobody()));
    let route = fixture.relay.tcp(tcp_socket(), backend()).unwrap();
    assert_eq!(route.flows(), 0);
    // A file that cannot be watched is an error at once.
    let file = std::fs::File::open("/proc/self/stat").unwrap();
    drop(fixture.relay.tcp(file.into(), backend()));
    let (one, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
    assert!(fixture.relay.udp(one.into(), backend()).is_err());
}
