//! What the crate refuses, the kernel refuses, and with the same errno; what it takes,
//! the kernel takes.

use sockaddr_inspect::msghdr::{WordSize, fetch_name};
use sockaddr_inspect::{
    ForeignAddr, ProcessMemory, RawSockAddr, SockAddr, UnixAddr, WriteError, WriteMemory, fetch,
    truncate_for_caller,
};

use crate::{Check, sys};

pub(crate) fn trials() -> Vec<Check> {
    vec![
        ("connect_by_length", connect_by_length),
        ("bind_by_length", bind_by_length),
        ("unspec_in_bind_and_sendto", unspec_in_bind_and_sendto),
        ("unix_by_length", unix_by_length),
        ("short_addresses_of_any_family", short_addresses_of_any_family),
        ("fetch_refuses_as_connect_does", fetch_refuses_as_connect_does),
        ("sendto_without_a_pointer_has_no_address", sendto_without_a_pointer),
        ("fetch_name_refuses_as_sendmsg_does", fetch_name_refuses_as_sendmsg_does),
        ("truncation_is_that_of_getsockname", truncation_is_that_of_getsockname),
        ("encoded_addresses_are_taken", encoded_addresses_are_taken),
    ]
}

const IP_SOCKETS: [(i32, i32); 4] = [
    (libc::AF_INET, libc::SOCK_STREAM),
    (libc::AF_INET, libc::SOCK_DGRAM),
    (libc::AF_INET6, libc::SOCK_STREAM),
    (libc::AF_INET6, libc::SOCK_DGRAM),
];

/// `len` bytes of a loopback address of the family, port 0 or a closed one.
fn loopback(family: i32, port: u16, len: usize) -> Vec<u8> {
    let mut bytes = u16::try_from(family).unwrap().to_ne_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    match family {
        libc::AF_INET6 => bytes.extend([&[0; 19][..], &[1]].concat()),
        _ => bytes.extend([127, 0, 0, 1]),
    }
    bytes.resize(len, 0);
    bytes
}

fn decode(bytes: &[u8]) -> Result<SockAddr, i32> {
    RawSockAddr::from_bytes(bytes).unwrap().decode().map_err(|malformed| malformed.errno())
}

/// The verdicts agree: either both give this errno, or neither refuses the *form*.
#[track_caller]
fn assert_same_verdict(ours: Result<SockAddr, i32>, kernel: i32, what: &str) {
    match ours {
        Err(errno) => assert_eq!(kernel, errno, "{what}: ours {ours:?}"),
        Ok(_) => assert_ne!(kernel, libc::EINVAL, "{what}: ours {ours:?}"),
    }
}

fn lengths() -> impl Iterator<Item = usize> {
    (0..=40).chain([63, 64, 109, 110, 111, 127, 128])
}

fn connect_by_length() {
    for (domain, kind) in IP_SOCKETS {
        for family in [domain, libc::AF_UNSPEC] {
            for len in lengths() {
                let addr = loopback(family, 9, len);
                let kernel = sys::connect(sys::socket(domain, kind), &addr);
                let what = format!("connect, domain {domain}, kind {kind}, {addr:?}");
                assert_same_verdict(decode(&addr), kernel, &what);
            }
        }
    }
}

fn bind_by_length() {
    for (domain, kind) in IP_SOCKETS {
        for len in lengths() {
            let addr = loopback(domain, 0, len);
            let kernel = sys::bind(sys::socket(domain, kind), &addr);
            let what = format!("bind, domain {domain}, kind {kind}, {addr:?}");
            assert_same_verdict(decode(&addr), kernel, &what);
        }
    }
}

fn unspec_in_bind_and_sendto() {
    for len in lengths() {
        let mut addr = loopback(libc::AF_UNSPEC, 9, len);
        let ours = RawSockAddr::from_bytes(&addr).unwrap().decode_inet_or_unspec();
        let ours = ours.map(|v4| SockAddr::V4(v4.unwrap())).map_err(|malformed| malformed.errno());

        let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM);
        let kernel = sys::send_byte_to(&socket, &addr);
        assert_same_verdict(ours, kernel, &format!("sendto {addr:?}"));

        let kernel = sys::bind(sys::socket(libc::AF_INET, libc::SOCK_DGRAM), &addr);
        let expected = if len < 16 { libc::EINVAL } else { libc::EAFNOSUPPORT };
        assert_eq!(kernel, expected, "bind {addr:?}");

        addr.iter_mut().for_each(|byte| *byte = 0);
        let kernel = sys::bind(sys::socket(libc::AF_INET, libc::SOCK_DGRAM), &addr);
        assert_same_verdict(ours, kernel, &format!("bind {addr:?}"));
    }
}

