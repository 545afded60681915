//! `--audit FILE`: one line of JSON for each destination that was judged.
//!
//! Lines are written by a thread of their own, since a full disk or a slow reader must not make a
//! container wait. What it cannot keep up with is dropped, and counted in its next line.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use bypass_core::{AuditRecord, AuditSink, Verdict};
use serde::Serialize;

use crate::args::AuditArgs;

/// An opened log, that nothing is written to yet.
#[derive(Debug)]
pub(crate) struct AuditLog(Target);

#[derive(Debug)]
enum Target {
    File(File),
    StandardError,
}

/// A log that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write the audit log {path}: give --audit a file in a directory that you can write to"
)]
pub(crate) struct AuditLogError {
    path: PathBuf,
    source: io::Error,
}

impl AuditLog {
    /// Opens the log, if one is asked for. A new file is for its owner alone: it tells what
    /// containers do.
    pub(crate) fn open(args: &AuditArgs) -> Result<Option<Self>, AuditLogError> {
        let Some(path) = &args.audit else { return Ok(None) };
        if path == Path::new("-") {
            return Ok(Some(Self(Target::StandardError)));
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        match file {
            Ok(file) => Ok(Some(Self(Target::File(file)))),
            Err(source) => Err(AuditLogError { path: path.clone(), source }),
        }
    }

    /// Starts to write. In a process that catches its signals by signalfd(2), they must be blocked
    /// by now.
    pub(crate) fn start(self) -> io::Result<Auditing> {
        let (lines, inbox) = sync_channel(LINES);
        let thread = std::thread::Builder::new().name("audit".into()).stack_size(STACK).spawn(
            move || match self.0 {
                Target::File(file) => write(&inbox, file),
                Target::StandardError => write(&inbox, io::stderr()),
            },
        )?;
        let sink = Arc::new(Sink { lines, dropped: AtomicU64::new(0) });
        Ok(Auditing { sink: Some(sink), thread: Some(thread) })
    }
}

/// Lines that wait to be written. A full queue takes some 300 KiB.
const LINES: usize = 1_000;
const STACK: usize = 64 * 1024;

/// A log that is written to. Dropped, it writes what is there and closes.
#[derive(Debug)]
pub(crate) struct Auditing {
    sink: Option<Arc<Sink>>,
    thread: Option<JoinHandle<()>>,
}

impl Auditing {
    pub(crate) fn sink(&self) -> Option<Arc<dyn AuditSink>> {
        self.sink.clone().map(|sink| sink as Arc<dyn AuditSink>)
    }
}

impl Drop for Auditing {
    fn drop(&mut self) {
        // The thread ends with the last sender. Containers that still run hold one too, and are not
        // waited for.
        let alone = self.sink.take().is_some_and(|sink| Arc::into_inner(sink).is_some());
        if let Some(thread) = self.thread.take().filter(|_| alone) {
            thread.join().ok();
        }
    }
}

#[derive(Debug)]
struct Sink {
    lines: SyncSender<String>,
    dropped: AtomicU64,
}

impl AuditSink for Sink {
    fn record(&self, record: &AuditRecord<'_>) {
        let dropped = self.dropped.swap(0, Relaxed);
        let Ok(mut line) = serde_json::to_string(&Line::of(record, dropped)) else { return };
        line.push('\n');
        if self.lines.try_send(line).is_err() {
            let missing = dropped.saturating_add(record.suppressed).saturating_add(1);
            self.dropped.fetch_add(missing, Relaxed);
        }
    }
}

fn write(lines: &Receiver<String>, mut to: impl Write) {
    let mut told = false;
    for line in lines {
        match to.write_all(line.as_bytes()) {
            Ok(()) => told = false,
            Err(error) if !told => {
                tracing::error!(%error, "the audit log has a gap: it cannot be written");
                told = true;
            }
            Err(_again) => {}
        }
    }
}

/// A record as it is written.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time: String,
    container: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comm: Option<&'a str>,
    call: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    destination: String,
    verdict: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    /// Absent while the connection is on its way.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    /// Records before this one that are missing, of this container by its rate or of any where the
    /// writer did not keep up.
    #[serde(skip_serializing_if = "is_zero")]
    suppressed: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl<'a> Line<'a> {
    fn of(record: &AuditRecord<'a>, dropped: u64) -> Self {
        Self {
            time: humantime::format_rfc3339_millis(record.time).to_string(),
            container: record.container,
            pid: record.process.map(|process| process.pid),
            comm: record.process.map(|process| process.comm.as_str()),
            call: record.call.name(),
            protocol: record.protocol.map(|protocol| protocol.to_string()),
            destination: record.destination.to_string(),
            verdict: match record.verdict {
                Verdict::Bypass => "bypass",
                Verdict::Leave(_) => "leave",
                Verdict::Deny(_) => "deny",
            },
            reason: record.reason.name(),
            rule: record.rule.map(ToString::to_string),
            outcome: record.outcome.map(|outcome| outcome.name()),
            suppressed: record.suppressed.saturating_add(dropped),
        }
    }
}
