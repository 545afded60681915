//! What is bypassed: begun and ended by way of the API.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UnixDatagram;

use super::api::{Spec, SpecError, Status};
use super::message::{Bypass, Numbered, Reply, Request};
use super::stand_in::StandIn;
use crate::channel::Channel;
use crate::exit;
use crate::serve::{EndpointError, SocketPathError, listen, socket_path};

/// How long the supervisor may take over a request. Ports are reserved and containers let go of in
/// milliseconds; one whose thread is held up by its container takes a second.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// Why a bypass could not be begun or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum BypassError {
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    SocketPath(#[from] SocketPathError),
    #[error("socketPath {0}")]
    Socket(EndpointError),
    #[error(
        "logFilePath {}: cannot be opened; give a file in a directory that you can write to", path.display()
    )]
    Log { path: PathBuf, source: io::Error },
    #[error(
        "pidFilePath {}: cannot be written; give a file in a directory that you can write to", path.display()
    )]
    PidFile { path: PathBuf, source: io::Error },
    #[error("no process could be started; see the limits on processes (`ulimit -u`, TasksMax)")]
    StandIn(#[source] io::Error),
    #[error("{0}")]
    Refused(String),
    #[error("the supervisor does not answer; see the daemon's log, and restart it if this lasts")]
    Supervisor(#[source] io::Error),
    #[error("child {0} not found")]
    Unknown(String),
}

/// What is bypassed, and the way to who does it.
#[derive(Debug)]
pub(super) struct Bypasses {
    by_id: BTreeMap<String, Spec>,
    supervisor: Supervisor,
    stand_in: Option<StandIn>,
}

impl Bypasses {
    pub(super) fn new(channel: Channel) -> io::Result<Self> {
        // All that is asked of it is when there is something to receive.
        let ready = std::os::unix::net::UnixDatagram::from(channel.as_fd().try_clone_to_owned()?);
        let ready = UnixDatagram::from_std(ready)?;
        let supervisor = Supervisor { channel, ready, number: 0 };
        Ok(Self { by_id: BTreeMap::new(), supervisor, stand_in: None })
    }

    pub(super) fn list(&mut self) -> Result<Vec<Status>, BypassError> {
        let pid = if self.by_id.is_empty() { 0 } else { self.pid()? };
        let status =
            |(id, spec): (&String, &Spec)| Status { id: id.clone(), pid, spec: spec.clone() };
        Ok(self.by_id.iter().map(status).collect())
    }

    /// Returns when the container's runtime can connect.
    pub(super) async fn start(&mut self, spec: Spec) -> Result<Status, BypassError> {
        if spec.id.is_empty() {
            return Err(SpecError::Id.into());
        }
        let id = spec.id.clone();
        let socket = socket_path(Spec::path(&spec.socket_path).as_deref())?;
        let (publish, (ignore, ignore_own)) = (spec.publish()?, spec.ignored()?);
        // A container that is started again, and whose end we were not told of.
        if self.by_id.contains_key(&id) {
            self.stop(&id).await?;
        }
        let pid = self.pid()?;
        let listener = listen(&socket).map_err(BypassError::Socket)?;
        let bypass = Bypass { id: id.clone(), socket: socket.clone(), publish, ignore, ignore_own };
        let begun = self.hand_over(&spec, bypass, listener.into()).await;
        let begun = match begun {
            Ok(()) => self.write_pid_file(&spec, pid),
            Err(error) => {
                fs::remove_file(&socket).ok();
                Err(error)
            }
        };
        match begun {
            Ok(()) => {
                self.by_id.insert(id.clone(), spec.clone());
                Ok(Status { id, pid, spec })
            }
            Err(error) => {
                // Whatever of it was begun.
                self.supervisor.ask(&Request::Stop { id }, None).await.ok();
                self.rest();
                Err(error)
            }
        }
    }

    async fn hand_over(
        &mut self,
        spec: &Spec,
        bypass: Bypass,
        socket: OwnedFd,
    ) -> Result<(), BypassError> {
        if let Some(path) = Spec::path(&spec.log_file_path) {
            let file = File::create(&path).map_err(|source| BypassError::Log { path, source })?;
            let request = Request::Log { id: bypass.id.clone() };
            self.supervisor.ask(&request, Some(file.as_fd())).await?;
        }
        self.supervisor.ask(&Request::Serve(bypass), Some(socket.as_fd())).await
    }

    /// Returns when the container is served no longer.
    pub(super) async fn stop(&mut self, id: &str) -> Result<(), BypassError> {
        if !self.by_id.contains_key(id) {
            return Err(BypassError::Unknown(id.into()));
        }
        self.supervisor.ask(&Request::Stop { id: id.into() }, None).await?;
        if let Some(spec) = self.by_id.remove(id) {
            remove_pid_file(&spec);
        }
        self.rest();
        Ok(())
    }

    /// That of a process that is alive while there are bypasses.
    fn pid(&mut self) -> Result<u32, BypassError> {
        if let Some(stand_in) = &mut self.stand_in
            && stand_in.is_alive()
        {
            return Ok(stand_in.pid());
        }
        let killed = self.stand_in.take().is_some();
        let stand_in = self.stand_in.insert(StandIn::start().map_err(BypassError::StandIn)?);
        let pid = stand_in.pid();
        if killed {
            tracing::warn!(
                "somebody has killed the process whose id stands for bypasses: containers do not \
                 depend on it, and it was started again"
            );
            for spec in self.by_id.values() {
                self.write_pid_file(spec, pid)?;
            }
        }
        Ok(pid)
    }

    /// No bypass, no process that stands for it.
    fn rest(&mut self) {
        if self.by_id.is_empty() {
            self.stand_in = None;
        }
    }

    fn write_pid_file(&self, spec: &Spec, pid: u32) -> Result<(), BypassError> {
        let Some(path) = Spec::path(&spec.pid_file_path) else { return Ok(()) };
        fs::write(&path, pid.to_string()).map_err(|source| BypassError::PidFile { path, source })
    }
}

impl Drop for Bypasses {
    fn drop(&mut self) {
        self.by_id.values().for_each(remove_pid_file);
    }
}

fn remove_pid_file(spec: &Spec) {
    if !spec.pid_file_path.is_empty() {
        fs::remove_file(Path::new(&spec.pid_file_path)).ok();
    }
}

/// The process that serves containers.
#[derive(Debug)]
struct Supervisor {
    channel: Channel,
    /// The same socket.
    ready: UnixDatagram,
    number: u64,
}

impl Supervisor {
    async fn ask(
        &mut self,
        request: &Request,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), BypassError> {
        self.number += 1;
        let number = self.number;
        // There is never more than one request under way, which its buffer has room for.
        let numbered = Numbered { number, message: request };
        self.channel.send(&numbered, fd).map_err(BypassError::Supervisor)?;
        let answered = tokio::time::timeout(ANSWERED_WITHIN, async {
            loop {
                let receive = || self.channel.receive::<Numbered<Reply>>();
                match self.ready.async_io(Interest::READABLE, receive).await? {
                    // To a request that was given up.
                    Some((Numbered { number: of, .. }, _)) if of < number => {}
                    Some((Numbered { message, .. }, _)) => return Ok(message),
                    None => return Err(io::ErrorKind::ConnectionReset.into()),
                }
            }
        });
        match answered.await {
            Ok(Ok(Reply::Done)) => Ok(()),
            Ok(Ok(Reply::Refused { what } | Reply::Failed { what })) => {
                Err(BypassError::Refused(what))
            }
            Ok(Ok(Reply::Ready)) => Err(BypassError::Supervisor(io::ErrorKind::InvalidData.into())),
            Ok(Err(source)) => Err(BypassError::Supervisor(source)),
            Err(_elapsed) => Err(BypassError::Supervisor(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl BypassError {
    /// All of it on one line.
    pub(super) fn sentence(&self) -> String {
        exit::chain(self)
    }
}
