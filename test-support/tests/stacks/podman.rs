//! Rootless Podman, which passes `listenerPath` on: one option is all that it takes.

use std::path::PathBuf;
use std::process::Command;

use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process;
use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, REMOTE_V4};
use test_support::{Result, World, ensure, ensure_eq};

use crate::engine::{Agent, Ask, Engine, scratch, write_profile};
use crate::image::{self, Image};
use crate::table::{self, LIMIT};

const CRUN: &[Requirement] = &[Requirement::Program("podman"), Requirement::Program("crun")];
const RUNC: &[Requirement] = &[Requirement::Program("podman"), Requirement::Program("runc")];

const SLIRP: &[Requirement] = &[
    Requirement::Program("podman"),
    Requirement::Program("runc"),
    Requirement::Program("slirp4netns"),
    Requirement::Tun,
];
const PASTA: &[Requirement] = &[
    Requirement::Program("podman"),
    Requirement::Program("runc"),
    Requirement::Program("pasta"),
    Requirement::Tun,
];

pub(crate) const SCENARIOS: Group = (
    "podman",
    &[
        Scenario { name: "crun", requires: CRUN, run: |world| table(world, "crun") },
        Scenario { name: "runc", requires: RUNC, run: |world| table(world, "runc") },
        Scenario { name: "what_is_left_goes_by_slirp4netns", requires: SLIRP, run: slirp4netns },
        Scenario { name: "pasta_is_attached_by_pid", requires: PASTA, run: pasta },
        Scenario { name: "a_health_check_is_bypassed", requires: RUNC, run: health },
        Scenario {
            name: "annotations_are_heeded_with_crun",
            requires: CRUN,
            run: |world| annotated(world, "crun"),
        },
        Scenario {
            name: "annotations_are_heeded_with_runc",
            requires: RUNC,
            run: |world| annotated(world, "runc"),
        },
    ],
);

#[derive(Debug)]
pub(crate) struct Podman {
    runtime: &'static str,
    store: PathBuf,
    runroot: PathBuf,
    profile: PathBuf,
}

impl Podman {
    pub(crate) fn of(world: &World, runtime: &'static str, name: &str) -> Result<Self> {
        let image = Image::make(world)?;
        let store = scratch(world, &format!("podman-{name}"))?;
        let profile = store.join("bypass.json");
        write_profile(world, &profile, &["--base", "podman", "--format", "docker"])?;
        let runroot = world.runtime_dir().join(format!("podman-{name}"));
        let podman = Self { runtime, store, runroot, profile };
        let mut load = podman.command(world);
        process::run(load.arg("load").arg("-i").arg(&image.archive), LIMIT)?.success()?;
        Ok(podman)
    }

    pub(crate) fn command(&self, world: &World) -> Command {
        let mut command = world.as_user("podman");
        // A store of its own; the driver that takes no privilege on any file system.
        command.arg("--root").arg(self.store.join("storage"));
        command.arg("--runroot").arg(&self.runroot);
        command.arg("--network-config-dir").arg(self.store.join("networks"));
        command.args([
            "--storage-driver=vfs",
            "--cgroup-manager=cgroupfs",
            "--events-backend=file",
        ]);
        command.args(["--runtime", self.runtime]);
        command
    }
}

impl Engine for Podman {
    fn run(&self, world: &World, ask: &Ask<'_>) -> Result<Command> {
        let mut command = self.command(world);
        command.arg("run").arg(format!("--net={}", ask.network.unwrap_or("none")));
        command.args(["--rm", "--name", ask.name]);
        command.arg(format!("--security-opt=seccomp={}", self.profile.display()));
        command.arg(format!("--user={}", ask.user)).arg(image::NAME).args(ask.words);
        Ok(command)
    }

    fn exec(&self, world: &World, name: &str, words: &[&str]) -> Command {
        let mut command = self.command(world);
        command.args(["exec", name]).args(words);
        command
    }

