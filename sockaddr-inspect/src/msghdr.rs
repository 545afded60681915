//! What a `struct msghdr` says, for [sendmsg(2)] and [sendmmsg(2)].
//!
//! [`fetch_name`] is for who only judges the destination; [`fetch_header`] for who sends
//! the message itself. `msg_flags` means nothing to either call, and is not read.
//!
//! [sendmsg(2)]: https://man7.org/linux/man-pages/man2/sendmsg.2.html
//! [sendmmsg(2)]: https://man7.org/linux/man-pages/man2/sendmmsg.2.html

mod payload;

use crate::fetch::{FetchError, fetch, read_all};
use crate::memory::{ForeignAddr, ReadMemory};
use crate::raw::{MAX_SOCKADDR, RawSockAddr};
pub use payload::{Control, IoVecs, PayloadError};

/// How wide the calling program's pointers are, which decides the structure's layout.
///
/// It follows from the audit architecture of the trapped call, not from the program
/// file. The x32 ABI uses the 32-bit layout though it shares x86-64's architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WordSize {
    /// `struct compat_msghdr`, 28 bytes.
    Bits32,
    /// `struct user_msghdr`, 56 bytes.
    Bits64,
}

impl WordSize {
    /// The size of `struct msghdr` in bytes, which is also where a `struct mmsghdr` has
    /// its `msg_len`, an `unsigned int`.
    #[must_use]
    pub const fn msghdr_size(self) -> u64 {
        match self {
            Self::Bits32 => 28,
            Self::Bits64 => 56,
        }
    }

    /// The distance between the entries of a `sendmmsg(2)` array: the size of
    /// `struct mmsghdr` in bytes.
    #[must_use]
    pub const fn mmsghdr_size(self) -> u64 {
        match self {
            Self::Bits32 => 32,
            Self::Bits64 => 64,
        }
    }
}

/// Where a message's destination lies: 1 to [`MAX_SOCKADDR`] bytes at `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MsgHdrName {
    /// `msg_name`, not null.
    pub at: ForeignAddr,
    /// `msg_namelen` in bytes, as far as the kernel reads.
    pub len: u32,
}

impl MsgHdrName {
    /// Copies the address. See [`fetch`](crate::fetch()).
    ///
    /// # Errors
    ///
    /// See [`FetchError`].
    pub fn fetch(&self, mem: &(impl ReadMemory + ?Sized)) -> Result<RawSockAddr, FetchError> {
        fetch(mem, self.at, self.len.into())
    }
}

/// Reads the `struct msghdr` at `at` and says where its destination lies.
///
/// `None` when the message has none: `msg_name` is null or `msg_namelen` is 0. As in
/// the kernel (`__copy_msghdr()`, `__get_compat_msghdr()`) the whole structure must be
/// readable, a null name makes the length irrelevant, and a length beyond
/// [`MAX_SOCKADDR`] is *cut* to it, where `connect(2)` and `sendto(2)` refuse it.
///
/// # Errors
///
/// [`FetchError::InvalidLength`] for a negative length, otherwise as for any read.
///
/// # Races
///
/// The caller's other threads can change the structure after this, and the kernel
/// reads it again when the call is let through.
#[doc(alias = "msg_name")]
pub fn fetch_name(
    mem: &(impl ReadMemory + ?Sized),
    at: ForeignAddr,
    word_size: WordSize,
) -> Result<Option<MsgHdrName>, FetchError> {
    Ok(fetch_header(mem, at, word_size)?.name)
}

/// What a message is made of. Nothing but the header itself has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MsgHdr {
    /// Where its destination lies, if it has one.
    pub name: Option<MsgHdrName>,
    /// Where its buffers lie.
    pub iov: IoVecs,
    /// Where its control data lies, if it has any.
    pub control: Option<Control>,
}

