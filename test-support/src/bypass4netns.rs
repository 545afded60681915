//! bypass4netns, which serves containers of OCI runtimes and nothing else: every program
//! that is measured becomes a container. How long that takes to start is not measured.

use std::cell::Cell;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::failure::{Context, Result};
use crate::process::{self, PATIENCE, Running};
use crate::requirement::find_program;
use crate::{World, bundle};

/// Name of the program and of its column.
pub const NAME: &str = "bypass4netns";

/// The executable of that name on PATH, unless it is ours by its other name.
#[must_use]
pub fn find() -> Option<PathBuf> {
    let path = env::var("PATH").unwrap_or_default();
    let places = path.split(':').chain(crate::world::PATH.split(':'));
    let found = places.map(|place| Path::new(place).join(NAME)).find(|path| path.is_file())?;
    // `make install` makes a link to ours.
    let ours = fs::canonicalize(&found).is_ok_and(|path| path.ends_with("bypass-cli"));
    (!ours).then_some(found)
}

/// A running agent.
#[derive(Debug)]
pub struct Bypass4netns {
    /// Ends with its handle.
    running: Running,
    runtime: &'static str,
    socket: PathBuf,
    name: String,
    containers: Cell<u32>,
}

impl Bypass4netns {
    /// Starts `program` with options beside those that it needs; `name` tells its containers
    /// from those of others.
    ///
    /// # Errors
    /// When there is no runtime, or it does not become ready.
    pub fn start(world: &World, program: &Path, name: &str, options: &[&str]) -> Result<Self> {
        let runtime = RUNTIMES.into_iter().find(|name| find_program(name).is_some());
        let runtime = runtime.context("there is neither crun nor runc")?;
        let socket = world.runtime_dir().join(format!("{name}.sock"));
        let mut command = world.as_user(program);
        command.arg("--socket").arg(&socket).args(["--ignore", "127.0.0.0/8"]);
        // It says on standard output that it is ready, and ends when its input is closed.
        command.args(["--ready-fd", "1", "--exit-fd", "0"]).args(options);
        let running = process::start_interactive(&mut command)?;
        running.any_output(PATIENCE)?;
        Ok(Self { running, runtime, socket, name: name.to_owned(), containers: Cell::new(0) })
    }

    /// Process id of the agent.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// A container of its own for one program.
    ///
    /// # Errors
    /// When its bundle cannot be written.
    pub fn command(&self, world: &World, words: &[&str]) -> Result<Command> {
        let number = self.containers.get();
        self.containers.set(number + 1);
        let name = format!("{}-{number}", self.name);
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
