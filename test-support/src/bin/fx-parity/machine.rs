//! Three sockets and an epoll, and the calls that are made on them.
//!
//! | call | made with |
//! |---|---|
//! | `socket S 4\|6 stream\|dgram [nonblocking]` | socket; blocking ones get time-outs of 30 ms |
//! | `bind S AT`, `connect S TO`, `sendto S TO` | the addresses below |
//! | `listen S` `accept S T` `dup S T` `close S` | what they say; `T` is where the new one goes |
//! | `shutdown S rd\|wr\|both` | shutdown |
//! | `send S` `recv S` `waiting S` | a few bytes; FIONREAD |
//! | `local S` `peer S` | getsockname, getpeername |
//! | `error S` `state S` `set S NAME` `get S NAME` | `SO_ERROR`, `TCP_INFO`, other options |
//! | `blocking S` `nonblocking S` `cloexec S` `flags S` | fcntl |
//! | `poll S` `poll S wait` | poll, at once or for up to 10 ms |
//! | `epoll` `add S EVENTS` `mod S EVENTS` `del S` `wait` `wait 10` | the epoll's calls |
//!
//! Addresses are `any`, `loop` (of the socket's own family, or with `4`, `6` or `m` for IPv4-mapped
//! behind), with `:fixed` for a port of the sequence's own in place of any; `echo`, `bye`, `reset`,
//! `refuse`, `silent`, `unreachable`, which are others', with the same letters; `unspec`; and `own0`
//! to `own2`, where the socket with that number is, or `zero0` to `zero2`, its port at the wildcard.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{FdFlags, dup, fcntl_getfd, fcntl_setfd, ioctl_fionread};
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_error};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, acceptfrom, bind,
    connect, connect_unspec, getpeername, getsockname, listen, recvfrom, send, sendto, shutdown,
    socket_with,
};
use test_support::failure::{Context, Result};
use test_support::world::{REMOTE_V4, REMOTE_V6, SILENT_V4, SILENT_V6, UNREACHABLE_V4};
use test_support::{fail, sockopt as options, sys};

use crate::peer::Peers;

/// What a call gave, in words; an error is one of them.
type Outcome = io::Result<String>;

#[derive(Debug)]
pub(crate) struct Machine {
    peers: Peers,
    sync: TcpStream,
    slots: BTreeMap<u8, Slot>,
    epoll: Option<OwnedFd>,
    /// Ports that the kernel chose, in the order in which they showed.
    ports: Vec<u16>,
    fixed: u16,
}

#[derive(Debug)]
struct Slot {
    socket: OwnedFd,
    v6: bool,
}

impl Machine {
    pub(crate) fn new(peers: &Peers) -> Result<Self> {
        let sync = TcpStream::connect((REMOTE_V4, peers.sync)).context("connecting to the peer")?;
        sync.set_nodelay(true)?;
        let (slots, ports) = (BTreeMap::new(), Vec::new());
        Ok(Self { peers: *peers, sync, slots, epoll: None, ports, fixed: 0 })
    }

    /// Makes the calls of a sequence, and forgets all that came of them.
    pub(crate) fn run(&mut self, sequence: &str) -> Result<Vec<String>> {
        let (fixed, calls) = sequence.split_once(' ').unwrap_or((sequence, ""));
        self.fixed = fixed.parse().context("a port")?;
        let mut trace = Vec::new();
        for call in calls.split(';') {
            let words: Vec<&str> = call.split_whitespace().collect();
            let outcome = match self.call(&words)? {
                None => "nothing there".to_owned(),
                Some(Ok(words)) => words,
                Some(Err(error)) => errno_name(&error),
            };
            trace.push(outcome);
            self.settle()?;
        }
        self.slots.clear();
        self.epoll = None;
        self.ports.clear();
        self.settle()?;
        Ok(trace)
    }

    /// Lets the peer see to what has been sent to it.
    fn settle(&mut self) -> Result {
        let mut byte = [0];
        self.sync.write_all(&byte)?;
        self.sync.read_exact(&mut byte).context("the peer has gone")
    }

