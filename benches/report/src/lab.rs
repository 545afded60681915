//! What all measurements share: the world, how long they take, and the CPU time that they cost.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use test_support::World;
use test_support::failure::{Context, Result};
use test_support::process::{self, Finished, PATIENCE, Running};

use crate::ways::Way;

/// The world, and how long measurements take in it.
pub(crate) struct Lab<'w> {
    pub(crate) world: &'w World,
    /// For tests: the shortest that every program can be told.
    pub(crate) quick: bool,
}

impl Lab<'_> {
    /// The number for a report, or that for a short one.
    pub(crate) const fn choose(&self, full: u32, quick: u32) -> u32 {
        if self.quick { quick } else { full }
    }

    /// `fx-client WORDS` behind a way, and what it printed.
    pub(crate) fn client(&self, way: &Way, words: &[&str]) -> Result<Value> {
        let program = self.fixture("fx-client")?;
        let words = [&[program.as_str()], words].concat();
        json_of(&mut way.command(self.world, &words)?)
    }

    /// Path of one of our own programs.
    pub(crate) fn fixture(&self, name: &str) -> Result<String> {
        let path = self.world.program(name)?;
        Ok(path.to_str().context("a path in UTF-8")?.to_owned())
    }

    /// `program` on the remote, as the ordinary user.
    pub(crate) fn remote(&self, program: &str) -> Command {
        self.world.as_user_in("remote", program)
    }

    /// CPU time, in seconds, of every process of this world: the one that is measured, its peer, and what
    /// is between them. Whatever else the machine does is not in it.
    pub(crate) fn cpu_time(&self) -> Result<f64> {
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
        let ticks = ticks.context("ticks per second")?;
        let stats = fs::read_dir("/proc")?.flatten().filter_map(|entry| {
            // Of processes alone, and of none that has ended meanwhile.
            entry.file_name().to_str()?.parse::<u32>().ok()?;
            fs::read_to_string(entry.path().join("stat")).ok()
        });
        let spent: u64 = stats.map(|stat| spent_ticks(&stat).unwrap_or(0)).sum();
        #[expect(clippy::cast_precision_loss, reason = "2^53 ticks are three million years")]
        Ok(spent as f64 / ticks as f64)
    }
}

/// In user and kernel mode, by a process and by its children that were waited for, of a line of
/// `/proc/PID/stat`.
fn spent_ticks(stat: &str) -> Option<u64> {
    // The name in parentheses may hold anything; the times are the 12th to 15th field after it.
    let fields = stat.rsplit_once(')')?.1.split_whitespace();
    fields.skip(11).take(4).map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// Runs a program to its end, with the limit of every cell.
pub(crate) fn finish(command: &mut Command) -> Result<Finished> {
    process::run(command, LIMIT)?.success()
}

/// Runs a program that prints JSON.
pub(crate) fn json_of(command: &mut Command) -> Result<Value> {
    let finished = finish(command)?;
    serde_json::from_str(&finished.stdout).map_err(|_no_json| finished.failure("no JSON"))
}

/// A number of some JSON.
pub(crate) fn number(value: &Value, pointer: &str) -> Result<f64> {
    value.pointer(pointer).and_then(Value::as_f64).context(format!("no {pointer} in {value}"))
}

/// Starts a server that says `ready` when it is, on standard output or standard error.
pub(crate) fn serve(command: &mut Command, ready: &str) -> Result<Running> {
    let mut server = process::start(command)?;
    server.line(ready, PATIENCE)?;
    Ok(server)
}

/// Ends a server in order, so that the next one finds its ports free.
pub(crate) fn end(mut server: Running) -> Result {
    server.signal(Signal::TERM)?;
    server.wait(PATIENCE)?;
    Ok(())
}

/// For one run of one program: what takes a second may take ten times as long through a slow network.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_a_process_with_a_strange_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 1 0 5 0";
        assert_eq!(spent_ticks(stat), Some(110));
        assert_eq!(spent_ticks("7 (gone"), None);
    }
}
