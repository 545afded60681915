//! System calls with arguments that a safe wrapper would not let through.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// A new socket, non-blocking so that a connect never waits.
pub(crate) fn socket(domain: i32, kind: i32) -> OwnedFd {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes three integers and touches no memory of ours.
    let fd = unsafe { libc::socket(domain, kind | flags, 0) };
    assert!(fd >= 0, "socket({domain}, {kind}): {}", io::Error::last_os_error());
    // SAFETY: the descriptor is open, for it was just returned, and nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// `connect(2)` with any pointer and length; the errno it gives, 0 for success.
pub(crate) fn connect_at(fd: impl AsFd, at: usize, len: i32) -> i32 {
    let fd = fd.as_fd().as_raw_fd();
    let at = std::ptr::with_exposed_provenance::<libc::sockaddr>(at);
    // SAFETY: the kernel only copies from the pointer, and checks it; a bad one is EFAULT.
    errno_of(unsafe { libc::connect(fd, at, len.cast_unsigned()) })
}

/// `connect(2)` with the bytes of an address; the errno it gives, 0 for success.
pub(crate) fn connect(fd: impl AsFd, addr: &[u8]) -> i32 {
    connect_at(fd, addr.as_ptr().expose_provenance(), length(addr))
}

/// `bind(2)` with the bytes of an address; the errno it gives, 0 for success.
pub(crate) fn bind(fd: impl AsFd, addr: &[u8]) -> i32 {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: `addr` is readable for its length, and only read.
    errno_of(unsafe { libc::bind(fd, addr.as_ptr().cast(), length(addr).cast_unsigned()) })
}

/// `sendto(2)` of one byte, with any pointer and length; the errno it gives, 0 for success.
pub(crate) fn send_byte_at(fd: impl AsFd, at: usize, len: i32) -> i32 {
    let fd = fd.as_fd().as_raw_fd();
    let (data, at) = ([0_u8], std::ptr::with_exposed_provenance::<libc::sockaddr>(at));
    let len = len.cast_unsigned();
    // SAFETY: `data` is readable for 1 byte; the kernel only copies from the address, and
    // checks that pointer.
    let sent = unsafe { libc::sendto(fd, data.as_ptr().cast(), 1, 0, at, len) };
    errno_of(i32::try_from(sent).unwrap().min(0))
}

/// `sendto(2)` of one byte to the bytes of an address; the errno it gives, 0 for success.
pub(crate) fn send_byte_to(fd: impl AsFd, addr: &[u8]) -> i32 {
    send_byte_at(fd, addr.as_ptr().expose_provenance(), length(addr))
}

/// `sendmsg(2)` with a name of `len` bytes at `at` and no data; the errno it gives.
pub(crate) fn sendmsg_at(fd: impl AsFd, at: usize, len: i32) -> i32 {
    let (fd, message) = (fd.as_fd().as_raw_fd(), message(at, len));
    // SAFETY: `message` is a valid header without buffers or control data; the kernel
    // only copies from its name, and checks that pointer.
    errno_of(i32::try_from(unsafe { libc::sendmsg(fd, &raw const message, 0) }).unwrap())
}

/// A header with a name of `len` bytes at `at` and nothing else.
pub(crate) fn message(at: usize, len: i32) -> libc::msghdr {
    // SAFETY: a `msghdr` of zeros is valid: null pointers and lengths of 0.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = std::ptr::with_exposed_provenance_mut(at);
    message.msg_namelen = len.cast_unsigned();
    message
}

/// `getsockname(2)` into `buf`, announcing `len`: the errno it gives, and the length
/// it stored.
pub(crate) fn sockname(fd: impl AsFd, buf: &mut [u8; 128], len: i32) -> (i32, u32) {
    assert!(len <= 128);
    let fd = fd.as_fd().as_raw_fd();
    let mut len = len.cast_unsigned();
    // SAFETY: the kernel writes at most `len` bytes to `buf`, which has room for 128, or
    // none for a length that is negative as an `int`.
    let result = unsafe { libc::getsockname(fd, buf.as_mut_ptr().cast(), &raw mut len) };
    (errno_of(result), len)
}

/// `getsockname(2)` with any pointers, to pages of [`pages`] or to no memory; the errno it
/// gives, 0 for success.
pub(crate) fn sockname_at(fd: impl AsFd, at: usize, len_at: usize) -> i32 {
    let fd = fd.as_fd().as_raw_fd();
    let at = std::ptr::with_exposed_provenance_mut(at);
    let len_at = std::ptr::with_exposed_provenance_mut(len_at);
    // SAFETY: the kernel checks both pointers, and where they lead into memory, that is
    // the tests' own pages, to which there are no references.
    errno_of(unsafe { libc::getsockname(fd, at, len_at) })
}

/// `sendmsg(2)` of a header; the errno it gives, 0 for success.
pub(crate) fn sendmsg(fd: impl AsFd, header: &libc::msghdr) -> i32 {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: `header` is a header; the kernel only copies from what it points to, and
    // checks these pointers.
    let sent = unsafe { libc::sendmsg(fd, &raw const *header, 0) };
    errno_of(i32::try_from(sent).unwrap().min(0))
}

/// A header without a name: `count` buffers at `iov`, and control data by address and
/// length.
pub(crate) fn header(iov: &[libc::iovec], count: usize, control: (usize, usize)) -> libc::msghdr {
    let mut header = message(0, 0);
    header.msg_iov = iov.as_ptr().cast_mut();
    header.msg_iovlen = count;
    header.msg_control = std::ptr::with_exposed_provenance_mut(control.0);
    header.msg_controllen = control.1;
    header
}

/// Buffers by address and length.
pub(crate) fn iovecs(buffers: &[(usize, usize)]) -> Vec<libc::iovec> {
    let iovec = |&(at, iov_len)| libc::iovec {
        iov_base: std::ptr::with_exposed_provenance_mut(at),
        iov_len,
    };
    buffers.iter().map(iovec).collect()
}

/// The datagram that waits.
pub(crate) fn receive(fd: impl AsFd) -> Vec<u8> {
    let mut buf = vec![0; 1 << 16];
    let (fd, at, flags) = (fd.as_fd().as_raw_fd(), buf.as_mut_ptr().cast(), libc::MSG_DONTWAIT);
    // SAFETY: `buf` is writable for its length.
    let len = unsafe { libc::recv(fd, at, buf.len(), flags) };
    assert!(len >= 0, "{}", io::Error::last_os_error());
    buf.truncate(len.cast_unsigned());
    buf
}

/// Has an IPv6 socket use, and report, the `flowinfo` of its destination.
pub(crate) fn send_flowinfo(fd: impl AsFd) {
    // Of <linux/in6.h>; `libc` does not have it.
    const IPV6_FLOWINFO_SEND: i32 = 33;
    let (fd, on) = (fd.as_fd().as_raw_fd(), 1_i32);
    let (at, len) = ((&raw const on).cast(), 4);
    // SAFETY: `at` is readable for the 4 bytes of an `int`, and only read.
    let result = unsafe { libc::setsockopt(fd, libc::IPPROTO_IPV6, IPV6_FLOWINFO_SEND, at, len) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// The address of two fresh pages of which only the first is accessible, and the page
/// size. They are never unmapped.
pub(crate) fn page_before_a_hole() -> (usize, usize) {
    pages(&[libc::PROT_READ | libc::PROT_WRITE, libc::PROT_NONE])
}

/// The address of fresh pages with these protections, and the page size. They are never
/// unmapped.
pub(crate) fn pages(protections: &[i32]) -> (usize, usize) {
    // SAFETY: takes an integer and touches no memory of ours.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap();
    let (flags, all) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, protections.len() * page);
    let nowhere = std::ptr::null_mut();
    // SAFETY: a new mapping at an address of the kernel's choice affects no other.
    let pages = unsafe { libc::mmap(nowhere, all, libc::PROT_NONE, flags, -1, 0) };
    assert_ne!(pages, libc::MAP_FAILED, "{}", io::Error::last_os_error());
    for (index, protection) in protections.iter().enumerate() {
        let at = pages.wrapping_byte_add(index * page);
        // SAFETY: the range is a page of the mapping above, of which nobody else knows.
        let result = unsafe { libc::mprotect(at, page, *protection) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }
    (pages.expose_provenance(), page)
}

/// The process's user and group id.
pub(crate) fn ids() -> (u32, u32) {
    // SAFETY: takes nothing and cannot fail.
    let uid = unsafe { libc::geteuid() };
    // SAFETY: as above.
    (uid, unsafe { libc::getegid() })
}

/// Brings up `lo` in the network namespace of the process.
pub(crate) fn raise_loopback() -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM);
    // SAFETY: an `ifreq` of zeros is valid: an empty name and integers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).unwrap();
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which `request` is.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn length(addr: &[u8]) -> i32 {
    i32::try_from(addr.len()).unwrap()
}

fn errno_of(result: i32) -> i32 {
    match result {
        0 => 0,
        _ => io::Error::last_os_error().raw_os_error().unwrap(),
    }
}
