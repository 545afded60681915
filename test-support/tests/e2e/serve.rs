//! `bypass-cli serve` with containers that OCI runtimes start, all of it rootless.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::attack::environment::EIGHT;
use test_support::census::Census;
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE, Running};
use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, REMOTE_V4, REMOTE_V6, SILENT_V4};
use test_support::{Result, World, bundle, ensure, ensure_eq};

use crate::client::LIMIT;
use crate::leaks::CACHED_TARGETS;
use crate::publish::{expect_all, remote_as_seen};
use crate::repl::Repl;

pub(crate) const CRUN: &[Requirement] = &[Requirement::Program("crun")];
const RUNC: &[Requirement] = &[Requirement::Program("runc")];

pub(crate) const SCENARIOS: Group = (
    "serve",
    &[
        Scenario { name: "profile_names_the_socket", requires: &[], run: profile },
        Scenario { name: "starts_and_ends_as_told", requires: &[], run: life },
        Scenario {
            name: "crun_container_is_bypassed",
            requires: CRUN,
            run: |w| reaches(w, "crun"),
        },
        Scenario {
            name: "runc_container_is_bypassed",
            requires: RUNC,
            run: |w| reaches(w, "runc"),
        },
        Scenario {
            name: "crun_container_does_not_reach_host_loopback",
            requires: CRUN,
            run: |world| confined(world, "crun"),
        },
        Scenario {
            name: "runc_container_does_not_reach_host_loopback",
            requires: RUNC,
            run: |world| confined(world, "runc"),
        },
        Scenario {
            name: "crun_container_is_published",
            requires: CRUN,
            run: |world| published(world, "crun", 8060),
        },
        Scenario {
            name: "runc_container_is_published",
            requires: RUNC,
            run: |world| published(world, "runc", 8062),
        },
        Scenario {
            name: "crun_container_under_nerdctls_profile_is_published",
            requires: CRUN,
            run: |world| published_untrapped(world, "crun", 8064),
        },
        Scenario {
            name: "runc_container_under_nerdctls_profile_is_published",
            requires: RUNC,
            run: |world| published_untrapped(world, "runc", 8066),
        },
        Scenario { name: "port_that_cannot_be_had_ends_it", requires: &[], run: port_in_use },
        Scenario {
            name: "crun_containers_leave_nothing",
            requires: CRUN,
            run: |world| leaves_nothing(world, "crun"),
        },
    ],
);

/// A running `bypass-cli serve` and what runtimes need to know of it.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) running: Running,
    profile: Value,
}

impl Agent {
    /// `maps` are what is published, which decides which calls the profile traps too.
    pub(crate) fn start(world: &World, options: &[&str], maps: &[&str]) -> Result<Self> {
        Self::start_by(world.as_user(world.program("bypass-cli")?), world, options, maps)
    }

    /// One that may not have more descriptors than this.
    pub(crate) fn start_limited(world: &World, descriptors: usize) -> Result<Self> {
        let mut command = world.as_user("prlimit");
        let limit = format!("--nofile={descriptors}:{descriptors}");
        command.arg(limit).arg("--").arg(world.program("bypass-cli")?);
        Self::start_by(command, world, &[], &[])
    }

    fn start_by(
        mut command: Command,
        world: &World,
        options: &[&str],
        maps: &[&str],
    ) -> Result<Self> {
        let socket = socket(world);
        command.arg("serve").arg("--socket").arg(&socket);
        // The byte that says it is ready goes to standard output, where we wait for it; it
        // ends when our end of its standard input is closed.
        command.args(["--ready-fd", "1", "--exit-fd", "0"]).args(options).args(maps);
        let running = process::start_interactive(&mut command)?;
        running.any_output(PATIENCE)?;
        Ok(Self { running, profile: seccomp_profile(world, &socket, maps)? })
    }

