//! One socket, and a list of calls made on it in turn.
//!
//! | step | call |
//! |---|---|
//! | `connect=ADDR` `unspec` | connect |
//! | `bind=ADDR` `listen=N` `shutdown` `shutdown=rd` `shutdown=wr` | what they say |
//! | `accept` `back` | go on with an accepted connection; with the listener again |
//! | `send=TEXT` `recv` | send, recv; `recv` returns at most 4096 bytes |
//! | `sendto=ADDR` `sendmsg=ADDR` `fastopen=ADDR` | one datagram or segment to an address |
//! | `sendmmsg[=ADDR]` `segmented[=ADDR]` | two datagrams; three by way of `UDP_SEGMENT` |
//! | `oif4=ADDR` `oif6=ADDR` | sendmsg by the loopback device, as `IP_PKTINFO` has it |
//! | `oif4-many=ADDR` `oif6-many=ADDR` | the same with sendmmsg |
//! | `recvmsg` `recvmmsg=N` | with source and control messages; N datagrams |
//! | `reply=TEXT` | to the last `recvmsg`'s source, from the address that it was sent to |
//! | `local` `peer` | getsockname, getpeername |
//! | `local:ROOM` `peer:ROOM` `accept:ROOM` | with a buffer of a length, `nobuffer`, `nolength` |
//! | `nonblocking` `blocking` `cloexec` `flags` | `O_NONBLOCK`, `FD_CLOEXEC` |
//! | `set:NAME=VALUE` `get:NAME` `set-all` `get-all` | socket options |
//! | `wait` | poll until writable, then `SO_ERROR` |
//! | `epoll-add` `epoll-wait` | register with an epoll, wait for its event |
//! | `epoll-dup` | keep a duplicate of the epoll's descriptor as well |
//! | `poll` | what poll tells of it now, of `IN`, `OUT` and `RDHUP` |
//! | `dup` | go on with a duplicate; the first one stays open |
//! | `swap` `drop` | go on with that one; close it |
//! | `same` | whether that one is the same socket, by its cookie |
//! | `child:STEP` | a forked child makes that call |
//! | `new` | go on with a fresh socket |
//!
//! and those of [`events`] and [`keeper`].

mod events;
mod keeper;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketType, acceptfrom,
    bind, connect, connect_unspec, getpeername, getsockname, listen, recv, send, sendmsg_addr,
    sendto, shutdown, socket, sockopt,
};
use serde_json::{Map, Value, json};
use test_support::failure::{Context, Result};
use test_support::process::poll_until;
use test_support::sys::{self, Naming, Room};
use test_support::{fail, sockopt as options};

use self::keeper::Keeper;
use crate::datagrams::{self, Device, Received};
use crate::errno_name;

/// `sequence [FAMILY] [TYPE] STEP...`
pub(crate) fn run(words: &[&str]) -> Result<Value> {
    let (mut subject, steps) = Subject::open(words)?;
    subject.steps(steps)
}

/// A socket that steps are made on.
#[derive(Debug)]
pub(crate) struct Subject {
    family: AddressFamily,
    kind: SocketType,
    socket: OwnedFd,
    others: Vec<OwnedFd>,
    epoll: Option<OwnedFd>,
    epolls: Vec<OwnedFd>,
    keeper: Option<Keeper>,
    on_its_way: Option<UnixStream>,
    last: Option<Received>,
}

/// What a call returned, as JSON; null where it returns nothing of interest.
type Outcome = io::Result<Value>;

