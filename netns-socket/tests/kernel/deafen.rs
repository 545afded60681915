//! Sockets that do not hear loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

use libtest_mimic::Trial;
use netns_socket::{
    Captured, DeafenError, Errno, Identity, SocketState, create_twin, deafen_to_loopback, pin,
};
use rustix::net::{RecvFlags, SendFlags, recv, sendto};

use crate::harness::{TCP4, UDP4, UDP6, in_new_netns, ip, trial};
use crate::sys;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("deafen::no_answer_comes_from_loopback", answers),
        trial("deafen::nobody_takes_the_filter_away", for_good),
        trial("deafen::is_not_part_of_the_state_of_a_pinned_socket", pinned_state),
    ]
}

fn answers() {
    in_new_netns(|| {
        ip("addr add 10.9.0.1/32 dev lo").unwrap();
        let loopback = (Ipv4Addr::LOCALHOST.into(), false);
        let mapped = (Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), false);
        let another = (IpAddr::from([127, 1, 2, 3]), false);
        let own = (IpAddr::from([10, 9, 0, 1]), true);
        let own_mapped = (Ipv4Addr::new(10, 9, 0, 1).to_ipv6_mapped().into(), true);
        for (kind, addresses) in [
            (UDP4, &[loopback, another, own][..]),
            (UDP6, &[(Ipv6Addr::LOCALHOST.into(), false), mapped, own_mapped][..]),
        ] {
            for (address, heard) in addresses {
                let deaf = create_twin(&kind, true).unwrap();
                assert_eq!(answer(&deaf, *address), Ok(6), "before, {address}");
                deafen_to_loopback(&deaf).unwrap();
                let expected = if *heard { Ok(6) } else { Err(Errno::AGAIN) };
                assert_eq!(answer(&deaf, *address), expected, "{address}");
            }
        }
    });
}

/// What comes back from a service at this address. Loopback delivers within the call.
fn answer(socket: &OwnedFd, address: IpAddr) -> Result<usize, Errno> {
    let service = UdpSocket::bind((address.to_canonical(), 0)).unwrap();
    let to = SocketAddr::new(address, service.local_addr().unwrap().port());
    sendto(socket, b"question", SendFlags::empty(), &to).unwrap();
    let (_, from) = service.recv_from(&mut [0; 16]).unwrap();
    service.send_to(b"answer", from).unwrap();
    let mut buffer = [0; 16];
    recv(socket, &mut buffer, RecvFlags::empty()).map(|(len, _)| len)
}

fn for_good() {
    // We have every capability in the namespace of this socket.
    in_new_netns(|| {
        let socket = create_twin(&UDP4, true).unwrap();
        deafen_to_loopback(&socket).unwrap();
        let nothing = 0_i32.to_ne_bytes();
        for option in [libc::SO_DETACH_FILTER, libc::SO_LOCK_FILTER] {
            let set = sys::set(&socket, libc::SOL_SOCKET, option, &nothing);
            assert_eq!(set, Err(Errno::PERM), "option {option}");
        }
        let again = deafen_to_loopback(&socket);
        assert_eq!(again, Err(DeafenError::AttachFilter { source: Errno::PERM }));
    });
}

fn pinned_state() {
    for kind in [UDP4, UDP6] {
        let socket = create_twin(&kind, true).unwrap();
        assert_eq!(pin(&socket, 1).unwrap().ifindex(), 1);
        deafen_to_loopback(&socket).unwrap();
        let id = Identity::of(&socket).unwrap().unwrap();
        let captured = SocketState::capture_pinned(&socket, &id).unwrap();
        let same = matches!(&captured, Captured::State(state) if state.is_empty());
        assert!(same, "{captured:?}");
    }
    // An option that cannot be read back is found beside the filter.
    let socket = create_twin(&UDP4, true).unwrap();
    assert_eq!(pin(&socket, 1).unwrap().ifindex(), 1);
    deafen_to_loopback(&socket).unwrap();
    let group = [224, 0, 0, 251, 127, 0, 0, 1];
    sys::set(&socket, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &group).unwrap();
    let id = Identity::of(&socket).unwrap().unwrap();
    let captured = SocketState::capture_pinned(&socket, &id).unwrap();
    assert!(matches!(captured, Captured::NotCopyable { .. }), "{captured:?}");
    // Nor is it ours where it is not known to be pinned.
    let stream = create_twin(&TCP4, true).unwrap();
    deafen_to_loopback(&stream).unwrap();
    let id = Identity::of(&stream).unwrap().unwrap();
    let captured = SocketState::capture(&stream, &id).unwrap();
    assert!(matches!(captured, Captured::NotCopyable { option: "SO_ATTACH_FILTER", .. }));
}