    /// Has further containers run under a profile as others write them: nothing in it tells of epolls,
    /// and nothing says whose it is.
    pub(crate) fn forget_epolls(&mut self) -> Result {
        self.profile["listenerMetadata"] = "".into();
        let entries = self.profile["syscalls"].as_array_mut().context("no list of calls")?;
        let before = entries.len();
        entries.retain(|entry| !entry["names"].to_string().contains("epoll_create"));
        ensure!(entries.len() < before, "the profile says nothing of epolls");
        Ok(())
    }

    /// The command that runs `PROGRAM WORDS` in a container.
    pub(crate) fn container(
        &self,
        world: &World,
        runtime: &str,
        name: &str,
        program: &str,
        words: &[&str],
    ) -> Result<Command> {
        let program = world.program(program)?;
        let program = program.to_str().context("a path in UTF-8")?;
        self.bundled(world, runtime, name, &[&[program], words].concat())
    }

    /// The command that runs a script in a container.
    pub(crate) fn shell(
        &self,
        world: &World,
        runtime: &str,
        name: &str,
        script: &str,
    ) -> Result<Command> {
        self.bundled(world, runtime, name, &["sh", "-c", script])
    }

    fn bundled(
        &self,
        world: &World,
        runtime: &str,
        name: &str,
        arguments: &[&str],
    ) -> Result<Command> {
        let directory = world.programs();
        let bundle = bundle::write(world, name, &self.profile, &directory, arguments)?;
        let mut command = runtime_command(world, runtime);
        command.args(["run", "--bundle"]).arg(&bundle).arg(name);
        Ok(command)
    }

    /// Runs `fx-client WORDS` in a container and returns its answer.
    pub(crate) fn client(
        &self,
        world: &World,
        runtime: &str,
        name: &str,
        words: &[&str],
    ) -> Result<Value> {
        let mut command = self.container(world, runtime, name, "fx-client", words)?;
        let finished = process::run(&mut command, LIMIT)?.success();
        let finished = finished.context(format!("serve said: {}", self.running.stderr()))?;
        let line = finished.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).map_err(|_no_json| finished.failure("no JSON was printed"))
    }
}

/// Where the agent serves.
pub(crate) fn socket(world: &World) -> PathBuf {
    world.runtime_dir().join("bypass.sock")
}

fn seccomp_profile(world: &World, socket: &Path, options: &[&str]) -> Result<Value> {
    let mut command = world.as_user(world.program("bypass-cli")?);
    command.arg("profile").arg("--socket").arg(socket).args(options);
    let finished = process::run(&mut command, PATIENCE)?.success()?;
    serde_json::from_str(&finished.stdout).context("the profile")
}

pub(crate) fn runtime_command(world: &World, runtime: &str) -> Command {
    let mut command = world.as_user(runtime);
    command.arg("--root").arg(world.runtime_dir().join(runtime));
    command
}

fn profile(world: &World) -> Result {
    let socket = socket(world);
    let profile = seccomp_profile(world, &socket, &[])?;
    ensure_eq!(profile["listenerPath"].as_str(), socket.to_str(), "listenerPath");
    let notified: Vec<_> = profile["syscalls"]
        .as_array()
        .context("`syscalls` is a list")?
        .iter()
        .filter(|rule| rule["action"] == "SCMP_ACT_NOTIFY")
        .flat_map(|rule| rule["names"].as_array().cloned().unwrap_or_default())
        .collect();
    for name in ["connect", "bind", "listen"] {
        ensure!(notified.iter().any(|one| one == name), "{name} is not in {notified:?}");
    }
    for name in ["close", "fcntl", "setsockopt", "write", "read"] {
        ensure!(!notified.iter().any(|one| one == name), "{name} is trapped");
    }
    Ok(())
}

fn life(world: &World) -> Result {
    let pid_file = world.runtime_dir().join("serve.pid");
    let pid_path = pid_file.to_str().context("a path in UTF-8")?;
    let mut agent = Agent::start(world, &["--pid-file", pid_path], &[])?;
    let pid: u32 = std::fs::read_to_string(&pid_file)?.trim().parse()?;
    ensure_eq!(pid, agent.running.pid(), "pid file");
    agent.running.close_input();
    let finished = agent.running.finish(PATIENCE)?.success()?;
    ensure!(!socket(world).exists(), "the socket is left behind: {finished}");
    Ok(())
}

