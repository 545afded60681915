use super::*;
use crate::{FakeMemory, ReadError};

const ARRAY: u64 = 0x1000;
const DATA: u64 = 0x9000;

fn array(word_size: WordSize, entries: &[(u64, i64)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &(base, len) in entries {
        match word_size {
            WordSize::Bits32 => {
                bytes.extend(u32::try_from(base).unwrap().to_ne_bytes());
                bytes.extend(i32::try_from(len).unwrap().to_ne_bytes());
            }
            WordSize::Bits64 => {
                bytes.extend(base.to_ne_bytes());
                bytes.extend(len.to_ne_bytes());
            }
        }
    }
    bytes
}

fn iovecs(word_size: WordSize, count: usize) -> IoVecs {
    IoVecs { at: ForeignAddr::new(ARRAY), count: count as u64, word_size }
}

fn gather(entries: &[(u64, i64)], room: usize) -> [Result<Vec<u8>, PayloadError>; 2] {
    [WordSize::Bits32, WordSize::Bits64].map(|word_size| {
        let memory = FakeMemory::new()
            .map(ForeignAddr::new(ARRAY), &array(word_size, entries))
            .map(ForeignAddr::new(DATA), b"0123456789");
        let mut buf = vec![b'.'; room];
        let len = iovecs(word_size, entries.len()).gather(&memory, &mut buf)?;
        assert!(buf[len..].iter().all(|byte| *byte == b'.'), "written behind the message");
        buf.truncate(len);
        Ok(buf)
    })
}

#[test]
#[cfg_attr(miri, ignore = "takes Miri minutes")]
fn gathers_in_order_and_in_both_layouts() {
    for (entries, message) in [
        (&[][..], &b""[..]),
        (&[(DATA, 10)], b"0123456789"),
        (&[(DATA + 5, 2), (DATA, 0), (0, 0), (DATA, 3), (DATA + 9, 1)], b"560129"),
        (&[(DATA, 1); 9], b"000000000"),
    ] {
        for room in [message.len(), message.len() + 1, 100] {
            for result in gather(entries, room) {
                assert_eq!(result.unwrap(), message);
            }
        }
    }
}

#[test]
fn a_message_longer_than_the_room_is_refused_before_it_is_read() {
    for (entries, total) in [
        (&[(DATA, 10)][..], 10),
        (&[(DATA, 4), (0, 5)], 9),
        (&[(0, i64::from(i32::MAX)); 3], 3 * 0x7fff_ffff),
    ] {
        for result in gather(entries, 8) {
            let error = result.unwrap_err();
            assert!(matches!(error, PayloadError::TooLong { len } if len == total), "{error:?}");
            assert_eq!(error.errno(), Some(EMSGSIZE));
        }
    }
}

#[test]
fn lengths_that_overflow_are_too_long() {
    let entries = [(DATA, i64::MAX); 3];
    let memory = FakeMemory::new().map(ForeignAddr::new(ARRAY), &array(WordSize::Bits64, &entries));
    let error = iovecs(WordSize::Bits64, 3).gather(&memory, &mut [0; 8]).unwrap_err();
    assert!(matches!(error, PayloadError::TooLong { len: u64::MAX }), "{error:?}");
}

#[test]
fn a_negative_length_anywhere_is_invalid() {
    for entries in
        [&[(DATA, -1)][..], &[(DATA, 2), (DATA, i64::from(i32::MIN))], &[(0, 99), (DATA, -5)]]
    {
        for result in gather(entries, 8) {
            let error = result.unwrap_err();
            assert!(matches!(error, PayloadError::NegativeLength { len: ..0 }), "{error:?}");
            assert_eq!(error.errno(), Some(EINVAL));
        }
    }
}

#[test]
fn buffers_beyond_the_limit_are_not_even_counted() {
    struct Untouchable;
    impl ReadMemory for Untouchable {
        fn read(&self, at: ForeignAddr, _: &mut [u8]) -> Result<usize, ReadError> {
            panic!("read at {at:?}")
        }
    }
    for count in [1025, u64::from(u32::MAX), 1 << 32, u64::MAX] {
        let iovecs = IoVecs { count, ..iovecs(WordSize::Bits64, 0) };
        let error = iovecs.gather(&Untouchable, &mut [0; 8]).unwrap_err();
        assert!(matches!(error, PayloadError::TooManyBuffers { count: c } if c == count));
        assert_eq!(error.errno(), Some(EMSGSIZE));
    }
    let none = iovecs(WordSize::Bits64, 0);
    assert_eq!(none.gather(&Untouchable, &mut []).unwrap(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "takes Miri minutes")]
fn as_many_buffers_as_allowed_are_gathered() {
    for result in gather(&[(DATA + 7, 1); 1024], 1024) {
        assert_eq!(result.unwrap(), [b'7'; 1024]);
    }
}

#[test]
fn memory_that_ends_is_a_fault() {
    for entries in [&[(DATA, 11)][..], &[(DATA, 1), (0, 1)], &[(DATA + 10, 1)]] {
        for result in gather(entries, 100) {
            assert_eq!(result.unwrap_err().errno(), Some(14));
        }
    }
    for word_size in [WordSize::Bits32, WordSize::Bits64] {
        let mut bytes = array(word_size, &[(DATA, 1); 2]);
        bytes.pop();
        let memory = FakeMemory::new()
            .map(ForeignAddr::new(ARRAY), &bytes)
            .map(ForeignAddr::new(DATA), b"0");
        let error = iovecs(word_size, 2).gather(&memory, &mut [0; 8]).unwrap_err();
        assert!(matches!(error, PayloadError::Fetch(FetchError::Fault)), "{error:?}");
    }
}

#[test]
fn a_caller_that_is_gone_gets_no_errno() {
    let memory = FakeMemory::new();
    memory.set_gone();
    let error = iovecs(WordSize::Bits64, 1).gather(&memory, &mut [0; 8]).unwrap_err();
    assert!(matches!(error, PayloadError::Fetch(FetchError::Gone)) && error.errno().is_none());
}

#[test]
fn control_data_is_copied_whole_or_refused() {
    let memory = FakeMemory::new().map(ForeignAddr::new(DATA), b"0123456789");
    let control = |at, len| Control { at: ForeignAddr::new(at), len };
    let mut buf = [0; 10];
    assert_eq!(control(DATA + 2, 4).copy_to(&memory, &mut buf).unwrap(), 4);
    assert_eq!(&buf[..4], b"2345");
    let error = control(DATA, 11).copy_to(&memory, &mut buf).unwrap_err();
    assert_eq!(error.errno(), Some(ENOBUFS));
    let error = control(DATA, u64::MAX).copy_to(&memory, &mut buf).unwrap_err();
    assert_eq!(error.errno(), Some(ENOBUFS));
    for at in [0, DATA + 1] {
        assert_eq!(control(at, 10).copy_to(&memory, &mut buf).unwrap_err().errno(), Some(14));
    }
}
