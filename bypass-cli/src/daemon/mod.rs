//! `bypass-cli daemon`: containers that engines announce over HTTP, as bypass4netnsd has it.
//!
//! Two processes share the work. The one that is started serves the API: it makes sockets and files,
//! and never deals with a container. The other one serves containers, [confined](crate::confine)
//! like `serve`: of the API it sees what the first one has understood.
//!
//! ```text
//! client ── HTTP ──▶ API ── requests, listening sockets ──▶ supervisor ◀── OCI runtimes
//!                     │                                         ▲
//!                     ├─ pid files, logs                        └── containers
//!                     └─ stand-in: whose pid the API tells
//! ```
//!
//! So a fault in what speaks HTTP ends no container, and nor does its end: the supervisor then goes
//! on until its last container has ended.

mod api;
mod bypasses;
mod front;
mod http;
mod interfaces;
mod message;
mod stand_in;
mod supervise;

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command as Process, ExitCode};

use clap::Parser as _;

use self::message::{Numbered, Reply};
use crate::args::{Cli, Command, DaemonArgs};
use crate::channel::Channel;
use crate::log::{self, Place};
use crate::serve::{EndpointError, SocketPathError};
use crate::visibility::PlaceError;

/// The names under which the other processes are started; no command of the user's.
const SUPERVISOR: &str = "<supervisor>";
const STAND_IN: &str = "<stand-in>";

/// Why the daemon failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    #[error(transparent)]
    SocketPath(#[from] SocketPathError),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(
        "--pid-file {}: cannot be written; give a file in a directory that you can write to", path.display()
    )]
    PidFile { path: PathBuf, source: io::Error },
    #[error(
        "the sockets of socket activation cannot be taken over; \
         `systemctl --user status bypass4netnsd.socket` shows them"
    )]
    Activation(#[source] io::Error),
    #[error(
        "socket activation passed a socket at {0:?}, which is neither --socket nor --com-socket nor \
         --status-socket; make ListenStream= of the unit and the option the same"
    )]
    Unexpected(Option<PathBuf>),
    #[error("{what}")]
    Supervisor { what: String },
    #[error(
        "the supervisor ended, and with it what it served; start the daemon again, then restart the \
         containers. Why it ended is in the log above, or in that of the kernel (`dmesg`)"
    )]
    Vanished,
    #[error("{call} failed; `ulimit -a` and `bypass-cli doctor` may say why")]
    Call { call: &'static str, source: io::Error },
}

/// Runs the process that the command line names, if it names one.
pub(crate) fn stage() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    let name = args.next()?;
    if name == STAND_IN {
        return Some(stand_in::stand());
    }
    if name != SUPERVISOR {
        return None;
    }
    let mut channel = || Channel::inherited(args.next()?.to_str()?.parse().ok()?).ok();
    let (channel, asked) = (channel()?, channel()?);
    let both = args.next()? == "both";
    let line = [OsString::from("bypass-cli")].into_iter().chain(args);
    let Command::Daemon(args) = Cli::try_parse_from(line).ok()?.command else { return None };
    if let Err(error) = log::init(&args.log, place(&args, both)) {
        let message = Reply::Failed { what: crate::exit::chain(&error) };
        channel.send(&Numbered { number: 0, message }, None).ok();
        return Some(ExitCode::FAILURE);
    }
    Some(supervise::supervise(&args, &channel, asked))
}

fn place(args: &DaemonArgs, both: bool) -> Place<'_> {
    match args.log_file.as_deref() {
        Some(path) if both => Place::Both(path),
        path => path.into(),
    }
}

/// Serves until told to stop. `line` is the command line that `args` were read from, without the
/// name of the program. `both`: the log goes to standard error even if it goes to a file.
pub(crate) fn daemon(
    args: &DaemonArgs,
    line: &[OsString],
    both: bool,
) -> Result<ExitCode, DaemonError> {
    // What is made here belongs to the user alone: the sockets above all.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let sockets = front::Sockets::open(args)?;
    let (channels, supervisor) = start_supervisor(line, both)?;
    front::serve(args, sockets, channels, supervisor)
}

/// Ours to the supervisor.
#[derive(Debug)]
struct Channels {
    /// For what is to be done.
    requests: Channel,
    /// For what is to be seen. It is another thread that answers: neither waits for the other.
    status: Channel,
}

/// Starts the other process, and waits until it is ready.
fn start_supervisor(line: &[OsString], both: bool) -> Result<(Channels, Child), DaemonError> {
    let call = |call| move |source| DaemonError::Call { call, source };
    let (ours, theirs) = Channel::pair().map_err(call("socketpair"))?;
    let (status, asked) = Channel::pair().map_err(call("socketpair"))?;
    let number = |channel: &Channel| channel.pass_on().map_err(call("fcntl"));
    let mut child = this_program(SUPERVISOR)
        .arg(number(&theirs)?.to_string())
        .arg(number(&asked)?.to_string())
        .arg(if both { "both" } else { "file" })
        .args(line)
        .spawn()
        .map_err(call("starting the supervisor"))?;
    drop((theirs, asked));
    let received = ours.receive::<Numbered<Reply>>().map_err(call("recv"))?;
    match received.map(|(numbered, _)| numbered.message) {
        Some(Reply::Ready) => Ok((Channels { requests: ours, status }, child)),
        Some(Reply::Failed { what }) => {
            child.wait().ok();
            Err(DaemonError::Supervisor { what })
        }
        _ => {
            child.wait().ok();
            Err(DaemonError::Vanished)
        }
    }
}

/// This program again, without what is meant for the first process alone.
fn this_program(name: &str) -> Process {
    let mut program = Process::new("/proc/self/exe");
    program.arg0(name).stdin(std::process::Stdio::null());
    for variable in ["NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_USEC"]
    {
        program.env_remove(variable);
    }
    program
}
