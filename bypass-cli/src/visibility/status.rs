//! `bypass-cli status`: what a server serves, once.

use std::io::{self, Write as _};
use std::process::ExitCode;

use super::client::{AskServerError, Server};
use super::text;
use crate::args::StatusArgs;

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatusError {
    #[error(transparent)]
    Ask(#[from] AskServerError),
    #[error("cannot write to standard output")]
    Write(#[source] io::Error),
}

pub(crate) fn status(args: &StatusArgs) -> Result<ExitCode, StatusError> {
    let status = Server::find(&args.asked)?.ask()?;
    let printed = if args.json {
        serde_json::to_vec_pretty(&status).map_err(io::Error::from).and_then(|mut json| {
            json.push(b'\n');
            io::stdout().write_all(&json)
        })
    } else {
        // Colours where there is a terminal and NO_COLOR does not forbid them.
        anstream::stdout().write_all(text::text(&status).as_bytes())
    };
    printed.map_err(StatusError::Write)?;
    Ok(ExitCode::SUCCESS)
}
