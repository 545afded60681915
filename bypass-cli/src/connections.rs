//! Connections of clients, served by one thread: so many at a time, and none of another user.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::spawn_local;

use crate::serve::check_user;

/// How long nobody is accepted after that has failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Where clients connect.
pub(crate) trait Accept {
    type Stream;

    async fn accept(&self) -> io::Result<Self::Stream>;
}

/// Clients are of our own user, or root.
impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _) = Self::accept(self).await?;
        check_user(stream.peer_cred()?.uid())?;
        Ok(stream)
    }
}

/// Nobody can tell who they are.
impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(Self::accept(self).await?.0)
    }
}

/// Serves all who connect. Where there are as many as there may be, the oldest makes room: whoever
/// idles keeps nobody out.
pub(crate) async fn serve<L: Accept, F: Future<Output = hyper::Result<()>> + 'static>(
    listener: L,
    what: &'static str,
    most: usize,
    converse: impl Fn(L::Stream) -> F,
) {
    let mut connections = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection to {what}");
                // A peer that is refused is gone.
                if error.raw_os_error().is_some() {
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
        };
        connections.retain(|connection: &tokio::task::JoinHandle<()>| !connection.is_finished());
        if connections.len() >= most
            && let Some(oldest) = connections.pop_front()
        {
            tracing::warn!("{most} connections to {what}: the oldest makes room");
            oldest.abort();
        }
        let conversation = converse(stream);
        connections.push_back(spawn_local(async move {
            if let Err(error) = conversation.await {
                tracing::debug!(%error, "a connection to {what} ended");
            }
        }));
    }
}
