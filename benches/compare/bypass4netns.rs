//! bypass4netns, which serves containers of OCI runtimes and nothing else: every program
//! that is measured becomes a container. How long that takes to start is not measured.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use test_support::failure::{Context, Result};
use test_support::process::{self, PATIENCE, Running};
use test_support::requirement::find_program;
use test_support::{World, bundle};

use crate::measure::Setting;
use crate::ways::Way;

/// Name of the program and of its column.
pub(crate) const NAME: &str = "bypass4netns";

/// A running agent.
pub(crate) struct Bypass4netns {
    /// Ends with its handle.
    _running: Running,
    runtime: &'static str,
    socket: PathBuf,
    containers: Cell<u32>,
}

/// The agent, if it is installed and connects.
pub(crate) fn usable(setting: &Setting<'_>) -> Result<Option<Way>> {
    if find_program(NAME).is_none() {
        return Ok(None);
    }
    let way = Way::Bypass4netns(Bypass4netns::start(setting.world)?);
    setting.client(&way, &["cycles", &setting.byte_address(), "1"]).context("a first container")?;
    Ok(Some(way))
}

impl Bypass4netns {
    fn start(world: &World) -> Result<Self> {
        let runtime = RUNTIMES.into_iter().find(|name| find_program(name).is_some());
        let runtime = runtime.context("there is neither crun nor runc")?;
        let socket = world.runtime_dir().join("bypass4netns.sock");
        let mut command = world.as_user(NAME);
        command.arg("--socket").arg(&socket).args(["--ignore", "127.0.0.0/8"]);
        // It says on standard output that it is ready, and ends when its input is closed.
        command.args(["--ready-fd", "1", "--exit-fd", "0"]);
        let running = process::start_interactive(&mut command)?;
        running.any_output(PATIENCE)?;
        Ok(Self { _running: running, runtime, socket, containers: Cell::new(0) })
    }

    /// A container of its own for one program.
    pub(crate) fn command(&self, world: &World, words: &[&str]) -> Result<Command> {
        let number = self.containers.get();
        self.containers.set(number + 1);
        let name = format!("{NAME}-{number}");
        // Programs of the world lie in directories that a container does not show by itself.
        let program = Path::new(words.first().context("no program")?);
        let directory = program.parent().filter(|path| path.is_absolute());
        let shown = directory.unwrap_or_else(|| Path::new("/usr"));
        let bundle = bundle::write(world, &name, &profile(&self.socket), shown, words)?;
        let mut command = world.as_user(self.runtime);
        command.arg("--root").arg(world.runtime_dir().join(self.runtime));
        command.args(["run", "--bundle"]).arg(&bundle).arg(&name);
        Ok(command)
    }
}

/// The calls that this agent wants to be asked about, as nerdctl's profile has them.
fn profile(socket: &Path) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": socket,
        "syscalls": [{
            "names": [
                "bind", "close", "connect", "setsockopt", "fcntl", "_exit", "exit_group",
                "getpeername",
            ],
            "action": "SCMP_ACT_NOTIFY",
        }],
    })
}

const RUNTIMES: [&str; 2] = ["crun", "runc"];
