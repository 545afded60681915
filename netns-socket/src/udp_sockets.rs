//! Which UDP sockets there are, asked without touching any.
//!
//! To find out whether a socket that was given away is still open, a [`Vigil`](crate::Vigil) costs
//! nothing but a wake-up callback with every datagram that comes or goes. For UDP sockets of one's own
//! network namespace this costs the datagrams nothing.

use std::collections::HashSet;
use std::io;

/// Inode numbers of the UDP sockets in the calling thread's network namespace, of both families, as
/// fstat(2) tells them ([proc_pid_net(5)]). Sockets that are neither bound nor connected are not
/// among them.
///
/// Reads a line of text for each of these sockets, about 1 µs each.
///
/// # Errors
/// Where the lists cannot be read. A kernel without IPv6 has none of those sockets.
///
/// [proc_pid_net(5)]: https://man7.org/linux/man-pages/man5/proc_pid_net.5.html
pub fn udp_inodes() -> io::Result<HashSet<u64>> {
    let mut inodes = HashSet::new();
    for list in ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"] {
        match std::fs::read_to_string(list) {
            Ok(text) => inodes.extend(parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(inodes)
}

/// The tenth column, under a line of headings.
fn parse(list: &str) -> impl Iterator<Item = u64> {
    list.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().nth(INODE)?.parse().ok())
}

const INODE: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_socket_is_listed_until_its_last_descriptor_is_closed() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = UdpSocket::bind(address).unwrap();
            let copy = socket.try_clone().unwrap();
            let inode = rustix::fs::fstat(&socket).unwrap().st_ino;
            drop(socket);
            assert!(udp_inodes().unwrap().contains(&inode));
            // Connected ones are listed as well.
            copy.connect(copy.local_addr().unwrap()).unwrap();
            assert!(udp_inodes().unwrap().contains(&inode));
            drop(copy);
            assert!(!udp_inodes().unwrap().contains(&inode));
        }
    }

    #[test]
    fn other_lines_have_no_inode() {
        assert_eq!(
            parse("sl local\n 1: 00:35 00:0 07 0:0 0:0 0 0 0 77 2 p 0\nshort\n")
                .collect::<Vec<_>>(),
            [77]
        );
        assert_eq!(parse("").count(), 0);
    }
}
