//! Which UDP sockets are open, asked without touching any.
//!
//! To find out whether a socket that was given away is still open, a [`Vigil`](crate::Vigil) costs
//! nothing but a wake-up callback with every datagram that comes or goes. For UDP sockets of one's own
//! network namespace this costs the datagrams nothing.

use std::collections::HashSet;
use std::fs::File;
use std::io;

use crate::lines::find_line;

/// Those of these UDP sockets that are open in the calling thread's network namespace, by their inode
/// numbers, as fstat(2) tells them ([proc_pid_net(5)]). Sockets that are neither bound nor connected
/// count as closed.
///
/// Reads a line of text for each UDP socket of the namespace, about 1 µs each, and does so several
/// times before it takes one for closed: while others are closed, the kernel's list lacks some that
/// are open, as each page of it begins with the socket that has a certain position then.
///
/// # Races
/// With sockets coming and going as fast as they can, one may still be missed in all of these looks.
///
/// # Errors
/// Where the lists cannot be read. A kernel without IPv6 has none of those sockets.
///
/// [proc_pid_net(5)]: https://man7.org/linux/man-pages/man5/proc_pid_net.5.html
pub fn open_udp_sockets(inodes: impl IntoIterator<Item = u64>) -> io::Result<HashSet<u64>> {
    let mut missing: HashSet<u64> = inodes.into_iter().collect();
    let mut open = HashSet::new();
    for _ in 0..LOOKS {
        for list in ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"] {
            if missing.is_empty() {
                return Ok(open);
            }
            match File::open(list).and_then(|list| find_in(list, &mut missing, &mut open)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(open)
}

/// Where 300 sockets are opened and closed as fast as one process can, a list lacks one in 200 of the
/// others. None is to be missed in all of them. Only what is closed is looked for so often.
const LOOKS: usize = 24;

/// Moves those that are on the list. Any process decides how long it is.
fn find_in(
    list: impl io::Read,
    missing: &mut HashSet<u64>,
    open: &mut HashSet<u64>,
) -> io::Result<()> {
    find_line(list, |line| {
        if let Some(inode) = parse(line)
            && missing.remove(&inode)
        {
            open.insert(inode);
        }
        missing.is_empty().then_some(())
    })
    .map(drop)
}

/// The tenth column, which has a word for a heading.
pub(crate) fn parse(line: &[u8]) -> Option<u64> {
    str::from_utf8(line).ok()?.split_ascii_whitespace().nth(INODE)?.parse().ok()
}

const INODE: usize = 9;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn inode(socket: &UdpSocket) -> u64 {
        rustix::fs::fstat(socket).unwrap().st_ino
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn a_socket_is_open_until_its_last_descriptor_is_closed() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = UdpSocket::bind(address).unwrap();
            let copy = socket.try_clone().unwrap();
            let inode = inode(&socket);
            let is_open = || open_udp_sockets([inode]).unwrap().contains(&inode);
            drop(socket);
            assert!(is_open());
            // Connected ones are listed as well.
            copy.connect(copy.local_addr().unwrap()).unwrap();
            assert!(is_open());
            drop(copy);
            assert!(!is_open());
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn sockets_are_not_missed_while_others_come_and_go() {
        let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let kept: Vec<_> = std::iter::repeat_with(bind).take(200).collect();
        let inodes: HashSet<_> = kept.iter().map(inode).collect();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    drop(std::iter::repeat_with(bind).take(20).collect::<Vec<_>>());
                }
            });
            let found = (0..100).map(|_| open_udp_sockets(inodes.clone()).unwrap());
            let all = found.filter(|open| *open == inodes).count();
            done.store(true, Ordering::Relaxed);
            // With one look each, about every second time lacks one of the 200.
            assert!(all >= 95, "{all} of 100");
        });
    }

    #[test]
    fn other_lines_have_no_inode() {
        let list = "sl local\n 1: 00:35 00:0 07 0:0 0:0 0 0 0 77 2 p 0\nshort\n";
        assert_eq!(
            list.lines().filter_map(|line| parse(line.as_bytes())).collect::<Vec<_>>(),
            [77]
        );
    }
}
