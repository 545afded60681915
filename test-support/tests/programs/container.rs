//! A shell inside `bypass-cli run`: what it runs, what its supervisor holds, and what is reported
//! at the end.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use test_support::census::{self, Census};
use test_support::failure::Context;
use test_support::process;
use test_support::shell::Shell;
use test_support::{Result, ensure, ensure_eq};

use crate::place::{LIMIT, Place};

/// A container, whose command is a shell that takes one script after another.
#[derive(Debug)]
pub(crate) struct Container {
    shell: Shell,
    report: PathBuf,
    /// Its processes: those of `bypass-cli` outside.
    supervisor: Vec<u32>,
}

impl Container {
    /// Starts one with options of `run`, which has reserved what it publishes then.
    pub(crate) fn start(place: &Place<'_>, options: &[&str]) -> Result<Self> {
        let report = place.directory.join("report.json");
        let path = report.display().to_string();
        let mut command = place.world.bypass(&[&["--report", &path], options].concat())?;
        command.arg("sh").current_dir(&place.directory);
        let shell = Shell::start(&mut command, LIMIT)?;
        // No other program has this path on its command line.
        let supervisor = census::running("bypass-cli", &path)?;
        ensure!(!supervisor.is_empty(), "no supervisor of {path}");
        Ok(Self { shell, report, supervisor })
    }

    /// Runs a script inside that must end with 0; returns its output.
    pub(crate) fn ask(&mut self, script: &str) -> Result<String> {
        self.shell.expect(script)
    }

    /// Starts a server inside, and waits for a line with `ready`.
    pub(crate) fn serve(&mut self, command: &str, ready: &str) -> Result {
        self.until(&format!("{{ {command}\n}} < /dev/null 2>&1 &"), ready)
    }

    /// Runs a script inside, and waits for a line with `words` of whatever runs there.
    pub(crate) fn until(&mut self, script: &str, words: &str) -> Result {
        self.shell.running.write(format!("{script}\n").as_bytes())?;
        self.shell.running.line(words, LIMIT)?;
        Ok(())
    }

    /// What its supervisor holds.
    pub(crate) fn census(&self) -> Result<Census> {
        Census::of_all(&self.supervisor)
    }

    /// Waits until its supervisor holds no more than that again, and what it may keep in store.
    pub(crate) fn returns_to(&self, before: &Census) -> Result<Census> {
        let bound = before.with_cache(KEPT);
        let after = bound.settles(&self.supervisor, LIMIT)?;
        ensure!(after.rss_kib <= before.rss_kib + GROWTH, "memory: {before:?}, then {after:?}");
        Ok(after)
    }

    /// Ends the shell and with it the run; returns the report.
    pub(crate) fn end(mut self) -> Result<Report> {
        self.shell.running.close_input();
        let status = self.shell.running.wait(LIMIT)?;
        ensure!(status.success(), "the run ended with {status}: {}", self.shell.running.stderr());
        let report = fs::read(&self.report).context(self.report.display())?;
        Ok(Report(serde_json::from_slice(&report).context("the report")?))
    }
}

impl Drop for Container {
    /// Lets it end by itself: of a run that is killed, the ports are free a moment later.
    fn drop(&mut self) {
        self.shell.running.close_input();
        let _killed = self.shell.running.wait(process::PATIENCE);
    }
}

/// Descriptors that a supervisor keeps from call to call, by docs/supervisor.md: handles of
/// threads, and container sockets in store.
const KEPT: usize = 16 + 4 * 8;

/// In KiB: what the allocator may keep of the busiest moment. How it grows with time is the
/// soak's to tell.
const GROWTH: u64 = 1024;

/// What `--report` wrote.
#[derive(Debug)]
pub(crate) struct Report(pub(crate) Value);

impl Report {
    /// How many sockets became the host's.
    pub(crate) fn switched(&self) -> u64 {
        self.0["verdicts"]["switched"].as_u64().unwrap_or(0)
    }

    /// Fails where calls ended otherwise than as `expected`, in the form `left/local`.
    pub(crate) fn expect_only(&self, expected: &[&str]) -> Result {
        let none = serde_json::Map::new();
        let outcomes = self.0["reasons"].as_object().unwrap_or(&none);
        for (outcome, reasons) in outcomes {
            for (reason, count) in reasons.as_object().unwrap_or(&none) {
                let name = format!("{outcome}/{reason}");
                let fine = ALWAYS.contains(&&**outcome) || expected.contains(&&*name);
                ensure!(fine, "{count} calls ended as {name}: {}", self.0["reasons"]);
            }
        }
        Ok(())
    }

    /// Fails unless every published address was served by the program's own socket.
    pub(crate) fn expect_direct(&self) -> Result {
        for published in self.0["published"].as_array().into_iter().flatten() {
            ensure_eq!(published["way"], "direct", "{published}");
        }
        Ok(())
    }
}

/// What needs no permission: sockets that are the host's, and processes that were killed at the
/// end of the container in the middle of a call.
const ALWAYS: &[&str] = &["switched", "host", "gone"];
