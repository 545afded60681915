//! Pinning, and what a pinned socket can reach.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;

use libtest_mimic::Trial;
use netns_socket::{
    Applied, Captured, Errno, Identity, PinError, Refusal, SocketState, create_twin, pin, pinned_to,
};
use rustix::net::{SendFlags, connect, sendto};

use crate::harness::{HOST_SOCKET, TCP4, UDP4, ifindex, in_new_netns, ip, trial};
use crate::sys;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("pin::reads_back", reads_back),
        trial("pin::refuses_what_is_no_device", no_device),
        trial("pin::cannot_be_undone_without_privilege", for_good),
        trial("pin::keeps_from_loopback", keeps_from_loopback),
        trial("pin::datagrams_do_not_reach_loopback", datagrams),
        trial("pin::reaches_own_addresses", reaches_own),
        trial("pin::is_not_part_of_the_state_of_a_pinned_socket", pinned_state),
    ]
}

fn reads_back() {
    let socket = create_twin(&TCP4, false).unwrap();
    assert_eq!(pinned_to(&socket).unwrap(), 0);
    assert_eq!(pin(&socket, 1).unwrap().ifindex(), 1);
    assert_eq!(pinned_to(&socket).unwrap(), 1);
}

fn no_device() {
    let socket = create_twin(&TCP4, false).unwrap();
    for ifindex in [0, u32::MAX, 1 << 31] {
        assert_eq!(pin(&socket, ifindex), Err(PinError::NoDevice { ifindex }));
    }
    assert_eq!(pinned_to(&socket).unwrap(), 0);
}

fn for_good() {
    // The socket is of a namespace in which we have no capability, as a container has none there.
    let host = HOST_SOCKET.get().unwrap();
    let mut state = SocketState::capture(marked(), &TCP4).unwrap();
    let Captured::State(state) = &mut state else { unreachable!() };
    let refused = vec![Refusal { option: "SO_MARK", errno: Errno::PERM }];
    assert_eq!(state.apply(host).unwrap(), Applied { refused });

    assert_eq!(pin(host, 1).unwrap().ifindex(), 1);
    assert_eq!(pin(host, 2), Err(PinError::AlreadyPinned));
    let none = 0_i32.to_ne_bytes();
    assert_eq!(sys::set(host, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, &none), Err(Errno::PERM));
    assert_eq!(sys::set(host, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, b""), Err(Errno::PERM));
    assert_eq!(pinned_to(host).unwrap(), 1);
}

fn marked() -> std::os::fd::OwnedFd {
    let socket = create_twin(&TCP4, false).unwrap();
    sys::set_int(&socket, libc::SOL_SOCKET, libc::SO_MARK, 7).unwrap();
    socket
}

fn keeps_from_loopback() {
    in_new_netns(|| {
        let device = device();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();

        let socket = create_twin(&TCP4, false).unwrap();
        // A pinned socket takes the address to be on the device's link, where nobody answers.
        sys::set_int(&socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 100).unwrap();
        assert_eq!(pin(&socket, device).unwrap().ifindex(), device);
        assert!(connect(&socket, &address).is_err());
        assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);

        connect(create_twin(&TCP4, false).unwrap(), &address).unwrap();
        assert!(listener.accept().is_ok());
    });
}

fn datagrams() {
    in_new_netns(|| {
        let device = device();
        let receiver = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let address = receiver.local_addr().unwrap();
        let socket = create_twin(&UDP4, false).unwrap();
        assert_eq!(pin(&socket, device).unwrap().ifindex(), device);
        // Loopback delivers within the call, so what did not come will not.
        sendto(&socket, b"pinned", SendFlags::empty(), &address).ok();
        let free = create_twin(&UDP4, false).unwrap();
        sendto(&free, b"free", SendFlags::empty(), &address).unwrap();
        let mut buffer = [0; 16];
        let len = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"free");
        assert!(receiver.recv(&mut buffer).is_err());
    });
}

fn reaches_own() {
    in_new_netns(|| {
        let device = device();
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let address = SocketAddr::from(([10, 9, 0, 1], listener.local_addr().unwrap().port()));
        let socket = create_twin(&TCP4, false).unwrap();
        assert_eq!(pin(&socket, device).unwrap().ifindex(), device);
        connect(&socket, &address).unwrap();
        assert!(listener.accept().is_ok());
    });
}

fn pinned_state() {
    let socket = create_twin(&TCP4, false).unwrap();
    sys::set_int(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1).unwrap();
    assert_eq!(pin(&socket, 1).unwrap().ifindex(), 1);
    let id = Identity::of(socket.as_fd()).unwrap().unwrap();
    let captured = SocketState::capture(&socket, &id).unwrap();
    assert!(matches!(captured, Captured::NotCopyable { option: "SO_BINDTOIFINDEX", .. }));
    let Captured::State(state) = SocketState::capture_pinned(&socket, &id).unwrap() else {
        unreachable!()
    };
    assert_eq!(state.changed().collect::<Vec<_>>(), ["TCP_NODELAY"]);
}

/// A device with 10.9.0.1/24.
fn device() -> u32 {
    ip("link add d0 type veth peer name d1").unwrap();
    ip("addr add 10.9.0.1/24 dev d0").unwrap();
    ip("link set d0 up").unwrap();
    ip("link set d1 up").unwrap();
    ifindex("d0")
}
