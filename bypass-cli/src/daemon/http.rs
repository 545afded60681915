//! The requests of both APIs, and what is answered.
//!
//! | | |
//! |---|---|
//! | `GET /v1/bypass` | 200, all bypasses |
//! | `POST /v1/bypass` | 201, the bypass, once its socket is there |
//! | `DELETE /v1/bypass/ID` | 200 |
//!
//! and on the com socket
//!
//! | | |
//! |---|---|
//! | `GET /v1/ping` | 200, `"pong"` |
//! | `GET /v1/interfaces` | 200, all containers |
//! | `GET`, `POST`, `DELETE /v1/interface/ID` | 200, the container; nothing for `DELETE` |
//!
//! What cannot be done is 400 with a message, what is not there 404.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;
use tokio::task::spawn_local;

use super::api::{Object, Problem, Spec};
use super::bypasses::Bypasses;
use super::interfaces::{ContainerInterfaces, Interfaces};
use crate::connections;

/// Connections of one API at a time; each may take about 20 KiB, and 64 for a body.
const MAX_CONNECTIONS: usize = 64;
/// The longest body, in bytes. One of nerdctl has some hundred for each published port.
const MAX_BODY: usize = 64 * 1024;
/// The longest head.
const MAX_HEAD: usize = 16 * 1024;
/// How long a head may take to come, and then a body, and how long a connection may idle.
const RECEIVED_WITHIN: Duration = Duration::from_secs(5);

/// What requests are about.
#[derive(Debug)]
pub(super) struct State {
    pub(super) bypasses: Mutex<Bypasses>,
    pub(super) interfaces: RefCell<Interfaces>,
}

/// Which of the APIs a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Bypass,
    Com,
}

/// Serves all who connect.
pub(super) async fn serve(listener: UnixListener, api: Api, state: Rc<State>) {
    let converse = |stream| {
        let state = Rc::clone(&state);
        async move { converse(stream, api, &state).await }
    };
    connections::serve(listener, "the API", MAX_CONNECTIONS, converse).await;
}

