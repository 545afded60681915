//! Datagrams.

use super::*;

/// Answers every datagram with itself, for as long as the test runs.
fn echo(address: &str) -> SocketAddr {
    let socket = UdpSocket::bind(address).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..len], from).ok();
        }
    });
    address
}

/// One question and its answer.
#[track_caller]
fn asks(client: &UdpSocket, front: SocketAddr, question: &[u8]) {
    client.send_to(question, front).unwrap();
    let mut buffer = vec![0; 65_536];
    let (len, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!(from, front);
    assert!(&buffer[..len] == question, "{len} bytes for {}", question.len());
}

#[test]
fn datagrams_of_every_size_pass_both_ways_unmodified() {
    let fixture = Fixture::new(MANY);
    for (ip, largest) in [("127.0.0.1:0", 65_507), ("[::1]:0", 65_527)] {
        let (route, front) = fixture.udp(ip, echo(ip));
        let client = udp_socket(ip);
        for len in [1, 0, 1472, 60_000, largest, 0] {
            let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
            asks(&client, front, &bytes);
        }
        assert_eq!(route.flows(), 1);
    }
}

#[test]
fn the_limits_of_this_process_leave_room() {
    let relay = Relay::start().unwrap();
    let application = echo("127.0.0.1:0");
    let front = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = front.local_addr().unwrap();
    let backend = Box::new(Open(move |_| udp_to(application)));
    let _route = relay.udp(front.into(), backend).unwrap();
    // Routes keep the thread.
    drop(relay);
    asks(&udp_socket("127.0.0.1:0"), address, b"x");
}

#[test]
fn either_family_can_be_the_applications() {
    let fixture = Fixture::new(MANY);
    for (outside, inside) in [("127.0.0.1:0", "[::1]:0"), ("[::1]:0", "127.0.0.1:0")] {
        let (_route, front) = fixture.udp(outside, echo(inside));
        asks(&udp_socket(outside), front, b"across");
    }
}

#[test]
fn a_wildcard_front_answers_from_the_address_that_was_asked() {
    let fixture = Fixture::new(MANY);
    let application = echo("127.0.0.1:0");
    for (wildcard, addresses) in [
        ("0.0.0.0:0", &["127.0.0.1", "127.0.0.2", "127.255.255.254"][..]),
        ("[::]:0", &["127.0.0.1", "127.0.0.2"]),
    ] {
        let (route, front) = fixture.udp(wildcard, application);
        let client = udp_socket("127.0.0.1:0");
        for (count, ip) in (1..).zip(addresses) {
            // The same client all the time: answers to one address never leave from another.
            asks(&client, SocketAddr::new(ip.parse().unwrap(), front.port()), ip.as_bytes());
            assert_eq!(route.flows(), count);
        }
    }
    let (_route, front) = fixture.udp("[::]:0", application);
    asks(&udp_socket("[::1]:0"), SocketAddr::new("::1".parse().unwrap(), front.port()), b"six");
}

#[test]
fn the_backend_learns_who_asks_without_mapping() {
    let fixture = Fixture::new(MANY);
    let application = echo("127.0.0.1:0");
    let (tell, asked) = mpsc::channel();
    let front = UdpSocket::bind("[::]:0").unwrap();
    let port = front.local_addr().unwrap().port();
    let backend = Open(move |client| {
        tell.send(client).unwrap();
        udp_to(application)
    });
    let _route = fixture.relay.udp(front.into(), Box::new(backend)).unwrap();
    let client = udp_socket("127.0.0.1:0");
    asks(&client, ([127, 0, 0, 1], port).into(), b"one");
    asks(&client, ([127, 0, 0, 1], port).into(), b"two");
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [client.local_addr().unwrap()]);
}

