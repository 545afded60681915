//! The process that serves the API.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::rc::Rc;

use rustix::process::{Pid, Signal, kill_process};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio::task::LocalSet;

use super::bypasses::Bypasses;
use super::http::{self, Api, State};
use super::{Channels, DaemonError};
use crate::args::DaemonArgs;
use crate::serve::{PidFile, listen, path_or};
use crate::visibility::{self, Asker};

const API_NAME: &str = "bypass4netnsd.sock";
const COM_NAME: &str = "bypass4netnsd-com.sock";

/// The sockets of both APIs, and those for what is to be seen.
#[derive(Debug)]
pub(super) struct Sockets {
    api: Socket,
    com: Socket,
    status: visibility::Sockets,
}

/// One of them. A file that we made is removed at the end.
#[derive(Debug)]
struct Socket {
    listener: UnixListener,
    made: Option<PathBuf>,
}

impl Sockets {
    /// Those that a service manager passes (sd_listen_fds(3)), and others that are made.
    pub(super) fn open(args: &DaemonArgs) -> Result<Self, DaemonError> {
        let (api, com) = (
            path_or(args.socket.as_deref(), API_NAME)?,
            path_or(args.com_socket.as_deref(), COM_NAME)?,
        );
        let status = args.visibility.path(&api);
        let (mut passed_api, mut passed_com, mut passed_status) = (None, None, None);
        for number in sd_notify::listen_fds().map_err(DaemonError::Activation)? {
            let fd = crate::inherited::take(number).map_err(DaemonError::Activation)?;
            let listener = UnixListener::from(fd);
            let at = listener.local_addr().ok();
            let at = at.as_ref().and_then(|at| at.as_pathname());
            let place = match at {
                Some(at) if is_same(at, &api) => &mut passed_api,
                Some(at) if is_same(at, &com) => &mut passed_com,
                Some(at) if status.as_ref().is_some_and(|status| is_same(at, status)) => {
                    &mut passed_status
                }
                at => return Err(DaemonError::Unexpected(at.map(Path::to_path_buf))),
            };
            listener.set_nonblocking(true).map_err(DaemonError::Activation)?;
            *place = Some(listener);
        }
        let status = visibility::Sockets::open(&args.visibility, &api, passed_status)?;
        let (api, com) = (Socket::open(passed_api, api)?, Socket::open(passed_com, com)?);
        Ok(Self { api, com, status })
    }
}

impl Socket {
    fn open(passed: Option<UnixListener>, path: PathBuf) -> Result<Self, DaemonError> {
        match passed {
            Some(listener) => Ok(Self { listener, made: None }),
            None => Ok(Self { listener: listen(&path)?, made: Some(path) }),
        }
    }

    /// For the runtime of the calling thread.
    fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.listener.try_clone()?)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            std::fs::remove_file(path).ok();
        }
    }
}

/// Whether two paths lead to one file, of which one may have been written otherwise.
fn is_same(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_gone| path.into());
    a == b || real(a) == real(b)
}

/// Serves until told to stop.
pub(super) fn serve(
    args: &DaemonArgs,
    sockets: Sockets,
    channels: Channels,
    supervisor: Child,
) -> Result<ExitCode, DaemonError> {
    let call = |call| move |source| DaemonError::Call { call, source };
    let pid_file = args.pid_file.clone().map(PidFile::write).transpose();
    let _pid_file = pid_file.map_err(|(path, source)| DaemonError::PidFile { path, source })?;
    channels.requests.set_nonblocking().map_err(call("ioctl"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(call("epoll_create"))?;
    let tasks = LocalSet::new();
    let served = tasks.block_on(&runtime, async {
        let bypasses = Mutex::new(Bypasses::new(channels.requests).map_err(call("epoll_ctl"))?);
        let state = Rc::new(State { bypasses, interfaces: Default::default() });
        for (socket, api) in [(&sockets.api, Api::Bypass), (&sockets.com, Api::Com)] {
            let listener = socket.listener().map_err(call("epoll_ctl"))?;
            tasks.spawn_local(http::serve(listener, api, Rc::clone(&state)));
        }
        if !sockets.status.are_none() {
            let asker = Asker::new(channels.status).map_err(call("memfd_create"))?;
            visibility::serve(&tasks, &sockets.status, asker).map_err(call("epoll_ctl"))?;
        }
        until_told(supervisor).await
    });
    // What is under way is not waited for.
    drop(tasks);
    served
}

async fn until_told(mut supervisor: Child) -> Result<ExitCode, DaemonError> {
    let call = |call| move |source| DaemonError::Call { call, source };
    let handler = |kind| signal(kind).map_err(call("sigaction"));
    let mut terminate = handler(SignalKind::terminate())?;
    let mut interrupt = handler(SignalKind::interrupt())?;
    let mut hangup = handler(SignalKind::hangup())?;
    let mut child = handler(SignalKind::child())?;
    let pid = i32::try_from(supervisor.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(DaemonError::Vanished)?;
    notify(&[NotifyState::Ready]);
    tracing::info!("the API is served");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                // It has the policy.
                kill_process(pid, Signal::HUP).ok();
            }
            _ = child.recv() => {
                // There are other children.
                if let Some(status) = supervisor.try_wait().map_err(call("wait"))? {
                    tracing::error!(%status, "the supervisor ended");
                    return Err(DaemonError::Vanished);
                }
            }
        }
    }
    notify(&[NotifyState::Stopping]);
    tracing::info!(
        "exiting; containers that run are served to their end by process {}",
        pid.as_raw_pid()
    );
    Ok(ExitCode::SUCCESS)
}

/// Tells the service manager, if one wants to know: sd_notify(3).
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
