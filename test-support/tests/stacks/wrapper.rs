//! `bypass-cli oci-runtime` in front of a runtime: what it passes through, and what it says.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, Finished};
use test_support::requirement::Requirement;
use test_support::world::REMOTE_V4;
use test_support::{Result, World, ensure, ensure_eq};

use crate::bundles::{Bundles, Way};
use crate::engine::{Agent, Ask, Engine as _, OPTIONS, socket};
use crate::table::LIMIT;

const CRUN: &[Requirement] = &[Requirement::Program("crun"), Requirement::Program("newuidmap")];
const RUNC: &[Requirement] = &[Requirement::Program("runc"), Requirement::Program("newuidmap")];

pub(crate) const SCENARIOS: Group = (
    "oci_runtime",
    &[
        Scenario {
            name: "passes_crun_through",
            requires: CRUN,
            run: |world| passes(world, "crun"),
        },
        Scenario {
            name: "passes_runc_through",
            requires: RUNC,
            run: |world| passes(world, "runc"),
        },
        Scenario { name: "says_that_nobody_listens", requires: CRUN, run: nobody },
        Scenario { name: "can_be_a_link", requires: CRUN, run: link },
        Scenario { name: "costs_little", requires: &[], run: cost },
    ],
);

/// Exit statuses, output, and signals.
fn passes(world: &World, runtime: &'static str) -> Result {
    let bundles = Bundles::new(world, runtime, Way::Wrapper, &format!("passes-{runtime}"))?;
    let agent = Agent::start(world, &[])?;
    for (script, code) in
        [("exit 0", 0), ("echo said; echo told >&2; exit 7", 7), ("exit 137", 137)]
    {
        let words = ["/bin/sh", "-c", script];
        let mut command = bundles.run(world, &Ask::new("status", &words))?;
        let said = process::run(&mut command, LIMIT)?;
        ensure_eq!(said.code(), code, "{script}: {said}");
        let output = said.stdout.contains("said") && said.stderr.contains("told");
        ensure_eq!(output, code == 7, "{script}: {said}");
    }
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 600 & wait $!; done";
    let words = ["/bin/sh", "-c", script];
    let mut running = process::start(&mut bundles.run(world, &Ask::new("signal", &words))?)?;
    running.line("ready", LIMIT).context(agent.running.stderr())?;
    running.signal(Signal::TERM)?;
    ensure_eq!(running.finish(LIMIT)?.code(), 9, "the status after SIGTERM");
    for words in [&["frobnicate"][..], &["--version"], &["state", "nobody"], &["list"]] {
        let mut direct = bundles.inside(world);
        direct.arg(runtime).arg("--root").arg(&bundles.state).args(words);
        let direct = process::run(&mut direct, LIMIT)?;
        let through = process::run(bundles.command(world).args(words), LIMIT)?;
        ensure_eq!(through.code(), direct.code(), "{words:?}: {through}");
        ensure_eq!(through.stdout, direct.stdout, "{words:?}");
    }
    agent.end()
}

/// A container in front of which nobody listens, and the words of the runtime's log.
fn unheard(
    world: &World,
    bundles: &Bundles,
    mode: Option<&str>,
    words: &[&str],
) -> Result<(Finished, String)> {
    let ask = Ask { mode, ..Ask::new("unheard", words) };
    let bundle = bundles.write(world, &ask)?;
    let log = bundle.join("log.json");
    let mut command = bundles.command(world);
    command.arg("--log").arg(&log).args(["--log-format", "json", "run", "--bundle"]);
    let finished = process::run(command.arg(&bundle).arg("unheard"), LIMIT)?;
    Ok((finished, std::fs::read_to_string(log).unwrap_or_default()))
}

