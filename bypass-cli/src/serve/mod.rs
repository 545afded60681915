//! `bypass-cli serve`: containers that OCI runtimes start.
//!
//! The main thread accepts, forgets containers that have ended, and reads the policy anew when it
//! is told to. What a runtime has to say is received on a [thread of its own](handovers).

mod containers;
mod endpoint;
mod handovers;

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use bypass_core::{PolicyLayer, PublishConflict, ReserveError, StartError, Supervisor};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

pub(crate) use self::containers::{Confining, Containers, Treatment};
pub(crate) use self::endpoint::{
    Endpoint, EndpointError, SocketPathError, check_user, listen, path_or, socket_path,
};
pub(crate) use self::handovers::Handovers;
use crate::args::{PolicyArgs, ServeArgs};
use crate::audit::{AuditLog, AuditLogError, Auditing};
use crate::channel::Channel;
use crate::confine::{ConfineError, Confinement, Needs, Role};
use crate::exit;
use crate::limits;
use crate::policy::{Policies, PolicyError};
use crate::visibility::{self, Ledger, PlaceError, Sockets, Teller};

/// How long nobody is accepted after that has failed. Without descriptors a connection stays where
/// it is, and asking for it again at once would do nothing else than that.
pub(crate) const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

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
    #[error("the supervisor cannot start; `bypass-cli doctor` says what is missing")]
    Supervisor(#[from] StartError),
    #[error(transparent)]
    Confine(#[from] ConfineError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(
        "--pid-file {}: cannot be written; give a file in a directory that you can write to", path.display()
    )]
    PidFile { path: PathBuf, source: io::Error },
    #[error(
        "--{option} {number}: no such descriptor was inherited; open it for us, as \
         `{number}>FILE` of a shell does"
    )]
    Descriptor { option: &'static str, number: i32, source: io::Error },
    #[error("--ready-fd: the byte could not be written; keep the other end open until it comes")]
    Ready(#[source] io::Error),
    #[error("{call} failed; `ulimit -a` and `bypass-cli doctor` may say why")]
    Call { call: &'static str, source: io::Error },
}

pub(crate) fn serve(args: &ServeArgs) -> Result<ExitCode, ServeError> {
    let policies = Arc::new(Policies::read(&args.policy)?);
    let list = args.publish.list()?;
    let audit = AuditLog::open(&args.audit)?;
    let path = socket_path(args.socket.as_deref())?;
    let ready_fd = args.ready_fd.map(|fd| inherited("ready-fd", fd)).transpose()?;
    let exit_fd = args.exit_fd.map(|fd| inherited("exit-fd", fd)).transpose()?;
    // What is made here belongs to the user alone: the sockets above all.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let teller = start_teller(args, &path)?;
    let mut confinement = Confinement::begin(args.confine.confine, Role::Serve)?;
    let publishes = !list.is_empty() || args.publish_annotated;
    confinement.give_up_capabilities(publishes)?;
    limits::raise_open_files();
    let signals = signals().map_err(|source| ServeError::Call { call: "signalfd", source })?;
    let ended = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|errno| ServeError::Call { call: "eventfd", source: errno.into() })?;
    let ended = Arc::new(ended);

    let audit = audit
        .map(AuditLog::start)
        .transpose()
        .map_err(|source| ServeError::Call { call: "starting a thread", source })?;

    let treatment = Treatment {
        audit: audit.as_ref().and_then(Auditing::sink).map(|sink| (sink, args.audit.limits())),
        first: PolicyLayer::default(),
        ports: args.publish.reserve(&list)?,
        udp: args.publish.udp(),
        confining: Confining {
            devices_suffice: args.publish.confining(&list, true),
            devices_do_not: args.publish.confining(&list, false),
        },
        publish_annotated: args.publish_annotated.then(|| Confining::published(&args.publish.udp)),
        neighbours: args.neighbours.handle_c2c_connections,
    };
    let ledger = Arc::new(Ledger::default());
    let containers = Containers::new(
        Supervisor::new()?,
        treatment,
        policies,
        Arc::clone(&ended),
        Arc::clone(&ledger),
        None,
    );
    let containers = Arc::new(containers);
    let endpoint = Endpoint::bind(&path)?;
    let pid_file = args.pid_file.clone().map(PidFile::write).transpose();
    let _pid_file = pid_file.map_err(|(path, source)| ServeError::PidFile { path, source })?;
    // Before anybody can connect to whom a container could talk.
    confinement.complete(&Needs {
        writes_memory: args.publish.confining(&list, true).is_some() || publishes,
        removes_files: true,
        children: teller.iter().map(|(teller, _)| teller.id()).collect(),
    })?;
    let _teller = teller
        .map(|(teller, channel)| {
            let about = visibility::About { role: "serve", confined: confinement.so_far() };
            visibility::tell(channel, about, ledger).map(|()| teller)
        })
        .transpose()
        .map_err(|source| ServeError::Call { call: "starting a thread", source })?;
    tracing::info!(socket = %path.display(), "serving");
    if let Some(fd) = ready_fd {
        std::fs::File::from(fd).write_all(b"1").map_err(ServeError::Ready)?;
    }
    let told = Told { signals: &signals, exit_fd: exit_fd.as_ref(), ended: &ended };
    accept_until_told(&endpoint, &containers, &told, &args.policy)?;
    match containers.running() {
        0 => tracing::info!("exiting"),
        running => tracing::warn!(
            running,
            "exiting while containers run: their connect, bind and listen fail with ENOSYS from now \
             on; restart them when `serve` runs again"
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// The process that tells what is served, and the channel by which it asks; `None` if nobody is to be told.
fn start_teller(args: &ServeArgs, path: &Path) -> Result<Option<(Teller, Channel)>, ServeError> {
    let sockets = Sockets::open(&args.visibility, path, None)?;
    if sockets.are_none() {
        return Ok(None);
    }
    let started = Teller::start(sockets, args.confine.confine);
    started.map(Some).map_err(|source| ServeError::Call { call: "starting a process", source })
}

/// What the main thread listens to beside the socket.
struct Told<'a> {
    signals: &'a SignalFd,
    exit_fd: Option<&'a OwnedFd>,
    ended: &'a OwnedFd,
}

fn accept_until_told(
    endpoint: &Endpoint,
    containers: &Arc<Containers>,
    told: &Told<'_>,
    policy: &PolicyArgs,
) -> Result<(), ServeError> {
    let handovers = Handovers::default();
    let mut pause = None;
    loop {
        let connections = if pause.is_none() { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = vec![
            PollFd::new(endpoint, connections),
            PollFd::new(told.ended, PollFlags::IN),
            PollFd::new(told.signals, PollFlags::IN),
        ];
        fds.extend(told.exit_fd.map(|fd| PollFd::new(fd, PollFlags::IN)));
        let result = poll(&mut fds, pause.as_ref());
        pause = None;
        match result {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(ServeError::Call { call: "poll", source: errno.into() }),
        }
        let mut revents = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = || revents.next() == Some(true);
        let (connected, ended, signalled, exit) = (next(), next(), next(), next());
        drop(fds);
        if ended {
            drain(told.ended);
            containers.forget_ended();
        }
        // Words are no reason to exit, only the end is.
        if exit && told.exit_fd.is_none_or(is_at_end) {
            return Ok(());
        }
        if signalled && heed(told.signals, policy, [containers]).0 == Heed::Stop {
            return Ok(());
        }
        if connected {
            match endpoint.accept() {
                Ok(stream) => handovers.begin(stream, containers),
                Err(error) => {
                    tracing::warn!(%error, "could not accept a runtime's connection; it may try again");
                    // A peer that is refused is gone.
                    pause = error.raw_os_error().map(|_errno| PAUSE);
                }
            }
        }
    }
}

/// Whether the other end of a pipe is closed, or of whatever else was inherited.
fn is_at_end(fd: &OwnedFd) -> bool {
    let mut words = [0; 512];
    !matches!(rustix::io::read(fd, &mut words), Ok(1..) | Err(rustix::io::Errno::INTR))
}

/// Forgets what an eventfd has counted.
pub(crate) fn drain(counter: &OwnedFd) {
    let mut count = [0; 8];
    rustix::io::read(counter, &mut count).ok();
}

/// What signals ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heed {
    Continue,
    Stop,
}

/// Reads the signals that came. SIGHUP reads the policy file anew; what it says now holds for these
/// containers, and is returned for those to come.
pub(crate) fn heed<'a>(
    signals: &SignalFd,
    policy: &PolicyArgs,
    containers: impl IntoIterator<Item = &'a Arc<Containers>> + Clone,
) -> (Heed, Option<Arc<Policies>>) {
    let mut latest = None;
    while let Ok(Some(signal)) = signals.read_signal() {
        if signal.ssi_signo != SIGHUP {
            return (Heed::Stop, latest);
        }
        match Policies::read(policy).map(Arc::new) {
            Ok(policies) => {
                for one in containers.clone() {
                    one.set_policies(Arc::clone(&policies));
                }
                latest = Some(policies);
                tracing::info!("the policy was read anew, and holds from the next call on");
            }
            Err(error) => {
                tracing::error!(
                    "the policy stays as it is; mend it and send SIGHUP again: {}",
                    exit::chain(&error)
                );
            }
        }
    }
    (Heed::Continue, latest)
}

const SIGHUP: u32 = Signal::SIGHUP as u32;

/// SIGTERM and SIGINT, which end us, and SIGHUP.
pub(crate) fn signals() -> io::Result<SignalFd> {
    let set: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
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
pub(crate) struct PidFile(PathBuf);

impl PidFile {
    pub(crate) fn write(path: PathBuf) -> Result<Self, (PathBuf, io::Error)> {
        match std::fs::write(&path, std::process::id().to_string()) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err((path, source)),
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}
