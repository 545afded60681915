//! Structured logs.

mod limit;
mod own;

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing_subscriber::fmt;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt as _};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::limit::Limited;
use self::own::Own;
pub(crate) use self::own::{close_for, open_for};
use crate::args::{LogArgs, LogFormat};

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error(
        "--log-file {}: cannot be opened for appending; give a file in a directory that you can \
         write to", path.display()
    )]
    Open { path: PathBuf, source: io::Error },
}

/// Where the log goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    StandardError,
    /// To the end of this file.
    File(&'a Path),
    /// To this file, and to standard error.
    Both(&'a Path),
}

impl<'a> From<Option<&'a Path>> for Place<'a> {
    fn from(file: Option<&'a Path>) -> Self {
        file.map_or(Self::StandardError, Self::File)
    }
}

pub(crate) fn init<'a>(args: &LogArgs, place: impl Into<Place<'a>>) -> Result<(), LogError> {
    let open = |path: &Path| {
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.map_err(|source| LogError::Open { path: path.into(), source }).map(Mutex::new)
    };
    let (writer, colours) = match place.into() {
        Place::StandardError => (BoxMakeWriter::new(io::stderr), wants_colours()),
        Place::File(path) => (BoxMakeWriter::new(open(path)?), false),
        Place::Both(path) => (BoxMakeWriter::new(open(path)?.and(io::stderr)), false),
    };
    let level = if args.debug { tracing::Level::DEBUG } else { tracing::Level::INFO };
    let log = fmt().with_max_level(level).with_writer(writer).with_ansi(colours).with_target(false);
    match args.log_format {
        LogFormat::Text => {
            log.map_event_format(|text| Limited::new(text, left_out)).finish().with(Own).init();
        }
        LogFormat::Json => {
            let log = log.json().map_event_format(|json| Limited::new(json, left_out_in_json));
            log.finish().with(Own).init();
        }
    }
    Ok(())
}

fn left_out(lines: u64) -> String {
    format!("  ({lines} lines like this one were left out before it)")
}

fn left_out_in_json(lines: u64) -> String {
    let message = "lines like the last were left out before it";
    serde_json::json!({ "level": "WARN", "fields": { "message": message, "lines": lines } })
        .to_string()
}

/// As clap decides it for its own messages: see no-color.org, by which an empty value says nothing.
fn wants_colours() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let able = set("TERM").is_some_and(|terminal| terminal != "dumb");
    io::IsTerminal::is_terminal(&io::stderr()) && able && set("NO_COLOR").is_none()
}