/// Reads the `struct msghdr` at `at`.
///
/// See [`fetch_name`] for the name. The kernel goes on in this order, and whichever step
/// fails first gives the errno: the name ([`MsgHdrName::fetch`]), the array of buffers
/// ([`IoVecs::gather`], which also copies what is in them), the control data
/// ([`Control::copy_to`]), the contents of the buffers.
///
/// # Errors
///
/// [`FetchError::InvalidLength`] for a name of negative length, otherwise as for any
/// read.
///
/// # Races
///
/// See [`fetch_name`].
pub fn fetch_header(
    mem: &(impl ReadMemory + ?Sized),
    at: ForeignAddr,
    word_size: WordSize,
) -> Result<MsgHdr, FetchError> {
    let fields = match word_size {
        WordSize::Bits32 => {
            let mut words = [[0; 4]; 7];
            read_all(mem, at, words.as_flattened_mut())?;
            let [name, name_len, iov, iov_len, control, control_len, _flags] = words;
            let wide = |word| u64::from(u32::from_ne_bytes(word));
            Fields {
                name: wide(name),
                name_len: i32::from_ne_bytes(name_len),
                iov: wide(iov),
                iov_len: wide(iov_len),
                control: wide(control),
                control_len: wide(control_len),
            }
        }
        WordSize::Bits64 => {
            let mut words = [[0; 8]; 7];
            read_all(mem, at, words.as_flattened_mut())?;
            let [name, name_len, iov, iov_len, control, control_len, _flags] = words;
            // An `int`, with four bytes of padding behind it.
            let [l0, l1, l2, l3, ..] = name_len;
            Fields {
                name: u64::from_ne_bytes(name),
                name_len: i32::from_ne_bytes([l0, l1, l2, l3]),
                iov: u64::from_ne_bytes(iov),
                iov_len: u64::from_ne_bytes(iov_len),
                control: u64::from_ne_bytes(control),
                control_len: u64::from_ne_bytes(control_len),
            }
        }
    };
    Ok(MsgHdr {
        name: fields.name()?,
        iov: IoVecs { at: ForeignAddr::new(fields.iov), count: fields.iov_len, word_size },
        control: match fields.control_len {
            0 => None,
            len => Some(Control { at: ForeignAddr::new(fields.control), len }),
        },
    })
}

/// The fields of either layout, nothing judged yet.
struct Fields {
    name: u64,
    name_len: i32,
    iov: u64,
    iov_len: u64,
    control: u64,
    control_len: u64,
}

impl Fields {
    fn name(&self) -> Result<Option<MsgHdrName>, FetchError> {
        let at = ForeignAddr::new(self.name);
        if at.is_null() {
            return Ok(None);
        }
        let Ok(announced) = u32::try_from(self.name_len) else {
            return Err(FetchError::InvalidLength { len: self.name_len });
        };
        Ok(match announced.min(NAME_LIMIT) {
            0 => None,
            len => Some(MsgHdrName { at, len }),
        })
    }
}

