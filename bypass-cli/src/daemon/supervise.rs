//! The process that serves containers: no file is made here, and no UNIX socket.
//!
//! It goes on when the process that serves the API has gone, until the last of its containers has
//! ended: what is wrong there, or replaced, is none of theirs.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;

use bypass_core::{
    Ports, Publish, PublishConflict, PublishList, PublishParseError, ReserveError, Supervisor,
};
use nix::sys::signalfd::SignalFd;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::message::{Bypass, Numbered, Reply, Request};
use crate::args::DaemonArgs;
use crate::audit::{AuditLog, Auditing};
use crate::channel::Channel;
use crate::confine::{Confinement, Needs, Role};
use crate::policy::Policies;
use crate::serve::{
    Confining, Containers, Endpoint, Handovers, Heed, PAUSE, ServeError, Treatment, drain, heed,
    signals,
};
use crate::visibility::{About, Ledger, tell};
use crate::{exit, limits, log};

/// Serves until there is nothing left to serve.
pub(super) fn supervise(args: &DaemonArgs, channel: &Channel, asked: Channel) -> ExitCode {
    match begin(args, asked) {
        Ok(mut supervision) => {
            let result = supervision.serve(channel);
            match result {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!("{}", exit::chain(&error));
                    ExitCode::from(exit::OWN_FAILURE)
                }
            }
        }
        Err(error) => {
            let what = exit::chain(&error);
            // The other process tells it. Where that has gone, nobody waits for us.
            let message = Reply::Failed { what };
            channel.send(&Numbered { number: 0, message }, None).ok();
            ExitCode::from(exit::OWN_FAILURE)
        }
    }
}

fn begin(args: &DaemonArgs, asked: Channel) -> Result<Supervision<'_>, ServeError> {
    let policies = Arc::new(Policies::read(&args.policy)?);
    let audit = AuditLog::open(&args.audit)?;
    let mut confinement = Confinement::begin(args.confine.confine, Role::Serve)?;
    // What will be published is not known yet.
    confinement.give_up_capabilities(true)?;
    limits::raise_open_files();
    let signals = signals().map_err(|source| ServeError::Call { call: "signalfd", source })?;
    let ended = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|errno| ServeError::Call { call: "eventfd", source: errno.into() })?;
    let audit = audit
        .map(AuditLog::start)
        .transpose()
        .map_err(|source| ServeError::Call { call: "starting a thread", source })?;
    let supervisor = Supervisor::new()?;
    let needs = Needs { writes_memory: true, removes_files: true, children: Vec::new() };
    confinement.complete(&needs)?;
    let ledger = Arc::new(Ledger::default());
    let about = About { role: "daemon", confined: confinement.so_far() };
    tell(asked, about, Arc::clone(&ledger))
        .map_err(|source| ServeError::Call { call: "starting a thread", source })?;
    Ok(Supervision {
        args,
        policies,
        audit,
        signals,
        ended: Arc::new(ended),
        supervisor,
        ledger,
        handovers: Handovers::default(),
        bypasses: HashMap::new(),
        log: None,
    })
}

/// All that is served.
#[derive(Debug)]
struct Supervision<'a> {
    args: &'a DaemonArgs,
    policies: Arc<Policies>,
    signals: SignalFd,
    ended: Arc<OwnedFd>,
    supervisor: Supervisor,
    ledger: Arc<Ledger>,
    handovers: Handovers,
    bypasses: HashMap<String, Served>,
    /// That of the bypass to come.
    log: Option<(String, File)>,
    /// Last: what containers did is written to it when they have gone.
    audit: Option<Auditing>,
}

#[derive(Debug)]
struct Served {
    endpoint: Endpoint,
    containers: Arc<Containers>,
}