async fn converse(stream: UnixStream, api: Api, state: &Rc<State>) -> hyper::Result<()> {
    let service = service_fn(|request| async {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = match api {
            Api::Bypass => bypass(&method, &path, request, state).await,
            Api::Com => com(&method, &path, request, state).await,
        };
        let response = answer.unwrap_or_else(Refusal::response);
        tracing::debug!(%method, path, status = response.status().as_u16(), "answered");
        Ok::<_, Infallible>(response)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(RECEIVED_WITHIN)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn bypass(
    method: &Method,
    path: &str,
    request: Request<Incoming>,
    state: &Rc<State>,
) -> Answer {
    match segments(path)?.as_slice() {
        ["v1", "bypass"] => match *method {
            Method::GET => {
                let listed = state.bypasses.lock().await.list();
                json(StatusCode::OK, &listed.map_err(|error| Refusal::bad(error.sentence()))?)
            }
            Method::POST => {
                let spec: Spec = body(request).await?;
                let of = Rc::clone(state);
                let started = to_its_end(async move { of.bypasses.lock().await.start(spec).await });
                let started = started.await?;
                json(StatusCode::CREATED, &started.map_err(|error| Refusal::bad(error.sentence()))?)
            }
            _ => Err(Refusal::Method("GET, POST")),
        },
        ["v1", "bypass", id] => match *method {
            Method::DELETE => {
                let id = decoded(id)?;
                let (of, one) = (Rc::clone(state), id.clone());
                let stopped = to_its_end(async move { of.bypasses.lock().await.stop(&one).await });
                stopped.await?.map_err(|error| Refusal::bad(error.sentence()))?;
                state.interfaces.borrow_mut().remove(&id);
                Ok(Response::new(Full::default()))
            }
            _ => Err(Refusal::Method("DELETE")),
        },
        _ => Err(Refusal::NotFound),
    }
}

async fn com(method: &Method, path: &str, request: Request<Incoming>, state: &State) -> Answer {
    match segments(path)?.as_slice() {
        ["v1", "ping"] => match *method {
            Method::GET => json(StatusCode::OK, &"pong"),
            _ => Err(Refusal::Method("GET")),
        },
        ["v1", "interfaces"] => match *method {
            Method::GET => json(StatusCode::OK, state.interfaces.borrow().all()),
            _ => Err(Refusal::Method("GET")),
        },
        ["v1", "interface", id] => {
            let id = decoded(id)?;
            match *method {
                Method::GET => match state.interfaces.borrow().get(&id) {
                    Some(of) => json(StatusCode::OK, of),
                    None => Err(Refusal::NotFound),
                },
                Method::POST => {
                    let of: ContainerInterfaces = body(request).await?;
                    match state.interfaces.borrow_mut().insert(id, of) {
                        Some(of) => json(StatusCode::OK, of),
                        None => Err(Refusal::bad("there are too many containers".into())),
                    }
                }
                Method::DELETE => {
                    state.interfaces.borrow_mut().remove(&id);
                    Ok(Response::new(Full::default()))
                }
                _ => Err(Refusal::Method("GET, POST, DELETE")),
            }
        }
        _ => Err(Refusal::NotFound),
    }
}

/// Carries out what must not be left half done when the client goes.
async fn to_its_end<T: 'static>(work: impl Future<Output = T> + 'static) -> Result<T, Refusal> {
    spawn_local(work)
        .await
        .map_err(|error| Refusal::Bad(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

type Answer = Result<Response<Full<Bytes>>, Refusal>;

/// Why a request has no effect.
#[derive(Debug)]
enum Refusal {
    Bad(StatusCode, String),
    NotFound,
    /// Those that there are.
    Method(&'static str),
}

impl Refusal {
    const fn bad(message: String) -> Self {
        Self::Bad(StatusCode::BAD_REQUEST, message)
    }

    fn response(self) -> Response<Full<Bytes>> {
        let (status, message, allowed) = match self {
            Self::Bad(status, message) => (status, message, None),
            Self::NotFound => (StatusCode::NOT_FOUND, "not found".to_owned(), None),
            Self::Method(allowed) => {
                let message = format!("the methods are {allowed}");
                (StatusCode::METHOD_NOT_ALLOWED, message, Some(allowed))
            }
        };
        let mut response = json(status, &Problem { message })
            .unwrap_or_else(|_unwritable| Response::new(Full::default()));
        if let Some(allowed) = allowed {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        }
        response
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(value)
        .map_err(|error| Refusal::Bad(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The first JSON value of a body, as Go's decoder takes it.
async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refusal> {
    let received = Limited::new(request.into_body(), MAX_BODY).collect();
    let bytes = match tokio::time::timeout(RECEIVED_WITHIN, received).await {
        Ok(Ok(received)) => received.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body is longer than {MAX_BODY} bytes");
            return Err(Refusal::Bad(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        Ok(Err(error)) => return Err(Refusal::bad(error.to_string())),
        Err(_elapsed) => {
            let message = "the body did not come in time".to_owned();
            return Err(Refusal::Bad(StatusCode::REQUEST_TIMEOUT, message));
        }
    };
    Object::deserialize(&mut serde_json::Deserializer::from_slice(&bytes))
        .map(|Object(value)| value)
        .map_err(|error| Refusal::bad(error.to_string()))
}

fn segments(path: &str) -> Result<Vec<&str>, Refusal> {
    let path = path.strip_prefix('/').ok_or(Refusal::NotFound)?;
    let segments: Vec<&str> = path.split('/').collect();
    if segments.iter().any(|segment| segment.is_empty()) {
        return Err(Refusal::NotFound);
    }
    Ok(segments)
}

fn decoded(segment: &str) -> Result<String, Refusal> {
    let decoded = percent_decode_str(segment).decode_utf8();
    decoded.map(Into::into).map_err(|error| Refusal::bad(error.to_string()))
}
