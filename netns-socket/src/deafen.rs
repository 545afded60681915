//! A UDP socket that never hears the host's loopback, whatever its holder does to it.
//!
//! The pin of a UDP socket ([`pin`](crate::pin())) goes when its holder calls
//! `connect(AF_UNSPEC)` (`__udp_disconnect()` in the kernel). A socket filter stays: any process may
//! attach a classic BPF program to its own socket, and once `SO_LOCK_FILTER` is set nobody can
//! change, replace or detach it, with whatever capability. So the answers of services that are
//! bound to loopback addresses never arrive.
//!
//! Each datagram that the socket receives pays for a dozen instructions, and its checksum is
//! verified when it arrives rather than when it is read.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use libc::sock_filter;
use rustix::io::Errno;

use crate::options::SOL_SOCKET;
use crate::{Domain, Identity, Kind, create_twin, sys};

/// Makes a UDP socket drop what comes from `127.0.0.0/8` and `::1`, for good.
///
/// The socket's own sends are unaffected. Afterwards `SO_ATTACH_FILTER`, `SO_DETACH_FILTER` and
/// their relatives fail with EPERM on it, and a part of its `net.core.optmem_max` is used. See
/// `SO_LOCK_FILTER` in [socket(7)] (Linux 3.9).
///
/// # Errors
/// [`DeafenError`]; the socket is not to be handed out then, since its filter can be taken away.
///
/// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
#[doc(alias = "SO_LOCK_FILTER")]
pub fn deafen_to_loopback(fd: impl AsFd) -> Result<(), DeafenError> {
    let fd = fd.as_fd();
    sys::attach_filter(fd, PROGRAM).map_err(|source| DeafenError::AttachFilter { source })?;
    sys::setsockopt(fd, SOL_SOCKET, libc::SO_LOCK_FILTER, &1_i32.to_ne_bytes())
        .map_err(|source| DeafenError::LockFilter { source })
}

/// A socket could not be made deaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeafenError {
    /// The program was refused: ENOMEM where `net.core.optmem_max` is too small, EPERM if the
    /// socket has a locked filter.
    #[error("could not attach a filter to a socket")]
    AttachFilter {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The program could be detached again.
    #[error("could not lock the filter of a socket")]
    LockFilter {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
}

/// Option memory in bytes that the program takes, and whether this socket holds just that.
pub(crate) fn holds_nothing_else(fd: BorrowedFd<'_>, option_memory: u32) -> bool {
    static CHARGE: OnceLock<Option<u32>> = OnceLock::new();
    let charge = CHARGE.get_or_init(|| {
        let udp = Identity {
            domain: Domain::Inet,
            kind: Kind::Datagram,
            protocol: libc::IPPROTO_UDP,
            cookie: 0,
            netns_cookie: None,
        };
        let sample = create_twin(&udp, true).ok()?;
        deafen_to_loopback(&sample).ok()?;
        crate::capture::option_memory(sample.as_fd()).ok()
    });
    *charge == Some(option_memory) && is_deaf(fd)
}

/// A program of another length is not ours; one that is locked was before the application had it.
fn is_deaf(fd: BorrowedFd<'_>) -> bool {
    let mut locked = [0_u8; 4];
    let read = sys::getsockopt(fd, SOL_SOCKET, libc::SO_LOCK_FILTER, &mut locked);
    let length = usize::try_from(sys::filter_length(fd).unwrap_or(0)).unwrap_or(0);
    read.is_ok() && i32::from_ne_bytes(locked) != 0 && length == PROGRAM.len()
}

/// The packet starts at its transport header; offsets from this one are from the network header.
const NETWORK: u32 = libc::SKF_NET_OFF.cast_unsigned();
const LOAD_BYTE: u16 = code(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS);
const LOAD_WORD: u16 = code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS);
const AND: u16 = code(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K);
const EQUAL: u16 = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
const RETURN: u16 = code(libc::BPF_RET | libc::BPF_K);

/// Every code fits.
const fn code(bits: u32) -> u16 {
    (bits & 0xffff) as u16
}

const fn load(code: u16, offset: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k: NETWORK.wrapping_add(offset) }
}

/// Skips so many instructions if the accumulator is `k`, and so many if not.
const fn skip(k: u32, equal: u8, other: u8) -> sock_filter {
    sock_filter { code: EQUAL, jt: equal, jf: other, k }
}

/// The version tells IPv4 from IPv6: a dual-stack socket receives both. Source addresses begin at
/// byte 12 (RFC 791) and byte 8 (RFC 8200).
const PROGRAM: &[sock_filter] = &[
    load(LOAD_BYTE, 0),
    sock_filter { code: AND, jt: 0, jf: 0, k: 0xf0 },
    skip(0x40, 0, 2),
    load(LOAD_BYTE, 12),
    skip(127, 8, 9),
    load(LOAD_WORD, 8),
    skip(0, 0, 7),
    load(LOAD_WORD, 12),
    skip(0, 0, 5),
    load(LOAD_WORD, 16),
    skip(0, 0, 3),
    load(LOAD_WORD, 20),
    skip(1, 0, 1),
    sock_filter { code: RETURN, jt: 0, jf: 0, k: 0 },
    sock_filter { code: RETURN, jt: 0, jf: 0, k: u32::MAX },
];