fn unix_by_length() {
    let family = u16::try_from(libc::AF_UNIX).unwrap().to_ne_bytes();
    for len in 0..=128 {
        // Paths that do not exist, and an abstract name nobody listens on.
        for (start, fill) in [(b'p', b'p'), (b'p', 0), (0, 0)] {
            let mut addr = [&family[..], &[start]].concat();
            addr.resize(len.max(3), fill);
            addr.truncate(len);
            let ours = decode(&addr);
            let what = format!("{addr:?}");
            for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
                let kernel = sys::connect(sys::socket(libc::AF_UNIX, kind), &addr);
                if ours == Ok(SockAddr::Unix(UnixAddr::Unnamed)) {
                    assert_eq!(kernel, libc::EINVAL, "only bind takes an unnamed address");
                } else {
                    assert_same_verdict(ours, kernel, &what);
                }
            }
            // Binding to a path would leave a file behind.
            if start == 0 || len <= 2 || len > 110 {
                let kernel = sys::bind(sys::socket(libc::AF_UNIX, libc::SOCK_STREAM), &addr);
                assert_same_verdict(ours, kernel, &what);
            }
        }
    }
}

/// Whatever socket and family: too short to hold a family is `EINVAL`.
fn short_addresses_of_any_family() {
    for (domain, kind) in IP_SOCKETS {
        for family in [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX, libc::AF_NETLINK] {
            for len in [0, 1] {
                let addr = loopback(family, 9, len);
                assert_eq!(decode(&addr), Err(libc::EINVAL));
                assert_eq!(sys::connect(sys::socket(domain, kind), &addr), libc::EINVAL);
                assert_eq!(sys::bind(sys::socket(domain, kind), &addr), libc::EINVAL);
            }
        }
    }
}

/// Puts an address at `at`, as far as there is memory.
fn plant_address(at: usize) {
    let addr = loopback(libc::AF_INET, 9, 28);
    let planted = own_memory().write(ForeignAddr::new(at as u64), &addr);
    assert!(matches!(planted, Ok(1..=28) | Err(WriteError::Fault)), "{at:#x}: {planted:?}");
}

/// Pointers into readable memory, to its last bytes, across its end, and to none.
fn pointers() -> Vec<usize> {
    let (start, page) = sys::page_before_a_hole();
    let end = start + page;
    vec![start, end - 128, end - 28, end - 16, end - 1, end, 0, 8, usize::MAX, usize::MAX - 64]
}

fn fetch_refuses_as_connect_does() {
    let memory = own_memory();
    for at in pointers() {
        plant_address(at);
        for len in [0, 1, 2, 16, 28, 128, 129, 4096, i32::MAX, -1, -128, i32::MIN] {
            let kernel = sys::connect_at(sys::socket(libc::AF_INET, libc::SOCK_DGRAM), at, len);
            // As the register holds it: with rubbish above the 32 bits that count.
            let arg = u64::from(len.cast_unsigned()) | 0xdead_beef_0000_0000;
            let ours = fetch(&memory, ForeignAddr::new(at as u64), arg);
            let ours = match &ours {
                Ok(raw) => raw.decode().map_or_else(|malformed| malformed.errno(), |_| 0),
                Err(error) => error.errno().unwrap(),
            };
            assert_eq!(ours, kernel, "connect(fd, {at:#x}, {len})");
        }
    }
}

fn sendto_without_a_pointer() {
    for len in [0, 16, 129, -1] {
        let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM);
        assert_eq!(sys::send_byte_at(socket, 0, len), libc::EDESTADDRREQ, "length {len}");
    }
}

