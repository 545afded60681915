//! A socket's state: the options that differ from a fresh socket's.
//!
//! [`SocketState::capture`] asks the kernel for every option that could have been changed and keeps
//! those that were; [`SocketState::apply`] gives them to a twin. Both report what they could not
//! do. What is and is not looked at is decided in [`OPTIONS`].

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::capture::{Part, Reader};
use crate::defaults::Value;
use crate::options::{OPTIONS, Opt, SO_RCVBUF, SO_SNDBUF, SOL_SOCKET};
use crate::{Defaults, Identity, SockOptError, sys};

/// The options of a socket that differ from a fresh one's.
#[derive(Clone)]
pub struct SocketState {
    // The first `len` entries count.
    entries: [Entry; CAPACITY],
    len: usize,
}

/// What came of looking at a socket.
#[derive(Clone, Debug)]
#[must_use]
#[expect(
    clippy::large_enum_variant,
    reason = "capturing is on the path of every connect: no allocation"
)]
pub enum Captured {
    /// All that there is to copy.
    State(SocketState),
    /// The socket has a property that no other socket can be given: it must stay where it is.
    NotCopyable {
        /// C name of the option that shows it.
        option: &'static str,
        /// Why not.
        reason: &'static str,
    },
}

/// What came of giving a state to a twin: which options the kernel refused. All others are as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Applied {
    /// Options that the twin was not given, with the kernel's reason. A caller to whom the twin
    /// must be the same socket leaves the original where it is.
    ///
    /// Typical is EPERM for `SO_MARK`, for an `SO_PRIORITY` above 6 and for restricted congestion
    /// control, which take `CAP_NET_ADMIN` in the twin's namespace.
    pub refused: Vec<Refusal>,
}

impl Applied {
    /// Whether the twin was given everything.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.refused.is_empty()
    }
}

/// An option that a twin was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// C name of the option.
    pub option: &'static str,
    /// What the kernel said.
    pub errno: Errno,
}

/// A state could not be applied at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The twin is not a socket.
    #[error("setsockopt({option}) failed")]
    SetsockoptCall {
        /// C name of the option.
        option: &'static str,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
}

impl SocketState {
    /// Reads the options of a TCP or UDP socket and keeps those that differ from a fresh socket's
    /// ([`Defaults::global`]).
    ///
    /// `id` is the socket's identity. The socket may live in any network namespace. An option that
    /// this kernel does not have counts as unchanged. Costs one `getsockopt` per row that is read
    /// of such a socket.
    ///
    /// # Errors
    /// [`SockOptError`] if the descriptor is not such a socket, or there is none to compare with.
    ///
    /// # Races
    /// The container may change options at the same time, as it may between any two of its own
    /// calls: what is read is what each option was at its time.
    pub fn capture(fd: impl AsFd, id: &Identity) -> Result<Captured, SockOptError> {
        Self::capture_against(fd, id, Defaults::global())
    }

    /// [`capture`](Self::capture), compared with defaults of the caller's choice.
    ///
    /// # Errors
    /// As [`capture`](Self::capture).
    pub fn capture_against(
        fd: impl AsFd,
        id: &Identity,
        defaults: &Defaults,
    ) -> Result<Captured, SockOptError> {
        Reader { fd: fd.as_fd(), id, part: Part::Whole, pinned: false }.capture(defaults)
    }

    /// A part of what [`capture`](Self::capture) reads, for a socket that is to be connected.
    ///
    /// # Errors
    /// As [`capture`](Self::capture).
    pub fn capture_part(
        fd: impl AsFd,
        id: &Identity,
        part: Part,
    ) -> Result<Captured, SockOptError> {
        Reader { fd: fd.as_fd(), id, part, pinned: false }.capture(Defaults::global())
    }

    /// [`capture`](Self::capture) of a socket that was [pinned](crate::pin()), whose device is not
    /// part of its state: it goes to a twin in the container again. Datagrams that wait on it do not
    /// stand in the way and are lost with it.
    ///
    /// # Errors
    /// As [`capture`](Self::capture).
    pub fn capture_pinned(fd: impl AsFd, id: &Identity) -> Result<Captured, SockOptError> {
        Reader { fd: fd.as_fd(), id, part: Part::Whole, pinned: true }.capture(Defaults::global())
    }

