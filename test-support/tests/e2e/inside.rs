//! A shell inside `bypass-cli run`, for servers and programs that were not written by us.

use std::process::ExitStatus;

use serde_json::Value;
use test_support::failure::Context;
use test_support::process::PATIENCE;
use test_support::shell::{Answer, Shell};
use test_support::{Result, World, ensure, fail};

use crate::client::steps;
use crate::repl::END_LIMIT;

/// A shell that runs one script after another.
#[derive(Debug)]
pub(crate) struct Inside(pub(crate) Shell);

impl Inside {
    /// Starts one inside `bypass-cli run OPTIONS`, which has reserved what it publishes then.
    pub(crate) fn start(world: &World, options: &[&str]) -> Result<Self> {
        Shell::start(world.bypass(options)?.arg("sh"), PATIENCE).map(Self)
    }

    /// Runs a script to its end.
    pub(crate) fn ask(&mut self, script: &str) -> Result<Answer> {
        self.0.ask(script)
    }

    /// Runs a script that must end with 0; returns its output.
    pub(crate) fn expect(&mut self, script: &str) -> Result<String> {
        self.0.expect(script)
    }

    /// Starts `fx-server WORDS`, waits until each of its workers listens, and returns its
    /// process id inside.
    pub(crate) fn serve(&mut self, world: &World, words: &str) -> Result<u32> {
        let program = world.program("fx-server")?;
        let mut words_after = words.split(' ').skip_while(|word| *word != "--workers").skip(1);
        let workers: usize = words_after.next().map_or(Ok(1), str::parse)?;
        self.launch(&format!("{} {words}", program.display()), "ready", workers)
    }

    /// Starts a program in the background, waits for `count` lines with `ready`, and returns
    /// its process id inside.
    pub(crate) fn launch(&mut self, command: &str, ready: &str, count: usize) -> Result<u32> {
        self.0.running.write(format!("{command} 2>&1 & echo \"@pid $!\"\n").as_bytes())?;
        let (mut pid, mut seen) = (None, 0);
        while pid.is_none() || seen < count {
            let line = self.0.running.line("", PATIENCE)?;
            match line.strip_prefix("@pid ") {
                Some(text) => pid = Some(text.parse()?),
                None if line.starts_with("failed ") => fail!("`{command}`: {line}"),
                None => seen += usize::from(line.contains(ready)),
            }
        }
        Ok(pid.unwrap_or_default())
    }

    /// The host port by which a container port was published, as the log tells it.
    pub(crate) fn published(&self, container_port: u16) -> Result<u16> {
        let log = self.0.running.stderr();
        let arrow = format!("-> {container_port}");
        let line = log.lines().find(|line| line.contains("published ") && line.ends_with(&arrow));
        let host = line.and_then(|line| line.split("published ").nth(1)?.split('/').next());
        let port = host.and_then(|host| host.rsplit_once(':')?.1.parse().ok());
        port.context(format!("no host port of {container_port} in the log: {log}"))
    }

    /// Results of `fx-client sequence WORDS`, run beside the servers.
    pub(crate) fn client(&mut self, world: &World, words: &str) -> Result<Vec<Value>> {
        let program = world.program("fx-client")?;
        let text = self.expect(&format!("{} sequence {words}", program.display()))?;
        // Servers in the background may have written as well.
        let line = text.lines().find(|line| line.starts_with('[')).context("no results")?;
        steps(serde_json::from_str(line)?)
    }

    /// Ends a program that was started in the background; its sockets are closed then.
    pub(crate) fn stop(&mut self, pid: u32) -> Result {
        let ended = self.ask(&format!("kill {pid}; wait {pid}"))?;
        ensure!(ended.status == 143 || ended.status == 0, "process {pid} inside: {ended:?}");
        Ok(())
    }

    /// Ends the shell, and with it the run.
    pub(crate) fn end(mut self) -> Result<ExitStatus> {
        self.0.running.close_input();
        self.0.running.wait(PATIENCE)
    }
}

impl Drop for Inside {
    /// Lets it end by itself: of a run that is killed, the ports are free a moment later.
    fn drop(&mut self) {
        self.0.running.close_input();
        let _killed = self.0.running.wait(END_LIMIT);
    }
}
