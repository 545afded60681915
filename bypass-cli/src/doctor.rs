//! `bypass-cli doctor`: what of this machine stands in the way, and what to do about it.
//!
//! What the kernel can do is tried, not concluded from its version; at the end one socket is switched.

mod live;
mod machine;
mod probe;
mod runtimes;

use std::io::{self, Write as _};
use std::process::ExitCode;

use serde::Serialize;

pub(crate) use self::machine::namespaces_remedy;
use crate::args::DoctorArgs;

/// What was found could not be printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DoctorError {
    #[error("cannot write to standard output")]
    Write(#[source] io::Error),
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    about: &'static str,
    state: State,
    found: String,
    /// What to do; everything that is not in order has one.
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Something cannot be used, or not by everybody.
    Warning,
    /// Nothing can be bypassed.
    Failed,
}

impl Finding {
    fn ok(about: &'static str, found: impl Into<String>) -> Self {
        Self { about, state: State::Ok, found: found.into(), remedy: None }
    }

    fn warning(about: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { about, state: State::Warning, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn failed(about: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { about, state: State::Failed, found: found.into(), remedy: Some(remedy.into()) }
    }
}

pub(crate) fn doctor(args: &DoctorArgs) -> Result<ExitCode, DoctorError> {
    if let Some(to) = args.connect {
        return Ok(live::connect(to));
    }
    let mut findings = machine::findings();
    findings.extend(runtimes::findings());
    findings.push(live::finding());
    let failed = findings.iter().any(|finding| finding.state == State::Failed);
    print(&findings, args.json).map_err(DoctorError::Write)?;
    Ok(ExitCode::from(u8::from(failed)))
}

fn print(findings: &[Finding], json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, findings)?;
        return writeln!(out);
    }
    for Finding { about, state, found, remedy } in findings {
        let state = match state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failed => "FAILED",
        };
        writeln!(out, "{state:7}  {about}: {found}")?;
        if let Some(remedy) = remedy {
            writeln!(out, "         do: {remedy}")?;
        }
    }
    Ok(())
}
