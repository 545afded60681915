//! `bypass-cli run`: one command in namespaces of its own.

mod landlock;
mod network;
mod plan;
mod resolver;
mod signals;
mod steps;

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitCode};
use std::time::Duration;

use bypass_core::{
    AttachError, Container, End, Ports, PublishConflict, ReserveError, Settings, StartError,
    Supervisor,
};
use netns_socket::PidFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use seccomp_notify::{Features, Listener, OpenError};
use serde::Serialize;

pub(crate) use self::landlock::Landlock;
use self::network::Attached;
use self::plan::{Message, Plan};
use self::resolver::{Reach, Resolver};
use self::signals::Signals;
pub(crate) use self::steps::stage;
use crate::args::RunArgs;
use crate::audit::{AuditLog, AuditLogError, Auditing};
use crate::channel::Channel;
use crate::confine::{ConfineError, Confined, Confinement, Needs, Role};
use crate::exit;
use crate::limits;
use crate::policy::{Policies, PolicyError, devices_suffice, opens_all_loopback};
use crate::report::{Kernel, Report, ReportError, Sink};

/// How long the engine may take to notice that the last process has gone.
const SETTLE: Duration = Duration::from_secs(1);

/// Why `run` failed by its own fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Audit(#[from] AuditLogError),
    #[error(transparent)]
    Publish(#[from] PublishConflict),
    #[error(transparent)]
    Reserve(#[from] ReserveError),
    #[error("the supervisor cannot start; `bypass-cli doctor` says what is missing")]
    Supervisor(#[from] StartError),
    #[error(
        "the container cannot be supervised; see `ulimit -n` and `ulimit -u`, the \
         limits on files and threads"
    )]
    Attach(#[from] AttachError),
    #[error("the command's listener is unusable; `bypass-cli doctor` says what is missing")]
    Listener(#[from] OpenError),
    #[error(transparent)]
    Network(#[from] network::AttachError),
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error(transparent)]
    Confine(#[from] ConfineError),
    #[error(
        "--host-binds takes --allow-host-loopback: what is bound on the host could not be reached \
         from inside by loopback, and other services of the host can be reached by what is bound there"
    )]
    HostBinds,
    #[error("{what}")]
    Step { what: String },
    #[error(
        "the namespaces ended before the command could start: something killed a process of ours, \
         such as the kernel for lack of memory (`dmesg` tells of that)"
    )]
    Vanished,
    #[error("the supervisor failed, so the command was ended; this is a bug, please report it")]
    Failed,
    #[error("{call} failed; `ulimit -a` and `bypass-cli doctor` may say why")]
    Call { call: &'static str, source: io::Error },
}

/// What was really enforced, layer by layer.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Enforced {
    /// The traps: there is no container without them.
    filter: bool,
    /// Host sockets are bound to their device.
    pin: bool,
    landlock: Landlock,
    /// Processes inside can signal and trace only each other.
    signals: Landlock,
    /// What the supervisor has given up itself.
    supervisor: Confined,
    /// What keeps UDP sockets of the host to their device when a control message names another.
    sends: Sends,
}

