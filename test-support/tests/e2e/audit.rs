//! The audit log of real programs.

use std::fs;

use serde_json::Value;
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process;
use test_support::world::{HOST_V4, REMOTE_V4};
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::{LIMIT, bypassed};

pub(crate) const SCENARIOS: Group = (
    "audit",
    &[
        Scenario { name: "what_is_judged_is_written_down", requires: &[], run: written },
        Scenario { name: "a_flood_is_held_back_and_counted", requires: &[], run: flood },
        Scenario { name: "a_log_that_cannot_be_written_is_said", requires: &[], run: unwritable },
    ],
);

fn written(world: &World) -> Result {
    let server = world.serve_remote(&["--quiet", "0.0.0.0:0"])?;
    let log = world.directory("audit")?.join("log");
    let path = log.display().to_string();
    let deny = format!("{REMOTE_V4}:25/tcp");
    let options = ["--audit", &path, "--deny", &deny];
    let to = server.at(REMOTE_V4);
    for steps in [format!("connect={to}"), format!("connect={REMOTE_V4}:25")] {
        bypassed(world, &options, &["sequence", "inet", &steps])?;
    }
    bypassed(world, &options, &["sequence", "inet", &format!("connect=127.0.0.1:{}", 1)])?;
    let lines = lines(&log)?;
    ensure_eq!(lines.len(), 3, "lines: {lines:?}");
    for (line, expected) in lines.iter().zip([
        [to.as_str(), "bypass", "allowed"],
        [&format!("{REMOTE_V4}:25"), "deny", "deny_rule"],
        ["127.0.0.1:1", "leave", "host_loopback"],
    ]) {
        let found = ["destination", "verdict", "reason"].map(|key| &line[key]);
        ensure_eq!(found, expected, "{line}");
        ensure_eq!(line["comm"], "fx-client", "{line}");
        ensure_eq!(line["container"], "run", "{line}");
        ensure!(line["pid"].as_u64().is_some_and(|pid| pid > 1), "{line}");
        let time = line["time"].as_str().unwrap_or_default();
        ensure!(time.len() == "2026-01-01T00:00:00.000Z".len() && time.ends_with('Z'), "{line}");
    }
    ensure_eq!(lines[1]["rule"], format!("deny {deny}"), "rule");
    ensure_eq!(lines[1]["outcome"], "denied", "outcome");
    // What containers do is nobody's but the user's.
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&log)?.permissions());
    ensure_eq!(mode & 0o777, 0o600, "mode of the log");
    Ok(())
}

fn flood(world: &World) -> Result {
    let server = world.serve_remote(&["--quiet", "0.0.0.0:0"])?;
    let log = world.directory("audit-flood")?.join("log");
    let path = log.display().to_string();
    let to = server.at(REMOTE_V4);
    let options = ["--audit", &path, "--audit-rate", "5", "--deny", &HOST_V4.to_string()];
    let connect = format!(
        "for i in $(seq 300); do \"$0\" sequence inet connect={to}; done; \
                           \"$0\" sequence inet connect={HOST_V4}:1"
    );
    let mut command = world.bypass(&options)?;
    command.args(["sh", "-c", &connect]).arg(world.program("fx-client")?);
    process::run(&mut command, LIMIT)?.success()?;
    let lines = lines(&log)?;
    let denied = lines.iter().filter(|line| line["verdict"] == "deny").count();
    ensure_eq!(denied, 1, "denied");
    // Fifty at once, and five a second.
    ensure!((50..250).contains(&lines.len()), "{} lines", lines.len());
    let missing: u64 = lines.iter().filter_map(|line| line["suppressed"].as_u64()).sum();
    ensure!(missing > 0, "nothing is said to be missing");
    Ok(())
}

fn unwritable(world: &World) -> Result {
    let mut command = world.bypass(&["--audit", "/nonexistent/log"])?;
    let finished = process::run(command.arg("true"), LIMIT)?;
    ensure_eq!(finished.status.code(), Some(125), "status");
    for part in ["/nonexistent/log", "--audit"] {
        ensure!(finished.stderr.contains(part), "{}", finished.stderr);
    }
    Ok(())
}

fn lines(log: &std::path::Path) -> Result<Vec<Value>> {
    fs::read_to_string(log)?
        .lines()
        .map(|line| serde_json::from_str(line).context("a line that is no JSON"))
        .collect()
}
