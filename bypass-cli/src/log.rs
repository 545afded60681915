//! Structured logs.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing_subscriber::fmt;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

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
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none()
}
