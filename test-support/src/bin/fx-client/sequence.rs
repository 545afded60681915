//! One socket, and a list of calls made on it in turn.
//!
//! | step | call |
//! |---|---|
//! | `connect=ADDR` `unspec` | connect |
//! | `bind=ADDR` `listen=N` `shutdown` | what they say |
//! | `send=TEXT` `recv` | send, recv; `recv` returns at most 4096 bytes |
//! | `sendto=ADDR` `sendmsg=ADDR` `fastopen=ADDR` | one datagram or segment to an address |
//! | `local` `peer` | getsockname, getpeername |
//! | `nonblocking` `blocking` `cloexec` `flags` | `O_NONBLOCK`, `FD_CLOEXEC` |
//! | `set:NAME=VALUE` `get:NAME` `set-all` `get-all` | socket options |
//! | `wait` | poll until writable, then `SO_ERROR` |
//! | `epoll-add` `epoll-wait` | register with an epoll, wait for its event |
//! | `dup` | go on with a duplicate; the first one stays open |
//! | `new` | go on with a fresh socket |

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFlags, Timespec, epoll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketType, bind, connect,
    connect_unspec, getpeername, getsockname, listen, recv, send, sendmsg_addr, sendto, shutdown,
    socket, sockopt,
};
use serde_json::{Map, Value, json};
use test_support::failure::{Context, Result};
use test_support::process::poll_until;
use test_support::{fail, sockopt as options};

use crate::errno_name;

/// `sequence [FAMILY] [TYPE] STEP...`
pub(crate) fn run(words: &[&str]) -> Result<Value> {
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
    let mut subject = Subject {
        family,
        kind,
        socket: socket(family, kind, None)?,
        others: Vec::new(),
        epoll: None,
    };
    let mut results = Vec::new();
    for step in steps {
        let started = Instant::now();
        let (result, value) = match subject.step(step)? {
            Ok(value) => ("ok".to_owned(), value),
            Err(error) => (errno_name(&error), Value::Null),
        };
        let millis = u64::try_from(started.elapsed().as_millis())?;
        results.push(json!({ "step": step, "result": result, "value": value, "ms": millis }));
    }
    Ok(Value::Array(results))
}

#[derive(Debug)]
struct Subject {
    family: AddressFamily,
    kind: SocketType,
    socket: OwnedFd,
    others: Vec<OwnedFd>,
    epoll: Option<OwnedFd>,
}

/// What a call returned, as JSON; null where it returns nothing of interest.
type Outcome = io::Result<Value>;

impl Subject {
    /// Makes one call; the outer error is a step that cannot be understood.
    fn step(&mut self, step: &str) -> Result<Outcome> {
        if let Some(option) = step.strip_prefix("set:") {
            let (name, value) = option.split_once('=').context("set:NAME=VALUE")?;
            let option = options::by_name(name).context(name)?;
            return Ok(option.set(&self.socket, value.parse()?).map(|()| Value::Null));
        }
        if let Some(name) = step.strip_prefix("get:") {
            return Ok(options::by_name(name).context(name)?.get(&self.socket).map(Value::from));
        }
        Ok(match step.split_once('=') {
            None => self.call(step)?,
            Some(("send", text)) => {
                send(&self.socket, text.as_bytes(), SendFlags::NOSIGNAL).map_or_else(failed, count)
            }
            Some(("listen", backlog)) => done(listen(&self.socket, backlog.parse()?)),
            Some((name, address)) => self.call_with(name, address.parse()?)?,
        })
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
            _ => fail!("no step `{name}`"),
        })
    }

    fn call(&mut self, name: &str) -> Result<Outcome> {
        let socket = &self.socket;
        Ok(match name {
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
            "epoll-wait" => self.wait_epoll()?,
            "dup" => {
                let copy = fcntl_dupfd_cloexec(socket, 0)?;
                self.others.push(std::mem::replace(&mut self.socket, copy));
                Ok(Value::Null)
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
        Ok(String::from_utf8_lossy(buffer.get(..read).unwrap_or_default()).into_owned().into())
    }

    fn set_all(&self) -> Outcome {
        let mut refused = Map::new();
        for option in options::of_tcp(self.family == AddressFamily::INET6) {
            if let Err(error) = option.set(&self.socket, option.sample) {
                refused.insert(option.name.to_owned(), errno_name(&error).into());
            }
        }
        Ok(refused.into())
    }

    fn get_all(&self) -> Outcome {
        let mut values = Map::new();
        for option in options::of_tcp(self.family == AddressFamily::INET6) {
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
    let address = SocketAddr::try_from(address)?;
    Ok(address.to_string().into())
}

const PAYLOAD: &[u8] = b"payload";

/// Longer than anything that is waited for takes, short of a test's own limit.
const LONG: Duration = Duration::from_secs(10);
