//! Connections that another process uses, and processes that die in a call.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio, exit};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde_json::{Value, json};
use test_support::census::wait_connecting;
use test_support::failure::{Context, Result};
use test_support::{ensure, sys};

use crate::echo;

/// A forked child uses the connection, then makes one of its own.
pub(crate) fn forked(address: SocketAddr) -> Result<Value> {
    let mut stream = TcpStream::connect(address)?;
    let Some(child) = sys::fork()? else {
        let talk = echo(&mut stream).and_then(|()| echo(&mut TcpStream::connect(address)?));
        #[expect(clippy::exit, reason = "the child must not run on as a second parent")]
        exit(i32::from(talk.is_err()));
    };
    let child = nix::unistd::Pid::from_raw(i32::try_from(child)?);
    let status = nix::sys::wait::waitpid(child, None)?;
    let good = matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0));
    ensure!(good, "the child ended with {status:?}");
    echo(&mut stream).context("after the child")?;
    Ok(json!({ "forked": true }))
}

/// The next program uses the connection, as its standard input.
pub(crate) fn executed(address: SocketAddr) -> Result<Value> {
    let stream: OwnedFd = TcpStream::connect(address)?.into();
    let status = Command::new(std::env::current_exe()?)
        .arg("adopt")
        .stdin(Stdio::from(stream))
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "the next program ended with {status}");
    Ok(json!({ "executed": true }))
}

/// What [`executed`] executes.
pub(crate) fn adopt() -> Result<Value> {
    let stream = std::io::stdin().as_fd().try_clone_to_owned()?;
    echo(&mut TcpStream::from(stream))?;
    Ok(json!({ "adopted": true }))
}

/// The connection goes through a UNIX socket and is used on its other side.
pub(crate) fn passed(address: SocketAddr) -> Result<Value> {
    let (here, there) = UnixStream::pair()?;
    let stream = TcpStream::connect(address)?;
    let fds = [stream.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    ensure!(control.push(SendAncillaryMessage::ScmRights(&fds)), "no space for a descriptor");
    sendmsg(&here, &[IoSlice::new(b"x")], &mut control, SendFlags::empty())?;
    drop(stream);

    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(&there, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::empty())?;
    let mut received = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
        _ => Vec::new(),
    });
    let socket = received.next().context("no descriptor came")?;
    echo(&mut TcpStream::from(socket))?;
    Ok(json!({ "passed": true }))
}

/// `count` children are killed while they wait in connect(2).
pub(crate) fn killed(silent: &str, count: usize) -> Result<Value> {
    for _ in 0..count {
        let connect = format!("connect={silent}");
        let family = if silent.starts_with('[') { "inet6" } else { "inet" };
        let mut child = Command::new(std::env::current_exe()?)
            .args(["sequence", family, "stream", &connect])
            .stdout(Stdio::null())
            .spawn()?;
        let waiting = wait_connecting(child.id(), 1, Duration::from_secs(10));
        child.kill()?;
        child.wait()?;
        waiting?;
    }
    Ok(json!({ "killed": count }))
}