fn fetch_name_refuses_as_sendmsg_does() {
    if cfg!(not(target_pointer_width = "64")) {
        return;
    }
    let memory = own_memory();
    for at in pointers() {
        plant_address(at);
        for len in [0, 1, 15, 16, 28, 128, 129, 4096, i32::MAX, -1, i32::MIN] {
            let kernel = sys::sendmsg_at(sys::socket(libc::AF_INET, libc::SOCK_DGRAM), at, len);
            let header = sys::message(at, len);
            let header = ForeignAddr::new((&raw const header).addr() as u64);
            let ours = fetch_name(&memory, header, WordSize::Bits64).and_then(|name| match name {
                Some(name) => name.fetch(&memory).map(Some),
                None => Ok(None),
            });
            let what = format!("sendmsg to {at:#x}, {len}: ours {ours:?}");
            match ours {
                Ok(None) => assert_eq!(kernel, libc::EDESTADDRREQ, "{what}"),
                Ok(Some(raw)) => match raw.decode_inet_or_unspec() {
                    Ok(_) => assert_ne!(kernel, libc::EINVAL, "{what}"),
                    Err(malformed) => assert_eq!(kernel, malformed.errno(), "{what}"),
                },
                Err(error) => assert_eq!(kernel, error.errno().unwrap(), "{what}"),
            }
        }
    }
}

fn truncation_is_that_of_getsockname() {
    let mut full = [0xaa; 128];
    for domain in [libc::AF_INET, libc::AF_INET6] {
        let socket = sys::socket(domain, libc::SOCK_DGRAM);
        assert_eq!(sys::bind(&socket, &loopback(domain, 0, 28)), 0);
        let (errno, len) = sys::sockname(&socket, &mut full, 128);
        assert_eq!(errno, 0);
        let addr = RawSockAddr::from_bytes(&full[..len as usize]).unwrap();
        // And what the kernel wrote is what we would have written.
        assert_eq!(addr.decode().unwrap().encode(), addr);

        for room in (0..=40).chain([128, -1, i32::MIN]) {
            let mut buf = [0xaa; 128];
            let (errno, stored) = sys::sockname(&socket, &mut buf, room);
            match truncate_for_caller(&addr, room) {
                Ok((bytes, full_len)) => {
                    assert_eq!((errno, stored), (0, full_len), "room {room}");
                    assert!(buf.starts_with(bytes), "room {room}");
                    assert!(buf[bytes.len()..].iter().all(|byte| *byte == 0xaa), "room {room}");
                }
                Err(error) => {
                    assert_eq!(errno, error.errno(), "room {room}");
                    assert_eq!(buf, [0xaa; 128]);
                }
            }
        }
    }
}

fn encoded_addresses_are_taken() {
    for (domain, addr) in [
        (libc::AF_INET, SockAddr::V4("127.0.0.1:9".parse().unwrap())),
        (libc::AF_INET6, SockAddr::V6("[::1]:9".parse().unwrap())),
        (libc::AF_INET6, SockAddr::V6("[::ffff:127.0.0.1]:9".parse().unwrap())),
        (libc::AF_INET, SockAddr::Unspec),
        (libc::AF_INET6, SockAddr::Unspec),
    ] {
        let socket = sys::socket(domain, libc::SOCK_DGRAM);
        assert_eq!(sys::connect(&socket, addr.encode().as_bytes()), 0, "{addr:?}");
    }
    let autobind = SockAddr::Unix(UnixAddr::Unnamed).encode();
    let socket = sys::socket(libc::AF_UNIX, libc::SOCK_DGRAM);
    assert_eq!(sys::bind(&socket, autobind.as_bytes()), 0);
    // The name the kernel chose reads as abstract, and can be connected to.
    let mut name = [0; 128];
    let (errno, len) = sys::sockname(&socket, &mut name, 128);
    assert_eq!(errno, 0);
    let chosen = RawSockAddr::from_bytes(&name[..len as usize]).unwrap().decode().unwrap();
    assert!(matches!(chosen, SockAddr::Unix(UnixAddr::Abstract(_))), "{chosen:?}");
    let peer = sys::socket(libc::AF_UNIX, libc::SOCK_DGRAM);
    assert_eq!(sys::connect(peer, chosen.encode().as_bytes()), 0);
}

fn own_memory() -> ProcessMemory {
    ProcessMemory::of(std::process::id().try_into().unwrap())
}
