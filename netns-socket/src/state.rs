//! A socket's state: the options that differ from a fresh socket's.
//!
//! [`SocketState::capture`] asks the kernel for every option that could have been changed and keeps
//! those that were; [`SocketState::apply`] gives them to a twin. Both report what they could not
//! do. What is and is not looked at is decided in [`OPTIONS`].

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::defaults::{Row, Value, absent, class};
use crate::options::{
    IP_RECVERR, IP_RECVERR_RFC4884, IP_TOS, IPV6_RECVERR, IPV6_RECVERR_RFC4884, OPTIONS, Opt, Read,
    Rule, SO_BINDTOIFINDEX, SO_BUF_LOCK, SO_MEMINFO, SO_PRIORITY, SO_RCVBUF, SO_RESERVE_MEM,
    SO_SNDBUF, SO_TIMESTAMPING_NEW, SO_TIMESTAMPNS_NEW, SOL_IP, SOL_IPV6, SOL_SOCKET, SOL_TCP,
    Sockets, Treatment, find,
};
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

/// What came of giving a state to a twin.
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
        Reader { fd: fd.as_fd(), id, pinned: false }.capture(defaults)
    }

    /// [`capture`](Self::capture) of a socket that was [pinned](crate::pin()), whose device is not
    /// part of its state: it goes to a twin in the container again.
    ///
    /// # Errors
    /// As [`capture`](Self::capture).
    pub fn capture_pinned(fd: impl AsFd, id: &Identity) -> Result<Captured, SockOptError> {
        Reader { fd: fd.as_fd(), id, pinned: true }.capture(Defaults::global())
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

    fn iter(&self) -> impl Iterator<Item = (&'static Opt, &Value)> {
        self.entries
            .iter()
            .take(self.len)
            .filter_map(|entry| Some((OPTIONS.get(usize::from(entry.row))?, &entry.value)))
    }

    fn has(&self, level: i32, number: i32) -> bool {
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

/// Either end of a capture before all rows are read.
enum Stop {
    Leave { option: &'static str, reason: &'static str },
    Failed(SockOptError),
}

impl From<SockOptError> for Stop {
    fn from(error: SockOptError) -> Self {
        Self::Failed(error)
    }
}

struct Reader<'a> {
    fd: BorrowedFd<'a>,
    id: &'a Identity,
    pinned: bool,
}

impl Reader<'_> {
    fn capture(&self, defaults: &Defaults) -> Result<Captured, SockOptError> {
        let (Some(on), Some(rows)) = (class(self.id), defaults.rows(self.id)?) else {
            return Ok(Captured::NotCopyable {
                option: "SO_PROTOCOL",
                reason: "only TCP and UDP sockets have twins",
            });
        };
        let mut state =
            SocketState { entries: [Entry { row: 0, value: Value::EMPTY }; CAPACITY], len: 0 };
        match self.fill(on, rows, &mut state) {
            Ok(()) => Ok(Captured::State(state)),
            Err(Stop::Leave { option, reason }) => Ok(Captured::NotCopyable { option, reason }),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    fn fill(&self, on: Sockets, rows: &[Row], state: &mut SocketState) -> Result<(), Stop> {
        let mut v6_only = false;
        self.memory(on, state)?;
        for Row { index, opt, default } in rows {
            if v6_only && opt.read == Read::UnlessV6Only {
                continue;
            }
            let Some(value) = self.read(opt)? else { continue };
            if *index == V6ONLY {
                v6_only = opt.level == SOL_IPV6 && !value.is_zero();
            }
            let differs = value != *default;
            match opt.treatment {
                Treatment::CopyIfSet(Rule::AfterTos) => {
                    if differs || state.has(SOL_IP, IP_TOS) {
                        push(state, *index, opt, value)?;
                    }
                }
                _ if !differs => {}
                Treatment::Copy => self.copy(on, state, *index, opt, value)?,
                Treatment::CopyIfSet(rule) => self.judge(on, state, *index, opt, value, rule)?,
                Treatment::Leave(_)
                    if self.pinned && (opt.level, opt.number) == (SOL_SOCKET, SO_BINDTOIFINDEX) => {
                }
                Treatment::Leave(reason) => return Err(Stop::Leave { option: opt.name, reason }),
                Treatment::Skip(_) => {}
            }
        }
        Ok(())
    }

    /// An option that is simply copied; it may make another one worth reading.
    fn copy(
        &self,
        on: Sockets,
        state: &mut SocketState,
        index: u8,
        opt: &'static Opt,
        value: Value,
    ) -> Result<(), Stop> {
        push(state, index, opt, value)?;
        let details = match (opt.level, opt.number) {
            (SOL_IP, IP_RECVERR) => IP_RECVERR_RFC4884,
            (SOL_IPV6, IPV6_RECVERR) => IPV6_RECVERR_RFC4884,
            _ => return Ok(()),
        };
        // On UDP that has a row which every capture reads.
        if on.meets(Sockets::TCP) {
            self.demand(on, state, opt.level, details)?;
        }
        Ok(())
    }

    fn judge(
        &self,
        on: Sockets,
        state: &mut SocketState,
        index: u8,
        opt: &'static Opt,
        value: Value,
        rule: Rule,
    ) -> Result<(), Stop> {
        match rule {
            Rule::Layout => {
                let new_layout = match opt.name {
                    "SO_TIMESTAMP_NEW" => SO_TIMESTAMPNS_NEW,
                    _ => SO_TIMESTAMPING_NEW,
                };
                if self.demand(on, state, SOL_SOCKET, new_layout)? {
                    return Ok(());
                }
            }
            Rule::NotCurrentMss => {
                if i64::from(value.as_int()) == i64::from(self.tcp_info()?.snd_mss) {
                    return Ok(());
                }
            }
            Rule::NeverRouted => {
                if self.tcp_info()?.pmtu != 0 {
                    return Err(Stop::Leave {
                        option: opt.name,
                        reason: "an earlier attempt to connect may have set it, or the program",
                    });
                }
            }
            Rule::Locked if opt.number == SO_BUF_LOCK => {
                for (bit, number) in [(SNDBUF_LOCKED, SO_SNDBUF), (RCVBUF_LOCKED, SO_RCVBUF)] {
                    if value.as_int() & bit != 0 {
                        self.demand(on, state, SOL_SOCKET, number)?;
                    }
                }
                return Ok(());
            }
            // Read on demand, or decided before.
            Rule::Locked | Rule::AfterTos | Rule::WithRecvErr | Rule::WithMemory => {}
        }
        push(state, index, opt, value)
    }

    /// Reads an option that is not in every capture and keeps it if it is set to anything.
    fn demand(
        &self,
        on: Sockets,
        state: &mut SocketState,
        level: i32,
        number: i32,
    ) -> Result<bool, Stop> {
        let Some((index, opt)) = find(level, number, on) else { return Ok(false) };
        match self.read(opt)? {
            Some(value) if !value.is_zero() => push(state, index, opt, value).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Reads an option; `None` if the kernel does not have it.
    fn read(&self, opt: &Opt) -> Result<Option<Value>, SockOptError> {
        match Value::read(self.fd, opt) {
            Ok(value) => Ok(Some(value)),
            Err(errno) if absent(errno) => Ok(None),
            Err(source) => Err(SockOptError::Get { option: opt.name, source }),
        }
    }

    /// What `SO_MEMINFO` tells about things that cannot be read back.
    fn memory(&self, on: Sockets, state: &mut SocketState) -> Result<(), Stop> {
        let info: MemInfo = {
            let mut bytes = [0; MEMINFO];
            sys::getsockopt(self.fd, SOL_SOCKET, SO_MEMINFO, &mut bytes)
                .map_err(|source| SockOptError::Get { option: "SO_MEMINFO", source })?;
            MemInfo::from_bytes(&bytes)
        };
        if info.option_memory != 0 {
            return Err(match sys::filter_length(self.fd) {
                Ok(0) => Stop::Leave {
                    option: "SO_MEMINFO",
                    reason: "holds option memory: a multicast or anycast membership, a TCP key, \
                             IPv6 extension headers, or storage of a BPF program",
                },
                // EACCES: an eBPF program.
                _ => Stop::Leave {
                    option: "SO_ATTACH_FILTER",
                    reason: "a filter program is tied to the socket",
                },
            });
        }
        if info.received != 0 && on.meets(Sockets::UDP) {
            return Err(Stop::Leave {
                option: "SO_MEMINFO",
                reason: "datagrams or errors wait to be received",
            });
        }
        if info.allocated_ahead != 0 {
            self.demand(on, state, SOL_SOCKET, SO_RESERVE_MEM)?;
        }
        Ok(())
    }

    fn tcp_info(&self) -> Result<TcpInfo, SockOptError> {
        let mut bytes = [0; TCP_INFO];
        sys::getsockopt(self.fd, SOL_TCP, libc::TCP_INFO, &mut bytes)
            .map_err(|source| SockOptError::Get { option: "TCP_INFO", source })?;
        Ok(TcpInfo { snd_mss: word(&bytes, 16), pmtu: word(&bytes, 60) })
    }
}

/// The parts of `SO_MEMINFO` (`SK_MEMINFO_*`) that matter here, in bytes.
struct MemInfo {
    received: u32,
    allocated_ahead: u32,
    option_memory: u32,
}

impl MemInfo {
    fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            received: word(bytes, 0),
            allocated_ahead: word(bytes, 16),
            option_memory: word(bytes, 24),
        }
    }
}

/// The parts of `struct tcp_info` that matter here.
struct TcpInfo {
    snd_mss: u32,
    pmtu: u32,
}

/// The 32-bit word at a byte offset, 0 past the end.
fn word(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u32::from_ne_bytes)
}

fn push(state: &mut SocketState, row: u8, opt: &Opt, value: Value) -> Result<(), Stop> {
    let Some(entry) = state.entries.get_mut(state.len) else {
        return Err(Stop::Leave { option: opt.name, reason: "more options changed than are kept" });
    };
    *entry = Entry { row, value };
    state.len += 1;
    Ok(())
}

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

/// More than any kind of socket has rows to copy.
const CAPACITY: usize = 64;
/// The table's first row.
const V6ONLY: u8 = 0;
/// `SK_MEMINFO_VARS` words.
const MEMINFO: usize = 9 * 4;
/// Up to and including `tcpi_pmtu`.
const TCP_INFO: usize = 64;
const SNDBUF_LOCKED: i32 = 1;
const RCVBUF_LOCKED: i32 = 2;
const SO_SNDBUFFORCE: i32 = 32;
const SO_RCVBUFFORCE: i32 = 33;

const _: () = assert!(SO_PRIORITY == libc::SO_PRIORITY);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_socket_has_more_rows_than_a_state_holds() {
        for on in [Sockets::TCP4, Sockets::TCP6, Sockets::UDP4, Sockets::UDP6] {
            let rows = OPTIONS
                .iter()
                .filter(|row| row.on.meets(on))
                .filter(|row| matches!(row.treatment, Treatment::Copy | Treatment::CopyIfSet(_)))
                .count();
            assert!(rows <= CAPACITY, "{rows}");
        }
    }

    #[test]
    fn words_past_the_end_are_zero() {
        assert_eq!(word(&[1, 0, 0, 0], 0), 1_u32.to_le());
        assert_eq!(word(&[1, 0, 0, 0], 1), 0);
        assert_eq!(word(&[], 8), 0);
    }
}
