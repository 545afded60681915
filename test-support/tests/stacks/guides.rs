//! The commands in docs/runtimes.md, as written: a section is a shell of the ordinary user.

use std::fmt::Write as _;
use std::process::Command;

use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, Finished};
use test_support::requirement::Requirement;
use test_support::world::HOST_V4;
use test_support::{Result, World, ensure, ensure_eq};

use crate::docker;
use crate::engine::{scratch, wait_for};
use crate::image::Image;
use crate::nerdctl::{self, NERDCTL, Nerdctl};
use crate::table::LIMIT;

const PODMAN: &[Requirement] = &[
    Requirement::Program("podman"),
    Requirement::Program("crun"),
    Requirement::Program("slirp4netns"),
    Requirement::Tun,
];

pub(crate) const SCENARIOS: Group = (
    "guide",
    &[
        Scenario { name: "rootless_podman", requires: PODMAN, run: podman },
        Scenario { name: "rootless_docker", requires: docker::ROOTLESS, run: docker },
        Scenario { name: "rootless_nerdctl", requires: NERDCTL, run: nerdctl },
        Scenario {
            name: "containerd_and_ctr",
            requires: NERDCTL,
            run: |world| ctr(world, "containerd and ctr"),
        },
        Scenario {
            name: "a_runtime_of_kubernetes",
            requires: NERDCTL,
            run: |world| ctr(world, "Kubernetes, Usernetes"),
        },
        Scenario { name: "what_is_not_run_says_why", requires: &[], run: reasons },
    ],
);

const GUIDE: &str = include_str!("../../../docs/runtimes.md");

/// Blocks of commands under a heading: what follows `console` there, and the commands.
fn blocks(section: &str) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut blocks = Vec::new();
    let mut here = false;
    let mut lines = GUIDE.lines();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("## ") {
            here = heading == section || section.is_empty();
        } else if let Some(kind) = line.strip_prefix("```console").filter(|_| here) {
            let commands = lines.by_ref().take_while(|line| *line != "```");
            blocks
                .push((kind.trim(), commands.filter_map(|line| line.strip_prefix("$ ")).collect()));
        }
    }
    blocks
}

/// A section as a script: what a person would type, but for the waiting.
fn script(section: &str) -> Result<String> {
    let mut script = String::from("set -e; cd\n");
    let mut commands = 0;
    for (kind, block) in blocks(section) {
        ensure_eq!(kind, "", "every block of {section} is run");
        for command in block {
            commands += 1;
            writeln!(script, "{command}")?;
            if command.ends_with('&') {
                // A person takes longer to type the next line.
                let daemon = if command.starts_with("bypass4netnsd") { "d" } else { "" };
                let socket = format!("$XDG_RUNTIME_DIR/bypass4netns{daemon}.sock");
                writeln!(script, "agent=$!; until [ -S {socket} ]; do :; done")?;
            }
        }
    }
    ensure!(commands >= 2, "{commands} commands");
    script.push_str("kill $agent; wait $agent\n");
    Ok(script)
}

/// Runs a section, in which this many containers ask the remote who they are; this many of them are
/// bypassed.
fn follow(
    world: &World,
    section: &str,
    mut shell: Command,
    (asking, bypassed): (usize, usize),
) -> Result<Finished> {
    let server = world.serve_remote(&["--mode", "peer", "0.0.0.0:7000"])?;
    let said = process::run(shell.args(["-c", &script(section)?]), LIMIT)?.success()?;
    ensure_eq!(server.peers().len(), asking, "connections that the remote has seen: {said}");
    let seen = said.stdout.matches(&format!("{HOST_V4}:")).count();
    ensure_eq!(seen, asking, "answers: {said}");
    // Of those that `exec` makes in one container, the log tells together.
    let switched: usize = said
        .stderr
        .split("\"switched\": ")
        .skip(1)
        .filter_map(|rest| rest.split(['}', ',']).next()?.parse::<usize>().ok())
        .sum();
    ensure_eq!(switched, bypassed, "sockets that were bypassed: {said}");
    Ok(said)
}

fn podman(world: &World) -> Result {
    let image = Image::make(world)?;
    let home = world.directory("guide")?;
    // What the machine's owner would have set up.
    let settings = home.join(".config/containers");
    process::run(world.as_user("mkdir").arg("-p").arg(&settings), LIMIT)?.success()?;
    std::fs::write(settings.join("storage.conf"), "[storage]\ndriver = \"vfs\"\n")?;
    std::fs::write(settings.join("containers.conf"), "[engine]\nevents_logger = \"file\"\n")?;
    let user = |program: &str| {
        let mut command = world.as_user(program);
        command.env("HOME", &home);
        command
            .env("PATH", format!("{}:{}", world.programs().display(), test_support::world::PATH));
        command
    };
    let mut load = user("podman");
    process::run(load.args(["load", "-q", "-i"]).arg(&image.archive), LIMIT)?.success()?;
    follow(world, "Rootless Podman", user("sh"), (2, 2))?;
    Ok(())
}

/// A rootless dockerd with the guide's own daemon.json, but for the place where it is installed.
fn docker(world: &World) -> Result {
    let image = Image::make(world)?;
    let home = scratch(world, "guide-docker")?;
    let settings = home.join(".config/docker");
    process::run(world.as_user("mkdir").arg("-p").arg(&settings), LIMIT)?.success()?;
    let json = GUIDE.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
    let json = json.context("the guide has a daemon.json")?;
    let programs = world.programs().display().to_string();
    std::fs::write(settings.join("daemon.json"), json.replace("/usr/local/bin", &programs))?;
    let socket = format!("unix://{}", world.runtime_dir().join("guide-docker.sock").display());
    let user = |program: &str| {
        let mut command = world.as_user(program);
        command.env("HOME", &home).env("DOCKER_HOST", &socket);
        command.env("PATH", format!("{programs}:{}", test_support::world::PATH));
        command
    };
    let mut daemon = user(docker::SCRIPT);
    daemon.args(["-H", &socket, "--storage-driver=vfs"]);
    docker::forget_containerd(world)?;
    let daemon = process::start(&mut daemon)?;
    // It listens earlier than it answers.
    daemon.told("API listen on", LIMIT)?;
    wait_for(
        || {
            let mut command = user("docker");
            command.arg("version");
            command
        },
        &daemon,
    )?;
    process::run(user("docker").arg("load").arg("-i").arg(&image.archive), LIMIT)?.success()?;
    follow(world, "Docker", user("sh"), (1, 1))?;
    Ok(())
}

fn nerdctl(world: &World) -> Result {
    let nerdctl = Nerdctl::start(world, "guide-nerdctl")?;
    let shell = nerdctl::in_session(world, &nerdctl.home, "sh");
    // The published port is a socket that was switched, too.
    let said = follow(world, "nerdctl", shell, (2, 2))?;
    ensure!(said.stdout.lines().any(|line| line == "404"), "the web server's answer: {said}");
    Ok(())
}

fn ctr(world: &World, section: &str) -> Result {
    let nerdctl = Nerdctl::start(world, &format!("guide-{}", section.len()))?;
    follow(world, section, nerdctl::in_session(world, &nerdctl.home, "sh"), (1, 1))?;
    Ok(())
}

fn reasons(_world: &World) -> Result {
    let all = blocks("");
    ensure!(all.len() >= 4, "{} blocks", all.len());
    for (kind, commands) in all {
        let reason = kind.strip_prefix("not run: ");
        ensure!(
            kind.is_empty() || reason.is_some_and(|why| why.len() > 10),
            "{kind}: {commands:?}"
        );
        commands.first().context("a block has commands")?;
    }
    Ok(())
}
