//! Capturing: which options of a socket are read, and what their values mean.

use std::os::fd::BorrowedFd;

use rustix::net::getpeername;

use crate::defaults::{Row, Value, absent, class};
use crate::options::*;
use crate::state::Full;
use crate::{Captured, Defaults, Identity, SockOptError, SocketState, deafen, sys};

/// Which options a capture looks at.
///
/// A socket that is to be connected can be captured in two steps: what the handshake depends on
/// before `connect`, the rest while the peer's answer is awaited. The two together are the whole,
/// but for options that do something on listening sockets only ([`Read::ForListening`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Every one: for `bind` and `listen`, or when in doubt.
    Whole,
    /// Those that must be set before `connect`, and those that forbid to copy the socket.
    BeforeConnect,
    /// The others. Never [`Captured::NotCopyable`] where [`BeforeConnect`](Self::BeforeConnect)
    /// was not, unless more options changed than a state holds.
    AfterConnect,
}

impl Part {
    fn covers(self, opt: &Opt) -> bool {
        let late = opt.when == When::AnyTime && !matches!(opt.treatment, Treatment::Leave(_));
        match self {
            Self::Whole => true,
            Self::BeforeConnect => !late && opt.read != Read::ForListening,
            Self::AfterConnect => late && opt.read != Read::ForListening,
        }
    }
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

/// A socket that is looked at.
pub(crate) struct Reader<'a> {
    pub(crate) fd: BorrowedFd<'a>,
    pub(crate) id: &'a Identity,
    pub(crate) part: Part,
    /// A device that it is bound to is ours, and no part of its state.
    pub(crate) pinned: bool,
}

impl Reader<'_> {
    pub(crate) fn capture(&self, defaults: &Defaults) -> Result<Captured, SockOptError> {
        let (Some(on), Some(rows)) = (class(self.id), defaults.rows(self.id)?) else {
            return Ok(Captured::NotCopyable {
                option: "SO_PROTOCOL",
                reason: "only TCP and UDP sockets have twins",
            });
        };
        let mut state = SocketState::empty();
        match self.fill(on, rows, &mut state) {
            Ok(()) => Ok(Captured::State(state)),
            Err(Stop::Leave { option, reason }) => Ok(Captured::NotCopyable { option, reason }),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    fn fill(&self, on: Sockets, rows: &[Row], state: &mut SocketState) -> Result<(), Stop> {
        let mut v6_only = false;
        if self.part != Part::AfterConnect {
            self.memory(on, state)?;
        }
        for Row { index, opt, default } in rows {
            if !self.part.covers(opt) || (v6_only && opt.read == Read::UnlessV6Only) {
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
                _ if !differs || (self.pinned && is_ours(opt)) => {}
                Treatment::Copy => self.copy(on, state, *index, opt, value)?,
                Treatment::CopyIfSet(rule) => self.judge(on, state, *index, opt, value, rule)?,
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
                let new_layout = if opt.number == SO_TIMESTAMPING_OLD {
                    SO_TIMESTAMPING_NEW
                } else {
                    SO_TIMESTAMPNS_NEW
                };
                if opt.number == SO_TIMESTAMPING_OLD && on.meets(Sockets::TCP) {
                    self.demand(on, state, SOL_SOCKET, SO_WIFI_STATUS)?;
                }
                if self.demand(on, state, SOL_SOCKET, new_layout)? {
                    return Ok(());
                }
            }
            Rule::NotCurrentMss => {
                self.demand(on, state, SOL_TCP, TCP_REPAIR)?;
                if i64::from(value.as_int()) == i64::from(self.tcp_info()?.snd_mss) {
                    return Ok(());
                }
            }
            Rule::NeverRouted => {
                self.demand(on, state, SOL_TCP, TCP_REPAIR)?;
                if self.tcp_info()?.pmtu != 0 {
                    if self.pinned {
                        // The host socket has, or had, a connection, which set it.
                        return Ok(());
                    }
                    return Err(Stop::Leave {
                        option: opt.name,
                        reason: "an earlier attempt to connect may have set it, or the program",
                    });
                }
            }
            Rule::NotRecorded => {
                let recorded = if on.meets(Sockets::TCP) {
                    self.tcp_info()?.pmtu != 0
                } else {
                    getpeername(self.fd).is_ok()
                };
                if recorded {
                    return Ok(());
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
            Rule::Locked
            | Rule::AfterTos
            | Rule::WithRecvErr
            | Rule::WithMemory
            | Rule::WithTimestamps => {}
        }
        push(state, index, opt, value)
    }

    /// Reads an option that is not in every capture. One that is set to anything is kept, or ends
    /// the capture.
    fn demand(
        &self,
        on: Sockets,
        state: &mut SocketState,
        level: i32,
        number: i32,
    ) -> Result<bool, Stop> {
        let Some((index, opt)) = find(level, number, on) else { return Ok(false) };
        match self.read(opt)? {
            Some(value) if !value.is_zero() => match opt.treatment {
                Treatment::Leave(reason) => Err(Stop::Leave { option: opt.name, reason }),
                _ => push(state, index, opt, value).map(|()| true),
            },
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
        let info = MemInfo::of(self.fd)?;
        let ours = || self.pinned && deafen::holds_nothing_else(self.fd, info.option_memory);
        if info.option_memory != 0 && !ours() {
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
        // A host socket whose place a container socket takes loses them rather than stay.
        if info.received != 0 && on.meets(Sockets::UDP) && !self.pinned {
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
    fn of(fd: BorrowedFd<'_>) -> Result<Self, SockOptError> {
        let mut bytes = [0; MEMINFO];
        sys::getsockopt(fd, SOL_SOCKET, SO_MEMINFO, &mut bytes)
            .map_err(|source| SockOptError::Get { option: "SO_MEMINFO", source })?;
        Ok(Self {
            received: word(&bytes, 0),
            allocated_ahead: word(&bytes, 16),
            option_memory: word(&bytes, 24),
        })
    }
}

/// Bytes of option memory that a socket holds.
pub(crate) fn option_memory(fd: BorrowedFd<'_>) -> Result<u32, SockOptError> {
    MemInfo::of(fd).map(|info| info.option_memory)
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
    state.push(row, value).map_err(|Full| Stop::Leave {
        option: opt.name,
        reason: "more options changed than are kept",
    })
}

/// What a pinned socket has from us, and its application cannot have changed.
fn is_ours(opt: &Opt) -> bool {
    opt.level == SOL_SOCKET && matches!(opt.number, SO_BINDTOIFINDEX | libc::SO_LOCK_FILTER)
}

/// The table's first row.
const V6ONLY: u8 = 0;
/// `SK_MEMINFO_VARS` words.
const MEMINFO: usize = 9 * 4;
/// Up to and including `tcpi_pmtu`.
const TCP_INFO: usize = 64;
const SNDBUF_LOCKED: i32 = 1;
const RCVBUF_LOCKED: i32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_past_the_end_are_zero() {
        assert_eq!(word(&[1, 0, 0, 0], 0), 1_u32.to_le());
        assert_eq!(word(&[1, 0, 0, 0], 1), 0);
        assert_eq!(word(&[], 8), 0);
    }
}
