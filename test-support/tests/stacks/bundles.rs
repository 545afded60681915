//! runc and crun by themselves, rootless, with the profile in the bundle; and behind
//! `bypass-cli oci-runtime`, with it added to the bundle.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE, Running};
use test_support::requirement::Requirement;
use test_support::{Result, World};

use crate::engine::{Agent, Ask, Engine, OPTIONS, socket, write_profile};
use crate::image::Image;
use crate::table;

const CRUN: &[Requirement] = &[Requirement::Program("crun"), Requirement::Program("newuidmap")];
const RUNC: &[Requirement] = &[Requirement::Program("runc"), Requirement::Program("newuidmap")];

pub(crate) const SCENARIOS: Group = (
    "bundle",
    &[
        Scenario { name: "crun", requires: CRUN, run: |world| table(world, "crun", Way::Profile) },
        Scenario { name: "runc", requires: RUNC, run: |world| table(world, "runc", Way::Profile) },
        Scenario {
            name: "crun_behind_oci_runtime",
            requires: CRUN,
            run: |world| table(world, "crun", Way::Wrapper),
        },
        Scenario {
            name: "runc_behind_oci_runtime",
            requires: RUNC,
            run: |world| table(world, "runc", Way::Wrapper),
        },
    ],
);

/// How the traps get into the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Profile,
    Wrapper,
}

#[derive(Debug)]
pub(crate) struct Bundles {
    runtime: &'static str,
    way: Way,
    root: PathBuf,
    pub(crate) state: PathBuf,
    directory: PathBuf,
    profile: Value,
    /// Holds the user namespace that they are all run in: runc's exec cannot hand its listener over
    /// from one that runc makes itself (`pidfd_getfd` gives EPERM).
    holder: Running,
}

impl Bundles {
    pub(crate) fn new(world: &World, runtime: &'static str, way: Way, name: &str) -> Result<Self> {
        let image = Image::make(world)?;
        let directory = world.directory(&format!("bundle-{name}"))?;
        let file = directory.join("bypass.json");
        write_profile(world, &file, &["--base", "podman"])?;
        let profile = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        let mut holder = world.as_user("unshare");
        holder.args(["--user", "--map-root-user", "--map-auto", "--mount", "--"]);
        let mut holder =
            process::start_interactive(holder.args(["sh", "-c", "echo ready; read line"]))?;
        holder.line("ready", PATIENCE)?;
        let state = world.runtime_dir().join(format!("state-{name}"));
        Ok(Self { runtime, way, root: image.root, state, directory, profile, holder })
    }

    /// A command in the user namespace.
    pub(crate) fn inside(&self, world: &World) -> Command {
        let mut command = world.as_user("nsenter");
        command.args(["--user", "--preserve-credentials", "--mount"]);
        command.arg(format!("--target={}", self.holder.pid())).arg("--");
        command
    }

    pub(crate) fn command(&self, world: &World) -> Command {
        let mut command = self.inside(world);
        match self.way {
            Way::Profile => {
                command.arg(self.runtime);
            }
            Way::Wrapper => {
                command.arg(world.programs().join("bypass-cli")).arg("oci-runtime");
                command.args(["--runtime", self.runtime]).arg("--socket").arg(socket(world));
                command.args(OPTIONS);
            }
        }
        command.arg("--root").arg(&self.state);
        command
    }

    /// Writes a bundle, and returns its directory.
    pub(crate) fn write(&self, world: &World, ask: &Ask<'_>) -> Result<PathBuf> {
        let bundle = self.directory.join(ask.name);
        std::fs::create_dir_all(&bundle)?;
        std::fs::write(bundle.join("config.json"), self.config(ask).to_string())?;
        for path in [bundle.clone(), bundle.join("config.json")] {
            std::os::unix::fs::chown(path, Some(world.uid()), Some(world.gid()))?;
        }
        Ok(bundle)
    }

    fn config(&self, ask: &Ask<'_>) -> Value {
        let seccomp = match self.way {
            Way::Profile => &self.profile,
            Way::Wrapper => &Value::Null,
        };
        json!({
            "ociVersion": "1.0.2",
            "root": { "path": self.root, "readonly": true },
            "hostname": "container",
            "annotations": ask.mode.map(|mode| json!({ "bypass.mode": mode })),
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
            ],
            "process": {
                "user": { "uid": ask.user, "gid": ask.user },
                "cwd": "/",
                "args": ask.words,
                "env": ["PATH=/bin"],
                "noNewPrivileges": true,
            },
            "linux": {
                "namespaces": [
                    { "type": "network" }, { "type": "pid" }, { "type": "mount" },
                    { "type": "ipc" }, { "type": "uts" },
                ],
                "seccomp": seccomp,
            },
        })
    }
}

impl Engine for Bundles {
    fn run(&self, world: &World, ask: &Ask<'_>) -> Result<Command> {
        let bundle = self.write(world, ask)?;
        let mut command = self.command(world);
        command.arg("run").arg("--bundle").arg(&bundle).arg(ask.name);
        Ok(command)
    }

    fn exec(&self, world: &World, name: &str, words: &[&str]) -> Command {
        let mut command = self.command(world);
        command.args(["exec", name]).args(words);
        command
    }

    fn kill(&self, world: &World, name: &str) -> Command {
        let mut command = self.command(world);
        command.args(["kill", name, "KILL"]);
        command
    }

    fn remove(&self, world: &World, name: &str) -> Option<Command> {
        let mut command = self.command(world);
        command.args(["delete", "--force", name]);
        Some(command)
    }
}

fn table(world: &World, runtime: &'static str, way: Way) -> Result {
    table::run(
        world,
        &Bundles::new(world, runtime, way, &format!("{runtime}-{way:?}"))?,
        Agent::start,
    )
}
