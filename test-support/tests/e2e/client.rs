//! `fx-client` on the host and inside `bypass-cli run`, and the report of a run.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::failure::{Context, Result};
use test_support::process;
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

    /// Runs it on the host.
    pub(crate) fn native(&self, world: &World) -> Result<Vec<Value>> {
        steps(native(world, &self.words())?)
    }

    /// Runs it inside `bypass-cli run OPTIONS`.
    pub(crate) fn bypassed(&self, world: &World, options: &[&str]) -> Result<Vec<Value>> {
        steps(bypassed(world, options, &self.words())?)
    }

    /// Runs it inside and on the host; every call must have the same outcome.
    pub(crate) fn same_as_native(&self, world: &World, options: &[&str]) -> Result {
        let native = self.native(world)?;
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

pub(crate) fn steps(answer: Value) -> Result<Vec<Value>> {
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
