//! The JSON report of `run`: what was asked for, what was enforced, what happened.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bypass_core::{Published, Snapshot};
use seccomp_notify::Features;
use serde::Serialize;

use crate::run::Enforced;

/// The report could not be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "--report {}: cannot be written; give a file in a directory that you can write to", path.display()
)]
pub(crate) struct ReportError {
    path: PathBuf,
    source: io::Error,
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) version: &'static str,
    pub(crate) exit_status: u8,
    pub(crate) kernel: Kernel,
    pub(crate) enforced: Enforced,
    pub(crate) published: Vec<Published>,
    /// Absent if the command never came to run.
    #[serde(flatten)]
    pub(crate) calls: Option<Snapshot>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Kernel {
    pub(crate) release: String,
    pub(crate) seccomp: Features,
}

impl Kernel {
    pub(crate) fn running(features: Features) -> Self {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        Self { release, seccomp: features }
    }
}

/// Where the report goes. It is opened before the supervisor confines itself, and keeps what it
/// holds until there is something new.
#[derive(Debug)]
pub(crate) enum Sink {
    Stderr,
    File { path: PathBuf, file: File },
}

impl Sink {
    pub(crate) fn open(path: &Path) -> Result<Self, ReportError> {
        if path == Path::new("-") {
            return Ok(Self::Stderr);
        }
        match File::options().write(true).create(true).truncate(false).open(path) {
            Ok(file) => Ok(Self::File { path: path.into(), file }),
            Err(source) => Err(ReportError { path: path.into(), source }),
        }
    }
}

impl Report {
    pub(crate) fn write(&self, sink: Sink) -> Result<(), ReportError> {
        match sink {
            Sink::Stderr => self.write_to(io::stderr().lock()).map_err(|source| {
                let path = PathBuf::from("-");
                ReportError { path, source }
            }),
            Sink::File { path, file } => {
                // A pipe or a terminal has no length.
                file.set_len(0).ok();
                self.write_to(file).map_err(|source| ReportError { path, source })
            }
        }
    }

    fn write_to(&self, mut to: impl io::Write) -> io::Result<()> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        to.write_all(&json)
    }
}
