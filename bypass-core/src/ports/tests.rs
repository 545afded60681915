//! Real sockets at loopback addresses, bound as applications have them bound.

use std::net::{Ipv4Addr, UdpSocket};

use rustix::net::{AddressFamily, SocketType};

use super::slot::MAX_SOCKETS;
use super::*;

/// For what takes no time.
const LIMIT: Duration = Duration::from_secs(10);

/// An application's port, published by ports of two addresses, of which it gets the first.
struct World {
    ports: Ports,
    choice: Choice,
}

impl World {
    fn new(protocol: Protocol) -> Self {
        let maps = ["127.0.0.1", "127.0.0.2"].map(|ip| format!("{ip}::80/{protocol}"));
        let maps = maps.iter().map(|map| map.parse().unwrap()).collect();
        let ports = Ports::reserve(&PublishList::new(maps).unwrap()).unwrap();
        let addr = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 80);
        let domain = netns_socket::Domain::Inet;
        let wanted = Wanted { protocol, domain, v6_only: false, addr };
        let (choice, ()) = ports.table().choose(&wanted, |_| Some(())).unwrap();
        assert_eq!((&choice.own, &choice.relayed), (&vec![0], &vec![1]));
        Self { ports, choice }
    }

    /// What an application gets.
    fn application(&self) -> UdpSocket {
        self.worker(false).unwrap()
    }

    /// The same, where it may have several.
    fn worker(&self, shares: bool) -> Result<UdpSocket, Errno> {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
        sockopt::set_socket_reuseport(&socket, shares).unwrap();
        self.ports.bind(&socket, &self.choice, false, None)?;
        self.ports.serve(&self.choice, None, &socket, None);
        Ok(limited(socket.into()))
    }

    fn host(&self, index: Index) -> SocketAddr {
        self.ports.table().get(index).unwrap().host
    }

    fn flows(&self, index: Index) -> Option<usize> {
        self.ports.0.lock(&[index]).first().unwrap().flows()
    }
}

fn limited(socket: UdpSocket) -> UdpSocket {
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

#[test]
fn clients_of_an_application_are_forgotten_with_it() {
    let world = World::new(Protocol::Udp);
    let client = limited(UdpSocket::bind("127.0.0.1:0").unwrap());
    for _ in 0..2 {
        let application = world.application();
        client.send_to(b"question", world.host(1)).unwrap();
        let (len, from) = application.recv_from(&mut [0; 64]).unwrap();
        application.send_to(b"answer", from).unwrap();
        assert_eq!(len, 8);
        assert_eq!(client.recv_from(&mut [0; 64]).unwrap(), (6, world.host(1)));
        assert_eq!(world.flows(1), Some(1));
        drop(application);
        world.ports.settle();
        assert_eq!(world.flows(1), Some(0));
    }
}

#[test]
fn an_application_does_not_decide_how_many_sockets_are_followed() {
    let world = World::new(Protocol::Udp);
    let mut workers: Vec<_> = (0..MAX_SOCKETS).map(|_| world.worker(true).unwrap()).collect();
    assert_eq!(world.worker(true).unwrap_err(), Errno::NOBUFS);
    workers.pop();
    world.ports.settle();
    world.worker(true).unwrap();
}

#[test]
fn a_socket_on_its_way_to_the_application_can_listen() {
    let list = PublishList::new(vec!["127.0.0.1::80".parse().unwrap()]).unwrap();
    let ports = Ports::reserve(&list).unwrap();
    let wanted = Wanted {
        protocol: Protocol::Tcp,
        domain: netns_socket::Domain::Inet,
        v6_only: false,
        addr: "0.0.0.0:80".parse().unwrap(),
    };
    let (choice, ()) = ports.table().choose(&wanted, |_| Some(())).unwrap();
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    ports.bind(&socket, &choice, false, None).unwrap();
    // As another thread may do at any time.
    ports.settle();
    ports.serve(&choice, None, &socket, None);
    ports.listen(&socket, 1, choice.bind).unwrap();
    assert!(std::net::TcpStream::connect(choice.bind).is_ok());
    drop(socket);
    ports.settle();
    assert!(std::net::TcpListener::bind(choice.bind).is_err(), "it is reserved again");
}

/// A TCP application whose `listen` nobody tells us of.
#[test]
fn without_a_trap_on_listen_the_reservation_gives_way_at_bind() {
    let list = ["127.0.0.1::80", "127.0.0.2::80"].map(|map| map.parse().unwrap()).into();
    let ports = Ports::reserve(&PublishList::new(list).unwrap()).unwrap().giving_way_at_bind();
    let wanted = Wanted {
        protocol: Protocol::Tcp,
        domain: netns_socket::Domain::Inet,
        v6_only: false,
        addr: "0.0.0.0:80".parse().unwrap(),
    };
    let (choice, ()) = ports.table().choose(&wanted, |_| Some(())).unwrap();
    let relayed = ports.table().get(choice.relayed[0]).unwrap().host;
    for _ in 0..3 {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        ports.bind(&socket, &choice, false, None).unwrap();
        // As another thread may do at any time.
        ports.settle();
        ports.serve(&choice, None, &socket, None);
        ports.settle();
        rustix::net::listen(&socket, 1).unwrap();
        for at in [choice.bind, relayed] {
            let client = std::net::TcpStream::connect(at).unwrap();
            // The server ends first, so that its end of the connection lingers.
            drop(rustix::net::accept(&socket).unwrap());
            drop(client);
        }
        drop(socket);
        ports.settle();
        for at in [choice.bind, relayed] {
            assert!(std::net::TcpListener::bind(at).is_err(), "{at} is reserved again");
            assert!(std::net::TcpStream::connect(at).is_err(), "{at} refuses");
        }
    }
}