fn reaches(world: &World, runtime: &str) -> Result {
    let mut server = world.serve_remote(&["[::]:0"])?;
    let agent = Agent::start(world, &[], &[])?;
    for (at, (family, to)) in
        [("inet", server.at(REMOTE_V4)), ("inet6", server.at(REMOTE_V6))].into_iter().enumerate()
    {
        let connect = format!("connect={to}");
        let words = ["sequence", family, &connect, "send=hello", "recv", "flags"];
        let steps = agent.client(world, runtime, &format!("{runtime}-reaches-{at}"), &words)?;
        ensure_eq!(steps[2]["value"], "hello", "echo from {to}: {steps}");
        let peer = server.next_peer()?.ip();
        ensure!(family == "inet6" || peer == HOST_V4, "the remote saw {peer}");
    }
    let refused = format!("connect={REMOTE_V4}:1");
    let name = format!("{runtime}-refused");
    let steps = agent.client(world, runtime, &name, &["sequence", "inet", &refused])?;
    ensure_eq!(steps[0]["result"], "ECONNREFUSED", "connect to a closed port");
    Ok(())
}

fn confined(world: &World, runtime: &str) -> Result {
    let guarded = world.serve_host(&["[::]:7009"])?;
    let remote = world.serve_remote(&["--quiet", "[::]:0"])?;
    let agent = Agent::start(world, &[], &[])?;
    let loopback = "connect=127.0.0.1:7009";
    let remote = format!("connect={}", remote.at(REMOTE_V4));
    let refused = format!("connect={REMOTE_V4}:1");
    for (at, way) in [
        vec!["sequence", "inet", loopback],
        vec!["sequence", "inet", "connect=0.0.0.0:7009"],
        vec!["sequence", "inet6", "connect=[::1]:7009"],
        vec!["sequence", "inet6", "connect=[::ffff:127.0.0.1]:7009"],
        vec!["sequence", "inet", &refused, loopback],
        vec!["sequence", "inet", &remote, "unspec", loopback],
        vec!["sequence", "inet", &remote, "unspec", "fastopen=127.0.0.1:7009"],
    ]
    .into_iter()
    .enumerate()
    {
        let steps = agent.client(world, runtime, &format!("{runtime}-confined-{at}"), &way)?;
        let last = steps.as_array().and_then(|steps| steps.last()).context("no step")?;
        ensure!(last["result"] != "ok" && last["result"] != "ENOSYS", "{way:?}: {steps}");
    }
    ensure_eq!(guarded.peers(), [], "peers on the host's loopback");
    Ok(())
}

/// One container after another has the port; between them it is refused.
fn published(world: &World, runtime: &str, port: u16) -> Result {
    let (tcp, udp) = (format!("{port}:8080"), format!("{port}:8080/udp"));
    let agent = Agent::start(world, &[], &["-p", &tcp, "-p", &udp])?;
    let (mut remote, mut host) = (Repl::remote(world)?, Repl::host(world)?);
    let words = ["--mode", "peer", "[::]:8080", "--udp", "[::]:8080"];
    for round in 0..2 {
        let name = format!("{runtime}-published-{round}");
        let mut container = agent.container(world, runtime, &name, "fx-server", &words)?;
        let mut container = process::start(&mut container)?;
        let ready = container.line("ready", PATIENCE);
        ready.context(format!("serve said: {}", agent.running.stderr()))?;
        for (to, seen) in &remote_as_seen() {
            expect_all(&mut remote, "stream", port, &[(*to, seen)])?;
            expect_all(&mut remote, "dgram", port, &[(*to, seen)])?;
        }
        expect_all(&mut host, "stream", port, &[(Ipv4Addr::LOCALHOST.into(), "127.0.0.1")])?;
        let mut kill = runtime_command(world, runtime);
        process::run(kill.args(["kill", &name, "KILL"]), PATIENCE)?.success()?;
        container.wait(PATIENCE)?;
        let refused: &[(IpAddr, &str)] = &[(HOST_V4.into(), "ECONNREFUSED")];
        expect_all(&mut remote, "stream", port, refused)?;
    }
    Ok(())
}

