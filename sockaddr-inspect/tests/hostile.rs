//! Messages and buffers of a hostile caller, held against what the kernel's rules say.

use std::cell::Cell;

use proptest::prelude::*;
use sockaddr_inspect::msghdr::{MsgHdr, PayloadError, WordSize, fetch_header};
use sockaddr_inspect::{
    FakeMemory, ForeignAddr, MAX_SOCKADDR, RawSockAddr, ReadError, ReadMemory, WriteMemory,
    store_name,
};

const EFAULT: i32 = 14;
const EINVAL: i32 = 22;
const EMSGSIZE: i32 = 90;

const HEADER: u64 = 0x1000;
const ARRAY: u64 = 0x2000;
const DATA: u64 = 0x3000;

/// Notes the largest read asked of it.
struct Meter {
    memory: FakeMemory,
    largest: Cell<usize>,
}

impl ReadMemory for Meter {
    fn read(&self, at: ForeignAddr, buf: &mut [u8]) -> Result<usize, ReadError> {
        self.largest.set(self.largest.get().max(buf.len()));
        self.memory.read(at, buf)
    }
}

/// A caller's memory: a header, an array of buffers, and data for them.
fn meter(header: &[u8], array: &[u8], data: &[u8]) -> Meter {
    let memory = FakeMemory::new()
        .map(ForeignAddr::new(HEADER), header)
        .map(ForeignAddr::new(ARRAY), array)
        .map(ForeignAddr::new(DATA), data);
    Meter { memory, largest: Cell::new(0) }
}

fn header(meter: &Meter, word_size: WordSize) -> Option<MsgHdr> {
    fetch_header(meter, ForeignAddr::new(HEADER), word_size).ok()
}

/// One word of a caller of this size.
fn word(word_size: WordSize, value: i64) -> Vec<u8> {
    match word_size {
        WordSize::Bits32 => i32::try_from(value).expect("a small value").to_ne_bytes().to_vec(),
        WordSize::Bits64 => value.to_ne_bytes().to_vec(),
    }
}

fn word_size() -> impl Strategy<Value = WordSize> {
    prop_oneof![Just(WordSize::Bits32), Just(WordSize::Bits64)]
}

/// What the kernel makes of `count` buffers, of which `buffers` are there, by their place
/// in `data` and their length.
fn expected(
    buffers: &[(usize, i64)],
    count: usize,
    data: &[u8],
    room: usize,
) -> Result<Vec<u8>, i32> {
    if count > 1024 {
        return Err(EMSGSIZE);
    }
    let buffers: Vec<_> = buffers.iter().take(count).collect();
    if buffers.iter().any(|(_, len)| *len < 0) {
        return Err(EINVAL);
    }
    if buffers.len() < count {
        return Err(EFAULT);
    }
    let len = |len: &i64| usize::try_from(*len).expect("not negative");
    if buffers.iter().map(|(_, bytes)| len(bytes)).sum::<usize>() > room {
        return Err(EMSGSIZE);
    }
    let mut message = Vec::new();
    for (at, bytes) in buffers.iter().filter(|(_, bytes)| *bytes > 0) {
        message.extend(data.get(*at..at + len(bytes)).ok_or(EFAULT)?);
    }
    Ok(message)
}

fn errno(error: &PayloadError) -> i32 {
    error.errno().expect("nobody but the caller is at fault")
}

proptest! {
    #[test]
    fn headers_may_hold_anything(
        bytes in prop::collection::vec(any::<u8>(), 0..=64),
        word_size in word_size(),
        room in 0_usize..64,
    ) {
        let meter = meter(&bytes, &[], &[]);
        let whole = bytes.len() as u64 >= word_size.msghdr_size();
        if let Some(header) = header(&meter, word_size) {
            prop_assert!(whole);
            let mut buf = vec![0; room];
            let gathered = header.iov.gather(&meter, &mut buf);
            prop_assert!(gathered.is_ok_and(|len| len == 0) || header.iov.count > 0);
            if let Some(control) = header.control {
                prop_assert!(control.copy_to(&meter, &mut buf).is_err());
            }
        }
        prop_assert!(meter.largest.get() <= 1024 * 16);
    }

    #[test]
    fn messages_are_gathered_as_the_kernel_would(
        buffers in prop::collection::vec((0_usize..40, -1_i64..30), 0..14),
        fewer in 0_usize..3,
        count in prop_oneof![9 => Just(None), 1 => (0_usize..2000).prop_map(Some)],
        mapped in 20_u8..60,
        room in 0_usize..300,
        word_size in word_size(),
    ) {
        let data: Vec<u8> = (1..=mapped).collect();
        let count = count.unwrap_or_else(|| buffers.len().saturating_sub(fewer));
        let array: Vec<u8> = buffers
            .iter()
            .flat_map(|(at, len)| [0x3000 + i64::try_from(*at).expect("small"), *len])
            .flat_map(|value| word(word_size, value))
            .collect();
        let fields = [0, 0, 0x2000, i64::try_from(count).expect("small"), 0, 0, 0];
        let bytes: Vec<u8> = fields.into_iter().flat_map(|value| word(word_size, value)).collect();
        let meter = meter(&bytes, &array, &data);
        let header = header(&meter, word_size).expect("a whole header");

        let mut buf = vec![0; room];
        let gathered = header.iov.gather(&meter, &mut buf);
        let gathered = gathered.map_err(|error| errno(&error)).map(|len| buf.split_off(0)[..len].to_vec());
        prop_assert_eq!(gathered, expected(&buffers, count, &data, room));
        prop_assert!(meter.largest.get() <= room.max(1024 * 16));
    }

    #[test]
    fn names_are_stored_as_the_kernel_would(
        name in prop::collection::vec(any::<u8>(), 0..=MAX_SOCKADDR),
        mut memory in prop::collection::vec(any::<u8>(), 0..200),
        at in 0_usize..210,
        len_at in 0_usize..210,
        room in prop_oneof![-2_i32..140, any::<i32>()],
    ) {
        if let Some(slot) = memory.get_mut(len_at..len_at + 4) {
            slot.copy_from_slice(&room.to_ne_bytes());
        }
        let fake = FakeMemory::new().map(ForeignAddr::new(DATA), &memory);
        let place = |offset: usize| ForeignAddr::new(DATA + offset as u64);
        let raw = RawSockAddr::from_bytes(&name).expect("not too long");
        let stored = store_name(&fake, &raw, place(at), place(len_at));
        let stored = stored.map_err(|error| error.errno().expect("the caller is at fault"));

        let expected = (|| {
            let slot = memory.get_mut(len_at..len_at + 4).ok_or(EFAULT)?;
            let room = usize::try_from(room).map_err(|_negative| EINVAL)?;
            slot.copy_from_slice(&u32::try_from(name.len()).expect("small").to_ne_bytes());
            let kept = name.len().min(room);
            let there = memory.get_mut(at..).unwrap_or_default();
            let fits = kept.min(there.len());
            there[..fits].copy_from_slice(&name[..fits]);
            if fits == kept { Ok(()) } else { Err(EFAULT) }
        })();
        prop_assert_eq!(stored, expected);
        let mut after = vec![0; memory.len()];
        prop_assert_eq!(fake.read(place(0), &mut after).unwrap_or(0), memory.len());
        prop_assert_eq!(after, memory);
        // Behind it, nothing was mapped and nothing was made.
        prop_assert!(fake.write(place(name.len().max(210)), b"x").is_err());
    }
}
