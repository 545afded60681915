//! What the relay holds and how often it wakes up. These tests look at the whole process, so
//! each runs in one of its own.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;

const ALONE: &str = "BYPASS_RELAY_TEST";

/// Runs `body` in a process that runs no other test.
fn alone(name: &str, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let module = module_path!().split_once("::").unwrap().1;
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{module}::{name}")])
        .env(ALONE, "yes")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// An application that answers with what it is asked, one connection after the other.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = limited(stream.unwrap());
            let mut all = Vec::new();
            if stream.read_to_end(&mut all).is_ok() {
                stream.write_all(&all).ok();
            }
        }
    });
    address
}

fn ask(front: SocketAddr) {
    let mut client = dial(front);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"question");
}

/// A UDP flow through a relay, to find out how often the thread wakes up meanwhile.
struct Meter {
    _route: Route,
    client: UdpSocket,
    application: UdpSocket,
}

impl Meter {
    fn new(fixture: &Fixture) -> Self {
        let application = udp_socket("127.0.0.1:0");
        let (route, front) = fixture.udp("127.0.0.1:0", application.local_addr().unwrap());
        let client = udp_socket("127.0.0.1:0");
        client.connect(front).unwrap();
        let meter = Self { _route: route, client, application };
        meter.cross();
        meter
    }

    fn cross(&self) {
        self.client.send(b"x").unwrap();
        self.application.recv(&mut [0; 1]).unwrap();
    }

    /// A datagram wakes the thread once. One that never sleeps turns far more often.
    #[track_caller]
    fn sleeps(&self, fixture: &Fixture) {
        let before = fixture.turns();
        for _ in 0..500 {
            self.cross();
        }
        let turns = fixture.turns() - before;
        assert!(turns <= 600, "{turns} turns for 500 datagrams");
    }
}

#[test]
fn nothing_is_left_of_a_thousand_connections() {
    alone("nothing_is_left_of_a_thousand_connections", || {
        let application = echo();
        let before = descriptors();
        let fixture = Fixture::new(MANY);
        let (route, front) = fixture.tcp("127.0.0.1:0", application);
        ask(front);
        until("one connection ends", || route.flows() == 0);
        let idle = descriptors();
        for _ in 0..1000 {
            ask(front);
        }
        until("all connections end", || route.flows() == 0 && descriptors() == idle);

        drop(route);
        drop(fixture);
        until("the thread ends", || descriptors() == before);
    });
}

#[test]
fn states_that_last_do_not_keep_the_thread_awake() {
    alone("states_that_last_do_not_keep_the_thread_awake", || {
        let fixture = Fixture::new(Limits { tcp_connections: 2, ..MANY });
        let meter = Meter::new(&fixture);
        meter.sleeps(&fixture);

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (route, front) = fixture.tcp("127.0.0.1:0", listener.local_addr().unwrap());
        let mut client = dial(front);
        let server = accept(&listener);
        meter.sleeps(&fixture);

        // Full in one direction, and the other is over: both sockets are readable for ever, one
        // of them hung up.
        server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        client.set_nonblocking(true).unwrap();
        let mut blocked = 0;
        while blocked < 1000 {
            match client.write(&[0; 100_000]) {
                Ok(len) => {
                    assert_ne!(len, 0);
                    blocked = 0;
                }
                Err(_) => {
                    blocked += 1;
                    meter.cross();
                }
            }
        }
        client.shutdown(Shutdown::Write).unwrap();
        meter.sleeps(&fixture);

        // More connections than may be.
        let _more: Vec<_> = (0..3).map(|_| dial(front)).collect();
        until("the limit is reached", || route.flows() == 2);
        meter.sleeps(&fixture);

        // Fronts that somebody has shut down through a duplicate.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let fronts = (listener.try_clone().unwrap(), socket.try_clone().unwrap());
        let nobody = || Box::new(Open(|_| nobody()));
        let _tcp = fixture.relay.tcp(fronts.0.into(), nobody()).unwrap();
        let _udp = fixture.relay.udp(fronts.1.into(), nobody()).unwrap();
        rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
        rustix::net::shutdown(&socket, rustix::net::Shutdown::Both).ok();
        meter.cross();
        meter.sleeps(&fixture);
    });
}

#[test]
fn without_descriptors_the_thread_sleeps_and_tries_again() {
    alone("without_descriptors_the_thread_sleeps_and_tries_again", || {
        let fixture = Fixture::new(MANY);
        let meter = Meter::new(&fixture);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (route, front) = fixture.tcp("127.0.0.1:0", listener.local_addr().unwrap());
        let flags = SocketFlags::CLOEXEC;
        let client = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..before }).unwrap();
        connect(&client, &front).unwrap();
        meter.sleeps(&fixture);
        assert_eq!(route.flows(), 0);

        setrlimit(Resource::Nofile, before).unwrap();
        let mut server = accept(&listener);
        server.write_all(b"late").unwrap();
        drop(server);
        let mut answer = Vec::new();
        limited(client.into()).read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"late");
    });
}
