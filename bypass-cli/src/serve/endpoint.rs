//! The socket that runtimes connect to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::sockopt;

const DEFAULT_NAME: &str = "bypass4netns.sock";

/// There is no path for the socket.
#[derive(Debug, thiserror::Error)]
#[error("XDG_RUNTIME_DIR is not set, so there is no default socket; name one with --socket")]
pub(crate) struct SocketPathError;

/// The path asked for, or the one that runtimes expect.
pub(crate) fn socket_path(asked: Option<&Path>) -> Result<PathBuf, SocketPathError> {
    match asked {
        Some(path) => Ok(path.to_owned()),
        None => std::env::var_os("XDG_RUNTIME_DIR")
            .filter(|dir| !dir.is_empty())
            .map(|dir| Path::new(&dir).join(DEFAULT_NAME))
            .ok_or(SocketPathError),
    }
}

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndpointError {
    #[error(
        "--socket {}: another process serves there; end it first or choose another path",
        path.display()
    )]
    Live { path: PathBuf },
    #[error("--socket {}: there is something else than a socket", path.display())]
    NotASocket { path: PathBuf },
    #[error("--socket {}: the left-over socket cannot be removed", path.display())]
    Stale { path: PathBuf, source: io::Error },
    #[error("--socket {}: cannot listen there", path.display())]
    Listen { path: PathBuf, source: io::Error },
}

/// A listening socket; its file is removed at the end.
#[derive(Debug)]
pub(super) struct Endpoint {
    listener: UnixListener,
    path: PathBuf,
}

impl Endpoint {
    /// Listens at the path. A socket file that nobody serves any more is replaced.
    pub(super) fn bind(path: &Path) -> Result<Self, EndpointError> {
        remove_stale(path)?;
        let listen = || {
            let listener = UnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        match listen() {
            Ok(listener) => Ok(Self { listener, path: path.to_owned() }),
            Err(source) => Err(EndpointError::Listen { path: path.to_owned(), source }),
        }
    }

    /// The next connection, which must be of our own user (or root): who hands over a
    /// listener decides whose system calls we answer.
    pub(super) fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.listener.accept()?;
        let peer = sockopt::socket_peercred(&stream)?;
        let own = rustix::process::geteuid();
        if peer.uid != own && !peer.uid.is_root() {
            return Err(io::Error::other(format!(
                "the peer is user {}, not {}",
                peer.uid.as_raw(),
                own.as_raw()
            )));
        }
        stream.set_nonblocking(true)?;
        Ok(stream)
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

fn remove_stale(path: &Path) -> Result<(), EndpointError> {
    use std::os::unix::fs::FileTypeExt as _;

    let path_buf = || path.to_owned();
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(EndpointError::Stale { path: path_buf(), source }),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(EndpointError::NotASocket { path: path_buf() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
                .map_err(|source| EndpointError::Stale { path: path_buf(), source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(EndpointError::Live { path: path_buf() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_left_over_socket_is_replaced_and_a_live_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let endpoint = Endpoint::bind(&path).unwrap();
        assert!(matches!(Endpoint::bind(&path), Err(EndpointError::Live { .. })));
        drop(endpoint);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        assert!(matches!(Endpoint::bind(&path), Err(EndpointError::NotASocket { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
    }
}