/// Why a bypass cannot be served.
#[derive(Debug, thiserror::Error)]
enum BypassError {
    #[error(transparent)]
    Map(#[from] PublishParseError),
    #[error(transparent)]
    Conflict(#[from] PublishConflict),
    #[error(transparent)]
    Reserve(#[from] ReserveError),
    #[error("the request came without its socket")]
    NoSocket,
}

impl Supervision<'_> {
    fn serve(&mut self, channel: &Channel) -> Result<(), ServeError> {
        channel
            .send(&Numbered { number: 0, message: Reply::Ready }, None)
            .map_err(|source| ServeError::Call { call: "send", source })?;
        let mut told = Some(channel);
        let mut pause = None;
        while told.is_some() || self.running() > 0 {
            let turn = self.wait(told, pause.take())?;
            if turn.ended {
                drain(&self.ended);
                for served in self.bypasses.values() {
                    served.containers.forget_ended();
                }
                if told.is_none() {
                    self.forget_idle();
                }
            }
            if turn.signalled && self.heed() == Heed::Stop {
                self.warn_of_running();
                return Ok(());
            }
            for id in turn.connected {
                if let Some(served) = self.bypasses.get(&id) {
                    match served.endpoint.accept() {
                        Ok(stream) => self.handovers.begin(stream, &served.containers),
                        Err(error) => {
                            tracing::warn!(container = id, %error, "could not accept");
                            // A peer that is refused is gone.
                            pause = error.raw_os_error().map(|_errno| PAUSE);
                        }
                    }
                }
            }
            if turn.told
                && let Some(channel) = told
                && !self.obey(channel)
            {
                told = None;
                self.forget_idle();
                tracing::warn!(
                    containers = self.running(),
                    "the API is served no longer: containers that run are served to their end"
                );
            }
        }
        Ok(())
    }

    fn wait(&self, told: Option<&Channel>, pause: Option<Timespec>) -> Result<Turn, ServeError> {
        let mut fds = vec![
            PollFd::new(&self.ended, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
        ];
        fds.extend(told.map(|channel| PollFd::new(channel, PollFlags::IN)));
        let sockets = if pause.is_none() { PollFlags::IN } else { PollFlags::empty() };
        let bypasses: Vec<&String> = self.bypasses.keys().collect();
        fds.extend(self.bypasses.values().map(|served| PollFd::new(&served.endpoint, sockets)));
        match poll(&mut fds, pause.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(ServeError::Call { call: "poll", source: errno.into() }),
        }
        let mut revents = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = || revents.next() == Some(true);
        let (ended, signalled) = (next(), next());
        let told = told.is_some() && next();
        let connected = bypasses.into_iter().zip(revents);
        let connected = connected.filter(|(_, ready)| *ready).map(|(id, _)| id.clone()).collect();
        Ok(Turn { ended, signalled, told, connected })
    }

    /// False if nobody is there to be obeyed any more.
    fn obey(&mut self, channel: &Channel) -> bool {
        let (Numbered { number, message }, fd) = match channel.receive() {
            Ok(Some(received)) => received,
            Ok(None) => return false,
            Err(error) => {
                tracing::error!(%error, "the process that serves the API cannot be understood");
                return false;
            }
        };
        let message = match message {
            Request::Log { id } => {
                self.log = fd.map(|fd| (id, File::from(fd)));
                Reply::Done
            }
            Request::Serve(bypass) => match self.start(bypass, fd) {
                Ok(()) => Reply::Done,
                Err(error) => Reply::Refused { what: exit::chain(&error) },
            },
            Request::Stop { id } => match (self.bypasses.remove(&id), channel.try_clone()) {
                (Some(served), Ok(channel)) => {
                    match stop_elsewhere(id, served, number, channel) {
                        Ok(_answered_there) => return true,
                        // What was not begun has been dropped, and that lets go as well.
                        Err(_no_thread) => Reply::Done,
                    }
                }
                (Some(served), Err(_no_descriptor)) => {
                    stop(&id, served);
                    Reply::Done
                }
                (None, _) => Reply::Done,
            },
        };
        channel.send(&Numbered { number, message }, None).is_ok()
    }

    fn start(&mut self, bypass: Bypass, socket: Option<OwnedFd>) -> Result<(), BypassError> {
        let Bypass { id, socket: path, publish, ignore, ignore_own } = bypass;
        let log = self.log.take().filter(|(of, _)| *of == id);
        let listener = UnixListener::from(socket.ok_or(BypassError::NoSocket)?);
        let endpoint = Endpoint::of(listener, path);
        let maps = publish.iter().map(|map| map.parse::<Publish>());
        let list = PublishList::new(maps.collect::<Result<_, _>>()?)?;
        if let Some((_, file)) = log {
            log::open_for(&id, file);
        }
        let ports = Ports::reserve(&list).inspect_err(|_in_use| log::close_for(&id))?;
        let udp = &self.args.udp;
        let treatment = Treatment {
            audit: self
                .audit
                .as_ref()
                .and_then(Auditing::sink)
                .map(|sink| (sink, self.args.audit.limits())),
            first: bypass_core::PolicyLayer {
                ignore,
                ignore_own_networks: ignore_own,
                ..Default::default()
            },
            ports,
            udp: udp.udp(),
            confining: Confining {
                devices_suffice: udp.confining(&list, true),
                devices_do_not: udp.confining(&list, false),
            },
            // The engine says what is published.
            publish_annotated: None,
            neighbours: self.args.neighbours.handle_c2c_connections,
        };
        tracing::info!(container = id, socket = %endpoint.path().display(), "serving");
        let containers = Containers::new(
            self.supervisor.clone(),
            treatment,
            Arc::clone(&self.policies),
            Arc::clone(&self.ended),
            Arc::clone(&self.ledger),
            Some(&id),
        );
        self.bypasses.insert(id, Served { endpoint, containers: Arc::new(containers) });
        Ok(())
    }

    /// Bypasses without a container, which nobody can stop when nobody tells us anything: another
    /// process may want their sockets.
    fn forget_idle(&mut self) {
        self.bypasses.retain(|_, served| served.containers.running() > 0);
    }

    fn heed(&mut self) -> Heed {
        let (heard, policies) = heed(
            &self.signals,
            &self.args.policy,
            self.bypasses.values().map(|one| &one.containers),
        );
        if let Some(policies) = policies {
            self.policies = policies;
        }
        heard
    }

    fn running(&self) -> usize {
        self.bypasses.values().map(|served| served.containers.running()).sum()
    }

    fn warn_of_running(&self) {
        let running = self.running();
        if running > 0 {
            tracing::warn!(
                running,
                "exiting while containers run: their connect, bind and listen fail with ENOSYS \
                 from now on; restart them when the daemon runs again"
            );
        }
    }
}

/// Lets go of a bypass and answers the request, on a thread for that: a container that holds up its own
/// thread holds up no hand-over of another. Nothing more is asked for until the answer is there.
fn stop_elsewhere(
    id: String,
    served: Served,
    number: u64,
    channel: Channel,
) -> io::Result<JoinHandle<bool>> {
    std::thread::Builder::new().name("letting go".into()).spawn(move || {
        stop(&id, served);
        channel.send(&Numbered { number, message: Reply::Done }, None).is_ok()
    })
}

fn stop(id: &str, served: Served) {
    let running = served.containers.running();
    tracing::info!(container = id, running, "served no longer");
    // Its processes, if there are any, get ENOSYS from now on.
    served.containers.close();
    drop(served);
    log::close_for(id);
}

/// What there is to do.
#[derive(Debug)]
struct Turn {
    ended: bool,
    signalled: bool,
    told: bool,
    /// Bypasses that a runtime wants to hand over to.
    connected: Vec<String>,
}
