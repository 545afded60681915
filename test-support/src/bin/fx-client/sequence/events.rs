//! Epolls that watch the socket, as event loops use them.
//!
//! | step | call |
//! |---|---|
//! | `ep:new` `ep:use=N` `ep:dup` `ep:close` | one more epoll; that one; a duplicate; without it |
//! | `ep:add=FLAGS` `ep:mod=FLAGS` `ep:del` | epoll_ctl of the socket, with flags such as `out+et` |
//! | `ep:nest` | one more epoll, which watches the one before |
//! | `ep:wait` `ep:poll` | the events: waits for one; those that are there |

use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventFlags};
use rustix::io::fcntl_dupfd_cloexec;
use serde_json::{Value, json};
use test_support::fail;
use test_support::failure::{Context, Result};

use super::{LONG, Outcome, Subject, done};

impl Subject {
    pub(super) fn epoll_step(&mut self, step: &str) -> Result<Outcome> {
        let (name, argument) = step.split_once('=').unwrap_or((step, ""));
        if name == "new" {
            self.epolls.push(epoll::create(epoll::CreateFlags::CLOEXEC)?);
            return Ok(Ok(Value::Null));
        }
        if name == "use" {
            let chosen = argument.parse::<usize>()?;
            if chosen >= self.epolls.len() {
                fail!("no epoll {chosen}");
            }
            let last = self.epolls.remove(chosen);
            self.epolls.push(last);
            return Ok(Ok(Value::Null));
        }
        if name == "close" {
            self.epolls.pop().context("ep:close without ep:new")?;
            return Ok(Ok(Value::Null));
        }
        let at = self.epolls.last().context("no epoll")?;
        Ok(match name {
            "add" => done(epoll::add(at, &self.socket, DATA, flags(argument)?)),
            "mod" => done(epoll::modify(at, &self.socket, OTHER_DATA, flags(argument)?)),
            "del" => done(epoll::delete(at, &self.socket)),
            "wait" => Ok(events(at, LONG)?),
            "poll" => Ok(events(at, Duration::ZERO)?),
            "dup" => {
                let copy = fcntl_dupfd_cloexec(at, 0)?;
                self.epolls.push(copy);
                Ok(Value::Null)
            }
            "nest" => {
                let outer = epoll::create(epoll::CreateFlags::CLOEXEC)?;
                let added = epoll::add(&outer, at, NESTED_DATA, EventFlags::IN);
                self.epolls.push(outer);
                done(added)
            }
            _ => fail!("no step `ep:{step}`"),
        })
    }
}

/// What an epoll has to tell, as bits and data.
fn events(at: impl std::os::fd::AsFd, limit: Duration) -> Result<Value> {
    let mut events = Vec::with_capacity(8);
    let limit = Timespec::try_from(limit)?;
    epoll::wait(at, rustix::buffer::spare_capacity(&mut events), Some(&limit))?;
    // The kernel's struct is packed: fields are copied out.
    let told = events.iter().map(|event| {
        let (flags, data) = (event.flags, event.data);
        json!([flags.bits(), data.u64()])
    });
    Ok(told.collect())
}

fn flags(names: &str) -> Result<EventFlags> {
    names.split('+').try_fold(EventFlags::empty(), |flags, name| {
        Ok(flags
            | match name {
                "in" => EventFlags::IN,
                "out" => EventFlags::OUT,
                "rdhup" => EventFlags::RDHUP,
                "et" => EventFlags::ET,
                "oneshot" => EventFlags::ONESHOT,
                "exclusive" => EventFlags::EXCLUSIVE,
                "wakeup" => EventFlags::WAKEUP,
                _ => fail!("no epoll flag `{name}`"),
            })
    })
}

const DATA: epoll::EventData = epoll::EventData::new_u64(0xfeed_0000_0000_0007);
const OTHER_DATA: epoll::EventData = epoll::EventData::new_u64(8);
const NESTED_DATA: epoll::EventData = epoll::EventData::new_u64(9);
