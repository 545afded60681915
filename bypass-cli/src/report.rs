//! The JSON report of `run`: what was asked for, what was enforced, what happened.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bypass_core::{Published, Snapshot};
use seccomp_notify::Features;
use serde::Serialize;

use crate::run::Enforced;

/// The report could not be written.
#[derive(Debug, thiserror::Error)]
#[error("--report {}: cannot be written", path.display())]
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

impl Report {
    pub(crate) fn write(&self, path: &Path) -> Result<(), ReportError> {
        self.try_write(path).map_err(|source| ReportError { path: path.into(), source })
    }

    fn try_write(&self, path: &Path) -> io::Result<()> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        if path == Path::new("-") {
            io::stderr().lock().write_all(&json)
        } else {
            std::fs::write(path, json)
        }
    }
}
