//! nerdctl as it is published, with its own rootless containerd: it announces containers to the daemon and
//! writes the profile itself.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE, Running};
use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, PATH, REMOTE_V4};
use test_support::{Result, World, ensure, ensure_eq};

use crate::engine::{Agent, Ask, Engine, PUBLISHED, scratch, wait_for};
use crate::image::{self, Image};
use crate::table::{self, LIMIT};

pub(crate) const NERDCTL: &[Requirement] = &[
    Requirement::Built("nerdctl"),
    Requirement::Program("containerd"),
    Requirement::Program("rootlesskit"),
    Requirement::Program("slirp4netns"),
    Requirement::Program("runc"),
    Requirement::Program("newuidmap"),
    Requirement::Program("iptables"),
    Requirement::Tun,
];

pub(crate) const SCENARIOS: Group = (
    "nerdctl",
    &[
        Scenario { name: "rootless", requires: NERDCTL, run: table },
        Scenario { name: "annotations_are_heeded", requires: NERDCTL, run: annotations },
        Scenario {
            name: "without_a_network_nothing_is_announced",
            requires: NERDCTL,
            run: no_network,
        },
    ],
);

/// nerdctl's own.
const BYPASS: &str = "--annotation=nerdctl/bypass4netns=true";

/// A user's session with a running `containerd-rootless.sh`.
#[derive(Debug)]
pub(crate) struct Nerdctl {
    pub(crate) home: PathBuf,
    daemon: Running,
}

impl Nerdctl {
    pub(crate) fn start(world: &World, name: &str) -> Result<Self> {
        let image = Image::make(world)?;
        install(world)?;
        let home = scratch(world, name)?;
        let mut daemon = in_session(world, &home, "containerd-rootless.sh");
        let daemon = process::start(&mut daemon)?;
        let this = Self { home, daemon };
        wait_for(|| this.command(world, &["images"]), &this.daemon)?;
        let archive = image.archive.to_string_lossy().into_owned();
        process::run(&mut this.command(world, &["load", "--input", &archive]), LIMIT)?.success()?;
        Ok(this)
    }

    /// `nerdctl WORDS`
    pub(crate) fn command(&self, world: &World, words: &[&str]) -> Command {
        let mut command = in_session(world, &self.home, "nerdctl");
        command.args(words);
        command
    }
}

/// What `make install` installs, before all else in the user's `PATH`.
fn prefix(world: &World) -> PathBuf {
    world.programs().join("installed")
}

fn install(world: &World) -> Result {
    let program = world.program("bypass-cli")?;
    let mut make = world.on_host("make");
    make.args(["--no-print-directory", "--directory", REPOSITORY, "install-built"]);
    make.arg(format!("PREFIX={}", prefix(world).display()));
    make.arg(format!("PROGRAM={}", program.display()));
    process::run(&mut make, PATIENCE)?.success()?;
    Ok(())
}

/// A program of the user's whose containerd is at `home`.
pub(crate) fn in_session(world: &World, home: &std::path::Path, program: &str) -> Command {
    let (installed, programs) = (prefix(world).join("bin"), world.programs());
    // setpriv looks it up.
    let mut command = world.as_user(program);
    command.env("HOME", home);
    command.env("PATH", format!("{}:{}:{PATH}", installed.display(), programs.display()));
    // Where Debian has the plugins.
    command.env("CNI_PATH", "/usr/lib/cni");
    command
}

/// bypass4netnsd by its name, or by ours where it is told what that one has no flag for.
fn agent(world: &World, options: &[&str]) -> Result<Agent> {
    const UPSTREAM: &str = "--handle-c2c-connections";
    // The engine says it for each container.
    let options: Vec<&str> =
        options.iter().copied().filter(|option| *option != "--ignore=auto").collect();
    let bin = prefix(world).join("bin");
    let mut command = if options.iter().all(|option| *option == UPSTREAM) {
        world.as_user(bin.join("bypass4netnsd"))
    } else {
        let mut command = world.as_user(bin.join("bypass-cli"));
        command.arg("daemon");
        command
    };
    Agent::daemon(command.args(options))
}

impl Engine for Nerdctl {
    fn run(&self, world: &World, ask: &Ask<'_>) -> Result<Command> {
        let mut command = self.command(world, &["run", "--rm", "--name", ask.name, BYPASS]);
        if ask.serves {
            command.args(["--publish", PUBLISHED]);
        }
        if let Some(network) = ask.network {
            command.args(["--network", network]);
        }
        command.arg(format!("--user={}", ask.user)).arg(image::NAME).args(ask.words);
        Ok(command)
    }

    fn exec(&self, world: &World, name: &str, words: &[&str]) -> Command {
        let mut command = self.command(world, &["exec", name]);
        command.args(words);
        command
    }

    fn kill(&self, world: &World, name: &str) -> Command {
        self.command(world, &["kill", "--signal", "KILL", name])
    }

    fn remove(&self, world: &World, name: &str) -> Option<Command> {
        Some(self.command(world, &["rm", "--force", name]))
    }

    fn make_network(&self, world: &World, name: &str) -> Option<Command> {
        Some(self.command(world, &["network", "create", name]))
    }

