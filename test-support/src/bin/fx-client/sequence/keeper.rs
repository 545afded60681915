//! Somebody else who has the socket: a child, or a message on its way.
//!
//! | step | call |
//! |---|---|
//! | `keeper` | fork; the child keeps all that we have |
//! | `sharer` | clone(CLONE_FILES); the child has our table |
//! | `keeper:STEP` | the child makes that step |
//! | `keeper-end` | it ends |
//! | `send-fd` `recv-fd` | the socket goes into a message; go on with what comes out of it |

use std::io::{BufRead as _, BufReader, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde_json::{Value, json};
use test_support::failure::{Context, Result};
use test_support::{ensure, sys};

use super::{Outcome, Subject};
use crate::errno_name;

/// A child that makes steps when it is told to.
#[derive(Debug)]
pub(super) struct Keeper {
    child: nix::unistd::Pid,
    orders: BufReader<UnixStream>,
}

impl Subject {
    pub(super) fn keep_elsewhere(&mut self, share_table: bool) -> Result<Outcome> {
        let (ours, theirs) = UnixStream::pair()?;
        let born = if share_table { sys::fork_sharing_descriptors() } else { sys::fork() };
        let Some(child) = born? else {
            if share_table {
                // It is the parent's to close.
                std::mem::forget(ours);
            } else {
                drop(ours);
            }
            let status = self.obey(&theirs).is_err();
            // It must not run on as a second parent.
            std::process::exit(i32::from(status));
        };
        let child = nix::unistd::Pid::from_raw(i32::try_from(child)?);
        if share_table {
            std::mem::forget(theirs);
        }
        self.keeper = Some(Keeper { child, orders: BufReader::new(ours) });
        Ok(Ok(Value::Null))
    }

    fn obey(&mut self, orders: &UnixStream) -> Result {
        for step in BufReader::new(orders.try_clone()?).lines() {
            let told = match self.step(&step?)? {
                Ok(value) => json!({ "result": "ok", "value": value }),
                Err(error) => json!({ "result": errno_name(&error), "value": null }),
            };
            writeln!(&mut &*orders, "{told}")?;
        }
        Ok(())
    }

    pub(super) fn tell_keeper(&mut self, step: &str) -> Result<Outcome> {
        let keeper = self.keeper.as_mut().context("no keeper")?;
        writeln!(keeper.orders.get_mut(), "{step}")?;
        let mut line = String::new();
        keeper.orders.read_line(&mut line)?;
        Ok(Ok(serde_json::from_str(&line).context("the keeper has ended")?))
    }

    pub(super) fn end_keeper(&mut self) -> Result<Outcome> {
        let Keeper { child, orders } = self.keeper.take().context("no keeper")?;
        drop(orders);
        let status = nix::sys::wait::waitpid(child, None)?;
        let good = matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0));
        ensure!(good, "the keeper ended with {status:?}");
        Ok(Ok(Value::Null))
    }

    pub(super) fn send_descriptor(&mut self) -> Result<Outcome> {
        let (here, there) = UnixStream::pair()?;
        let fds = [self.socket.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        ensure!(control.push(SendAncillaryMessage::ScmRights(&fds)), "no space for a descriptor");
        sendmsg(&here, &[IoSlice::new(b"x")], &mut control, SendFlags::empty())?;
        self.on_its_way = Some(there);
        Ok(Ok(Value::Null))
    }

    pub(super) fn receive_descriptor(&mut self) -> Result<Outcome> {
        let there = self.on_its_way.take().context("recv-fd without send-fd")?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        recvmsg(&there, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::empty())?;
        let mut received = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<OwnedFd>>(),
            _ => Vec::new(),
        });
        let socket = received.next().context("no descriptor came")?;
        self.others.push(std::mem::replace(&mut self.socket, socket));
        Ok(Ok(Value::Null))
    }
}
