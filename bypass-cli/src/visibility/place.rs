//! Where the teller listens.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use crate::args::VisibilityArgs;
use crate::serve::{EndpointError, listen};

/// Why it cannot listen there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("--status-socket {}: the directory cannot be looked at", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error(
        "--status-socket {}: others than you and root can replace files in its directory; choose one \
         like $XDG_RUNTIME_DIR, or `none`",
        path.display()
    )]
    Open { path: PathBuf },
    #[error("--status-socket {0}")]
    Endpoint(#[from] EndpointError),
    #[error("--metrics-listen {at}: cannot listen there")]
    Metrics { at: SocketAddr, source: io::Error },
}

/// A UNIX socket.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) listener: UnixListener,
    pub(super) made: Option<Made>,
}

/// A file that we made, which is removed at the end.
#[derive(Debug)]
pub(super) struct Made(PathBuf);

impl Place {
    pub(crate) fn make(path: PathBuf) -> Result<Self, PlaceError> {
        check_directory(&path)?;
        Ok(Self { listener: listen(&path)?, made: Some(Made(path)) })
    }

    /// One that a service manager has made.
    pub(crate) const fn passed(listener: UnixListener) -> Self {
        Self { listener, made: None }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// All that the teller listens on.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) unix: Option<Place>,
    pub(crate) tcp: Option<TcpListener>,
}

impl Sockets {
    /// What was asked for must be had; without that, being seen is no condition of being there.
    pub(crate) fn open(
        args: &VisibilityArgs,
        beside: &Path,
        passed: Option<UnixListener>,
    ) -> Result<Self, PlaceError> {
        let unix = match (passed, args.path(beside)) {
            (Some(listener), _) => Some(Place::passed(listener)),
            (None, None) => None,
            (None, Some(path)) => match Place::make(path) {
                Err(error) if args.status_socket.is_none() => {
                    tracing::warn!("no status is told: {}", crate::exit::chain(&error));
                    None
                }
                made => Some(made?),
            },
        };
        let listen = |at| {
            let listening = TcpListener::bind(at).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            listening.map_err(|source| PlaceError::Metrics { at, source })
        };
        let tcp = args.metrics_listen.map(listen).transpose()?;
        Ok(Self { unix, tcp })
    }

    pub(crate) const fn are_none(&self) -> bool {
        self.unix.is_none() && self.tcp.is_none()
    }
}

/// Who can replace the socket can tell `status` anything.
fn check_directory(path: &Path) -> Result<(), PlaceError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let meta = std::fs::metadata(directory)
        .map_err(|source| PlaceError::Directory { path: path.into(), source })?;
    let mode = Mode::from_raw_mode(meta.mode());
    let shared = mode.intersects(Mode::WGRP | Mode::WOTH) && !mode.contains(Mode::SVTX);
    let own = rustix::process::geteuid().as_raw();
    if shared || ![own, 0].contains(&meta.uid()) {
        return Err(PlaceError::Open { path: path.into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_that_others_can_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        for (mode, taken) in
            [(0o700, true), (0o755, true), (0o1777, true), (0o770, false), (0o702, false)]
        {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            let made = Place::make(path.clone());
            assert_eq!(made.is_ok(), taken, "{mode:o} {made:?}");
        }
        assert!(!path.exists());
    }

    #[test]
    fn only_what_was_asked_for_must_be_had() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("s-status.sock"), "precious").unwrap();
        let beside = dir.path().join("s.sock");
        let args = VisibilityArgs { status_socket: None, metrics_listen: None };
        assert!(Sockets::open(&args, &beside, None).unwrap().are_none());
        let asked = VisibilityArgs {
            status_socket: Some(dir.path().join("s-status.sock")),
            metrics_listen: None,
        };
        assert!(Sockets::open(&asked, &beside, None).is_err());
    }
}