#[test]
fn each_client_gets_its_own_answers_and_the_idlest_gives_way_beyond_the_limit() {
    let fixture = Fixture::new(Limits { udp_flows: 8, ..MANY });
    let (route, front) = fixture.udp("127.0.0.1:0", echo("127.0.0.1:0"));
    let clients: Vec<_> = (0..20).map(|_| udp_socket("127.0.0.1:0")).collect();
    for (number, client) in (1_u8..).zip(&clients) {
        asks(client, front, &[number]);
        assert_eq!(route.flows(), usize::from(number.min(8)));
    }
    for (number, client) in (1_u8..).zip(&clients) {
        asks(client, front, &[number; 2]);
    }
    assert_eq!(route.flows(), 8);
}

#[test]
fn a_front_that_finds_no_room_renews_its_own_flows_only() {
    let fixture = Fixture::new(Limits { descriptors: 3, ..MANY });
    let application = echo("127.0.0.1:0");
    let fronts = [(); 3].map(|()| fixture.udp("127.0.0.1:0", application));
    let [(first, front), (second, other_front), (third, last_front)] = &fronts;
    let clients: Vec<_> = (0..3).map(|_| udp_socket("127.0.0.1:0")).collect();
    clients.iter().for_each(|client| asks(client, *front, b"x"));
    assert_eq!(first.flows(), 2, "one is left for others");
    clients.iter().for_each(|client| asks(client, *other_front, b"x"));
    assert_eq!(second.flows(), 1);
    clients[0].send_to(b"lost", *last_front).unwrap();
    asks(&clients[2], *front, b"meanwhile");
    assert_eq!((first.flows(), second.flows(), third.flows()), (2, 1, 0));
    let [first, _second, (_third, last_front)] = fronts;
    drop(first);
    asks(&clients[0], last_front, b"room");
}

/// As those of an application whose socket is connected to somebody else.
#[test]
fn datagrams_that_come_back_are_not_relayed_again() {
    let fixture = Fixture::new(MANY);
    let [first, second] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let [first_at, second_at] = [&first, &second].map(|front| front.local_addr().unwrap());
    // The one is relayed to itself, the other to the one.
    let routes = [first, second].map(|front| {
        let backend = Box::new(Open(move |_| udp_to(first_at)));
        fixture.relay.udp(front.into(), backend).unwrap()
    });
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for front in [first_at, second_at] {
        client.send_to(b"question", front).unwrap();
    }
    // Each question takes some turns of the thread, in which others would come back.
    let (_route, front) = fixture.udp("127.0.0.1:0", echo("127.0.0.1:0"));
    for _ in 0..10 {
        asks(&client, front, b"question");
    }
    assert_eq!(routes.map(|route| route.flows()), [1, 1]);
}

#[test]
fn datagrams_for_nobody_are_drained() {
    let fixture = Fixture::new(MANY);
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    let front = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = front.local_addr().unwrap();
    let backend = Open(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        nobody()
    });
    let route = fixture.relay.udp(front.into(), Box::new(backend)).unwrap();
    let client = udp_socket("127.0.0.1:0");
    for sent in 1..=200 {
        client.send_to(b"anybody?", address).unwrap();
        until("the datagram is taken", || opened.load(Ordering::Relaxed) == sent);
    }
    assert_eq!(route.flows(), 0);

    let (_other, front) = fixture.udp("127.0.0.1:0", echo("127.0.0.1:0"));
    asks(&client, front, b"others are served");
}

#[test]
fn a_refused_datagram_ends_the_flow_and_the_next_one_begins_anew() {
    let fixture = Fixture::new(MANY);
    let application = UdpSocket::bind("127.0.3.1:0").unwrap();
    let target = application.local_addr().unwrap();
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    let front = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = front.local_addr().unwrap();
    let backend = Open(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        udp_to(target)
    });
    let route = fixture.relay.udp(front.into(), Box::new(backend)).unwrap();
    drop(application);

    let client = udp_socket("127.0.0.1:0");
    client.send_to(b"too early", address).unwrap();
    until("the flow is opened", || opened.load(Ordering::Relaxed) == 1);
    // The thread serves this after it has sent the other.
    let (_other, other_front) = fixture.udp("127.0.0.1:0", echo("127.0.0.1:0"));
    asks(&client, other_front, b"x");
    until("the refusal ends the flow", || route.flows() == 0);
    let application = udp_socket(&target.to_string());
    client.send_to(b"again", address).unwrap();
    let mut buffer = [0; 16];
    let len = application.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"again");
}