    fn kill(&self, world: &World, name: &str) -> Command {
        let mut command = self.command(world);
        command.args(["kill", "-s", "KILL", name]);
        command
    }

    fn remove(&self, _world: &World, _name: &str) -> Option<Command> {
        None
    }

    fn make_network(&self, world: &World, name: &str) -> Option<Command> {
        let mut command = self.command(world);
        command.args(["network", "create", name]);
        Some(command)
    }
}

fn table(world: &World, runtime: &'static str) -> Result {
    table::run(world, &Podman::of(world, runtime, runtime)?, Agent::start)
}

/// What two clients in a container with a network are seen with: of a bypassed remote, and of one
/// that is ignored.
fn expect_ways(
    world: &World,
    agent_options: &[&str],
    inside: &str,
    mut run: impl FnMut(&[&str]) -> Result<String>,
) -> Result {
    let server = world.serve_remote(&["0.0.0.0:0"])?;
    let agent = Agent::start(world, agent_options)?;
    let connect = format!("connect={}", server.at(REMOTE_V4));
    let words = ["/bin/fx-client", "sequence", "inet", &connect, "send=hello", "recv", "local"];
    let said = run(&words).context(agent.running.stderr())?;
    ensure!(said.contains("hello") && said.contains(inside), "{inside}: {said}");
    agent.end()
}

fn slirp4netns(world: &World) -> Result {
    let podman = Podman::of(world, "runc", "slirp")?;
    let ignore = format!("--ignore={REMOTE_V4}/32");
    for (options, inside) in
        [(&[][..], HOST_V4.to_string()), (&[&*ignore], "10.0.2.100".to_owned())]
    {
        expect_ways(world, options, &inside, |words| {
            let mut command = podman.command(world);
            command.args(["run", "--rm", "--net=slirp4netns"]);
            command.arg(format!("--security-opt=seccomp={}", podman.profile.display()));
            let finished = process::run(command.arg(image::NAME).args(words), LIMIT)?;
            Ok(finished.success()?.stdout)
        })?;
    }
    Ok(())
}

/// This version knows no `--net=pasta`, so pasta is attached to the container's process.
fn pasta(world: &World) -> Result {
    let podman = Podman::of(world, "runc", "pasta")?;
    let mut unknown = podman.command(world);
    unknown.args(["run", "--rm", "--net=pasta", image::NAME, "true"]);
    let refused = process::run(&mut unknown, LIMIT)?;
    ensure!(refused.stderr.contains("name or ID pasta"), "{refused}");
    let ignore = format!("--ignore={REMOTE_V4}/32");
    // pasta gives the container the host's address, so it is the remote that tells.
    let server = world.serve_remote(&["--mode", "peer", "0.0.0.0:0"])?;
    for options in [&[][..], &[&*ignore]] {
        let agent = Agent::start(world, options)?;
        let mut command = podman.command(world);
        command.args(["run", "--rm", "-d", "--name", "pasta", "--net=none"]);
        command.arg(format!("--security-opt=seccomp={}", podman.profile.display()));
        process::run(command.args([image::NAME, "sleep", "600"]), LIMIT)?.success()?;
        let mut inspect = podman.command(world);
        inspect.args(["inspect", "-f", "{{.State.Pid}}", "pasta"]);
        let pid = process::run(&mut inspect, LIMIT)?.success()?.stdout;
        let mut pasta = world.as_user("pasta");
        pasta.args([
            "--config-net",
            "--no-map-gw",
            "--quiet",
            "--tcp-ns=none",
            "--udp-ns=none",
            "--tcp-ports=none",
        ]);
        process::run(pasta.args(["--udp-ports=none", pid.trim()]), LIMIT)?.success()?;
        let connect = format!("connect={}", server.at(REMOTE_V4));
        // (Not nc: this version of pasta does not tell it that the remote has closed.)
        let words = ["/bin/fx-client", "sequence", "inet", &connect, "recv"];
        let mut exec = podman.exec(world, "pasta", &words);
        let said = process::run(&mut exec, LIMIT)?.success().context(agent.running.stderr())?;
        ensure!(said.stdout.contains(&HOST_V4.to_string()), "{said}");
        let mut remove = podman.command(world);
        process::run(remove.args(["rm", "-f", "-t", "0", "pasta"]), LIMIT)?.success()?;
        agent.says("ended")?;
        let verdict = if options.is_empty() { "\"switched\": 1" } else { "\"left\": 1" };
        let log = agent.running.stderr();
        ensure!(log.contains(verdict), "{verdict}: {log}");
        agent.end()?;
    }
    Ok(())
}