/// What is done about the control messages of sendmsg and sendmmsg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sends {
    /// Both calls are trapped.
    Trapped,
    /// Nothing, as `--udp-sends free` wants it: IPv4 datagrams can reach the host's loopback.
    Free,
    /// Nothing: by its options the container gets no UDP sockets of the host.
    NotNeeded,
}

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode, RunError> {
    // No OCI runtime gives the command an id, so no section of a policy file is about it.
    let mut layer = Policies::read(&args.policy)?.general();
    layer.ignore.extend(network::own_networks(args.net));
    let (policy, pin) = (layer.policy(), layer.pins());
    let devices_suffice = devices_suffice(&layer);
    if args.host_binds && !policy.allows_host_loopback() {
        return Err(RunError::HostBinds);
    }
    let list = args.publish.list()?;
    let traps = args.publish.traps(&list, devices_suffice);
    let mut confinement = Confinement::begin(args.confine.confine, Role::Run)?;
    // Files can only be made now.
    let audit = AuditLog::open(&args.audit)?;
    let report = args.report.as_deref().map(Sink::open).transpose()?;
    // Before anything is started: on a host that cannot do this, nothing is.
    let supervisor = Supervisor::new()?;
    let sends = match args.publish.confining(&list, devices_suffice) {
        None => Sends::NotNeeded,
        Some(_) if traps.messages => Sends::Trapped,
        Some(_) => Sends::Free,
    };
    let reach = Reach {
        policy: &policy,
        net: args.net,
        udp: args.publish.udp(),
        is_host_address: &|ip| supervisor.is_host_address(ip),
    };
    let resolv_conf = match resolver::choose(&args.dns, &reach) {
        Resolver::File(content) => Some(content),
        Resolver::Unreachable => {
            tracing::warn!(
                "names will not resolve inside: no name server of the host can be reached under \
                 this policy; allow one with --allow, name one with --dns, or attach a network with \
                 --net slirp4netns"
            );
            None
        }
    };
    let (control, theirs) =
        Channel::pair().map_err(|source| RunError::Call { call: "socketpair", source })?;
    let parent = std::process::id();
    let plan = Plan { control: 0, parent, map_root: args.map_root, traps, resolv_conf };
    let child = steps::step(0, &plan, &theirs, &args.command)
        .map_err(|source| RunError::Call { call: "starting a process", source })?;
    drop(theirs);
    // After the child, which keeps the user's limits and signal mask, and in which root needs a
    // capability to be root inside. It does nothing that shows before it is told to go on.
    limits::raise_open_files();
    confinement.give_up_capabilities(!list.is_empty())?;
    let ports = args.publish.reserve(&list)?;
    let signals = Signals::catch().map_err(|source| RunError::Call { call: "signalfd", source })?;
    let audit = audit
        .map(AuditLog::start)
        .transpose()
        .map_err(|source| RunError::Call { call: "starting a thread", source })?;
    let settings = Settings::new("run", policy.clone())
        .epolls_told(true)
        .publish(ports.clone())
        .udp(args.publish.udp())
        // The traps are ours, or the user wants to do without.
        .host_datagrams(true)
        .host_binds(args.host_binds)
        .pin(pin);
    let settings = match audit.as_ref().and_then(Auditing::sink) {
        Some(sink) => settings.audit(sink, args.audit.limits()),
        None => settings,
    };

    let mut session = Session {
        args,
        confinement,
        report,
        writes_memory: traps.names || traps.messages,
        supervisor,
        host_loopback: opens_all_loopback(&policy),
        pin,
        settings: Some(settings),
        ports,
        control,
        child,
        network: None,
        inner: None,
        command: None,
        early: Vec::new(),
        container: None,
        landlock: Landlock::NotSupported,
        signals: Landlock::NotSupported,
        sends,
        features: None,
        status: None,
    };
    let result = session.until_the_end(&signals);
    session.finish(result)
}

/// A command on its way from nothing to its exit status.
struct Session<'a> {
    args: &'a RunArgs,
    confinement: Confinement,
    report: Option<Sink>,
    /// By the traps that there are.
    writes_memory: bool,
    supervisor: Supervisor,
    /// An attached network may lead to the host's loopback.
    host_loopback: bool,
    pin: bool,
    /// Taken by the one listener that is accepted.
    settings: Option<Settings>,
    ports: Ports,
    control: Channel,
    child: Child,
    network: Option<Attached>,
    /// A process in the container's namespaces.
    inner: Option<PidFd>,
    /// The command's process.
    command: Option<OwnedFd>,
    /// Signals for it that came before it was known.
    early: Vec<Signal>,
    container: Option<Container>,
    landlock: Landlock,
    signals: Landlock,
    sends: Sends,
    features: Option<Features>,
    status: Option<u8>,
}

