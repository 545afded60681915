//! `fx-client` on the host and inside `bypass-cli run`, and the report of a run.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::failure::{Context, Result};
use test_support::process::{self, Running};
use test_support::{World, ensure, fail};

/// Limit for one run of the client.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// `fx-client` as the ordinary user on the host: what happens without us.
pub(crate) fn native(world: &World, words: &[&str]) -> Result<Value> {
    answer(world.as_user(world.program("fx-client")?).args(words))
}

/// `fx-client` inside `bypass-cli run OPTIONS`.
pub(crate) fn bypassed(world: &World, options: &[&str], words: &[&str]) -> Result<Value> {
    answer(world.bypass(options)?.arg(world.program("fx-client")?).args(words))
}

fn answer(command: &mut Command) -> Result<Value> {
    let finished = process::run(command, LIMIT)?.success()?;
    let line = finished.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|_no_json| finished.failure("no JSON was printed"))
}

/// As [`bypassed`], with the run's report beside the answer.
pub(crate) fn reported(world: &World, options: &[&str], words: &[&str]) -> Result<(Value, Value)> {
    let mut command = world.bypass(&[&["--report", "-"], options].concat())?;
    let finished =
        process::run(command.arg(world.program("fx-client")?).args(words), LIMIT)?.success()?;
    let line = finished.stdout.lines().last().unwrap_or_default();
    let start = finished.stderr.find('{').context("no report on standard error")?;
    let report = finished.stderr.get(start..).unwrap_or_default();
    Ok((serde_json::from_str(line)?, serde_json::from_str(report).context("the report")?))
}

/// The first number with this key, anywhere in a report.
pub(crate) fn counted(report: &Value, key: &str) -> Option<u64> {
    match report {
        Value::Object(map) => map
            .get(key)
            .and_then(Value::as_u64)
            .or_else(|| map.values().find_map(|inner| counted(inner, key))),
        Value::Array(list) => list.iter().find_map(|inner| counted(inner, key)),
        _ => None,
    }
}

/// No answer for this long is silence, on links that take microseconds.
const DATAGRAM_LIMIT_MS: u32 = 1_000;
/// A stream is answered or refused, and never waits for so long.
const STREAM_LIMIT_MS: u32 = 10_000;

/// A list of calls on one socket; see `fx-client sequence`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequence<'a> {
    /// `inet` or `inet6`.
    pub(crate) family: &'a str,
    /// Steps, separated by spaces.
    pub(crate) steps: &'a str,
}

impl Sequence<'_> {
    fn words(&self) -> Vec<&str> {
        let mut words = vec!["sequence", self.family];
        words.extend(self.steps.split(' '));
        words
    }

    /// Runs it inside `bypass-cli run OPTIONS`.
    pub(crate) fn bypassed(&self, world: &World, options: &[&str]) -> Result<Vec<Value>> {
        steps(bypassed(world, options, &self.words())?)
    }

    /// Runs it inside and on the host; every call must have the same outcome.
    pub(crate) fn same_as_native(&self, world: &World, options: &[&str]) -> Result {
        let native = steps(native(world, &self.words())?)?;
        let ours = self.bypassed(world, options)?;
        ensure!(
            native.len() == ours.len(),
            "{self:?}: {} steps, then {}",
            native.len(),
            ours.len()
        );
        for (native, ours) in native.iter().zip(&ours) {
            let (native, ours) = (comparable(native), comparable(ours));
            ensure!(native == ours, "{self:?}\nnatively  {native}\nbypassed  {ours}");
        }
        Ok(())
    }
}

/// Result of one step, by its position.
pub(crate) fn result_of(steps: &[Value], at: usize) -> &str {
    steps.get(at).and_then(|step| step.get("result")?.as_str()).unwrap_or("(no such step)")
}

fn steps(answer: Value) -> Result<Vec<Value>> {
    match answer {
        Value::Array(steps) => Ok(steps),
        other => fail!("not a list of steps: {other}"),
    }
}

/// A step without what differs from run to run: times and the client's own port.
fn comparable(step: &Value) -> Value {
    let value = &step["value"];
    let value = match (step["step"].as_str(), value.as_str()) {
        (Some("local"), Some(address)) => json!(address.rsplit_once(':').map(|(ip, _)| ip)),
        _ => value.clone(),
    };
    json!({ "step": step["step"], "result": step["result"], "value": value })
}

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
        let mut running = process::start_interactive(command.arg("repl"))?;
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
        let family = if to.is_ipv6() { "inet6" } else { "inet" };
        let (limit, send) = match kind {
            "dgram" => (DATAGRAM_LIMIT_MS, "send=who "),
            _ => (STREAM_LIMIT_MS, ""),
        };
        let limits = format!("set:so_rcvtimeo={limit} set:so_sndtimeo={limit}");
        let words = format!("sequence {family} {kind} {limits} connect={to} {send}recv");
        let results = self.results(&words)?;
        if let Some(failed) = results.iter().find(|step| step["result"] != "ok") {
            return Ok(failed["result"].as_str().unwrap_or_default().to_owned());
        }
        let said = results.last().and_then(|step| step["value"].as_str()).unwrap_or_default();
        let address = said.split(' ').next().unwrap_or_default();
        Ok(address
            .parse()
            .map_or_else(|_none| said.to_owned(), |at: SocketAddr| at.ip().to_string()))
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
