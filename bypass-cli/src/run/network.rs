//! The network inside: loopback, and what `--net` attaches.

use std::io::{self, BufRead as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::args::Net;

/// lo is always the first device of a namespace.
const LOOPBACK_INDEX: u32 = 1;
const MAX_ANSWER: usize = 4096;
/// How long slirp4netns or pasta may take to set up the device.
const ATTACH_WITHIN: Duration = Duration::from_secs(10);
const SLIRP_DEVICE: &str = "tap0";
/// What slirp4netns(1) gives the namespace unless told otherwise.
const SLIRP_NET: &str = "10.0.2.0/24";
/// Largest that slirp4netns takes; every other choice is slower.
const SLIRP_MTU: u32 = 65520;

/// Brings up lo in the calling thread's network namespace.
pub(super) fn raise_loopback() -> io::Result<()> {
    let mut link = LinkMessage::default();
    link.header.index = LOOPBACK_INDEX;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::SetLink(link));
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    message.finalize();
    let mut request = vec![0; message.buffer_len()];
    message.serialize(&mut request);

    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request, 0)?;
    let mut answer = Vec::with_capacity(MAX_ANSWER);
    socket.recv(&mut answer, 0)?;
    let answer =
        NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        _ => Ok(()),
    }
}

/// The cookie of the calling thread's network namespace.
pub(super) fn own_netns_cookie() -> Option<u64> {
    bypass_core::own_netns_cookie().ok().flatten()
}

/// The network that could not be attached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    #[error(
        "--net {program}: {program} cannot be started; install it (Debian: {}), or do without --net, \
         which only what is not bypassed needs",
        package(program)
    )]
    Start { program: &'static str, source: io::Error },
    #[error(
        "--net {program}: {TUN} cannot be opened, which {program} needs; have the administrator run \
         `modprobe tun; chmod 666 {TUN}`, or do without --net"
    )]
    Tun { program: &'static str, source: io::Error },
    #[error(
        "--net {program}: {program} gave up; it said: {said} (`--debug` shows all of it; the other \
         of slirp4netns and pasta may do)"
    )]
    Failed { program: &'static str, said: String },
    #[error(
        "--net {program}: {program} was not ready within {} s; try again when the machine has less \
         to do, or see with `--debug` what it waits for", ATTACH_WITHIN.as_secs()
    )]
    TimedOut { program: &'static str },
    #[error("--net {program}: no pipe for it; see `ulimit -n`, the limit on open files")]
    Pipe { program: &'static str, source: io::Error },
}

impl AttachError {
    /// For a program that has ended. What it says of a device that it may not open is its own word
    /// for it, if any, so that is looked at here.
    fn ended(program: &'static str, said: String) -> Self {
        match std::fs::File::options().read(true).write(true).open(TUN) {
            Ok(_) => Self::Failed { program, said },
            Err(source) => Self::Tun { program, source },
        }
    }
}

/// What slirp4netns and pasta make their device with.
const TUN: &str = "/dev/net/tun";

/// Debian's name for what has the program.
fn package(program: &str) -> &str {
    match program {
        "pasta" => "passt",
        other => other,
    }
}

/// A running slirp4netns or pasta; ends with it.
#[derive(Debug)]
pub(super) struct Attached {
    child: Child,
    /// Reads what it says, so that it never waits for a reader; ends with the last line.
    listener: Option<JoinHandle<String>>,
    /// slirp4netns ends when this is closed, even if by our death.
    _life: Option<OwnedFd>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.end();
    }
}

