//! Rootless Podman, which passes `listenerPath` on: one option is all that it takes.

use std::path::PathBuf;
use std::process::Command;

use test_support::harness::{Group, Scenario};
use test_support::process;
use test_support::requirement::Requirement;
use test_support::{Result, World};

use crate::engine::{Agent, Ask, Engine, scratch, write_profile};
use crate::image::{self, Image};
use crate::table::{self, LIMIT};

const CRUN: &[Requirement] = &[Requirement::Program("podman"), Requirement::Program("crun")];
const RUNC: &[Requirement] = &[Requirement::Program("podman"), Requirement::Program("runc")];

pub(crate) const SCENARIOS: Group = (
    "podman",
    &[
        Scenario { name: "crun", requires: CRUN, run: |world| table(world, "crun") },
        Scenario { name: "runc", requires: RUNC, run: |world| table(world, "runc") },
    ],
);

#[derive(Debug)]
pub(crate) struct Podman {
    runtime: &'static str,
    store: PathBuf,
    profile: PathBuf,
}

impl Podman {
    pub(crate) fn new(world: &World, runtime: &'static str) -> Result<Self> {
        let image = Image::make(world)?;
        let store = scratch(world, &format!("podman-{runtime}"))?;
        let profile = store.join("bypass.json");
        write_profile(world, &profile, &["--base", "podman", "--format", "docker"])?;
        let podman = Self { runtime, store, profile };
        let mut load = podman.command(world);
        process::run(load.arg("load").arg("-i").arg(&image.archive), LIMIT)?.success()?;
        Ok(podman)
    }

    pub(crate) fn command(&self, world: &World) -> Command {
        let mut command = world.as_user("podman");
        // A store of its own; the driver that takes no privilege on any file system.
        command.arg("--root").arg(self.store.join("storage"));
        command.arg("--runroot").arg(world.runtime_dir().join(format!("podman-{}", self.runtime)));
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
        command.args(["run", "--rm", "--net=none", "--name", ask.name]);
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
}

fn table(world: &World, runtime: &'static str) -> Result {
    table::run(world, &Podman::new(world, runtime)?, Agent::start)
}
