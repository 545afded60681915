//! Asks a server for its status, over its socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::model::Status;
use crate::args::{AskedArgs, beside_of};
use crate::serve::{SocketPathError, check_user, path_or};

/// The names of the servers' own sockets, those that are looked for first.
const SERVERS: [&str; 2] = ["bypass4netnsd.sock", "bypass4netns.sock"];
/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(10);
/// The longest answer.
const MOST_BYTES: usize = 64 << 20;

/// Why nothing is known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskServerError {
    #[error(transparent)]
    SocketPath(#[from] SocketPathError),
    #[error(
        "nobody serves: neither at {} nor at {}. Start `bypass-cli daemon` or `bypass-cli serve`, or name the \
         status socket of one with --socket",
        .0[0].display(), .0[1].display()
    )]
    Nobody([PathBuf; 2]),
    #[error(
        "{}: no server answers there; is `bypass-cli serve` or `bypass-cli daemon` running, and this its \
         --status-socket?", path.display()
    )]
    Connect { path: PathBuf, source: io::Error },
    #[error("{}: who serves there is not you, and not believed", path.display())]
    Stranger { path: PathBuf, source: io::Error },
    #[error("{}: no answer within {} s", path.display(), WITHIN.as_secs())]
    Late { path: PathBuf },
    #[error("{}: the connection failed", path.display())]
    Http { path: PathBuf, source: hyper::Error },
    #[error("{}: the answer cannot be received", path.display())]
    Body { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{}: the server answers {status}: {said}", path.display())]
    Refused { path: PathBuf, status: StatusCode, said: String },
    #[error("{}: the answer cannot be understood; is there another program?", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("epoll_create failed")]
    Runtime(#[source] io::Error),
}

/// A server that can be asked any number of times.
#[derive(Debug)]
pub(super) struct Server {
    path: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Server {
    /// The one that was named, or the first that there is a socket of.
    pub(super) fn find(args: &AskedArgs) -> Result<Self, AskServerError> {
        let path = match &args.socket {
            Some(path) => path.clone(),
            None => {
                let [first, second] = SERVERS.map(|name| path_or(None, name));
                let places = [beside_of(&first?), beside_of(&second?)];
                let answers =
                    |path: &&PathBuf| std::os::unix::net::UnixStream::connect(path).is_ok();
                match places.iter().find(answers) {
                    Some(path) => path.clone(),
                    None => return Err(AskServerError::Nobody(places)),
                }
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self { path, runtime: runtime.map_err(AskServerError::Runtime)? })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn ask(&self) -> Result<Status, AskServerError> {
        let path = || self.path.clone();
        self.runtime.block_on(async {
            match tokio::time::timeout(WITHIN, ask(&self.path)).await {
                Ok(answered) => answered,
                Err(_elapsed) => Err(AskServerError::Late { path: path() }),
            }
        })
    }
}

async fn ask(at: &Path) -> Result<Status, AskServerError> {
    let path = || at.to_owned();
    let http = |source| AskServerError::Http { path: at.to_owned(), source };
    let stream = UnixStream::connect(at)
        .await
        .map_err(|source| AskServerError::Connect { path: path(), source })?;
    let peer = stream.peer_cred().and_then(|peer| check_user(peer.uid()));
    peer.map_err(|source| AskServerError::Stranger { path: path(), source })?;
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let request = Request::get("/v1/status").header(HOST, "bypass").body(Empty::<Bytes>::new());
    let request =
        request.map_err(|error| AskServerError::Body { path: path(), source: error.into() })?;
    let answered = async {
        let response = requests.send_request(request).await.map_err(http)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
        let body = body.map_err(|source| AskServerError::Body { path: path(), source })?.to_bytes();
        if status != StatusCode::OK {
            let said = String::from_utf8_lossy(body.get(..body.len().min(500)).unwrap_or_default());
            let said = super::text::printable(&said);
            return Err(AskServerError::Refused { path: path(), status, said });
        }
        serde_json::from_slice(&body)
            .map_err(|source| AskServerError::Parse { path: path(), source })
    };
    tokio::pin!(answered);
    tokio::select! {
        answered = &mut answered => answered,
        // It ends when the answer is there, too.
        ended = connection => match ended {
            Ok(()) => answered.await,
            Err(error) => Err(http(error)),
        },
    }
}