/// A profile that traps no `listen`, with which nothing tells that the reservation is to give way.
fn published_untrapped(world: &World, runtime: &str, port: u16) -> Result {
    let (uplink, own) = (format!("{HOST_V4}:{port}:8080"), format!("127.0.0.1:{port}:8080"));
    let mut agent = Agent::start(world, &[], &["-p", &uplink, "-p", &own])?;
    agent.profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": socket(world),
        "syscalls": [{ "names": EIGHT, "action": "SCMP_ACT_NOTIFY" }],
    });
    let (mut remote, mut host) = (Repl::remote(world)?, Repl::host(world)?);
    for round in 0..3 {
        let name = format!("{runtime}-untrapped-{round}");
        let words = ["--mode", "peer", "0.0.0.0:8080"];
        let mut container = agent.container(world, runtime, &name, "fx-server", &words)?;
        let mut container = process::start(&mut container)?;
        let ready = container.line("ready", PATIENCE);
        ready.context(format!("serve said: {}", agent.running.stderr()))?;
        let seen = REMOTE_V4.to_string();
        expect_all(&mut remote, "stream", port, &[(HOST_V4.into(), &seen)])?;
        let answer = host.who("stream", (Ipv4Addr::LOCALHOST, port).into())?;
        ensure!(answer.parse::<IpAddr>().is_ok(), "by the relay, round {round}: {answer}");
        let mut kill = runtime_command(world, runtime);
        process::run(kill.args(["kill", &name, "KILL"]), PATIENCE)?.success()?;
        container.wait(PATIENCE)?;
        expect_all(&mut remote, "stream", port, &[(HOST_V4.into(), "ECONNREFUSED")])?;
    }
    Ok(())
}

fn port_in_use(world: &World) -> Result {
    let _holder = world.serve_host(&["127.0.0.1:8061"])?;
    let mut command = world.as_user(world.program("bypass-cli")?);
    let socket = world.runtime_dir().join("in-use.sock");
    command.arg("serve").arg("--socket").arg(&socket).args(["-p", "8061:8080"]);
    let finished = process::run(&mut command, PATIENCE)?;
    let told = ["8061:8080", "in use"].iter().all(|word| finished.stderr.contains(word));
    ensure!(told && finished.code() != 0, "{finished}");
    ensure!(!socket.exists(), "the socket is left behind: {finished}");
    Ok(())
}

fn leaves_nothing(world: &World, runtime: &str) -> Result {
    let server = world.serve_remote(&["--mode", "byte", "--quiet", "[::]:0"])?;
    let agent = Agent::start(world, &[], &[])?;
    let address = server.at(REMOTE_V4);
    let silent = format!("connect={SILENT_V4}:9");
    let pids = [agent.running.pid()];
    let mut before = None;
    for round in 0..20 {
        let name = format!("{runtime}-round-{round}");
        let answer = agent.client(world, runtime, &name, &["cycles", &address, "20"])?;
        ensure_eq!(answer["done"], 20, "connects in round {round}: {answer}");
        let name = format!("{runtime}-pending-{round}");
        agent.client(world, runtime, &name, &["sequence", "inet", "nonblocking", &silent])?;
        if round == 2 {
            before = Some(Census::of_all(&pids)?.with_cache(CACHED_TARGETS));
        }
    }
    let before = before.context("there was a third round")?;
    let after = before.settles(&pids, Duration::from_secs(10))?;
    ensure!(after.rss_kib <= before.rss_kib + 1024, "memory grew: {before:?}, then {after:?}");
    Ok(())
}