impl Subject {
    /// Makes the socket that the first words describe; returns the others too.
    pub(crate) fn open<'a>(words: &'a [&'a str]) -> Result<(Self, &'a [&'a str])> {
        let (mut family, mut kind) = (AddressFamily::INET, SocketType::STREAM);
        let mut steps = words;
        while let [first, rest @ ..] = steps {
            match *first {
                "inet" => family = AddressFamily::INET,
                "inet6" => family = AddressFamily::INET6,
                "stream" => kind = SocketType::STREAM,
                "dgram" => kind = SocketType::DGRAM,
                _ => break,
            }
            steps = rest;
        }
        let socket = socket(family, kind, None)?;
        let subject = Self {
            family,
            kind,
            socket,
            others: Vec::new(),
            epoll: None,
            epolls: Vec::new(),
            keeper: None,
            on_its_way: None,
            last: None,
        };
        Ok((subject, steps))
    }

    /// Makes every call in turn, whatever comes of the ones before it.
    pub(crate) fn steps(&mut self, steps: &[&str]) -> Result<Value> {
        let mut results = Vec::new();
        for step in steps {
            let started = Instant::now();
            let (result, value) = match self.step(step)? {
                Ok(value) => ("ok".to_owned(), value),
                Err(error) => (errno_name(&error), Value::Null),
            };
            let millis = u64::try_from(started.elapsed().as_millis())?;
            results.push(json!({ "step": step, "result": result, "value": value, "ms": millis }));
        }
        Ok(Value::Array(results))
    }

    /// Makes one call; the outer error is a step that cannot be understood.
    fn step(&mut self, step: &str) -> Result<Outcome> {
        if let Some(step) = step.strip_prefix("child:") {
            return self.in_child(step);
        }
        if let Some(step) = step.strip_prefix("keeper:") {
            return self.tell_keeper(step);
        }
        if let Some(step) = step.strip_prefix("ep:") {
            return self.epoll_step(step);
        }
        match step {
            "keeper" => return self.keep_elsewhere(false),
            "sharer" => return self.keep_elsewhere(true),
            "keeper-end" => return self.end_keeper(),
            "send-fd" => return self.send_descriptor(),
            "recv-fd" => return self.receive_descriptor(),
            _ => {}
        }
        if let Some(option) = step.strip_prefix("set:") {
            let (name, value) = option.split_once('=').context("set:NAME=VALUE")?;
            let option = options::by_name(name).context(name)?;
            return Ok(option.set(&self.socket, value.parse()?).map(|()| Value::Null));
        }
        if let Some(name) = step.strip_prefix("get:") {
            return Ok(options::by_name(name).context(name)?.get(&self.socket).map(Value::from));
        }
        if let Some((call, room)) = step.split_once(':')
            && let Some(call) = naming(call)
        {
            return self.name(call, room);
        }
        Ok(match step.split_once('=') {
            None => self.call(step)?,
            Some(("recvmmsg", count)) => datagrams::receive_many(&self.socket, count.parse()?),
            Some(("reply", text)) => {
                let last = self.last.as_ref().context("reply without recvmsg")?;
                datagrams::reply(&self.socket, text.as_bytes(), last)
            }
            Some(("send", text)) => {
                send(&self.socket, text.as_bytes(), SendFlags::NOSIGNAL).map_or_else(failed, count)
            }
            Some(("shutdown", "rd")) => done(shutdown(&self.socket, Shutdown::Read)),
            Some(("shutdown", "wr")) => done(shutdown(&self.socket, Shutdown::Write)),
            Some(("listen", backlog)) => done(listen(&self.socket, backlog.parse()?)),
            Some((name, address)) => self.call_with(name, address.parse()?)?,
        })
    }

    /// Makes a call in a child; an error is told as `EIO`, whatever it was.
    fn in_child(&mut self, step: &str) -> Result<Outcome> {
        let Some(child) = sys::fork()? else {
            let outcome = self.step(step);
            // It must not run on as a second parent.
            std::process::exit(i32::from(!matches!(outcome, Ok(Ok(_)))));
        };
        let child = nix::unistd::Pid::from_raw(i32::try_from(child)?);
        match nix::sys::wait::waitpid(child, None)? {
            nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(Ok(Value::Null)),
            _ => Ok(Err(io::Error::from_raw_os_error(libc::EIO))),
        }
    }

    fn call_with(&self, name: &str, address: SocketAddr) -> Result<Outcome> {
        let fastopen = SendFlags::from_bits_retain(libc::MSG_FASTOPEN.unsigned_abs());
        Ok(match name {
            "connect" => done(connect(&self.socket, &address)),
            "bind" => done(bind(&self.socket, &address)),
            "sendto" => sendto(&self.socket, PAYLOAD, SendFlags::NOSIGNAL, &address)
                .map_or_else(failed, count),
            "fastopen" => sendto(&self.socket, PAYLOAD, fastopen | SendFlags::NOSIGNAL, &address)
                .map_or_else(failed, count),
            "sendmsg" => sendmsg_addr(
                &self.socket,
                &address,
                &[io::IoSlice::new(PAYLOAD)],
                &mut SendAncillaryBuffer::default(),
                SendFlags::NOSIGNAL,
            )
            .map_or_else(failed, count),
            "sendmmsg" => datagrams::send_two(&self.socket, Some(address)),
            "segmented" => datagrams::send_segmented(&self.socket, Some(address)),
            "oif4" => datagrams::send_by_loopback(&self.socket, address, Device::V4, false),
            "oif6" => datagrams::send_by_loopback(&self.socket, address, Device::V6, false),
            "oif4-many" => datagrams::send_by_loopback(&self.socket, address, Device::V4, true),
            "oif6-many" => datagrams::send_by_loopback(&self.socket, address, Device::V6, true),
            _ => fail!("no step `{name}`"),
        })
    }

    fn call(&mut self, name: &str) -> Result<Outcome> {
        let socket = &self.socket;
        Ok(match name {
            "accept" => match acceptfrom(socket) {
                Ok((connection, from)) => {
                    self.others.push(std::mem::replace(&mut self.socket, connection));
                    from.map_or(Ok(Value::Null), address)
                }
                Err(error) => failed(error),
            },
            "back" => {
                self.socket = self.others.pop().context("back without accept")?;
                Ok(Value::Null)
            }
            "recvmsg" => datagrams::receive(socket).map(|received| {
                let value = received.value.clone();
                self.last = Some(received);
                value
            }),
            "sendmmsg" => datagrams::send_two(socket, None),
            "segmented" => datagrams::send_segmented(socket, None),
            "unspec" => done(connect_unspec(socket)),
            "shutdown" => done(shutdown(socket, Shutdown::Both)),
            "recv" => self.receive(),
            "local" => getsockname(socket).map_or_else(failed, address),
            "peer" => getpeername(socket).map_or_else(failed, |peer| match peer {
                Some(peer) => address(peer),
                None => Ok(Value::Null),
            }),
            "nonblocking" => {
                done(fcntl_getfl(socket).and_then(|f| fcntl_setfl(socket, f | OFlags::NONBLOCK)))
            }
            "blocking" => {
                done(fcntl_getfl(socket).and_then(|f| fcntl_setfl(socket, f - OFlags::NONBLOCK)))
            }
            "cloexec" => done(fcntl_setfd(socket, FdFlags::CLOEXEC)),
            "flags" => Ok(json!({
                "nonblocking": fcntl_getfl(socket)?.contains(OFlags::NONBLOCK),
                "cloexec": fcntl_getfd(socket)?.contains(FdFlags::CLOEXEC),
            })),
            "set-all" => self.set_all(),
            "get-all" => self.get_all(),
            "wait" => {
                if poll_until(socket, PollFlags::OUT, Instant::now() + LONG)? {
                    match sockopt::socket_error(socket)? {
                        Ok(()) => Ok(Value::Null),
                        Err(error) => Err(error.into()),
                    }
                } else {
                    Err(io::ErrorKind::TimedOut.into())
                }
            }
            "epoll-add" => {
                let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
                let events = epoll::EventFlags::OUT | epoll::EventFlags::ET;
                let added = epoll::add(&epoll, socket, epoll::EventData::new_u64(77), events);
                self.epoll = Some(epoll);
                done(added)
            }
            "epoll-dup" => {
                let epoll = self.epoll.as_ref().context("epoll-dup without epoll-add")?;
                self.others.push(fcntl_dupfd_cloexec(epoll, 0)?);
                Ok(Value::Null)
            }
            "epoll-wait" => self.wait_epoll()?,
            "dup" => {
                let copy = fcntl_dupfd_cloexec(socket, 0)?;
                self.others.push(std::mem::replace(&mut self.socket, copy));
                Ok(Value::Null)
            }
            "swap" => {
                let other = self.others.last_mut().context("swap without dup")?;
                std::mem::swap(&mut self.socket, other);
                Ok(Value::Null)
            }
            "drop" => {
                self.others.pop().context("drop without dup")?;
                Ok(Value::Null)
            }
            "same" => {
                let other = self.others.last().context("same without dup")?;
                let cookies = [socket, other].map(sockopt::socket_cookie);
                Ok((cookies[0]? == cookies[1]?).into())
            }
            "poll" => {
                let wanted = PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP;
                let mut polled = [PollFd::new(socket, wanted)];
                poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
                Ok(polled[0].revents().bits().into())
            }
            "new" => {
                let fresh = rustix::net::socket(self.family, self.kind, None)?;
                self.others.push(std::mem::replace(&mut self.socket, fresh));
                Ok(Value::Null)
            }
            _ => fail!("no step `{name}`"),
        })
    }

    fn receive(&self) -> Outcome {
        let mut buffer = [0; 4096];
        let (read, _whole) = recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        Ok(datagrams::text(buffer.get(..read).unwrap_or_default()).into())
    }

    /// A naming call with a buffer of `room`.
    fn name(&mut self, call: Naming, room: &str) -> Result<Outcome> {
        let room = match room {
            "nobuffer" => Room::NoBuffer,
            "nolength" => Room::NoLength,
            bytes => Room::Bytes(bytes.parse()?),
        };
        // A byte that was written may be the one that was there: a port may end with any.
        let again = match call {
            Naming::Accept => None,
            _ => sys::name(&self.socket, call, room, !UNTOUCHED).ok(),
        };
        Ok(sys::name(&self.socket, call, room, UNTOUCHED).map(|named| {
            let last = |named: &sys::Named, untouched| {
                named.buffer.iter().rposition(|byte| *byte != untouched)
            };
            let last = last(&named, UNTOUCHED)
                .max(again.as_ref().and_then(|again| last(again, !UNTOUCHED)));
            let written = named.buffer.get(..last.map_or(0, |last| last + 1));
            let hex: String =
                written.unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect();
            if let Some(connection) = named.accepted {
                self.others.push(std::mem::replace(&mut self.socket, connection));
            }
            json!({ "length": named.length, "written": hex })
        }))
    }

    fn options(&self) -> Vec<&'static options::Opt> {
        let v6 = self.family == AddressFamily::INET6;
        if self.kind == SocketType::DGRAM {
            options::of_udp(v6).collect()
        } else {
            options::of_tcp(v6).collect()
        }
    }

