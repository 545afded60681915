//! `fx-client repl`: a client that keeps its sockets from one command to the next.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use test_support::process::{self, Running};
use test_support::{Result, World, ensure};

use crate::client::{LIMIT, steps};

/// No answer for this long is silence, on links that take microseconds.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// A client that takes commands on its standard input.
#[derive(Debug)]
pub(crate) struct Repl {
    pub(crate) running: Running,
}

impl Repl {
    /// Starts one inside `bypass-cli run OPTIONS`.
    pub(crate) fn bypassed(world: &World, options: &[&str]) -> Result<Self> {
        let mut command = world.bypass(options)?;
        command.arg(world.program("fx-client")?);
        Self::start(command)
    }

    /// Starts one on the host, as the ordinary user.
    pub(crate) fn host(world: &World) -> Result<Self> {
        Self::start(world.as_user(world.program("fx-client")?))
    }

    /// Starts one on the host, as another user than the one under test.
    pub(crate) fn stranger(world: &World) -> Result<Self> {
        Self::start(world.on_host(world.program("fx-client")?))
    }

    /// Starts one on the remote.
    pub(crate) fn remote(world: &World) -> Result<Self> {
        Self::start(world.in_remote(world.program("fx-client")?))
    }

    fn start(mut command: Command) -> Result<Self> {
        Self::by(command.arg("repl"))
    }

    /// Starts one by a command that has `repl` among its words.
    pub(crate) fn by(command: &mut Command) -> Result<Self> {
        let mut running = process::start_interactive(command)?;
        running.line("ready", LIMIT)?;
        Ok(Self { running })
    }

    /// Results of steps: of `sequence WORDS`, `open NAME WORDS` or `on NAME WORDS`.
    pub(crate) fn results(&mut self, words: &str) -> Result<Vec<Value>> {
        steps(self.ask(words)?)
    }

    /// As [`Self::results`], where every step must succeed; returns the last step's value.
    pub(crate) fn succeed(&mut self, words: &str) -> Result<Value> {
        let results = self.results(words)?;
        for step in &results {
            ensure!(step["result"] == "ok", "`{words}`: {step}");
        }
        Ok(results.last().map(|step| step["value"].clone()).unwrap_or_default())
    }

    /// What a client of `to` comes upon: the address that a server in mode `peer` sees it
    /// with, or the name of an errno; `EAGAIN` is silence.
    pub(crate) fn who(&mut self, kind: &str, to: SocketAddr) -> Result<String> {
        self.who_within(kind, to, ANSWER_LIMIT)
    }

    /// As [`Self::who`], where it is silence when nothing comes before `limit`.
    pub(crate) fn who_within(
        &mut self,
        kind: &str,
        to: SocketAddr,
        limit: Duration,
    ) -> Result<String> {
        let family = if to.is_ipv6() { "inet6" } else { "inet" };
        let send = if kind == "dgram" { "send=who " } else { "" };
        let limit = limit.as_millis();
        let limits = format!("set:so_rcvtimeo={limit} set:so_sndtimeo={limit}");
        let words = format!("sequence {family} {kind} {limits} connect={to} {send}recv");
        let results = self.results(&words)?;
        if let Some(failed) = results.iter().find(|step| step["result"] != "ok") {
            return Ok(failed["result"].as_str().unwrap_or_default().to_owned());
        }
        let said = results.last().and_then(|step| step["value"].as_str()).unwrap_or_default();
        let address = said.split(' ').next().unwrap_or_default().parse();
        Ok(address.map_or_else(|_none| said.to_owned(), |at: SocketAddr| at.ip().to_string()))
    }

    /// Runs one command.
    pub(crate) fn ask(&mut self, words: &str) -> Result<Value> {
        self.running.write(format!("{words}\n").as_bytes())?;
        let line = self.running.line("", LIMIT)?;
        let answer: Value = serde_json::from_str(&line)?;
        ensure!(answer.get("error").is_none(), "`{words}`: {answer}\n{}", self.running.stderr());
        Ok(answer)
    }

    /// Runs one command that must answer with `expected` under `key`.
    pub(crate) fn expect(&mut self, words: &str, key: &str, expected: usize) -> Result<Value> {
        let answer = self.ask(words)?;
        let stderr = self.running.stderr();
        ensure!(answer[key] == expected, "`{words}`, expected {expected}: {answer}\n{stderr}");
        Ok(answer)
    }
}

impl Drop for Repl {
    /// Lets it end by itself: of a run that is killed, the ports are free a moment later.
    fn drop(&mut self) {
        self.running.close_input();
        let _killed = self.running.wait(END_LIMIT);
    }
}

/// Longer than a run takes to end.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(3);