/// [`MAX_SOCKADDR`] in the width of `msg_namelen`.
const NAME_LIMIT: u32 = 128;
const _: () = assert!(NAME_LIMIT as usize == MAX_SOCKADDR);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FakeMemory;

    const AT: ForeignAddr = ForeignAddr::new(0x1000);

    fn header(word_size: WordSize, name: u64, len: i32) -> Vec<u8> {
        let mut bytes = match word_size {
            WordSize::Bits32 => u32::try_from(name).unwrap().to_ne_bytes().to_vec(),
            WordSize::Bits64 => name.to_ne_bytes().to_vec(),
        };
        bytes.extend(len.to_ne_bytes());
        let size = match word_size {
            WordSize::Bits32 => 28,
            WordSize::Bits64 => 56,
        };
        bytes.resize(size, 0xee);
        bytes
    }

    fn name(word_size: WordSize, name: u64, len: i32) -> Result<Option<MsgHdrName>, FetchError> {
        let memory = FakeMemory::new().map(AT, &header(word_size, name, len));
        fetch_name(&memory, AT, word_size)
    }

    #[test]
    fn name_and_length_in_both_layouts() {
        for word_size in [WordSize::Bits32, WordSize::Bits64] {
            for (given, read) in [(1, 1), (16, 16), (128, 128), (129, 128), (i32::MAX, 128)] {
                let expected = MsgHdrName { at: ForeignAddr::new(0xffff_0000), len: read };
                assert_eq!(name(word_size, 0xffff_0000, given).unwrap(), Some(expected));
            }
        }
        let high = name(WordSize::Bits64, 0x7fff_dead_beef_0008, 16).unwrap().unwrap();
        assert_eq!(high.at.raw(), 0x7fff_dead_beef_0008);
    }

    #[test]
    fn without_pointer_or_length_there_is_no_destination() {
        for word_size in [WordSize::Bits32, WordSize::Bits64] {
            assert_eq!(name(word_size, 0x2000, 0).unwrap(), None);
            for len in [0, 16, -1, i32::MIN] {
                assert_eq!(name(word_size, 0, len).unwrap(), None);
            }
        }
    }

    #[test]
    fn a_negative_length_is_refused() {
        for word_size in [WordSize::Bits32, WordSize::Bits64] {
            for len in [-1, i32::MIN] {
                let error = name(word_size, 0x2000, len).unwrap_err();
                assert!(matches!(error, FetchError::InvalidLength { len: l } if l == len));
            }
        }
    }

    #[test]
    fn the_whole_structure_must_be_readable() {
        for word_size in [WordSize::Bits32, WordSize::Bits64] {
            let mut bytes = header(word_size, 0x2000, 16);
            bytes.pop();
            let memory = FakeMemory::new().map(AT, &bytes);
            assert!(matches!(fetch_name(&memory, AT, word_size), Err(FetchError::Fault)));
        }
    }

    #[test]
    fn the_name_is_fetched_from_where_it_lies() {
        let memory = FakeMemory::new()
            .map(AT, &header(WordSize::Bits64, 0x2000, 4))
            .map(ForeignAddr::new(0x2000), b"name");
        let name = fetch_name(&memory, AT, WordSize::Bits64).unwrap().unwrap();
        assert_eq!(name.fetch(&memory).unwrap().as_bytes(), b"name");
    }

    #[test]
    fn buffers_and_control_data_in_both_layouts() {
        let words = [0, 0, 0x2000, 3, 0x3000, 40, 0xffff_ffff_u32];
        let narrow: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let wide: Vec<u8> =
            words.iter().flat_map(|word| (u64::from(*word) | 1 << 40).to_ne_bytes()).collect();
        let memory = FakeMemory::new().map(AT, &narrow);
        let header = fetch_header(&memory, AT, WordSize::Bits32).unwrap();
        let at = ForeignAddr::new(0x2000);
        assert_eq!(header.name, None);
        assert_eq!(header.iov, IoVecs { at, count: 3, word_size: WordSize::Bits32 });
        assert_eq!(header.control, Some(Control { at: ForeignAddr::new(0x3000), len: 40 }));

        let memory = FakeMemory::new().map(AT, &wide);
        let header = fetch_header(&memory, AT, WordSize::Bits64).unwrap();
        let (high, at) = (1 << 40, ForeignAddr::new(0x2000 | 1 << 40));
        assert_eq!(header.iov, IoVecs { at, count: 3 | high, word_size: WordSize::Bits64 });
        assert_eq!(header.control.unwrap().len, 40 | high);
    }

    #[test]
    fn without_a_length_there_is_no_control_data() {
        let memory = FakeMemory::new().map(AT, &[0; 56]);
        for word_size in [WordSize::Bits32, WordSize::Bits64] {
            assert_eq!(fetch_header(&memory, AT, word_size).unwrap().control, None);
        }
    }

    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    #[test]
    fn layout_is_that_of_libc() {
        assert_eq!(size_of::<libc::msghdr>(), 56);
        assert_eq!(std::mem::offset_of!(libc::msghdr, msg_name), 0);
        assert_eq!(std::mem::offset_of!(libc::msghdr, msg_namelen), 8);
        assert_eq!(std::mem::offset_of!(libc::msghdr, msg_iov), 16);
        assert_eq!(std::mem::offset_of!(libc::msghdr, msg_iovlen), 24);
        assert_eq!(std::mem::offset_of!(libc::msghdr, msg_control), 32);
        assert_eq!(std::mem::offset_of!(libc::msghdr, msg_controllen), 40);
        assert_eq!(size_of::<libc::iovec>(), 16);
        let len_at = std::mem::offset_of!(libc::mmsghdr, msg_len);
        assert_eq!(len_at as u64, WordSize::Bits64.msghdr_size());
        assert_eq!(size_of::<libc::mmsghdr>() as u64, WordSize::Bits64.mmsghdr_size());
    }
}