    /// `None` for a call on a socket that was never made.
    fn call(&mut self, words: &[&str]) -> Result<Option<Outcome>> {
        match words {
            ["socket", slot, family, kind, mode @ ..] => {
                return Ok(Some(self.socket(slot.parse()?, family, kind, !mode.is_empty())));
            }
            ["epoll"] => {
                self.epoll = None;
                return Ok(Some(
                    epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Into::into).map(|epoll| {
                        let number = epoll.as_raw_fd();
                        self.epoll = Some(epoll);
                        number.to_string()
                    }),
                ));
            }
            ["wait", limit @ ..] => {
                let limit = limit.first().map_or(Ok(0), |limit| limit.parse())?;
                return Ok(self.epoll.as_ref().map(|epoll| wait(epoll, limit)));
            }
            _ => {}
        }
        let [name, slot, rest @ ..] = words else { fail!("no call `{words:?}`") };
        let slot: u8 = slot.parse()?;
        if *name == "close" {
            return Ok(self.slots.remove(&slot).map(|_closed| Ok("0".to_owned())));
        }
        let destination = match (*name, rest) {
            ("bind" | "connect" | "sendto", [to]) => self.address(slot, to)?,
            _ => None,
        };
        let Some(Slot { socket, v6 }) = self.slots.get(&slot) else { return Ok(None) };
        let outcome: Outcome = match (*name, rest) {
            ("connect", ["unspec"]) => done(connect_unspec(socket)),
            ("bind" | "connect" | "sendto", _) => match (*name, destination) {
                (_, None) => return Ok(None),
                ("bind", Some(at)) => done(bind(socket, &at)),
                ("connect", Some(to)) => done(connect(socket, &to)),
                (_, Some(to)) => count(sendto(socket, SENT, SendFlags::NOSIGNAL, &to)),
            },
            ("listen", []) => done(listen(socket, 4)),
            ("accept", [into]) => match acceptfrom(socket) {
                Ok((connection, from)) => {
                    let (number, v6) = (connection.as_raw_fd(), *v6);
                    self.slots.insert(into.parse()?, Slot { socket: connection, v6 });
                    let from = from.map(SocketAddr::try_from).transpose()?;
                    Ok(format!("{number} {}", self.named(from)))
                }
                Err(errno) => Err(errno.into()),
            },
            ("dup", [into]) => match dup(socket) {
                Ok(copy) => {
                    let (number, v6) = (copy.as_raw_fd(), *v6);
                    self.slots.insert(into.parse()?, Slot { socket: copy, v6 });
                    Ok(number.to_string())
                }
                Err(errno) => Err(errno.into()),
            },
            ("shutdown", ["rd"]) => done(shutdown(socket, Shutdown::Read)),
            ("shutdown", ["wr"]) => done(shutdown(socket, Shutdown::Write)),
            ("shutdown", ["both"]) => done(shutdown(socket, Shutdown::Both)),
            ("send", []) => count(send(socket, SENT, SendFlags::NOSIGNAL)),
            ("recv", []) => {
                let mut buffer = [0; 64];
                match recvfrom(socket, buffer.as_mut_slice(), RecvFlags::empty()) {
                    Ok((_, length, from)) => {
                        let text = buffer.get(..length.min(64)).unwrap_or_default();
                        let text = String::from_utf8_lossy(text).into_owned();
                        let from = from.map(SocketAddr::try_from).transpose()?;
                        Ok(format!("{text:?} {}", self.named(from)))
                    }
                    Err(errno) => Err(errno.into()),
                }
            }
            ("waiting", []) => ioctl_fionread(socket).map(|n| n.to_string()).map_err(Into::into),
            ("local", []) => match getsockname(socket) {
                Ok(name) => Ok(self.named(Some(name.try_into()?))),
                Err(errno) => Err(errno.into()),
            },
            ("peer", []) => match getpeername(socket) {
                Ok(name) => {
                    let name = name.map(SocketAddr::try_from).transpose()?;
                    Ok(self.named(name))
                }
                Err(errno) => Err(errno.into()),
            },
            ("error", []) => match socket_error(socket) {
                Ok(Ok(())) => Ok("0".to_owned()),
                Ok(Err(errno)) => Ok(errno_name(&errno.into())),
                Err(errno) => Err(errno.into()),
            },
            ("state", []) => sys::option(socket, libc::IPPROTO_TCP, libc::TCP_INFO)
                .map(|info| info.first().map_or_else(String::new, ToString::to_string)),
            ("set", [option]) => {
                let option = options::by_name(option).context("an option")?;
                option.set(socket, option.sample).map(|()| "0".to_owned())
            }
            ("get", [option]) => options::by_name(option).context("an option")?.get(socket),
            ("blocking", []) => {
                done(fcntl_getfl(socket).and_then(|f| fcntl_setfl(socket, f - OFlags::NONBLOCK)))
            }
            ("nonblocking", []) => {
                done(fcntl_getfl(socket).and_then(|f| fcntl_setfl(socket, f | OFlags::NONBLOCK)))
            }
            ("cloexec", []) => done(fcntl_setfd(socket, FdFlags::CLOEXEC)),
            ("flags", []) => {
                let nonblocking = fcntl_getfl(socket)?.contains(OFlags::NONBLOCK);
                let cloexec = fcntl_getfd(socket)?.contains(FdFlags::CLOEXEC);
                Ok(format!("nonblocking {nonblocking}, cloexec {cloexec}"))
            }
            ("poll", limit) => poll_once(socket, !limit.is_empty()),
            ("add" | "mod" | "del", _) => {
                let Some(epoll) = &self.epoll else { return Ok(None) };
                let flags = rest.first().map_or(Ok(epoll::EventFlags::empty()), |e| events(e))?;
                let data = epoll::EventData::new_u64(u64::from(slot));
                done(match *name {
                    "add" => epoll::add(epoll, socket, data, flags),
                    "mod" => epoll::modify(epoll, socket, data, flags),
                    _ => epoll::delete(epoll, socket),
                })
            }
            _ => fail!("no call `{words:?}`"),
        };
        Ok(Some(outcome))
    }

    fn socket(&mut self, slot: u8, family: &str, kind: &str, nonblocking: bool) -> Outcome {
        self.slots.remove(&slot);
        let v6 = family == "6";
        let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
        let kind = if kind == "dgram" { SocketType::DGRAM } else { SocketType::STREAM };
        let flags = if nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
        let socket = socket_with(family, kind, flags, None)?;
        for timeout in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&socket, timeout, Some(PATIENCE))?;
        }
        let number = socket.as_raw_fd();
        self.slots.insert(slot, Slot { socket, v6 });
        Ok(number.to_string())
    }

    /// `None` where it is that of a socket which is not there.
    fn address(&self, slot: u8, word: &str) -> Result<Option<SocketAddr>> {
        let (word, port) = match word.split_once(':') {
            Some((word, _fixed)) => (word, self.fixed),
            None => (word, 0),
        };
        let own_family = match self.slots.get(&slot) {
            Some(Slot { v6: true, .. }) => "6",
            _ => "4",
        };
        let (name, family) = match word.chars().last() {
            Some('4') => (word.trim_end_matches('4'), "4"),
            Some('6') => (word.trim_end_matches('6'), "6"),
            Some('m') => (word.trim_end_matches('m'), "m"),
            _ => (word, own_family),
        };
        let (v4, v6, port) = match name {
            "any" => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, port),
            "loop" => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST, port),
            "echo" => (REMOTE_V4, REMOTE_V6, self.peers.echo),
            "bye" => (REMOTE_V4, REMOTE_V6, self.peers.bye),
            "reset" => (REMOTE_V4, REMOTE_V6, self.peers.reset),
            "refuse" => (REMOTE_V4, REMOTE_V6, REFUSED),
            "silent" => (SILENT_V4, SILENT_V6, REFUSED),
            // There is no such route of IPv6.
            "unreachable" => (UNREACHABLE_V4, UNREACHABLE_V4.to_ipv6_mapped(), REFUSED),
            "unspec" => return Ok(None),
            _ => return self.own(name, own_family),
        };
        Ok(Some(match family {
            "4" => SocketAddr::from((v4, port)),
            "6" => SocketAddr::from((v6, port)),
            _ => SocketAddr::from((v4.to_ipv6_mapped(), port)),
        }))
    }

    fn own(&self, name: &str, family: &str) -> Result<Option<SocketAddr>> {
        let (wildcard, digit) = match (name.strip_prefix("own"), name.strip_prefix("zero")) {
            (Some(digit), _) => (false, digit),
            (_, Some(digit)) => (true, digit),
            _ => fail!("no address `{name}`"),
        };
        let Some(other) = self.slots.get(&digit.parse()?) else { return Ok(None) };
        let mut at = SocketAddr::try_from(getsockname(&other.socket)?)?;
        let (v4, v6) = if wildcard {
            (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED)
        } else {
            (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)
        };
        if wildcard || at.ip().is_unspecified() {
            at.set_ip(if family == "6" { v6.into() } else { v4.into() });
        }
        Ok(Some(at))
    }

    /// An address, with names for ports that may be others the next time.
    fn named(&mut self, address: Option<SocketAddr>) -> String {
        let Some(address) = address else { return "-".to_owned() };
        let port = address.port();
        let known = match port {
            0 => Some("0"),
            REFUSED => Some("refuse"),
            _ if port == self.peers.echo => Some("echo"),
            _ if port == self.peers.bye => Some("bye"),
            _ if port == self.peers.reset => Some("reset"),
            _ if port == self.fixed => Some("fixed"),
            _ => None,
        };
        let port = known.map_or_else(
            || {
                let seen = self.ports.iter().position(|known| *known == port);
                let nth = seen.unwrap_or_else(|| {
                    self.ports.push(port);
                    self.ports.len() - 1
                });
                format!("port{nth}")
            },
            ToOwned::to_owned,
        );
        match address.ip() {
            IpAddr::V4(ip) => format!("{ip}:{port}"),
            IpAddr::V6(ip) => format!("[{ip}]:{port}"),
        }
    }
}

