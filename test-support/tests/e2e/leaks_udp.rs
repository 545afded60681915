//! UDP sockets that go back and forth between container and host leave nothing behind.

use test_support::harness::{Group, Scenario};
use test_support::world::{REMOTE_V4, REMOTE_V6, SILENT_V4, SILENT_V6};
use test_support::{Result, World, ensure};

use crate::leaks::{Baseline, soak};
use crate::repl::Repl;

pub(crate) const SCENARIOS: Group = (
    "leaks",
    &[
        Scenario { name: "udp_sockets_that_move_leave_nothing", requires: &[], run: moves },
        Scenario { name: "unconnected_sends_leave_nothing", requires: &[], run: sends },
    ],
);

/// Work of one command, which is to end within the limit of one.
const AT_ONCE: usize = 2_000;

fn moves(world: &World) -> Result {
    let echo = world.serve_remote(&["--udp", "[::]:0"])?;
    let options = ["--udp", "connected", "-p", "8065:8080", "-p", "8065:8080/udp"];
    let mut inside = Repl::bypassed(world, &options)?;
    inside.succeed("open own inet6 dgram bind=[::]:4501")?;
    let mut work = |count: usize| -> Result {
        for addresses in [
            // The outside, the container's own, and nobody.
            format!("{} 127.0.0.1:4501 {REMOTE_V4}:1", echo.at(REMOTE_V4)),
            format!("{} [::1]:4501 [{REMOTE_V6}]:1", echo.at(REMOTE_V6)),
        ] {
            let answer = inside.expect(&format!("moves {count} {addresses}"), "done", count)?;
            let failed = answer["outcomes"].as_object().is_none_or(|o| o.keys().any(|k| k != "ok"));
            ensure!(!failed, "{answer}");
        }
        Ok(())
    };
    work(100)?;
    let baseline = Baseline::take()?;
    for _ in 0..5 * soak() {
        work(AT_ONCE)?;
    }
    baseline.returns()
}

fn sends(world: &World) -> Result {
    let echo = world.serve_remote(&["--udp", "[::]:0"])?;
    let ignored = format!("{SILENT_V4}/32,{SILENT_V6}/128");
    let options = ["--udp", "all", "--ignore", &ignored, "-p", "8065:8080", "-p", "8065:8080/udp"];
    let mut inside = Repl::bypassed(world, &options)?;
    inside.succeed("open own inet6 dgram bind=[::]:4501")?;
    let mut work = |count: usize| -> Result {
        for addresses in [
            // The outside, the container's own, and what only a stack beside it could reach.
            format!("{} 127.0.0.1:4501 {SILENT_V4}:9", echo.at(REMOTE_V4)),
            format!("{} [::1]:4501 [{SILENT_V6}]:9", echo.at(REMOTE_V6)),
        ] {
            let answer = inside.expect(&format!("sends {count} {addresses}"), "done", count)?;
            let arrived = answer["outcomes"]["ok"].as_u64().map(usize::try_from).transpose()?;
            ensure!(arrived >= Some(count / 2), "{answer}");
        }
        Ok(())
    };
    // As many as are remembered to be the container's.
    work(1_600)?;
    let baseline = Baseline::take()?;
    for _ in 0..5 * soak() {
        work(AT_ONCE)?;
    }
    baseline.returns()
}
