//! Addresses as a container wrote them: copied, judged, written again, and stored for it.
//!
//! Input: the length that is announced (8 bytes), the room for a name (4), then the bytes.

#![no_main]
#![expect(clippy::panic, reason = "which is how a target says that it found something")]

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use sockaddr_inspect::{
    Destination, FetchError, ForeignAddr, MAX_SOCKADDR, RawSockAddr, ReadError, ReadMemory,
    SockAddr, StoreError, WriteError, WriteMemory, fetch, store_name,
};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((len, rest)) = input.split_first_chunk() else { return };
    let Some((room, bytes)) = rest.split_first_chunk() else { return };
    copy(bytes, u64::from_le_bytes(*len));
    let Some(raw) = RawSockAddr::from_bytes(bytes) else {
        assert!(bytes.len() > MAX_SOCKADDR);
        return;
    };
    decode(&raw);
    store(&raw, i32::from_le_bytes(*room));
});

const AT: u64 = 0x1000;

/// Memory with these bytes at [`AT`].
struct Memory(RefCell<Vec<u8>>);

impl Memory {
    fn reach(&self, at: ForeignAddr, len: usize) -> Option<std::ops::Range<usize>> {
        let from = usize::try_from(at.raw().checked_sub(AT)?).ok()?;
        let size = self.0.borrow().len();
        (from < size || len == 0).then(|| from..size.min(from.saturating_add(len)))
    }
}

impl ReadMemory for Memory {
    fn read(&self, at: ForeignAddr, buf: &mut [u8]) -> Result<usize, ReadError> {
        let range = self.reach(at, buf.len()).ok_or(ReadError::Fault)?;
        let memory = self.0.borrow();
        let from = memory.get(range).unwrap_or_default();
        buf.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        Ok(from.len())
    }
}

impl WriteMemory for Memory {
    fn write(&self, at: ForeignAddr, bytes: &[u8]) -> Result<usize, WriteError> {
        let range = self.reach(at, bytes.len()).ok_or(WriteError::Fault)?;
        let mut memory = self.0.borrow_mut();
        let to = memory.get_mut(range).unwrap_or_default();
        to.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Ok(to.len())
    }
}

fn copy(bytes: &[u8], len: u64) {
    let memory = Memory(RefCell::new(bytes.to_vec()));
    // As an `int`.
    let [l0, l1, l2, l3, ..] = len.to_le_bytes();
    let announced = i32::from_le_bytes([l0, l1, l2, l3]);
    let wanted = usize::try_from(announced).ok().filter(|len| *len <= MAX_SOCKADDR);
    match (fetch(&memory, ForeignAddr::new(AT), len), wanted) {
        (Ok(raw), Some(len)) => assert_eq!(Some(raw.as_bytes()), bytes.get(..len)),
        (Err(FetchError::InvalidLength { len }), None) => assert_eq!(len, announced),
        (Err(FetchError::Fault), Some(len)) => assert!(len > bytes.len()),
        (other, _) => panic!("{announced}: {other:?}"),
    }
}

fn decode(raw: &RawSockAddr) {
    let bytes = raw.as_bytes();
    match raw.decode() {
        Ok(addr) => {
            assert_eq!(Some(addr.family()), raw.family());
            let again = addr.encode();
            assert_eq!(again.decode(), Ok(addr));
            assert!(again.len() <= MAX_SOCKADDR);
            if let Some(addr) = addr.ip() {
                // Port and address lie where they have always been.
                assert_eq!(bytes.get(2..4), Some(&addr.port().to_be_bytes()[..]));
                match addr.ip() {
                    IpAddr::V4(ip) => assert_eq!(bytes.get(4..8), Some(&ip.octets()[..])),
                    IpAddr::V6(ip) => assert_eq!(bytes.get(8..24), Some(&ip.octets()[..])),
                }
                if let SocketAddr::V6(addr) = addr {
                    let scope = bytes.get(24..28).unwrap_or(&[0; 4]);
                    assert_eq!(addr.scope_id().to_ne_bytes(), scope);
                }
                assert_eq!(SockAddr::from(addr).encode(), again);
                normalise(addr);
            }
        }
        Err(malformed) => {
            assert_eq!(malformed.errno(), libc::EINVAL);
            assert!(!malformed.to_string().is_empty());
        }
    }
    match (raw.decode_inet_or_unspec(), raw.family()) {
        (Ok(Some(addr)), Some(0 | 2)) => {
            assert_eq!(bytes.get(4..8), Some(&addr.ip().octets()[..]));
        }
        (Ok(None), Some(family)) => assert!(family != 0 && family != 2),
        (Err(_), _) => assert!(bytes.len() < 16),
        (other, family) => panic!("{family:?}: {other:?}"),
    }
}

fn normalise(addr: SocketAddr) {
    let to = Destination::of(addr);
    let again = match to.ip {
        IpAddr::V4(_) => SocketAddr::new(to.ip, to.port),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, to.port, 0, to.scope_id).into(),
    };
    assert_eq!(Destination::of(again), to, "normal once is normal");
    assert!(!to.ip.is_unspecified());
    // What reaches this host without leaving it, by its octets.
    let here = match addr.ip() {
        IpAddr::V4(ip) => matches!(ip.octets(), [127, ..] | [0, 0, 0, 0]),
        IpAddr::V6(ip) => match ip.octets() {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, rest @ ..] => {
                matches!(rest, [127, ..] | [0, 0, 0, 0])
            }
            [head @ .., last] => head == [0; 15] && last < 2,
        },
    };
    assert_eq!(to.is_loopback(), here, "{addr}");
}

/// getsockname(2): where there are 32 bytes for a name behind its length, whatever room is said.
fn store(name: &RawSockAddr, room: i32) {
    const MAPPED: usize = 32;
    let mut before = room.to_ne_bytes().to_vec();
    before.resize(4 + MAPPED, b'.');
    let memory = Memory(RefCell::new(before.clone()));
    let (len_at, at) = (ForeignAddr::new(AT), ForeignAddr::new(AT + 4));
    let stored = store_name(&memory, name, at, len_at);
    let after = memory.0.into_inner();
    let Ok(room) = usize::try_from(room) else {
        assert!(matches!(stored, Err(StoreError::NegativeLength { .. })), "{stored:?}");
        assert_eq!(after, before);
        return;
    };
    let kept = name.as_bytes().get(..room).unwrap_or(name.as_bytes());
    assert_eq!(stored.is_ok(), kept.len() <= MAPPED, "{stored:?}");
    let full = i32::try_from(name.len()).unwrap_or(-1);
    let mut expected = full.to_ne_bytes().to_vec();
    expected.extend(kept.iter().take(MAPPED));
    expected.extend(before.iter().skip(expected.len()));
    assert_eq!(after, expected);
}
