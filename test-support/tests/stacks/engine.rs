//! What the scenarios want of an engine, and the supervisor beside it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use test_support::process::{self, Finished, PATIENCE, Running};
use test_support::{Result, World, ensure};

/// A container that is to be run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) name: &'a str,
    /// The user inside, by number.
    pub(crate) user: u32,
    /// What is run in it.
    pub(crate) words: &'a [&'a str],
    /// `bypass.mode`, where the engine has annotations.
    pub(crate) mode: Option<&'a str>,
    /// It serves [`PUBLISHED`], which some engines have to be told.
    pub(crate) serves: bool,
    /// A network that [`Engine::make_network`] has made.
    pub(crate) network: Option<&'a str>,
}

/// What is published in all stacks.
pub(crate) const PUBLISHED: &str = "127.0.0.1:8090:8080";

impl<'a> Ask<'a> {
    pub(crate) fn new(name: &'a str, words: &'a [&'a str]) -> Self {
        Self { name, user: 0, words, mode: None, serves: false, network: None }
    }
}

/// A container engine, or a runtime by itself.
pub(crate) trait Engine {
    /// Runs a container, to its end: without a network of its own, unless it asks for one.
    fn run(&self, world: &World, ask: &Ask<'_>) -> Result<Command>;
    /// Runs a command in a container.
    fn exec(&self, world: &World, name: &str, words: &[&str]) -> Command;
    /// Kills a container with SIGKILL.
    fn kill(&self, world: &World, name: &str) -> Command;
    /// Removes what is left of one.
    fn remove(&self, world: &World, name: &str) -> Option<Command>;
    /// Makes a network for containers, if the engine does such things.
    fn make_network(&self, _world: &World, _name: &str) -> Option<Command> {
        None
    }
    /// Whether all containers have a network, by which goes what is not bypassed.
    fn has_network(&self) -> bool {
        false
    }
    /// Whether connected UDP sockets are the host's under the engine's profile.
    fn bypasses_udp(&self) -> bool {
        true
    }
}

/// An empty directory of the ordinary user's, not below /run: RootlessKit's copy of that has links,
/// which a runtime does not take for a root. It is on a tmpfs that only this world sees.
pub(crate) fn scratch(world: &World, name: &str) -> Result<PathBuf> {
    let top = Path::new("/mnt/bypass-stacks");
    if !top.exists() {
        let mut mount = world.on_host("mount");
        process::run(mount.args(["-t", "tmpfs", "-o", "mode=755", "stacks", "/mnt"]), PATIENCE)?
            .success()?;
        std::fs::create_dir(top)?;
    }
    let path = top.join(name);
    std::fs::create_dir(&path)?;
    std::os::unix::fs::chown(&path, Some(world.uid()), Some(world.gid()))?;
    Ok(path)
}

/// A running `bypass-cli serve` or `daemon`.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) running: Running,
    /// It is ended by a signal, not by its standard input.
    is_daemon: bool,
}

/// Where it serves, for all stacks.
pub(crate) fn socket(world: &World) -> PathBuf {
    world.runtime_dir().join("bypass4netns.sock")
}

/// The options that decide which calls are trapped: the same for `serve` and the profile.
pub(crate) const OPTIONS: &[&str] = &["--udp=connected", "--publish=127.0.0.1:8090:8080"];

impl Agent {
    pub(crate) fn start(world: &World, options: &[&str]) -> Result<Self> {
        Self::of(world.as_user(world.program("bypass-cli")?), world, options)
    }

    /// For engines of root's.
    pub(crate) fn start_as_root(world: &World, options: &[&str]) -> Result<Self> {
        // It looks into processes of root's own user namespace.
        let options = [&["--confine=off"][..], options].concat();
        Self::of(world.on_host(world.program("bypass-cli")?), world, &options)
    }

    fn of(mut command: Command, world: &World, options: &[&str]) -> Result<Self> {
        command.arg("serve").arg("--socket").arg(socket(world));
        command.args(["--ready-fd", "1", "--exit-fd", "0"]).args(OPTIONS).args(options);
        let running = process::start_interactive(&mut command)?;
        running.any_output(PATIENCE)?;
        Ok(Self { running, is_daemon: false })
    }

    /// Containers are announced to this one, by its program's name or as `bypass-cli daemon`.
    pub(crate) fn daemon(command: &mut Command) -> Result<Self> {
        let running = process::start(command)?;
        running.told("the API is served", PATIENCE)?;
        Ok(Self { running, is_daemon: true })
    }

    /// Waits for something in its log.
    pub(crate) fn says(&self, text: &str) -> Result {
        let begin = Instant::now();
        while !self.running.stderr().contains(text) {
            ensure!(begin.elapsed() < PATIENCE, "no `{text}`: {}", self.running.stderr());
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Ends it, and waits until its socket is gone.
    pub(crate) fn end(mut self) -> Result {
        self.running.close_input();
        if self.is_daemon {
            self.running.signal(rustix::process::Signal::TERM)?;
        }
        self.running.finish(PATIENCE)?.success()?;
        Ok(())
    }
}

/// Writes the profile that `bypass-cli profile` prints.
pub(crate) fn write_profile(world: &World, to: &Path, options: &[&str]) -> Result {
    let mut command = world.as_user(world.program("bypass-cli")?);
    command.arg("profile").arg("--socket").arg(socket(world)).args(OPTIONS).args(options);
    let finished = process::run(&mut command, PATIENCE)?.success()?;
    std::fs::write(to, finished.stdout)?;
    Ok(())
}

/// Runs a command until it succeeds.
pub(crate) fn wait_for(
    mut command: impl FnMut() -> Command,
    besides: &Running,
) -> Result<Finished> {
    let begin = Instant::now();
    loop {
        let finished = process::run(&mut command(), PATIENCE)?;
        if finished.code() == 0 {
            return Ok(finished);
        }
        let ended = !besides.is_running()?;
        if ended || begin.elapsed() > PATIENCE {
            let said = besides.stderr();
            let from = said.len().saturating_sub(3000);
            return Err(finished.failure(said.get(from..).unwrap_or_default()));
        }
    }
}
