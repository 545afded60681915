//! A name that we store and one that the kernel stores come out the same.

use std::os::fd::OwnedFd;

use sockaddr_inspect::{
    ForeignAddr, ProcessMemory, RawSockAddr, ReadMemory, WriteMemory, store_name,
};

use crate::{Check, sys};

pub(crate) fn trials() -> Vec<Check> {
    vec![
        ("stores_a_name_as_getsockname_does", stores_a_name_as_getsockname_does),
        ("judges_every_length_as_getsockname_does", judges_every_length_as_getsockname_does),
    ]
}

/// Four pages: writable, read-only, writable, inaccessible.
struct Arena {
    start: usize,
    page: usize,
    /// Whether the kernel writes the length before the name, as it does since 6.18.
    length_first: bool,
}

impl Arena {
    fn new() -> Self {
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        let (start, page) = sys::pages(&[rw, libc::PROT_READ, rw, libc::PROT_NONE]);
        let mut arena = Self { start, page, length_first: true };
        let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM);
        let after = arena.run(99, start, |at, len_at| sys::sockname_at(&socket, at, len_at), 0);
        arena.length_first = after.1.first_chunk() == Some(&16_i32.to_ne_bytes());
        arena
    }

    /// Plants a length at `len_at`, has `store` store a name at `at`, and returns what it
    /// returned and what the memory holds then.
    fn run(
        &self,
        len: i32,
        len_at: usize,
        store: impl FnOnce(usize, usize) -> i32,
        at: usize,
    ) -> (i32, Vec<u8>) {
        let memory = own();
        let fill = vec![0xee; self.page];
        for page in [0, 2] {
            let at = ForeignAddr::new((self.start + page * self.page) as u64);
            assert_eq!(memory.write(at, &fill).unwrap(), self.page);
        }
        // As much of it as there is memory for.
        memory.write(ForeignAddr::new(len_at as u64), &len.to_ne_bytes()).ok();
        let errno = store(at, len_at);
        let mut all = vec![0; 3 * self.page];
        let read = memory.read(ForeignAddr::new(self.start as u64), &mut all).unwrap();
        assert_eq!(read, all.len());
        (errno, all)
    }

    #[track_caller]
    fn compare(&self, (socket, name): &(OwnedFd, RawSockAddr), at: usize, len_at: usize, len: i32) {
        let native = self.run(len, len_at, |at, len_at| sys::sockname_at(socket, at, len_at), at);
        let ours = |at, len_at| {
            let [at, len_at] = [at, len_at].map(|at| ForeignAddr::new(at as u64));
            match store_name(&own(), name, at, len_at) {
                Ok(()) => 0,
                Err(error) => error.errno().unwrap(),
            }
        };
        let ours = self.run(len, len_at, ours, at);
        let offset = |at: usize| at.wrapping_sub(self.start).cast_signed();
        let what = format!(
            "{} bytes to {:#x}, length {len} at {:#x}",
            name.len(),
            offset(at),
            offset(len_at)
        );
        assert_eq!(ours.0, native.0, "{what}");
        let apart = len_at.abs_diff(at) >= 128;
        if self.length_first || (native.0 == 0 && apart) {
            let differ = ours.1.iter().zip(&native.1).position(|(ours, native)| ours != native);
            assert_eq!(differ, None, "{what}");
        }
    }
}

fn own() -> ProcessMemory {
    ProcessMemory::of(std::process::id().try_into().unwrap())
}

/// Sockets with names of 16, 28, 2 and 100 bytes, and these names. `mark` tells those of
/// trials apart that run at the same time.
fn named_sockets(mark: u8) -> Vec<(OwnedFd, RawSockAddr)> {
    let abstract_name = [&1_u16.to_ne_bytes()[..], &[0], &[mark; 97]].concat();
    let loopback = |family: u16, tail: &[u8]| [&family.to_ne_bytes()[..], tail].concat();
    let v4 = loopback(2, &[0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    let v6 = loopback(10, &[&[0; 21][..], &[1, 0, 0, 0, 0]].concat());
    [
        (libc::AF_INET, Some(v4), 16),
        (libc::AF_INET6, Some(v6), 28),
        (libc::AF_UNIX, None, 2),
        (libc::AF_UNIX, Some(abstract_name), 100),
    ]
    .into_iter()
    .map(|(domain, addr, len)| {
        let socket = sys::socket(domain, libc::SOCK_DGRAM);
        if let Some(addr) = addr {
            assert_eq!(sys::bind(&socket, &addr), 0);
        }
        let mut buf = [0; 128];
        assert_eq!(sys::sockname(&socket, &mut buf, 128), (0, len));
        let name = RawSockAddr::from_bytes(&buf[..len.try_into().unwrap()]).unwrap();
        (socket, name)
    })
    .collect()
}

fn stores_a_name_as_getsockname_does() {
    let arena = Arena::new();
    let (start, page) = (arena.start, arena.page);
    let edges = [start + page, start + 2 * page, start + 3 * page];
    let mut at = vec![0, 1 << 63, usize::MAX - 3, start + 64, start + 67];
    for edge in edges {
        at.extend([1, 3, 15, 16, 28, 100].map(|back| edge - back));
        at.push(edge);
    }
    for socket in named_sockets(b'a') {
        for &at in &at {
            // By itself, over parts of the name, and wherever there is no memory for it.
            let mut len_at = vec![0, 1 << 63, usize::MAX - 2, start + 1024, start + 1027];
            len_at.extend([0, 1, 4, 14].map(|over| at.wrapping_add(over)));
            for edge in edges {
                len_at.extend((0..=4).map(|back| edge - back));
            }
            for len_at in len_at {
                for len in [0, 1, 17, 128, -1] {
                    arena.compare(&socket, at, len_at, len);
                }
            }
        }
    }
}

fn judges_every_length_as_getsockname_does() {
    let arena = Arena::new();
    let hole = arena.start + 3 * arena.page;
    for socket in named_sockets(b'b') {
        for len in (-2..=130).chain([i32::MIN, i32::MIN + 1, i32::MAX]) {
            for at in [0, hole - 10, arena.start] {
                arena.compare(&socket, at, arena.start + 1024, len);
            }
        }
    }
}
