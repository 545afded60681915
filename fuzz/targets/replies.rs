//! What the kernel says, in which a container has its hand: /proc files, netlink, control messages.
//!
//! Input: which of them (1 byte), then the reply.

#![no_main]
#![expect(clippy::panic, reason = "which is how a target says that it found something")]

use std::io::{self, Read};

use netns_socket::{find_line, fuzzing};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((which, reply)) = input.split_first() else { return };
    let text = String::from_utf8_lossy(reply);
    match which % 9 {
        0 => epoll(&text),
        1 => {
            let inodes = fuzzing::udp_sockets(&text);
            assert!(inodes.len() <= text.lines().count());
            for inode in inodes {
                assert!(text.contains(&inode.to_string()) || text.contains('0'), "{inode}");
            }
        }
        2 => {
            let group = fuzzing::thread_group(&text);
            assert!(group.is_none() || text.contains("Tgid:"));
        }
        3 => {
            let cloexec = fuzzing::cloexec(reply);
            assert!(cloexec.is_none() || text.contains("flags:"));
        }
        4 => listener(reply),
        5 => {
            route(reply);
            addresses(reply);
        }
        6 => {
            if let Some((sender, written)) = fuzzing::sender(reply) {
                assert_eq!(fuzzing::sender(&written), Some((sender, written)));
            }
        }
        7 => {
            if let Some((to, written)) = fuzzing::destination(reply) {
                assert!(!to.ip.is_unspecified());
                assert_eq!(fuzzing::destination(&written), Some((to, written)));
            }
        }
        _ => lines(reply),
    }
});

fn epoll(text: &str) {
    for (number, events, data) in text.lines().filter_map(fuzzing::epoll_line) {
        let line = format!("tfd: {number:8} events: {events:8x} data: {data:16x}  pos:0 ino:2f");
        assert_eq!(fuzzing::epoll_line(&line), Some((number, events, data)));
    }
}

/// However a file is cut into pieces, its lines are passed whole, or up to 4,096 bytes.
fn lines(reply: &[u8]) {
    let Some((piece, text)) = reply.split_first() else { return };
    let mut file = Vec::new();
    for byte in text {
        // Long ones, too.
        file.extend(std::iter::repeat_n(*byte, if *byte < 0xf0 { 1 } else { 1_000 }));
    }
    let mut passed = Vec::new();
    let read = Pieces(&file, usize::from(*piece).max(1) * 16);
    let found = find_line(read, |line| {
        passed.push(line.to_vec());
        None::<()>
    });
    assert!(matches!(found, Ok(None)));
    let mut expected: Vec<&[u8]> = file.split(|byte| *byte == b'\n').collect();
    // What is behind the last line feed.
    expected.pop_if(|rest| rest.is_empty());
    let expected = expected.into_iter().map(|line| line.get(..4096).unwrap_or(line));
    assert!(passed.iter().eq(expected));
}

/// Gives out so many bytes at a time.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (now, later) = self.0.split_at(self.1.min(self.0.len()).min(buffer.len()));
        buffer.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
        self.0 = later;
        Ok(now.len())
    }
}

/// `idiag_inode` stands at one place, and an errno is one.
fn listener(reply: &[u8]) {
    match fuzzing::listener(reply) {
        Some(Ok(inode)) => {
            let bytes = u32::try_from(inode).map(u32::to_ne_bytes).unwrap_or_default();
            assert_eq!(reply.get(16 + 68..16 + 72), Some(&bytes[..]));
        }
        Some(Err(errno)) => assert!((1..4096).contains(&errno.raw_os_error())),
        None => {}
    }
}

/// Each address stands in the message, as long as it says.
fn addresses(message: &[u8]) {
    let sequence = message.get(8..12).and_then(|bytes| bytes.try_into().ok());
    let found = fuzzing::addresses(message, sequence.map_or(0, u32::from_ne_bytes));
    // A header, what is said of an address, and one of four bytes.
    assert!(found.len() * (16 + 8 + 8) <= message.len());
    for address in found {
        let octets = match address.ip {
            std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
            std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        assert!(message.windows(octets.len()).any(|window| window == octets), "{address:?}");
        assert!(!address.reaches(address.peer) || address.ip.is_ipv4() == address.peer.is_ipv4());
    }
}

/// A device is one that the reply names; another's reply is nobody's.
fn route(reply: &[u8]) {
    let sequence = reply.get(8..12).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let decoded = fuzzing::route(reply, sequence.unwrap_or(0));
    match decoded {
        Some(Ok(device)) => {
            let bytes = device.to_ne_bytes();
            assert!(reply.windows(4).any(|window| window == bytes), "{device}");
        }
        Some(Err(Some(errno))) => assert!((1..4096).contains(&errno.raw_os_error())),
        Some(Err(None)) => {}
        None => panic!("its own"),
    }
    if let Some(sequence) = sequence {
        assert_eq!(fuzzing::route(reply, sequence.wrapping_add(1)), None);
    }
}