impl Session<'_> {
    fn until_the_end(&mut self, signals: &Signals) -> Result<(), RunError> {
        let failed = |call| move |source| RunError::Call { call, source };
        loop {
            let mut fds = vec![
                PollFd::new(&self.control, PollFlags::IN),
                PollFd::new(signals, PollFlags::IN),
            ];
            // Once it has ended in good order, it has nothing more to say.
            let watched = self.container.as_ref().filter(|container| container.end().is_none());
            fds.extend(watched.map(|container| PollFd::new(container, PollFlags::IN)));
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(failed("poll")(errno.into())),
            }
            let mut revents = fds.iter().map(|fd| !fd.revents().is_empty());
            let (told, signalled) = (revents.next() == Some(true), revents.next() == Some(true));
            drop(fds);
            if self.container.as_ref().and_then(Container::end) == Some(End::Failed) {
                return Err(RunError::Failed);
            }
            if signalled {
                for signal in signals.to_forward() {
                    match &self.command {
                        Some(command) => signals::forward(signal, command),
                        // The command may run already, and who it is be on its way to us.
                        None if !self.early.contains(&signal) => self.early.push(signal),
                        // Somebody is losing patience.
                        None => signals::end(&self.child),
                    }
                }
            }
            if told {
                match self.control.receive().map_err(failed("recvmsg"))? {
                    Some((message, fd)) => self.handle(message, fd)?,
                    None => return Ok(()),
                }
            }
        }
    }

    fn handle(&mut self, message: Message, fd: Option<OwnedFd>) -> Result<(), RunError> {
        match (message, fd) {
            (Message::Namespaces { pid }, _) if self.network.is_none() => {
                self.network = network::attach(self.args.net, pid, self.host_loopback)?;
                self.inner = PidFd::open(pid.cast_signed()).ok();
                plan::go(&self.control)
                    .map_err(|source| RunError::Call { call: "sendmsg", source })?;
            }
            (Message::Listener { netns_cookie, landlock, signals }, Some(fd)) => {
                // A second one could only come from a step that the command took over.
                let Some(settings) = self.settings.take() else { return Ok(()) };
                let listener = Listener::from_fd(fd)?;
                self.features = Some(listener.features());
                self.landlock = landlock;
                self.signals = signals;
                // All children run, and no word of the command has been heard.
                let network = self.network.as_ref().map(Attached::id);
                self.confinement.complete(&Needs {
                    writes_memory: self.writes_memory,
                    removes_files: false,
                    children: std::iter::once(self.child.id()).chain(network).collect(),
                })?;
                let settings = match netns_cookie {
                    Some(cookie) => settings.netns_cookie(cookie),
                    None => settings,
                };
                let settings = match self.inner.take() {
                    Some(inner) => settings.first_process(inner),
                    None => settings,
                };
                self.container = Some(self.supervisor.attach(listener, settings)?);
            }
            (Message::Command, Some(fd)) if self.command.is_none() => {
                for signal in self.early.drain(..) {
                    signals::forward(signal, &fd);
                }
                self.command = Some(fd);
            }
            (Message::ExecFailed { errno }, _) => {
                let program = self.args.command.first().map(|name| name.to_string_lossy());
                let error = io::Error::from_raw_os_error(errno);
                let remedy = match rustix::io::Errno::from_raw_os_error(errno) {
                    rustix::io::Errno::NOENT => {
                        "no such program in PATH, or no interpreter that it names"
                    }
                    rustix::io::Errno::ACCESS => {
                        "make it executable for this user, or name another"
                    }
                    rustix::io::Errno::NOEXEC => {
                        "it is no program; a script begins with #! and an interpreter"
                    }
                    _ => "execve(2) says what that means",
                };
                tracing::error!("{}: {error}; {remedy}", program.unwrap_or_default());
            }
            (Message::Failed { what }, _) => return Err(RunError::Step { what }),
            (Message::Exited { status }, _) => self.status = Some(status),
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self, result: Result<(), RunError>) -> Result<ExitCode, RunError> {
        if result.is_err() {
            // Its end is that of everything inside.
            self.child.kill().ok();
        }
        self.child.wait().map_err(|source| RunError::Call { call: "waitpid", source })?;
        drop(self.network.take());
        if let Some(container) = &self.container {
            container.wait(SETTLE);
        }
        let status = self.status;
        if let Some(sink) = self.report {
            let report = Report {
                version: env!("CARGO_PKG_VERSION"),
                exit_status: status.unwrap_or(exit::OWN_FAILURE),
                kernel: Kernel::running(self.features.unwrap_or_else(Features::probe)),
                enforced: Enforced {
                    filter: self.container.is_some(),
                    pin: self.pin,
                    landlock: self.landlock,
                    signals: self.signals,
                    supervisor: self.confinement.so_far(),
                    sends: self.sends,
                },
                published: self.ports.published().collect(),
                calls: self.container.as_ref().map(Container::stats),
            };
            report.write(sink)?;
        }
        result?;
        status.map(ExitCode::from).ok_or(RunError::Vanished)
    }
}
