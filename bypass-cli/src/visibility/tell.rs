//! The supervisor's side: a thread that writes down what there is when it is asked.
//!
//! A line of JSON about the server, then one for each container, so that what is needed for it does not grow with
//! their number.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use super::model::{Enforced, Process, Server};
use crate::channel::Channel;
use crate::confine::Confined;

/// Beside it is the file to write to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) number: u64,
}

/// To the question of the same number.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) number: u64,
    /// What was written; `None` if it could not be.
    pub(super) bytes: Option<u64>,
}

/// What does not change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    /// The command that was given.
    pub(crate) role: &'static str,
    pub(crate) confined: Confined,
}

/// Tells until nobody has the other end of the channel.
pub(crate) fn tell(channel: Channel, about: About, ledger: Arc<Ledger>) -> io::Result<()> {
    let run = move || {
        loop {
            let (Question { number }, file) = match channel.receive() {
                Ok(Some(asked)) => asked,
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::warn!(%error, "who asks for the status cannot be understood");
                    break;
                }
            };
            let written = file.map(|file| write(file, about, &ledger)).transpose();
            let bytes = written.unwrap_or_else(|error| {
                tracing::warn!(%error, "the status could not be written");
                None
            });
            if channel.send(&Told { number, bytes }, None).is_err() {
                break;
            }
        }
        tracing::warn!("no status is told any more: who asked for it has gone");
    };
    std::thread::Builder::new().name("status".into()).stack_size(STACK).spawn(run)?;
    Ok(())
}

fn write(file: OwnedFd, about: About, ledger: &Ledger) -> io::Result<u64> {
    let mut file = File::from(file);
    // What is in it was read, or is not wanted any more.
    file.rewind()?;
    file.set_len(0)?;
    let (server, containers) = ledger.read();
    let server = Server {
        version: env!("CARGO_PKG_VERSION").into(),
        role: about.role.into(),
        pid: std::process::id(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        enforced: Enforced::from(about.confined),
        process: process(),
        ..server
    };
    let mut out = BufWriter::with_capacity(BUFFER, &file);
    line(&mut out, &server)?;
    for container in &containers {
        line(&mut out, &container.status())?;
    }
    out.flush()?;
    drop(out);
    file.stream_position()
}

fn line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// What this process costs; what cannot be told counts as nothing.
fn process() -> Process {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    Process {
        cpu_seconds: std::time::Duration::try_from(cpu).unwrap_or_default().as_secs_f64(),
        open_fds: entries("/proc/self/fd"),
        max_fds: limit.unwrap_or(u64::MAX),
        resident_bytes: resident().unwrap_or(0),
        threads: entries("/proc/self/task"),
    }
}

fn entries(directory: &str) -> u64 {
    std::fs::read_dir(directory).map_or(0, |entries| entries.count() as u64)
}

/// What `/proc/self/status` (proc_pid_status(5)) says in kB.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// Its frames and the buffer of a received message on the heap; nothing recurses.
const STACK: usize = 128 * 1024;
/// A line about a container has some 500 bytes.
const BUFFER: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_costs_is_found_out() {
        let process = process();
        assert!(process.open_fds >= 3 && process.open_fds < process.max_fds, "{process:?}");
        assert!(process.resident_bytes > 100_000 && process.threads >= 1, "{process:?}");
        assert!(process.cpu_seconds > 0.0, "{process:?}");
    }
}