fn health(world: &World) -> Result {
    let podman = Podman::of(world, "runc", "health")?;
    let server = world.serve_remote(&["--mode", "peer", "0.0.0.0:0"])?;
    let agent = Agent::start(world, &[])?;
    let check = format!("nc -w 5 {REMOTE_V4} {}", server.port());
    let mut command = podman.command(world);
    command.args(["run", "-d", "--name", "health", "--net=none", "--health-interval=disable"]);
    command.arg(format!("--security-opt=seccomp={}", podman.profile.display()));
    command.args(["--health-cmd", &check, image::NAME, "sleep", "600"]);
    process::run(&mut command, LIMIT)?.success()?;
    for _ in 0..2 {
        let mut healthcheck = podman.command(world);
        healthcheck.args(["healthcheck", "run", "health"]);
        process::run(&mut healthcheck, LIMIT)?.success().context(agent.running.stderr())?;
    }
    ensure_eq!(server.peers().len(), 2, "checks that the remote has seen");
    let mut remove = podman.command(world);
    process::run(remove.args(["rm", "-f", "-t", "0", "health"]), LIMIT)?.success()?;
    agent.end()
}

/// As the engine passes them on.
fn annotated(world: &World, runtime: &'static str) -> Result {
    let podman = Podman::of(world, runtime, &format!("annotated-{runtime}"))?;
    let server = world.serve_remote(&["--quiet", "0.0.0.0:0"])?;
    let agent = Agent::start(world, &["--publish-annotated"])?;
    let connect = format!("connect={}", server.at(REMOTE_V4));
    let deny = format!("bypass.deny=any:{}/tcp", server.port());
    for (annotation, reached) in
        [("bypass.ignore=10.0.0.0/8", true), ("bypass.ignore=198.18.0.0/15", false), (&deny, false)]
    {
        let words = ["/bin/fx-client", "sequence", "inet", &connect];
        let mut command = podman.command(world);
        command.args(["run", "--rm", "--network=none", "--annotation", annotation]);
        command.arg(format!("--security-opt=seccomp={}", podman.profile.display()));
        let said = process::run(command.arg(image::NAME).args(words), LIMIT)?.success()?;
        ensure_eq!(said.stdout.contains("\"ok\""), reached, "{annotation}: {said}");
    }
    let mut command = podman.command(world);
    command.args(["run", "--rm", "--network=none", "--name", "published"]);
    command.args(["--annotation", "bypass.publish=127.0.0.1:8091:8080"]);
    command.arg(format!("--security-opt=seccomp={}", podman.profile.display()));
    command.args([image::NAME, "/bin/fx-server", "--mode", "peer", "0.0.0.0:8080"]);
    let mut container = process::start(&mut command)?;
    container.line("ready", LIMIT).context(agent.running.stderr())?;
    let mut client = world.as_user(world.program("fx-client")?);
    client.args(["sequence", "inet", "connect=127.0.0.1:8091", "recv"]);
    let said = process::run(&mut client, LIMIT)?;
    ensure!(said.stdout.contains("\"127.0.0.1:"), "{said}: {}", agent.running.stderr());
    process::run(&mut podman.kill(world, "published"), LIMIT)?.success()?;
    container.wait(LIMIT)?;
    agent.end()
}
