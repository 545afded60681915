//! Structured logs.

mod limit;

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing_subscriber::fmt;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use self::limit::Limited;
use crate::args::{LogArgs, LogFormat};

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("--log-file {}: cannot be opened for appending", path.display())]
    Open { path: PathBuf, source: io::Error },
}

pub(crate) fn init(args: &LogArgs, file: Option<&Path>) -> Result<(), LogError> {
    let (writer, colours) = match file {
        None => (BoxMakeWriter::new(io::stderr), is_terminal()),
        Some(path) => {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .map_err(|source| LogError::Open { path: path.into(), source })?;
            (BoxMakeWriter::new(Mutex::new(file)), false)
        }
    };
    let level = if args.debug { tracing::Level::DEBUG } else { tracing::Level::INFO };
    let log = fmt().with_max_level(level).with_writer(writer).with_ansi(colours).with_target(false);
    match args.log_format {
        LogFormat::Text => log.map_event_format(|text| Limited::new(text, left_out)).init(),
        LogFormat::Json => {
            log.json().map_event_format(|json| Limited::new(json, left_out_in_json)).init();
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

fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none()
}
