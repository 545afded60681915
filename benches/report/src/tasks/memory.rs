//! Memory of what serves containers that do nothing: 1, 10 and 100 of them.

use std::fs;
use std::path::Path;

use serde_json::Value;
use test_support::bypass4netns::{self, Bypass4netns};
use test_support::failure::{Context, Result};
use test_support::process::{self, PATIENCE, Running};
use test_support::stacks::{BYPASS, HOST, ROOTFUL, SLIRP};
use test_support::{World, bundle, ensure};

use super::{Figures, Task};
use crate::lab::{Lab, finish, serve};
use crate::ways::Way;

pub(super) struct Memory;

impl Task for Memory {
    fn keys(&self) -> &'static [&'static str] {
        &["memory-1", "memory-10", "memory-100", "anonymous-1", "anonymous-10", "anonymous-100"]
    }

    fn left_out(&self, way: &Way) -> Option<&'static str> {
        [HOST, ROOTFUL].contains(&way.name()).then_some("no process of its own")
    }

    fn once(&self) -> bool {
        true
    }

    fn measure(&self, lab: &Lab<'_>, way: &Way) -> Result<Figures> {
        let mut crowd: Box<dyn Crowd> = match way.name() {
            BYPASS => Box::new(Ours::start(lab.world)?),
            bypass4netns::NAME => Box::new(Go::default()),
            name => Box::new(Attached { name, processes: Vec::new(), holders: Vec::new() }),
        };
        let (mut figures, mut count) = (Figures::new(), 0);
        for (members, total, own) in [
            (1, "memory-1", "anonymous-1"),
            (10, "memory-10", "anonymous-10"),
            (100, "memory-100", "anonymous-100"),
        ] {
            if lab.quick && members > 10 {
                break;
            }
            while count < members {
                crowd.add(lab.world, count)?;
                count += 1;
            }
            let (mut proportional, mut anonymous) = (0, 0);
            for pid in crowd.processes() {
                let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
                proportional += kibibytes(&rollup, "Pss:").context("Pss")?;
                anonymous += kibibytes(&rollup, "Anonymous:").context("Anonymous")?;
            }
            figures.extend([(total, mebibytes(proportional)), (own, mebibytes(anonymous))]);
        }
        Ok(figures)
    }
}

/// Containers that do nothing, and who serves them.
trait Crowd {
    fn add(&mut self, world: &World, number: usize) -> Result;
    fn processes(&self) -> Vec<u32>;
}

/// One `bypass-cli serve` for containers of crun.
struct Ours {
    profile: Value,
    /// Before what serves them, which ends after them.
    containers: Vec<Running>,
    agent: Running,
}

impl Ours {
    fn start(world: &World) -> Result<Self> {
        let program = world.program("bypass-cli")?;
        let socket = world.runtime_dir().join("report.sock");
        let mut agent = world.as_user(&program);
        agent.arg("serve").arg("--socket").arg(&socket);
        let agent = process::start_interactive(agent.args(["--ready-fd", "1", "--exit-fd", "0"]))?;
        agent.any_output(PATIENCE)?;
        let mut profile = world.as_user(&program);
        profile.arg("profile").arg("--socket").arg(&socket);
        let profile = serde_json::from_str(&finish(&mut profile)?.stdout)?;
        Ok(Self { profile, containers: Vec::new(), agent })
    }
}

impl Crowd for Ours {
    fn add(&mut self, world: &World, number: usize) -> Result {
        let name = format!("idle-{number}");
        let bundle = bundle::write(world, &name, &self.profile, Path::new("/usr"), &IDLE)?;
        let mut command = world.as_user("crun");
        command.arg("--root").arg(world.runtime_dir().join("crun-idle"));
        command.args(["run", "--bundle"]).arg(&bundle).arg(&name);
        self.containers.push(serve(&mut command, "idle")?);
        Ok(())
    }

    fn processes(&self) -> Vec<u32> {
        vec![self.agent.pid()]
    }
}

/// An agent for each container, as bypass4netnsd has it.
#[derive(Default)]
struct Go {
    containers: Vec<Running>,
    agents: Vec<Bypass4netns>,
}

impl Crowd for Go {
    fn add(&mut self, world: &World, number: usize) -> Result {
        let program = bypass4netns::find().context("it has gone")?;
        let agent = Bypass4netns::start(world, &program, &format!("go-idle-{number}"), &[])?;
        self.containers.push(serve(&mut agent.command(world, &IDLE)?, "idle")?);
        self.agents.push(agent);
        Ok(())
    }

    fn processes(&self) -> Vec<u32> {
        self.agents.iter().map(Bypass4netns::pid).collect()
    }
}

/// slirp4netns or pasta, one for each namespace.
struct Attached {
    name: &'static str,
    processes: Vec<u32>,
    /// Of namespaces, and of slirp4netns.
    holders: Vec<Running>,
}

impl Crowd for Attached {
    fn add(&mut self, world: &World, number: usize) -> Result {
        let mut holder = world.as_user("unshare");
        holder.args(["--user", "--map-root-user", "--net", "--"]).args(IDLE);
        let holder = serve(&mut holder, "idle")?;
        let of = holder.pid().to_string();
        self.holders.push(holder);
        if self.name == SLIRP {
            let mut stack = world.as_user("slirp4netns");
            stack.args(["--configure", "--mtu=65520", "--disable-host-loopback", "--ready-fd=1"]);
            let stack = process::start_interactive(stack.args([&of, "tap0"]))?;
            stack.any_output(PATIENCE)?;
            self.processes.push(stack.pid());
            self.holders.push(stack);
        } else {
            let file = world.runtime_dir().join(format!("pasta-{number}.pid"));
            let mut stack = world.as_user("pasta");
            stack.args(["--config-net", "--mtu=65520", "--no-map-gw", "--quiet"]);
            stack.args(["--tcp-ports=none", "--udp-ports=none"]);
            stack.args(["--tcp-ns=none", "--udp-ns=none"]);
            finish(stack.arg("--pid").arg(&file).arg(&of))?;
            self.processes.push(fs::read_to_string(&file)?.trim().parse()?);
        }
        ensure!(self.processes.len() == number + 1, "{} processes", self.processes.len());
        Ok(())
    }

    fn processes(&self) -> Vec<u32> {
        self.processes.clone()
    }
}

/// Of a line of `smaps_rollup`.
fn kibibytes(rollup: &str, name: &str) -> Option<u32> {
    let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn mebibytes(kibibytes: u32) -> f64 {
    f64::from(kibibytes) / 1024.0
}

/// What a container does.
const IDLE: [&str; 3] = ["sh", "-c", "echo idle; exec sleep 600"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_says_of_a_process() {
        let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        assert!(kibibytes(&rollup, "Pss:").unwrap() > 0);
        assert!(kibibytes(&rollup, "Anonymous:").unwrap() > 0);
        assert_eq!(kibibytes(&rollup, "Nothing:"), None);
    }
}
