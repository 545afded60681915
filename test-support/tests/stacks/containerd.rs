//! Rootless containerd in RootlessKit, with ctr, which passes `listenerPath` on.

use std::path::PathBuf;
use std::process::Command;

use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, Running};
use test_support::requirement::Requirement;
use test_support::{Result, World};

use crate::engine::{Agent, Ask, Engine, scratch, wait_for, write_profile};
use crate::image::{self, Image};
use crate::table::{self, LIMIT};

const ROOTLESS: &[Requirement] = &[
    Requirement::Program("containerd"),
    Requirement::Program("ctr"),
    Requirement::Program("rootlesskit"),
    Requirement::Program("slirp4netns"),
    Requirement::Program("newuidmap"),
    Requirement::Tun,
];

pub(crate) const SCENARIOS: Group =
    ("containerd", &[Scenario { name: "rootless_ctr", requires: ROOTLESS, run: ctr }]);

#[derive(Debug)]
struct Containerd {
    directory: PathBuf,
    run: PathBuf,
    pid: String,
    _daemon: Running,
}

impl Containerd {
    fn start(world: &World) -> Result<Self> {
        let image = Image::make(world)?;
        let directory = scratch(world, "containerd")?;
        let run = world.runtime_dir().join("containerd-test");
        process::run(world.as_user("mkdir").arg(&run), LIMIT)?.success()?;
        let config = directory.join("config.toml");
        let text = format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{1}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{1}/c.sock\"\n",
            directory.display(),
            run.display()
        );
        std::fs::write(&config, text)?;
        write_profile(world, &directory.join("bypass.json"), &["--base", "podman"])?;
        let mut daemon = world.as_user("rootlesskit");
        daemon.arg(format!("--state-dir={}", run.join("rootlesskit").display()));
        daemon.args(["--net=slirp4netns", "--mtu=65520", "--copy-up=/etc", "--copy-up=/run"]);
        daemon.args(["--disable-host-loopback", "--propagation=rslave", "sh", "-c"]);
        daemon.arg(format!("rm -f /run/containerd; exec containerd -c {}", config.display()));
        let daemon = process::start(&mut daemon)?;
        let child = run.join("rootlesskit/child_pid");
        wait_for(
            || {
                let mut command = world.as_user("test");
                command.arg("-s").arg(&child);
                command
            },
            &daemon,
        )?;
        let pid = std::fs::read_to_string(&child).context(child.display())?.trim().to_owned();
        let this = Self { directory, run, pid, _daemon: daemon };
        wait_for(
            || {
                let mut command = this.command(world);
                command.arg("version");
                command
            },
            &this._daemon,
        )?;
        let mut import = this.command(world);
        import.args(["images", "import", "--snapshotter=native"]).arg(&image.archive);
        process::run(&mut import, LIMIT)?.success()?;
        Ok(this)
    }

    fn command(&self, world: &World) -> Command {
        let mut command = world.as_user("nsenter");
        command.args(["--user", "--preserve-credentials", "--mount", "--net"]);
        command
            .args(["--target", &self.pid, "--", "ctr", "--address"])
            .arg(self.run.join("c.sock"));
        command
    }
}

impl Engine for Containerd {
    fn run(&self, world: &World, ask: &Ask<'_>) -> Result<Command> {
        let mut command = self.command(world);
        command.args(["run", "--rm", "--snapshotter=native", "--cgroup=", "--cpu-shares=0"]);
        command.arg("--seccomp").arg("--seccomp-profile").arg(self.directory.join("bypass.json"));
        // It has no option for the user, but takes the image's.
        let image = if ask.user == 0 { image::NAME } else { image::OF_USER };
        command.args([image, ask.name]).args(ask.words);
        Ok(command)
    }

    fn exec(&self, world: &World, name: &str, words: &[&str]) -> Command {
        let mut command = self.command(world);
        let id = format!("exec-{}", EXECS.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        command.args(["tasks", "exec", "--exec-id", &id, name]).args(words);
        command
    }

    fn kill(&self, world: &World, name: &str) -> Command {
        let mut command = self.command(world);
        command.args(["tasks", "kill", "--signal", "SIGKILL", name]);
        command
    }

    fn remove(&self, world: &World, name: &str) -> Option<Command> {
        let mut command = self.command(world);
        command.args(["containers", "rm", name]);
        Some(command)
    }
}

/// Each needs an id of its own.
static EXECS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

fn ctr(world: &World) -> Result {
    table::run(world, &Containerd::start(world)?, Agent::start)
}
