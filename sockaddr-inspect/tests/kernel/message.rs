//! Messages that we gather and those that the kernel sends are the same.

use std::os::fd::OwnedFd;

use sockaddr_inspect::msghdr::{WordSize, fetch_header};
use sockaddr_inspect::{ForeignAddr, ProcessMemory};

use crate::{Check, sys};

pub(crate) fn trials() -> Vec<Check> {
    vec![
        ("gathers_what_sendmsg_sends", gathers_what_sendmsg_sends),
        ("refuses_buffers_as_sendmsg_does", refuses_buffers_as_sendmsg_does),
        ("refuses_control_data_as_sendmsg_does", refuses_control_data_as_sendmsg_does),
    ]
}

/// As long as a datagram of UDP can be.
const ROOM: usize = 65_507;

/// What the header at hand means to us: the bytes of the message, or an errno.
fn ours(header: &libc::msghdr) -> Result<Vec<u8>, i32> {
    let own = ProcessMemory::of(std::process::id().try_into().unwrap());
    let at = ForeignAddr::new((&raw const *header).expose_provenance() as u64);
    let header = fetch_header(&own, at, WordSize::Bits64).unwrap();
    let mut buf = vec![0; ROOM];
    let gathered = header.iov.gather(&own, &mut buf);
    buf.truncate(gathered.map_err(|error| error.errno().unwrap())?);
    if let Some(control) = header.control {
        control.copy_to(&own, &mut [0; 256]).map_err(|error| error.errno().unwrap())?;
    }
    Ok(buf)
}

/// What the kernel sends for it.
fn native((sender, receiver): &(OwnedFd, OwnedFd), header: &libc::msghdr) -> Result<Vec<u8>, i32> {
    match sys::sendmsg(sender, header) {
        0 => Ok(sys::receive(receiver)),
        errno => Err(errno),
    }
}

/// Two UDP sockets, the first connected to the second.
fn pair() -> (OwnedFd, OwnedFd) {
    let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    (sender.into(), receiver.into())
}

fn gathers_what_sendmsg_sends() {
    let pair = pair();
    let data: Vec<u8> = (0..=255).cycle().take(ROOM).collect();
    let at = data.as_ptr().expose_provenance();
    for buffers in [
        vec![],
        vec![(at, 0)],
        vec![(at, 1)],
        vec![(at, ROOM)],
        vec![(at + 9, 3), (at, 5), (at + 100, 0), (at + 7, 1000)],
        vec![(0, 0), (at, 2)],
        (0..1024).map(|index| (at + index, 7)).collect(),
    ] {
        let iov = sys::iovecs(&buffers);
        let header = sys::header(&iov, iov.len(), (0, 0));
        let sent = native(&pair, &header);
        assert!(sent.is_ok(), "{} buffers: {sent:?}", buffers.len());
        assert_eq!(ours(&header), sent, "{} buffers", buffers.len());
    }
}

fn refuses_buffers_as_sendmsg_does() {
    let pair = pair();
    let (start, page) = sys::page_before_a_hole();
    let hole = start + page;
    let negative = usize::MAX;
    for (buffers, errno) in [
        (vec![(start, ROOM + 1)], libc::EMSGSIZE),
        (vec![(0, ROOM), (0, 1)], libc::EMSGSIZE),
        (vec![(start, usize::MAX >> 1)], libc::EMSGSIZE),
        (vec![(start, negative)], libc::EINVAL),
        (vec![(start, 1), (0, 1 << 63)], libc::EINVAL),
        (vec![(start, ROOM + 1), (start, negative)], libc::EINVAL),
        (vec![(hole, 1), (start, negative)], libc::EINVAL),
        (vec![(hole, 1)], libc::EFAULT),
        (vec![(hole - 10, 11)], libc::EFAULT),
        (vec![(start, 1), (0, 1)], libc::EFAULT),
        (vec![(start, 1), (1 << 63, 1)], libc::EFAULT),
    ] {
        let iov = sys::iovecs(&buffers);
        let header = sys::header(&iov, iov.len(), (0, 0));
        assert_eq!(native(&pair, &header), Err(errno), "{buffers:x?}");
        assert_eq!(ours(&header), Err(errno), "{buffers:x?}");
    }
    let one = sys::iovecs(&[(start, 1)]);
    for count in [1025, 1 << 20, 1 << 32, usize::MAX] {
        let header = sys::header(&one, count, (0, 0));
        assert_eq!(native(&pair, &header), Err(libc::EMSGSIZE), "{count:#x}");
        assert_eq!(ours(&header), Err(libc::EMSGSIZE), "{count:#x}");
    }
    // The array itself ends, or lies nowhere.
    for at in [0, 8, hole - 8, hole - 24, hole, 1 << 63] {
        let mut header = sys::header(&one, 2, (0, 0));
        header.msg_iov = std::ptr::with_exposed_provenance_mut(at);
        assert_eq!(native(&pair, &header), Err(libc::EFAULT), "{at:#x}");
        assert_eq!(ours(&header), Err(libc::EFAULT), "{at:#x}");
    }
}

fn refuses_control_data_as_sendmsg_does() {
    let pair = pair();
    let (start, page) = sys::page_before_a_hole();
    let hole = start + page;
    let one = sys::iovecs(&[(start, 1)]);
    for (control, errno) in [
        ((0, 16), libc::EFAULT),
        ((hole - 8, 16), libc::EFAULT),
        ((1 << 63, 1), libc::EFAULT),
        ((start, 1 << 31), libc::ENOBUFS),
        ((start, usize::MAX), libc::ENOBUFS),
    ] {
        let header = sys::header(&one, 1, control);
        assert_eq!(native(&pair, &header), Err(errno), "{control:x?}");
        assert_eq!(ours(&header), Err(errno), "{control:x?}");
    }
    let header = sys::header(&one, 1, (1 << 63, 0));
    assert_eq!(ours(&header), native(&pair, &header));
}