    fn has_network(&self) -> bool {
        true
    }

    /// nerdctl's profile traps none of the calls that would hold them to their policy.
    fn bypasses_udp(&self) -> bool {
        false
    }
}

fn table(world: &World) -> Result {
    table::run(world, &Nerdctl::start(world, "nerdctl")?, agent)
}

/// What a connection of `fx-client` was made from, in a container that is run with these options.
fn source(world: &World, nerdctl: &Nerdctl, options: &[&str], to: &str) -> Result<String> {
    let mut command = nerdctl.command(world, &["run", "--rm"]);
    command.args(options).arg(image::NAME);
    command.args(["/bin/fx-client", "sequence", "inet", &format!("connect={to}"), "local"]);
    let said = process::run(&mut command, LIMIT)?.success()?;
    let line = said.stdout.lines().rfind(|line| line.starts_with('[')).unwrap_or_default();
    let steps: Value = serde_json::from_str(line).context(&said)?;
    let local = steps[1]["value"].as_str().unwrap_or_default();
    Ok(local.rsplit_once(':').context(&said)?.0.to_owned())
}

fn annotations(world: &World) -> Result {
    let nerdctl = Nerdctl::start(world, "nerdctl-annotations")?;
    let server = world.serve_remote(&["0.0.0.0:0"])?;
    let to = server.at(REMOTE_V4);
    let agent = agent(world, &[])?;
    let host = HOST_V4.to_string();
    for (options, bypassed) in [
        (&[][..], false),
        (&[BYPASS], true),
        (&["--annotation=nerdctl/bypass4netns=false"], false),
        // nerdctl 1 took labels for it; this one warns.
        (&["--label=nerdctl/bypass4netns=true"], false),
        (&[BYPASS, r#"--annotation=nerdctl/bypass4netns-ignore-subnets=["10.0.0.0/8"]"#], true),
        (&[BYPASS, r#"--annotation=nerdctl/bypass4netns-ignore-subnets=["198.18.0.0/15"]"#], false),
        // Ours are handed over with the container.
        (&[BYPASS, "--annotation=bypass.ignore=198.18.0.0/15"], false),
        (&[BYPASS, "--annotation=bypass.mode=off"], false),
    ] {
        let source = source(world, &nerdctl, options, &to).context(agent.running.stderr())?;
        ensure_eq!(source == host, bypassed, "with {options:?}: from {source}");
    }
    // Ports go by RootlessKit then.
    let name = "ignoring";
    let mut run = nerdctl.command(world, &["run", "--rm", "--name", name, BYPASS]);
    run.arg("--annotation=nerdctl/bypass4netns-ignore-bind=true").args(["--publish", PUBLISHED]);
    run.args([image::NAME, "/bin/fx-server", "--mode", "peer", "0.0.0.0:8080"]);
    let mut container = process::start(&mut run)?;
    container.line("ready", LIMIT)?;
    let mut client = world.as_user(world.program("fx-client")?);
    let said = process::run(
        client.args(["sequence", "inet", "connect=127.0.0.1:8090", "recv"]),
        PATIENCE,
    )?;
    ensure!(said.stdout.contains("10.4."), "whom the server saw is the container's bridge: {said}");
    process::run(&mut nerdctl.kill(world, name), LIMIT)?.success()?;
    container.wait(LIMIT)?;
    agent.end()
}

/// What docs/runtimes.md says of it: the runtime waits for somebody whom nerdctl told nothing, until
/// somebody kills its init.
fn no_network(world: &World) -> Result {
    let nerdctl = Nerdctl::start(world, "nerdctl-no-network")?;
    let agent = agent(world, &[])?;
    let words = ["run", "--name", "none", "--network=none", BYPASS, image::NAME, "true"];
    let mut running = process::start(&mut nerdctl.command(world, &words))?;
    wait_for(|| nerdctl.command(world, &["inspect", "none"]), &nerdctl.daemon)?;
    ensure!(!running.ends_within(Duration::from_secs(3))?, "it has started: {}", running.stderr());
    ensure!(!agent.running.stderr().contains("serving container"), "it was announced");
    for pid in inits(world)? {
        rustix::process::kill_process(process::pid_of(pid)?, rustix::process::Signal::KILL)?;
    }
    ensure!(!running.wait(LIMIT)?.success(), "it has run");
    agent.end()
}

/// Processes `runc init` in the user namespace of RootlessKit.
fn inits(world: &World) -> Result<Vec<u32>> {
    let file = world.runtime_dir().join("containerd-rootless/child_pid");
    let child = std::fs::read_to_string(&file).context(file.display())?;
    let user = |pid: &str| std::fs::read_link(format!("/proc/{}/ns/user", pid.trim())).ok();
    let own = user(&child).context("RootlessKit's user namespace")?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let line = std::fs::read(format!("/proc/{name}/cmdline")).unwrap_or_default();
        if line.starts_with(b"runc\0init") && user(&name).as_ref() == Some(&own) {
            found.push(name.parse()?);
        }
    }
    ensure!(!found.is_empty(), "there is no runc init");
    Ok(found)
}

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
