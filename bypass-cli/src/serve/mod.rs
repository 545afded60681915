//! `bypass-cli serve`: containers that OCI runtimes start.
//!
//! The main thread accepts, and forgets containers that have ended. Each hand-over is
//! received on a thread of its own with a deadline, so a peer that sends nothing, or
//! slowly, holds up nobody; there are never more than a few of them.

mod containers;
mod endpoint;

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bypass_core::{PublishConflict, ReserveError, StartError, Supervisor};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use seccomp_notify::receive_handoff;

use self::containers::{Confining, Containers, Treatment};
use self::endpoint::{Endpoint, EndpointError};
pub(crate) use self::endpoint::{SocketPathError, socket_path};
use crate::args::ServeArgs;
use crate::audit::{AuditLog, AuditLogError, Auditing};
use crate::confine::{ConfineError, Confinement, Needs, Role};
use crate::exit;
use crate::limits;
use crate::policy::{Policies, PolicyError};

/// How long a runtime may take over a hand-over; they need well under a millisecond.
const HANDOVER_WITHIN: Duration = Duration::from_secs(5);
/// How long nobody is accepted after that has failed. Without descriptors a connection stays where
/// it is, and asking for it again at once would do nothing else than that.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Hand-overs received at a time.
const MAX_HANDOVERS: usize = 32;

/// Why `serve` failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Audit(#[from] AuditLogError),
    #[error(transparent)]
    Publish(#[from] PublishConflict),
    #[error(transparent)]
    Reserve(#[from] ReserveError),
    #[error(transparent)]
    SocketPath(#[from] SocketPathError),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("the supervisor cannot start")]
    Supervisor(#[from] StartError),
    #[error(transparent)]
    Confine(#[from] ConfineError),
    #[error("--pid-file {}: cannot be written", path.display())]
    PidFile { path: PathBuf, source: io::Error },
    #[error("--{option} {number}: no such descriptor was inherited")]
    Descriptor { option: &'static str, number: i32, source: io::Error },
    #[error("--ready-fd: the byte could not be written")]
    Ready(#[source] io::Error),
    #[error("{call} failed")]
    Call { call: &'static str, source: io::Error },
}

pub(crate) fn serve(args: &ServeArgs) -> Result<ExitCode, ServeError> {
    let policies = Policies::read(&args.policy)?;
    let list = args.publish.list()?;
    let audit = AuditLog::open(&args.audit)?;
    let path = socket_path(args.socket.as_deref())?;
    let ready_fd = args.ready_fd.map(|fd| inherited("ready-fd", fd)).transpose()?;
    let exit_fd = args.exit_fd.map(|fd| inherited("exit-fd", fd)).transpose()?;
    let mut confinement = Confinement::begin(args.confine.confine, Role::Serve)?;
    confinement.give_up_capabilities(!list.is_empty())?;
    // What is made here belongs to the user alone: the socket above all.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    limits::raise_open_files();
    let stop = stop_signals().map_err(|source| ServeError::Call { call: "signalfd", source })?;
    let ended = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|errno| ServeError::Call { call: "eventfd", source: errno.into() })?;

    let audit = audit
        .map(AuditLog::start)
        .transpose()
        .map_err(|source| ServeError::Call { call: "starting a thread", source })?;

    let treatment = Treatment {
        audit: audit.as_ref().and_then(Auditing::sink).map(|sink| (sink, args.audit.limits())),
        policies,
        ports: args.publish.reserve(&list)?,
        udp: args.publish.udp(),
        confining: Confining {
            devices_suffice: args.publish.confining(&list, true),
            devices_do_not: args.publish.confining(&list, false),
        },
    };
    let containers = Arc::new(Containers::new(Supervisor::new()?, treatment, ended));
    let endpoint = Endpoint::bind(&path)?;
    let _pid_file = args.pid_file.clone().map(PidFile::write).transpose()?;
    // Before anybody can connect to whom a container could talk.
    confinement.complete(&Needs {
        writes_memory: args.publish.confining(&list, true).is_some() || !list.is_empty(),
        removes_files: true,
        children: Vec::new(),
    })?;
    tracing::info!(socket = %path.display(), "serving");
    if let Some(fd) = ready_fd {
        std::fs::File::from(fd).write_all(b"1").map_err(ServeError::Ready)?;
    }
    accept_until_told(&endpoint, &containers, &stop, exit_fd.as_ref())?;
    match containers.running() {
        0 => tracing::info!("exiting"),
        running => tracing::warn!(
            running,
            "exiting while containers run: their connect, bind and listen fail with ENOSYS from now"
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn accept_until_told(
    endpoint: &Endpoint,
    containers: &Arc<Containers>,
    stop: &SignalFd,
    exit_fd: Option<&OwnedFd>,
) -> Result<(), ServeError> {
    let busy = Arc::new(AtomicUsize::new(0));
    let mut pause = None;
    loop {
        let connections = if pause.is_none() { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = vec![
            PollFd::new(endpoint, connections),
            PollFd::new(containers.ended(), PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        fds.extend(exit_fd.map(|fd| PollFd::new(fd, PollFlags::IN)));
        let result = poll(&mut fds, pause.as_ref());
        pause = None;
        match result {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(ServeError::Call { call: "poll", source: errno.into() }),
        }
        let mut revents = fds.iter().map(|fd| !fd.revents().is_empty());
        let (connected, ended) = (revents.next() == Some(true), revents.next() == Some(true));
        let told = revents.any(|told| told);
        drop(fds);
        if ended {
            containers.forget_ended();
        }
        if told {
            return Ok(());
        }
        if connected {
            match endpoint.accept() {
                Ok(stream) => take_over(stream, containers, &busy),
                Err(error) => {
                    tracing::warn!(%error, "could not accept");
                    // A peer that is refused is gone.
                    pause = error.raw_os_error().map(|_errno| PAUSE);
                }
            }
        }
    }
}

fn take_over(stream: UnixStream, containers: &Arc<Containers>, busy: &Arc<AtomicUsize>) {
    if busy.fetch_add(1, Ordering::AcqRel) >= MAX_HANDOVERS {
        busy.fetch_sub(1, Ordering::AcqRel);
        tracing::warn!("refused a connection: {MAX_HANDOVERS} hand-overs are under way");
        return;
    }
    let (containers, counter) = (Arc::clone(containers), Arc::clone(busy));
    let started = std::thread::Builder::new().name("hand-over".into()).spawn(move || {
        match receive_handoff(&stream, HANDOVER_WITHIN) {
            Ok(handoff) => containers.admit(handoff),
            Err(error) => tracing::warn!("refused a hand-over: {}", exit::chain(&error)),
        }
        counter.fetch_sub(1, Ordering::AcqRel);
    });
    if let Err(error) = started {
        busy.fetch_sub(1, Ordering::AcqRel);
        tracing::warn!(%error, "no thread for a hand-over");
    }
}

fn stop_signals() -> io::Result<SignalFd> {
    let set: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

fn inherited(option: &'static str, number: i32) -> Result<OwnedFd, ServeError> {
    crate::inherited::take(number).map_err(|source| ServeError::Descriptor {
        option,
        number,
        source,
    })
}

/// The file with our process id; removed at the end.
#[derive(Debug)]
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: PathBuf) -> Result<Self, ServeError> {
        match std::fs::write(&path, std::process::id().to_string()) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(ServeError::PidFile { path, source }),
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}