fn events(word: &str) -> Result<epoll::EventFlags> {
    use epoll::EventFlags as E;
    let mut flags = E::empty();
    for letter in word.chars() {
        flags |= match letter {
            'i' => E::IN,
            'o' => E::OUT,
            'r' => E::RDHUP,
            'e' => E::ET,
            '1' => E::ONESHOT,
            _ => fail!("no event `{letter}`"),
        };
    }
    Ok(flags)
}

fn wait(epoll: &OwnedFd, limit: u64) -> Outcome {
    let mut found = Vec::with_capacity(8);
    let limit = Timespec::try_from(Duration::from_millis(limit)).map_err(io::Error::other)?;
    epoll::wait(epoll, rustix::buffer::spare_capacity(&mut found), Some(&limit))?;
    let mut found: Vec<_> = found
        .iter()
        .map(|event| {
            let (flags, data) = (event.flags, event.data);
            format!("{}:{:x}", data.u64(), flags.bits())
        })
        .collect();
    found.sort();
    Ok(format!("[{}]", found.join(" ")))
}

fn poll_once(socket: &OwnedFd, waits: bool) -> Outcome {
    let all = PollFlags::IN | PollFlags::OUT | PollFlags::PRI | PollFlags::RDHUP;
    let mut fds = [PollFd::new(socket, if waits { PollFlags::IN } else { all })];
    let limit = Duration::from_millis(if waits { 10 } else { 0 });
    poll(&mut fds, Some(&Timespec::try_from(limit).map_err(io::Error::other)?))?;
    Ok(fds.iter().map(|fd| format!("{:x}", fd.revents().bits())).collect())
}

fn done(result: rustix::io::Result<()>) -> Outcome {
    Ok(result.map(|()| "0".to_owned())?)
}

fn count(result: rustix::io::Result<usize>) -> Outcome {
    Ok(result.map(|count| count.to_string())?)
}

fn errno_name(error: &io::Error) -> String {
    let number = error.raw_os_error();
    number
        .map_or_else(|| error.to_string(), |raw| format!("{:?}", nix::errno::Errno::from_raw(raw)))
}

const SENT: &[u8] = b"some";
/// Nothing of the remote's serves this port.
const REFUSED: u16 = 1;
/// How long a call on a blocking socket waits.
const PATIENCE: Duration = Duration::from_millis(30);
