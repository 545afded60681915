//! A sendmsg(2) as a container wrote it: header, buffers, control messages, and what of these is let
//! out of a socket that is bound to a device.
//!
//! Input: word size and device (1 byte), then the container's memory from 0x1000 on, which begins with
//! the `struct msghdr`.

#![no_main]
#![expect(clippy::panic, reason = "which is how a target says that it found something")]

use bypass_core::fuzzing::confine;
use seccomp_notify::Errno;
use sockaddr_inspect::msghdr::{MsgHdr, WordSize, fetch_header};
use sockaddr_inspect::{ForeignAddr, MAX_SOCKADDR, ReadError, ReadMemory};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((how, memory)) = input.split_first() else { return };
    let word_size = if how % 2 == 0 { WordSize::Bits64 } else { WordSize::Bits32 };
    let pin = [Some(7), None, Some(1), Some(7)].into_iter().nth(usize::from(how / 2 % 4)).flatten();
    let memory = Memory(memory);
    let size = usize::try_from(word_size.msghdr_size()).unwrap_or(0);
    let header = match fetch_header(&memory, ForeignAddr::new(AT), word_size) {
        Ok(header) => header,
        Err(error) => {
            let short = memory.0.len() < size;
            assert_eq!(error.errno(), Some(if short { libc::EFAULT } else { libc::EINVAL }));
            return;
        }
    };
    if let Some(name) = header.name {
        let len = usize::try_from(name.len).unwrap_or(usize::MAX);
        assert!(!name.at.is_null() && (1..=MAX_SOCKADDR).contains(&len));
        let copied = name.fetch(&memory).ok().map(|raw| raw.as_bytes().to_vec());
        assert_eq!(copied.as_deref(), memory.range(name.at.raw(), name.len.into()));
    }
    gather(&memory, &header);
    if let Some(control) = header.control {
        let mut buf = [0; CONTROL];
        let expected = memory.range(control.at.raw(), control.len).filter(|c| c.len() <= CONTROL);
        let copied = control.copy_to(&memory, &mut buf).ok();
        assert_eq!(copied.and_then(|len| buf.get(..len)), expected);
        if let Some(bytes) = expected {
            control_messages(bytes, pin);
        }
    }
});

const AT: u64 = 0x1000;
const DATA: usize = 2048;
const CONTROL: usize = 512;

struct Memory<'a>(&'a [u8]);

impl<'a> Memory<'a> {
    /// All of these bytes, if all of them are there.
    fn range(&self, at: u64, len: u64) -> Option<&'a [u8]> {
        let from = usize::try_from(at.checked_sub(AT)?).ok()?;
        self.0.get(from..from.checked_add(usize::try_from(len).ok()?)?)
    }

    fn word<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        self.range(at, N as u64)?.try_into().ok()
    }
}

impl ReadMemory for Memory<'_> {
    fn read(&self, at: ForeignAddr, buf: &mut [u8]) -> Result<usize, ReadError> {
        let from = at.raw().checked_sub(AT).and_then(|from| usize::try_from(from).ok());
        let there = from.and_then(|from| self.0.get(from..)).unwrap_or_default();
        let copied = buf.iter_mut().zip(there).map(|(to, from)| *to = *from).count();
        if copied == 0 && !buf.is_empty() { Err(ReadError::Fault) } else { Ok(copied) }
    }
}

/// The buffers, one after the other, as readv(2) has them.
fn gather(memory: &Memory<'_>, header: &MsgHdr) {
    let mut buf = [0; DATA];
    let gathered = header.iov.gather(memory, &mut buf);
    let expected = gathered_one_by_one(memory, header);
    assert_eq!(gathered.ok().and_then(|len| buf.get(..len)), expected.as_deref());
}

fn gathered_one_by_one(memory: &Memory<'_>, header: &MsgHdr) -> Option<Vec<u8>> {
    let iov = header.iov;
    let mut all = Vec::new();
    if iov.count > 1024 {
        return None;
    }
    for index in 0..iov.count {
        let (base, len) = match iov.word_size {
            WordSize::Bits64 => {
                let at = iov.at.raw().checked_add(index * 16)?;
                let len = i64::from_ne_bytes(memory.word(at.checked_add(8)?)?);
                (u64::from_ne_bytes(memory.word(at)?), len)
            }
            WordSize::Bits32 => {
                let at = iov.at.raw().checked_add(index * 8)?;
                let len = i32::from_ne_bytes(memory.word(at.checked_add(4)?)?);
                (u32::from_ne_bytes(memory.word(at)?).into(), len.into())
            }
        };
        let len = u64::try_from(len).ok()?;
        if len > 0 {
            all.extend(memory.range(base, len)?);
        }
    }
    (all.len() <= DATA).then_some(all)
}

