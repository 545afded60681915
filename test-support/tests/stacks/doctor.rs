//! `bypass-cli doctor` on a sound machine, and on machines that lack something.

use std::process::Command;

use serde_json::Value;
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process;
use test_support::requirement::Requirement;
use test_support::{Result, World, ensure, ensure_eq};

use crate::engine::Agent;
use crate::table::LIMIT;

const SOUND: &[Requirement] = &[
    Requirement::Tun,
    Requirement::Program("runc"),
    Requirement::Program("crun"),
    Requirement::Program("newuidmap"),
];

pub(crate) const SCENARIOS: Group = (
    "doctor",
    &[
        Scenario { name: "a_sound_machine_is_in_order", requires: SOUND, run: sound },
        Scenario { name: "no_access_to_tun_is_told", requires: &[], run: no_tun },
        Scenario { name: "no_user_namespaces_are_a_failure", requires: &[], run: no_namespaces },
        Scenario { name: "missing_programs_are_told", requires: &[], run: no_programs },
        Scenario { name: "a_runtime_that_hands_nothing_over_is_told", requires: &[], run: other },
    ],
);

fn doctor(world: &World) -> Result<Command> {
    let mut command = world.as_user(world.program("bypass-cli")?);
    command.args(["doctor", "--json"]);
    Ok(command)
}

/// What it finds, in order of its looking.
#[derive(Debug)]
struct Findings(Vec<Value>);

impl Findings {
    fn of(command: &mut Command, code: i32) -> Result<Self> {
        let said = process::run(command, LIMIT)?.expect_code(code)?;
        let findings: Vec<Value> = serde_json::from_str(&said.stdout).context(&said)?;
        for finding in &findings {
            let remedy = finding["remedy"].as_str().unwrap_or_default();
            ensure_eq!(finding["state"] == "ok", remedy.is_empty(), "a remedy: {finding}");
        }
        Ok(Self(findings))
    }

    /// That it found this, with a remedy that names something.
    fn expect(&self, about: &str, state: &str, remedy: &str) -> Result {
        let finding = self.0.iter().find(|finding| finding["about"] == about);
        let finding = finding.context(format!("{about}: {self:?}"))?;
        ensure_eq!(finding["state"], state, "{finding}");
        ensure!(finding["remedy"].as_str().unwrap_or_default().contains(remedy), "{finding}");
        Ok(())
    }
}

fn sound(world: &World) -> Result {
    let agent = Agent::start(world, &[])?;
    let findings = Findings::of(&mut doctor(world)?, 0)?;
    for about in [
        "seccomp notifications",
        "SO_NETNS_COOKIE",
        "subordinate ids",
        "/dev/net/tun",
        "runc",
        "supervisor",
        "self-test",
    ] {
        findings.expect(about, "ok", "")?;
    }
    for about in ["runc", "crun"] {
        let finding = findings.0.iter().find(|finding| finding["about"] == about);
        let found = finding.map(|finding| finding["found"].to_string()).unwrap_or_default();
        ensure!(found.contains("which was tried"), "{about}: {found}");
    }
    agent.end()?;
    Findings::of(&mut doctor(world)?, 0)?.expect("supervisor", "warning", "bypass-cli serve")
}

fn no_tun(world: &World) -> Result {
    use std::os::unix::fs::PermissionsExt as _;
    let closed = world.directory("closed-tun")?.join("tun");
    std::fs::write(&closed, "")?;
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o600))?;
    let mut command = world.with_file(&closed, "/dev/net/tun", &doctor(world)?);
    let findings = Findings::of(&mut command, 0)?;
    findings.expect("/dev/net/tun", "warning", "chmod 666")?;
    findings.expect("self-test", "ok", "")
}

/// A user namespace that allows no others is such a machine to those in it.
fn no_namespaces(world: &World) -> Result {
    let mut command = world.as_user("unshare");
    command.args(["--user", "--map-root-user", "--", "sh", "-c"]);
    command.arg("echo 0 > /proc/sys/user/max_user_namespaces; exec \"$0\" doctor --json");
    command.arg(world.program("bypass-cli")?);
    let findings = Findings::of(&mut command, 1)?;
    findings.expect("user.max_user_namespaces", "failed", "sysctl")?;
    findings.expect("self-test", "failed", "above")
}

fn no_programs(world: &World) -> Result {
    let mut command = world.as_user("env");
    command.arg("PATH=/nonexistent").arg(world.program("bypass-cli")?).args(["doctor", "--json"]);
    let findings = Findings::of(&mut command, 0)?;
    findings.expect("subordinate ids", "warning", "uidmap")?;
    findings.expect("runtimes", "warning", "runc or crun")?;
    findings.expect("self-test", "ok", "")
}

/// A program that is called runc and starts no container.
fn other(world: &World) -> Result {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = world.directory("other-runc")?;
    let program = directory.join("runc");
    std::fs::write(&program, "#!/bin/sh\necho runc version 1.0.0\necho no such thing >&2\n")?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let mut command = world.as_user("env");
    command.arg(format!("PATH={}:/bin", directory.display()));
    command.arg(world.program("bypass-cli")?).args(["doctor", "--json"]);
    let findings = Findings::of(&mut command, 0)?;
    findings.expect("runc", "warning", "1.1 or later")?;
    let finding = findings.0.iter().find(|finding| finding["about"] == "runc");
    let found = finding.map(|finding| finding["found"].to_string()).unwrap_or_default();
    ensure!(found.contains("could not be tried: no such thing"), "{found}");
    Ok(())
}