#[test]
fn idle_flows_end() {
    let fixture = Fixture::new(MANY);
    let (route, front) = fixture.udp("127.0.0.1:0", echo("127.0.0.1:0"));
    let (first, second) = (udp_socket("127.0.0.1:0"), udp_socket("127.0.0.1:0"));
    asks(&first, front, b"1");
    fixture.skip(Duration::from_secs(59));
    asks(&second, front, b"2");
    assert_eq!(route.flows(), 2);
    fixture.skip(Duration::from_secs(2));
    asks(&second, front, b"3");
    until("the first flow ends", || route.flows() == 1);
    asks(&first, front, b"4");
    assert_eq!(route.flows(), 2);
}

#[test]
fn a_dropped_route_leaves_the_port_to_others_at_once() {
    let fixture = Fixture::new(MANY);
    let (route, front) = fixture.udp("127.0.0.1:0", echo("127.0.0.1:0"));
    let client = udp_socket("127.0.0.1:0");
    asks(&client, front, b"x");
    assert!(UdpSocket::bind(front).is_err());
    drop(route);
    let next = udp_socket(&front.to_string());
    client.send_to(b"for the next one", front).unwrap();
    assert_eq!(next.recv(&mut [0; 32]).unwrap(), 16);
}

#[test]
fn a_duplicate_of_the_front_keeps_the_port_and_gets_what_comes_later() {
    let fixture = Fixture::new(MANY);
    let front = udp_socket("127.0.0.1:0");
    let address = front.local_addr().unwrap();
    let application = echo("127.0.0.1:0");
    let duplicate = front.try_clone().unwrap();
    let backend = Box::new(Open(move |_| udp_to(application)));
    let route = fixture.relay.udp(duplicate.into(), backend).unwrap();
    let client = udp_socket("127.0.0.1:0");
    asks(&client, address, b"x");
    drop(route);
    assert!(UdpSocket::bind(address).is_err());
    client.send_to(b"late", address).unwrap();
    assert_eq!(front.recv(&mut [0; 8]).unwrap(), 4);
}

#[test]
fn nobody_waits_for_a_thread_that_has_died() {
    let fixture = Fixture::new(MANY);
    let front = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = front.local_addr().unwrap();
    let (tell, called) = mpsc::channel();
    let backend = Open(move |_| {
        tell.send(()).unwrap();
        panic!("the backend of a test")
    });
    let route = fixture.relay.udp(front.into(), Box::new(backend)).unwrap();
    udp_socket("127.0.0.1:0").send_to(b"x", address).unwrap();
    called.recv_timeout(LIMIT).unwrap();
    until("a new route is refused", || {
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        fixture.relay.udp(front.into(), Box::new(Open(|_| nobody()))).is_err()
    });
    let begin = Instant::now();
    drop(route);
    assert!(begin.elapsed() < CLOSE_WITHIN);
    until("the front is closed", || UdpSocket::bind(address).is_ok());
}

#[test]
fn a_backend_may_own_routes() {
    let fixture = Fixture::new(MANY);
    let (inner, _) = fixture.udp("127.0.0.1:0", echo("127.0.0.1:0"));
    let front = UdpSocket::bind("127.0.0.1:0").unwrap();
    let backend = Open(move |_| {
        let _kept = &inner;
        nobody()
    });
    let route = fixture.relay.udp(front.into(), Box::new(backend)).unwrap();
    let begin = Instant::now();
    drop(route);
    assert!(begin.elapsed() < CLOSE_WITHIN, "the thread waited for itself");
}
