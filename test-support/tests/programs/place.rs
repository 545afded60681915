//! Where one program is tested: a directory, and commands around the container.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use test_support::process::{self, Finished, Running};
use test_support::{Result, World};

/// Limit for every wait: databases start beside others, on machines with two processors.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A directory of the ordinary user in the world.
#[derive(Debug, Clone)]
pub(crate) struct Place<'w> {
    pub(crate) world: &'w World,
    pub(crate) directory: PathBuf,
}

impl<'w> Place<'w> {
    /// Makes one for `name`, which may have had others before.
    pub(crate) fn new(world: &'w World, name: &str) -> Result<Self> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let directory = world.directory(&format!("{name}.{made}"))?;
        Ok(Self { world, directory })
    }

    /// Path of a file in the directory.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Writes a file that everybody may read, and returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<String> {
        std::fs::write(self.directory.join(name), content)?;
        Ok(self.path(name))
    }

    /// `program` on the host as the ordinary user, in the directory.
    pub(crate) fn host(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.world.as_user(program);
        command.current_dir(&self.directory);
        command
    }

    /// `program` on the remote as the ordinary user, in the directory.
    pub(crate) fn remote(&self, program: impl AsRef<OsStr>) -> Command {
        let inner = self.host(program);
        let mut command = self.world.in_remote(inner.get_program());
        command.args(inner.get_args()).current_dir(&self.directory);
        command.envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command
    }

    /// Starts a server on the remote, which says `ready` when it is.
    pub(crate) fn serve(&self, script: &str, ready: &str) -> Result<Running> {
        let mut command = self.remote("sh");
        let mut server = process::start(command.args(["-c", &format!("exec 2>&1; {script}")]))?;
        server.line(ready, LIMIT)?;
        Ok(server)
    }

    /// Runs a script on the remote, which must end with 0; returns its output.
    pub(crate) fn ask(&self, script: &str) -> Result<String> {
        Ok(succeed(self.remote("sh").args(["-c", script]))?.stdout)
    }
}

/// Runs a command that must end with 0.
pub(crate) fn succeed(command: &mut Command) -> Result<Finished> {
    process::run(command, LIMIT)?.success()
}