    fn set_all(&self) -> Outcome {
        let mut refused = Map::new();
        for option in self.options() {
            if let Err(error) = option.set(&self.socket, option.sample) {
                refused.insert(option.name.to_owned(), errno_name(&error).into());
            }
        }
        Ok(refused.into())
    }

    fn get_all(&self) -> Outcome {
        let mut values = Map::new();
        for option in self.options() {
            let value = option.get(&self.socket).unwrap_or_else(|error| errno_name(&error));
            values.insert(option.name.to_owned(), value.into());
        }
        Ok(values.into())
    }

    /// Waits for an event with the data that `epoll-add` registered.
    fn wait_epoll(&self) -> Result<Outcome> {
        let epoll = self.epoll.as_ref().context("epoll-wait without epoll-add")?;
        let mut events = Vec::with_capacity(4);
        let timeout = Timespec::try_from(LONG)?;
        epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout))?;
        let Some(event) = events.first() else { return Ok(Err(io::ErrorKind::TimedOut.into())) };
        let (flags, data) = (event.flags, event.data);
        Ok(Ok(json!({ "events": flags.bits(), "data": data.u64() })))
    }
}

fn naming(call: &str) -> Option<Naming> {
    match call {
        "local" => Some(Naming::Local),
        "peer" => Some(Naming::Peer),
        "accept" => Some(Naming::Accept),
        _ => None,
    }
}

fn done(result: rustix::io::Result<()>) -> Outcome {
    Ok(result.map(|()| Value::Null)?)
}

fn count(bytes: usize) -> Outcome {
    Ok(bytes.into())
}

fn failed(error: rustix::io::Errno) -> Outcome {
    Err(error.into())
}

fn address(address: rustix::net::SocketAddrAny) -> Outcome {
    Ok(SocketAddr::try_from(address)?.to_string().into())
}

const PAYLOAD: &[u8] = b"payload";

/// Longer than anything that is waited for takes, short of a test's own limit.
const LONG: Duration = Duration::from_secs(10);

/// What a buffer holds before a call.
const UNTOUCHED: u8 = 0xEE;