fn nobody(world: &World) -> Result {
    let bundles = Bundles::new(world, "crun", Way::Wrapper, "nobody")?;
    let connect = format!("connect={REMOTE_V4}:1");
    let words = ["/bin/fx-client", "sequence", "inet", &connect];
    let (refused, log) = unheard(world, &bundles, None, &words)?;
    let told =
        refused.stderr.contains("bypass-cli serve") && refused.stderr.contains("bypass.mode");
    ensure!(refused.code() == 1 && told, "{refused}");
    let line: Value = serde_json::from_str(log.trim()).context(&log)?;
    ensure_eq!(line["level"], "error", "the line in the log");
    ensure!(line["msg"].to_string().contains("no supervisor listens"), "{log}");
    let (wrong, _) = unheard(world, &bundles, Some("maybe"), &words)?;
    ensure!(wrong.code() == 1 && wrong.stderr.contains("on, off or optional"), "{wrong}");
    for (mode, warned) in [("optional", true), ("off", false)] {
        let (without, _) = unheard(world, &bundles, Some(mode), &words)?;
        ensure_eq!(without.stderr.contains("is not bypassed"), warned, "{mode}: {without}");
        ensure!(without.stdout.contains("ENETUNREACH"), "{mode}: {without}");
    }
    // With a supervisor, `off` stays off and the others do not.
    let agent = Agent::start(world, &[])?;
    for (mode, result) in
        [("off", "ENETUNREACH"), ("optional", "ECONNREFUSED"), ("on", "ECONNREFUSED")]
    {
        let (said, _) = unheard(world, &bundles, Some(mode), &words)?;
        ensure!(said.stdout.contains(result), "{mode}: {said}");
    }
    agent.end()
}

fn link(world: &World) -> Result {
    let bundles = Bundles::new(world, "crun", Way::Wrapper, "link")?;
    let link = world.programs().join("bypass-runtime-crun");
    std::os::unix::fs::symlink("bypass-cli", &link)?;
    let agent = Agent::start(world, &[])?;
    let connect = format!("connect={REMOTE_V4}:1");
    let words = ["/bin/fx-client", "sequence", "inet", &connect];
    let bundle = bundles.write(world, &Ask::new("link", &words))?;
    let mut command = bundles.inside(world);
    command.env(
        "BYPASS_OPTIONS",
        format!("--socket {} {}", socket(world).display(), OPTIONS.join(" ")),
    );
    command.arg(&link).arg("--root").arg(&bundles.state).args(["run", "--bundle"]);
    let said = process::run(command.arg(&bundle).arg("link"), LIMIT)?.success()?;
    ensure!(said.stdout.contains("ECONNREFUSED"), "it is bypassed: {said}");
    agent.end()
}

/// The time that it takes before the other runtime begins, with Podman's profile in the bundle.
fn cost(world: &World) -> Result {
    let directory = world.directory("cost")?;
    let config = directory.join("config.json");
    let profile = std::fs::read_to_string("/usr/share/containers/seccomp.json")?;
    let profile: Value = serde_json::from_str(&profile)?;
    let mut entries = profile["syscalls"].as_array().cloned().unwrap_or_default();
    entries.retain(|entry| entry["includes"] == json!({}) && entry["excludes"] == json!({}));
    let text = json!({ "ociVersion": "1.0.2", "linux": { "seccomp": {
        "defaultAction": profile["defaultAction"], "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": entries,
    } } })
    .to_string();
    let agent = Agent::start(world, &[])?;
    let program = world.program("bypass-cli")?;
    let create = |command: &mut Command| -> Result<Duration> {
        std::fs::write(&config, &text)?;
        std::os::unix::fs::chown(&config, Some(world.uid()), Some(world.gid()))?;
        command.args(["create", "--bundle"]).arg(&directory).arg("id");
        let begin = Instant::now();
        ensure!(command.status()?.success(), "{command:?}");
        Ok(begin.elapsed())
    };
    // In turns, so that a busy machine is as busy for both.
    let mut costs = Vec::new();
    for _ in 0..30 {
        let direct = create(&mut world.as_user("true"))?;
        let mut command = world.as_user(&program);
        command.args(["oci-runtime", "--runtime", "true", "--socket"]).arg(socket(world));
        costs.push(create(command.args(OPTIONS))?.saturating_sub(direct));
    }
    ensure!(std::fs::read_to_string(&config)?.contains("SCMP_ACT_NOTIFY"), "nothing was added");
    costs.sort_unstable();
    let cost = costs.get(costs.len() / 2).copied().context("costs were taken")?;
    ensure!(cost < MOST, "{cost:?} more than the runtime itself");
    agent.end()
}

/// For a program that is built without optimisation, which takes 27 ms; a release takes 2
/// (docs/runtimes.md).
const MOST: Duration = Duration::from_millis(40);
