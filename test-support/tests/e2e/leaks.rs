//! What the supervisor holds does not grow with what the container does.
//!
//! `BYPASS_SOAK=N` in the environment makes all of these do N times as much.

use test_support::census::{Census, running, wait_thread_ended};
use test_support::harness::{Group, Scenario};
use test_support::process::PATIENCE;
use test_support::world::{REMOTE_V4, REMOTE_V6, SILENT_V4};
use test_support::{Result, World, ensure, ensure_eq};

use crate::repl::Repl;

pub(crate) const SCENARIOS: Group = (
    "leaks",
    &[Scenario { name: "connects_and_kills_leave_nothing", requires: &[], run: connects }],
);

/// Targets that the supervisor remembers, with a descriptor for each; far fewer than the
/// processes and sockets that come and go here.
pub(crate) const CACHED_TARGETS: usize = 16;
/// Container sockets that it has in store: some of either kind, for either family.
const SPARE_SOCKETS: usize = 4 * 8;

/// How often everything is done, in multiples of what CI has time for.
pub(crate) fn soak() -> usize {
    std::env::var("BYPASS_SOAK").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// What the supervisor of the one run that there is holds, once it has what it takes once.
#[derive(Debug)]
pub(crate) struct Baseline {
    pids: Vec<u32>,
    census: Census,
}

impl Baseline {
    /// Counts once every port is reserved again.
    pub(crate) fn take() -> Result<Self> {
        let pids = running("bypass-cli", "run")?;
        wait_thread_ended(&pids, "ports", PATIENCE)?;
        let census = Census::of_all(&pids)?.with_cache(CACHED_TARGETS + SPARE_SOCKETS);
        Ok(Self { pids, census })
    }

    /// Waits until it holds no more than that again.
    pub(crate) fn returns(&self) -> Result {
        wait_thread_ended(&self.pids, "ports", PATIENCE)?;
        let (before, after) = (&self.census, self.census.settles(&self.pids, PATIENCE)?);
        ensure!(after.rss_kib <= before.rss_kib + GROWTH, "memory: {before:?}, then {after:?}");
        ensure_eq!(running("bypass-cli", "run")?, self.pids, "processes");
        Ok(())
    }
}

/// In KiB; much less than 100 bytes for each of the things that are done here.
const GROWTH: u64 = 1024;

fn connects(world: &World) -> Result {
    let byte = world.serve_remote(&["--mode", "byte", "--quiet", "[::]:0"])?;
    let echo = world.serve_remote(&["--quiet", "[::]:0"])?;
    let mut inside = Repl::bypassed(world, &[])?;
    let work = |inside: &mut Repl, scale: usize| -> Result {
        for (words, key, expected) in [
            (format!("cycles {} {}", byte.at(REMOTE_V4), 100 * scale), "done", 100 * scale),
            (format!("cycles {} {}", byte.at(REMOTE_V6), 20 * scale), "done", 20 * scale),
            (format!("threads {} 8 {scale}", echo.at(REMOTE_V4)), "done", 8 * scale),
            (format!("killed {SILENT_V4}:9 {scale}"), "killed", scale),
        ] {
            inside.expect(&words, key, expected)?;
        }
        for steps in [
            format!("connect={REMOTE_V4}:1"),
            format!("nonblocking connect={SILENT_V4}:9"),
            format!("connect={} unspec", echo.at(REMOTE_V4)),
        ] {
            inside.ask(&format!("sequence inet {steps}"))?;
        }
        Ok(())
    };
    // What is taken once, caches included, is there after a warm-up of the same kind.
    work(&mut inside, 30)?;
    let baseline = Baseline::take()?;
    for _ in 0..soak() {
        work(&mut inside, 1_000)?;
    }
    baseline.returns()
}