    /// Gives the state to a fresh socket of the same kind, before it is bound or connected.
    ///
    /// An option that is refused does not keep the rest from being applied.
    ///
    /// # Errors
    /// [`ApplyError`] if `twin` is not a socket.
    pub fn apply(&self, twin: impl AsFd) -> Result<Applied, ApplyError> {
        let twin = twin.as_fd();
        let mut applied = Applied::default();
        for (opt, value) in self.iter() {
            let option = opt.name;
            match set(twin, opt, value) {
                Ok(()) => {}
                Err(source @ (Errno::BADF | Errno::NOTSOCK)) => {
                    return Err(ApplyError::SetsockoptCall { option, source });
                }
                Err(errno) => applied.refused.push(Refusal { option, errno }),
            }
        }
        Ok(applied)
    }

    /// C names of the options that differ, in the order in which they are applied.
    pub fn changed(&self) -> impl Iterator<Item = &'static str> {
        self.iter().map(|(opt, _)| opt.name)
    }

    /// Whether the socket is as a fresh one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn empty() -> Self {
        Self { entries: [Entry { row: 0, value: Value::EMPTY }; CAPACITY], len: 0 }
    }

    pub(crate) fn push(&mut self, row: u8, value: Value) -> Result<(), Full> {
        *self.entries.get_mut(self.len).ok_or(Full)? = Entry { row, value };
        self.len += 1;
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = (&'static Opt, &Value)> {
        self.entries
            .iter()
            .take(self.len)
            .filter_map(|entry| Some((OPTIONS.get(usize::from(entry.row))?, &entry.value)))
    }

    pub(crate) fn has(&self, level: i32, number: i32) -> bool {
        self.iter().any(|(opt, _)| opt.level == level && opt.number == number)
    }
}

impl fmt::Debug for SocketState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(opt, value)| (opt.name, value.as_bytes()))).finish()
    }
}

#[derive(Clone, Copy)]
struct Entry {
    row: u8,
    value: Value,
}

/// There is no room for another option.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Full;

fn set(twin: BorrowedFd<'_>, opt: &Opt, value: &Value) -> Result<(), Errno> {
    match (opt.level, opt.number) {
        (SOL_SOCKET, SO_SNDBUF) => set_buffer(twin, opt, value, SO_SNDBUFFORCE),
        (SOL_SOCKET, SO_RCVBUF) => set_buffer(twin, opt, value, SO_RCVBUFFORCE),
        _ => sys::setsockopt(twin, opt.level, opt.number, value.as_bytes()),
    }
}

/// Sets a buffer size. The kernel doubles what it is given and silently limits it to a maximum,
/// which only `SO_*BUFFORCE` may exceed.
fn set_buffer(twin: BorrowedFd<'_>, opt: &Opt, value: &Value, force: i32) -> Result<(), Errno> {
    let wanted = value.as_int();
    let half = Value::from_int(wanted / 2);
    sys::setsockopt(twin, opt.level, opt.number, half.as_bytes())?;
    // One less is the odd byte lost in halving.
    if Value::read(twin, opt)?.as_int() >= wanted.saturating_sub(1) {
        return Ok(());
    }
    sys::setsockopt(twin, opt.level, force, half.as_bytes())
}

/// Options kept. Programs change a handful; a state lives on the stack, so it is kept small, and a
/// socket with more is left where it is.
const CAPACITY: usize = 48;
const SO_SNDBUFFORCE: i32 = 32;
const SO_RCVBUFFORCE: i32 = 33;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_state_says_so() {
        let mut state = SocketState::empty();
        let value = Value::from_int(1);
        for kept in 0..CAPACITY {
            assert_eq!(state.changed().count(), kept);
            assert!(state.push(0, value).is_ok());
        }
        assert!(state.push(0, value).is_err());
        assert_eq!(state.changed().count(), CAPACITY);
    }
}
