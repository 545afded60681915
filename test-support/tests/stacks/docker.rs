//! Docker 20.10, which drops `listenerPath`: its containers are handed over by `bypass-cli oci-runtime`.

use std::path::PathBuf;
use std::process::Command;

use test_support::failure::Context as _;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, Running};
use test_support::requirement::Requirement;
use test_support::{Result, World, ensure};

use crate::engine::{Agent, Ask, Engine, OPTIONS, scratch, socket, wait_for, write_profile};
use crate::image::{self, Image};
use crate::table::{self, LIMIT};

const ROOTFUL: &[Requirement] =
    &[Requirement::Program("dockerd"), Requirement::Program("iptables")];
pub(crate) const ROOTLESS: &[Requirement] = &[
    Requirement::Program("dockerd"),
    Requirement::Program("rootlesskit"),
    Requirement::Program("slirp4netns"),
    Requirement::Program("newuidmap"),
    Requirement::Tun,
];

pub(crate) const SCENARIOS: Group = (
    "docker",
    &[
        Scenario { name: "rootful", requires: ROOTFUL, run: |world| table(world, Who::Root) },
        Scenario { name: "listener_path_is_dropped", requires: ROOTFUL, run: dropped },
        Scenario { name: "rootless", requires: ROOTLESS, run: |world| table(world, Who::User) },
    ],
);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Root,
    User,
}

#[derive(Debug)]
struct Docker {
    who: Who,
    host: String,
    directory: PathBuf,
    _daemon: Running,
}

/// Debian does not put it into PATH.
pub(crate) const SCRIPT: &str = "/usr/share/docker.io/contrib/dockerd-rootless.sh";

/// dockerd of a user takes any containerd whose socket is in the runtime directory, also of one that has
/// ended, instead of its own.
pub(crate) fn forget_containerd(world: &World) -> Result {
    let left = world.runtime_dir().join("containerd");
    if left.exists() {
        std::fs::remove_dir_all(&left).context(left.display())?;
    }
    Ok(())
}

impl Docker {
    fn start(world: &World, who: Who, name: &str) -> Result<Self> {
        let image = Image::make(world)?;
        let mut daemon = match who {
            Who::Root => world.on_host("dockerd"),
            Who::User => world.as_user(SCRIPT),
        };
        let directory = scratch(world, name)?;
        let run = world.runtime_dir().join(name);
        let host = format!("unix://{}", run.join("docker.sock").display());
        let wrapper = wrapper(world, &directory)?;
        daemon.arg("--data-root").arg(directory.join("data"));
        daemon.arg("--exec-root").arg(&run).arg("--pidfile").arg(run.join("docker.pid"));
        daemon.args(["-H", &host, "--storage-driver=vfs"]);
        daemon.arg(format!("--add-runtime=bypass={}", wrapper.display()));
        let mut make =
            if who == Who::Root { world.on_host("mkdir") } else { world.as_user("mkdir") };
        process::run(make.arg(&run), LIMIT)?.success()?;
        forget_containerd(world)?;
        let daemon = process::start(&mut daemon)?;
        // It listens earlier than it answers.
        daemon.told("API listen on", LIMIT)?;
        let docker = Self { who, host, directory, _daemon: daemon };
        wait_for(
            || {
                let mut command = docker.command(world);
                command.arg("version");
                command
            },
            &docker._daemon,
        )?;
        let mut load = docker.command(world);
        process::run(load.arg("load").arg("-i").arg(&image.archive), LIMIT)?.success()?;
        Ok(docker)
    }

    fn command(&self, world: &World) -> Command {
        let mut command = match self.who {
            Who::Root => world.on_host("docker"),
            Who::User => world.as_user("docker"),
        };
        command.args(["-H", &self.host]);
        command
    }
}

/// The runtime that is registered. dockerd takes options for it in daemon.json alone.
fn wrapper(world: &World, directory: &std::path::Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = directory.join("bypass-runtime");
    let program = world.program("bypass-cli")?;
    let line = format!(
        "#!/bin/sh\nexec {} oci-runtime --runtime runc --socket {} {} \"$@\"\n",
        program.display(),
        socket(world).display(),
        OPTIONS.join(" ")
    );
    std::fs::write(&path, line)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

impl Engine for Docker {
    fn run(&self, world: &World, ask: &Ask<'_>) -> Result<Command> {
        let mut command = self.command(world);
        command.args(["run", "--rm", "--runtime=bypass", "--name", ask.name]);
        command.arg(format!("--network={}", ask.network.unwrap_or("none")));
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

    fn remove(&self, world: &World, name: &str) -> Option<Command> {
        let mut command = self.command(world);
        command.args(["rm", "-f", name]);
        Some(command)
    }

    fn make_network(&self, world: &World, name: &str) -> Option<Command> {
        let mut command = self.command(world);
        command.args(["network", "create", name]);
        Some(command)
    }
}

fn table(world: &World, who: Who) -> Result {
    let start = if who == Who::Root { Agent::start_as_root } else { Agent::start };
    table::run(world, &Docker::start(world, who, &format!("docker-{who:?}"))?, start)
}

/// What docs/runtimes.md says of this version, and why it takes another runtime.
fn dropped(world: &World) -> Result {
    let docker = Docker::start(world, Who::Root, "docker-dropped")?;
    let profile = docker.directory.join("bypass.json");
    write_profile(world, &profile, &["--base", "podman", "--format", "docker"])?;
    let agent = Agent::start_as_root(world, &[])?;
    let mut command = docker.command(world);
    command.args(["run", "--rm", "--network=none"]);
    command.arg(format!("--security-opt=seccomp={}", profile.display()));
    let said = process::run(command.args([image::NAME, "true"]), LIMIT)?;
    let refused = said.code() != 0 && said.stderr.contains("listenerPath is not set");
    ensure!(refused, "{said}");
    agent.end()
}