/// What is let through, the kernel reads as harmless; what is harmless, is let through as it is.
fn control_messages(given: &[u8], pin: Option<u32>) {
    let mut let_through = given.to_vec();
    let confined = confine(&mut let_through, pin);
    let (before, after) = (as_the_kernel_reads(given), as_the_kernel_reads(&let_through));
    match confined {
        Ok(()) => {
            let after = after.unwrap_or_default();
            for message in &after {
                assert!(!message.is_privileged(), "{message:?}");
                if let Some(pin) = pin {
                    assert!([None, Some(0), Some(pin)].contains(&message.device), "{message:?}");
                    assert!(!message.from_loopback, "{message:?}");
                }
            }
            let mut again = let_through.clone();
            assert_eq!(confine(&mut again, pin), Ok(()));
            assert_eq!(again, let_through);
            // Nothing but devices was taken out.
            let devices: usize = after.iter().filter(|one| one.device == Some(0)).count();
            let changed = given.iter().zip(&let_through).filter(|(a, b)| a != b).count();
            assert!(changed <= devices * 4, "{before:?} {after:?}");
        }
        Err(errno) => {
            let privileged = |all: &Vec<Message>| all.iter().any(Message::is_privileged);
            let loopback = |all: &Vec<Message>| all.iter().any(|one| one.from_loopback);
            match errno {
                Errno::PERM => assert!(before.as_ref().is_none_or(privileged), "{before:?}"),
                Errno::INVAL => {
                    let why = |all| pin.is_some() && loopback(all);
                    assert!(before.as_ref().is_none_or(why), "{before:?}");
                }
                other => panic!("{other:?} for {before:?}"),
            }
        }
    }
}

#[derive(Debug)]
struct Message {
    level: i32,
    kind: i32,
    device: Option<u32>,
    from_loopback: bool,
}

impl Message {
    /// `SO_MARK`, `IP_RETOPTS`, and all extension headers of IPv6.
    fn is_privileged(&self) -> bool {
        matches!((self.level, self.kind), (1, 36) | (0, 7) | (41, 3 | 4 | 5 | 54 | 55 | 57 | 59))
    }
}

/// `CMSG_FIRSTHDR`, `CMSG_OK` and `CMSG_NXTHDR` of `linux/socket.h`; `None` is EINVAL.
fn as_the_kernel_reads(control: &[u8]) -> Option<Vec<Message>> {
    const HEADER: usize = 16;
    let int = |at: usize| Some(i32::from_ne_bytes(control.get(at..at + 4)?.try_into().ok()?));
    let mut all = Vec::new();
    let mut at = 0;
    while control.len().checked_sub(at)? >= HEADER {
        let len = u64::from_ne_bytes(control.get(at..at + 8)?.try_into().ok()?);
        let len = usize::try_from(len).ok().filter(|len| *len >= HEADER)?;
        if len > control.len() - at {
            return None;
        }
        let data = control.get(at + HEADER..at + len)?;
        let (level, kind) = (int(at + 8)?, int(at + 12)?);
        let v4 = |from: usize| data.get(from..from + 4).is_some_and(|ip| ip.first() == Some(&127));
        let (device, from_loopback) = match (level, kind) {
            (0, 8) => (data.first_chunk().copied(), v4(4)),
            (41, 50) => {
                let ip = data.get(..16).unwrap_or_default();
                let mapped = ip.get(..12) == Some(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
                let own = ip == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
                let device = data.get(16..).and_then(<[u8]>::first_chunk);
                (device.copied(), own || (mapped && v4(12)))
            }
            _ => (None, false),
        };
        let device = device.map(u32::from_ne_bytes);
        all.push(Message { level, kind, device, from_loopback });
        at = at.saturating_add(len.next_multiple_of(8));
        if at > control.len() {
            break;
        }
    }
    Some(all)
}