impl Attached {
    fn start(
        program: &'static str,
        command: &mut Command,
        life: Option<OwnedFd>,
    ) -> Result<Self, AttachError> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| AttachError::Start { program, source })?;
        let listener = child.stderr.take().map(|stderr| {
            std::thread::spawn(move || {
                let mut last = String::from("nothing");
                for line in io::BufReader::new(stderr).lines().map_while(Result::ok) {
                    tracing::debug!(program, line);
                    last = line;
                }
                last
            })
        });
        Ok(Self { child, listener, _life: life })
    }

    /// The program's process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the program; the last thing that it said.
    fn end(&mut self) -> String {
        self.child.kill().ok();
        self.child.wait().ok();
        self.listener.take().and_then(|listener| listener.join().ok()).unwrap_or_default()
    }
}

/// The networks that `--net` makes the container's own, so that they are not bypassed.
pub(super) fn own_networks(net: Net) -> Vec<IpNet> {
    match net {
        Net::Slirp4netns => SLIRP_NET.parse().into_iter().collect(),
        // pasta gives the container the addresses of the host.
        Net::None | Net::Pasta => Vec::new(),
    }
}

/// Attaches the network to the namespace of `pid` and waits until it is there.
pub(super) fn attach(
    net: Net,
    pid: u32,
    host_loopback: bool,
) -> Result<Option<Attached>, AttachError> {
    match net {
        Net::None => Ok(None),
        Net::Slirp4netns => slirp4netns(pid, host_loopback).map(Some),
        Net::Pasta => pasta(pid, host_loopback).map(Some),
    }
}

fn slirp4netns(pid: u32, host_loopback: bool) -> Result<Attached, AttachError> {
    let program = "slirp4netns";
    let pipe = || {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|errno| AttachError::Pipe { program, source: errno.into() })?;
        Ok((read, write))
    };
    let inherit = |fd: &OwnedFd| {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())
            .map_err(|errno| AttachError::Pipe { program, source: errno.into() })
    };
    let (ready, ready_theirs) = pipe()?;
    let (life_theirs, life) = pipe()?;
    inherit(&ready_theirs)?;
    inherit(&life_theirs)?;
    let mut command = Command::new(program);
    command.arg("--configure").arg(format!("--mtu={SLIRP_MTU}"));
    command.arg(format!("--ready-fd={}", ready_theirs.as_raw_fd()));
    command.arg(format!("--exit-fd={}", life_theirs.as_raw_fd()));
    if !host_loopback {
        command.arg("--disable-host-loopback");
    }
    command.arg(pid.to_string()).arg(SLIRP_DEVICE);
    let mut attached = Attached::start(program, &mut command, Some(life))?;
    drop((ready_theirs, life_theirs));
    if !readable_until(&ready, Instant::now() + ATTACH_WITHIN) {
        return Err(AttachError::TimedOut { program });
    }
    match rustix::io::read(&ready, &mut [0]) {
        Ok(1) => Ok(attached),
        _ => Err(AttachError::ended(program, attached.end())),
    }
}

fn pasta(pid: u32, host_loopback: bool) -> Result<Attached, AttachError> {
    let program = "pasta";
    let mut command = Command::new(program);
    command.args(["--config-net", "--quiet", "--tcp-ports", "none", "--udp-ports", "none"]);
    command.args(["--tcp-ns", "none", "--udp-ns", "none"]);
    if !host_loopback {
        command.arg("--no-map-gw");
    }
    command.arg(pid.to_string());
    // It goes into the background once the device is set up, so the end of the process
    // that we start is the sign. What stays ends by itself with the namespace.
    let mut attached = Attached::start(program, &mut command, None)?;
    let pidfd = rustix::process::pidfd_open(
        rustix::process::Pid::from_child(&attached.child),
        rustix::process::PidfdFlags::empty(),
    )
    .map_err(|errno| AttachError::Pipe { program, source: errno.into() })?;
    if !readable_until(&pidfd, Instant::now() + ATTACH_WITHIN) {
        return Err(AttachError::TimedOut { program });
    }
    match attached.child.wait() {
        Ok(status) if status.success() => Ok(attached),
        _ => Err(AttachError::ended(program, attached.end())),
    }
}

fn readable_until(fd: impl AsFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
