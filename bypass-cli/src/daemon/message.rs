//! What the two processes of the daemon tell each other.
//!
//! To each request there is one reply, with the same number.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Numbered<T> {
    pub(super) number: u64,
    pub(super) message: T,
}

/// From the process that serves the API to the one that serves containers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// The descriptor beside it is the log of the next bypass.
    Log { id: String },
    /// Serve a container, whose runtime connects to the descriptor beside it. None with this id is
    /// served.
    Serve(Bypass),
    /// Serve it no longer, whether it runs or not.
    Stop { id: String },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Bypass {
    pub(super) id: String,
    /// Where the socket is, to be removed at the end.
    pub(super) socket: PathBuf,
    /// In the grammar of `-p`.
    pub(super) publish: Vec<String>,
    pub(super) ignore: Vec<IpNet>,
    /// Ignore the networks that the container is in, too.
    pub(super) ignore_own: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// To nothing in particular, once: requests may come.
    Ready,
    /// Instead of that; the sentence is for the user.
    Failed {
        what: String,
    },
    Done,
    Refused {
        what: String,
    },
}
