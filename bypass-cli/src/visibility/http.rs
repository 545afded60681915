//! What the teller answers.
//!
//! | | |
//! |---|---|
//! | `GET /v1/status` | 200, all there is, as JSON. Over the UNIX socket alone |
//! | `GET /metrics` | 200, for Prometheus |
//!
//! Nothing can be changed here. Each connection is for one request, and has a deadline from its first byte to
//! its last, so whoever sends nothing, or takes nothing, is gone before long.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::LocalSet;

use super::ask::Asker;
use super::metrics;
use super::place::Sockets;
use crate::connections;

/// Connections of one kind at a time; each may take the text of an answer, some 500 bytes for each
/// container.
const MAX_CONNECTIONS: usize = 16;
/// The longest head.
const MAX_HEAD: usize = 8 * 1024;
/// How long one may take, asking the supervisor included.
const DONE_WITHIN: Duration = Duration::from_secs(10);

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audience {
    /// The user.
    Own,
    /// Everybody.
    All,
}

/// Serves on all of the sockets, on the runtime of the calling thread.
pub(crate) fn serve(tasks: &LocalSet, sockets: &Sockets, asker: Asker) -> std::io::Result<()> {
    let asker = Rc::new(asker);
    if let Some(place) = &sockets.unix {
        let listener = UnixListener::from_std(place.listener.try_clone()?)?;
        let asker = Rc::clone(&asker);
        tasks.spawn_local(async move {
            let converse = |stream| converse(stream, Audience::Own, Rc::clone(&asker));
            connections::serve(listener, "the status socket", MAX_CONNECTIONS, converse).await;
        });
    }
    if let Some(listener) = &sockets.tcp {
        let listener = TcpListener::from_std(listener.try_clone()?)?;
        tasks.spawn_local(async move {
            let converse = |stream| converse(stream, Audience::All, Rc::clone(&asker));
            connections::serve(listener, "the metrics", MAX_CONNECTIONS, converse).await;
        });
    }
    Ok(())
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    audience: Audience,
    asker: Rc<Asker>,
) -> hyper::Result<()> {
    let service = service_fn(|request| {
        let asker = Rc::clone(&asker);
        async move { Ok::<_, Infallible>(answer(&request, audience, &asker).await) }
    });
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(DONE_WITHIN)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever takes longer is cut off.
    tokio::time::timeout(DONE_WITHIN, conversation).await.unwrap_or(Ok(()))
}

async fn answer(
    request: &Request<Incoming>,
    audience: Audience,
    asker: &Asker,
) -> Response<Full<Bytes>> {
    let metrics = match (request.uri().path(), audience) {
        ("/metrics", _) => true,
        ("/v1/status", Audience::Own) => false,
        _ => return problem(StatusCode::NOT_FOUND, "not found"),
    };
    if request.method() != Method::GET {
        let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "the method is GET");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let status = match asker.ask().await {
        Ok(status) => status,
        Err(error) => {
            let sentence = crate::exit::chain(&error);
            tracing::warn!("{sentence}");
            return problem(StatusCode::SERVICE_UNAVAILABLE, &sentence);
        }
    };
    if metrics {
        return response(StatusCode::OK, metrics::CONTENT_TYPE, metrics::exposition(&status));
    }
    match serde_json::to_string(&status) {
        Ok(text) => response(StatusCode::OK, "application/json", text),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn problem(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let text = serde_json::json!({ "message": message }).to_string();
    response(status, "application/json", text)
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
