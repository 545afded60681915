//! Whose connections would be at an address: a question to the kernel's table of listeners.
//!
//! The one who asks holds neither socket, and shares no lock with whoever does. See [sock_diag(7)].
//!
//! [sock_diag(7)]: https://man7.org/linux/man-pages/man7/sock_diag.7.html

use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// The inode number, as fstat(2) tells it, of the TCP socket that would get a connection to `address`
/// which comes in by `device`; `None` if nobody listens there. Looks in the calling thread's network
/// namespace.
///
/// Of several sockets with `SO_REUSEPORT` it is one. IPv4 may be IPv4-mapped.
///
/// # Errors
/// What the calls said: EPROTONOSUPPORT or ENOENT from a kernel without `CONFIG_INET_DIAG`, EBADMSG
/// for an answer that makes no sense.
///
/// # Races
/// It may stop listening, and another socket begin to, at any time.
#[doc(alias = "NETLINK_SOCK_DIAG")]
pub fn listener_at(address: SocketAddr, device: u32) -> Result<Option<u64>, Errno> {
    let flags = SocketFlags::CLOEXEC;
    let kind = SocketType::RAW;
    let socket = socket_with(AddressFamily::NETLINK, kind, flags, Some(netlink::SOCK_DIAG))?;
    send(&socket, &request(address, device), SendFlags::empty())?;
    // The kernel handles the request within `send`, so the answer waits already.
    let mut answer = [0; ANSWER];
    let (len, _) = recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
    match decode(answer.get(..len).unwrap_or_default()).ok_or(Errno::BADMSG)? {
        Err(Errno::NOENT) => Ok(None),
        result => result.map(Some),
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn request(address: SocketAddr, device: u32) -> [u8; REQUEST] {
    let ip = address.ip().to_canonical();
    let mut octets = [0; 16];
    let family = match ip {
        IpAddr::V4(ip) => {
            let (head, _) = octets.split_at_mut(4);
            head.copy_from_slice(&ip.octets());
            AF_INET
        }
        IpAddr::V6(ip) => {
            octets = ip.octets();
            AF_INET6
        }
    };
    let mut request = [0; REQUEST];
    let parts: [&[u8]; 12] = [
        &u32::try_from(REQUEST).unwrap_or(0).to_ne_bytes(),
        &SOCK_DIAG_BY_FAMILY.to_ne_bytes(),
        &NLM_F_REQUEST.to_ne_bytes(),
        // Sequence and port number.
        &[0; 8],
        // Family, protocol, no further information.
        &[family, IPPROTO_TCP, 0, 0],
        &LISTEN.to_ne_bytes(),
        &address.port().to_be_bytes(),
        // The other end: any.
        &[0; 2],
        &octets,
        &[0; 16],
        &device.to_ne_bytes(),
        // No cookie.
        &[0xff; 8],
    ];
    let mut to = request.iter_mut();
    for byte in parts.into_iter().flatten() {
        if let Some(to) = to.next() {
            *to = *byte;
        }
    }
    request
}

/// The inode of the socket in a `struct inet_diag_msg`, or the errno instead of it.
pub(crate) fn decode(answer: &[u8]) -> Option<Result<u64, Errno>> {
    let kind = answer.get(4..)?.first_chunk().copied().map(u16::from_ne_bytes)?;
    let body = answer.get(HEADER..)?;
    match kind {
        NLMSG_ERROR => {
            let code = body.first_chunk().copied().map(i32::from_ne_bytes)?;
            (-4095..0).contains(&code).then(|| Err(Errno::from_raw_os_error(-code)))
        }
        SOCK_DIAG_BY_FAMILY => {
            let inode = body.get(INODE..)?.first_chunk().copied().map(u32::from_ne_bytes)?;
            Some(Ok(inode.into()))
        }
        _ => None,
    }
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
/// The bit of `TCP_LISTEN`.
const LISTEN: u32 = 1 << 10;

/// Size of `struct nlmsghdr`.
const HEADER: usize = 16;
const REQUEST: usize = HEADER + 56;
/// Where `idiag_inode` is.
const INODE: usize = 68;
/// A message without attributes is 88 bytes.
const ANSWER: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    fn inode(socket: impl AsFd) -> u64 {
        rustix::fs::fstat(socket).unwrap().st_ino
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn who_listens_is_told_by_its_inode() {
        for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let mut at = listener.local_addr().unwrap();
            for ip in
                ["127.0.0.1", "::1", "::ffff:127.0.0.1"].map(|ip| ip.parse::<IpAddr>().unwrap())
            {
                at.set_ip(ip);
                let reached = TcpStream::connect(at).is_ok().then(|| inode(&listener));
                assert_eq!(listener_at(at, 1).unwrap(), reached, "{address} {ip}");
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn the_more_specific_socket_is_the_one() {
        let any = TcpListener::bind("0.0.0.0:0").unwrap();
        let at = SocketAddr::from(([127, 0, 0, 9], any.local_addr().unwrap().port()));
        assert_eq!(listener_at(at, 1).unwrap(), Some(inode(&any)));
        rustix::net::shutdown(&any, rustix::net::Shutdown::Read).unwrap();
        assert_eq!(listener_at(at, 1).unwrap(), None);
        // With SO_REUSEADDR, which both have, the address is free for it.
        let specific = TcpListener::bind(at).unwrap();
        assert_eq!(listener_at(at, 1).unwrap(), Some(inode(&specific)));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut answer = vec![0; 88];
        answer[4] = 20;
        for len in [0, 5, 6, 16, 40, 84, 87, 88] {
            assert_eq!(decode(&answer[..len]).is_some(), len == 88, "{len}");
        }
        assert_eq!(decode(&answer), Some(Ok(0)));
        answer[4] = 2;
        assert_eq!(decode(&answer), None, "an acknowledgement");
    }
}
