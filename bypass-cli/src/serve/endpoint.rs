//! The socket that runtimes connect to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::sockopt;

const DEFAULT_NAME: &str = "bypass4netns.sock";

/// There is no path for the socket.
#[derive(Debug, thiserror::Error)]
#[error(
    "XDG_RUNTIME_DIR is not set, so there is no default socket; log in as this user (su and sudo do \
     not set it), or name one with --socket, and for the daemon with --com-socket"
)]
pub(crate) struct SocketPathError;

/// The path asked for, or the one that runtimes expect.
pub(crate) fn socket_path(asked: Option<&Path>) -> Result<PathBuf, SocketPathError> {
    path_or(asked, DEFAULT_NAME)
}

/// The path asked for, or this name in the user's directory for such things.
pub(crate) fn path_or(asked: Option<&Path>, name: &str) -> Result<PathBuf, SocketPathError> {
    match asked {
        Some(path) => Ok(path.to_owned()),
        None => std::env::var_os("XDG_RUNTIME_DIR")
            .filter(|dir| !dir.is_empty())
            .map(|dir| Path::new(&dir).join(name))
            .ok_or(SocketPathError),
    }
}

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndpointError {
    #[error(
        "{}: another process serves there; end it first or choose another path",
        path.display()
    )]
    Live { path: PathBuf },
    #[error(
        "{}: there is something else than a socket; remove it, or choose another path", path.display()
    )]
    NotASocket { path: PathBuf },
    #[error(
        "{}: the left-over socket cannot be removed; remove it, or choose another path", path.display()
    )]
    Stale { path: PathBuf, source: io::Error },
    #[error(
        "{}: cannot listen there; choose a path of at most 107 bytes in a directory that exists and \
         that you can write to", path.display()
    )]
    Listen { path: PathBuf, source: io::Error },
}

/// A listening socket; its file is removed at the end.
#[derive(Debug)]
pub(crate) struct Endpoint {
    listener: UnixListener,
    path: PathBuf,
}

impl Endpoint {
    /// Listens at the path.
    pub(crate) fn bind(path: &Path) -> Result<Self, EndpointError> {
        Ok(Self { listener: listen(path)?, path: path.to_owned() })
    }

    /// One that listens at this path already.
    pub(crate) fn of(listener: UnixListener, path: PathBuf) -> Self {
        Self { listener, path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection, which must be of our own user (or root): who hands over a
    /// listener decides whose system calls we answer.
    pub(crate) fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.listener.accept()?;
        check_user(sockopt::socket_peercred(&stream)?.uid.as_raw())?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }
}

/// Refuses peers of other users but root.
pub(crate) fn check_user(uid: u32) -> io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    if uid == own || uid == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!("the peer is user {uid}, not {own}")))
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

/// A socket that listens at the path. A file that nobody serves any more is replaced.
pub(crate) fn listen(path: &Path) -> Result<UnixListener, EndpointError> {
    remove_stale(path)?;
    let listen = || {
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|source| EndpointError::Listen { path: path.to_owned(), source })
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
