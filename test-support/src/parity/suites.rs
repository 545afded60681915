//! Other people's tests: each run as a whole on both sides, and compared test by test.
//!
//! A test that gives another result is run again by itself, on both sides: many a suite has tests
//! that fail at times, of themselves or because both sides were running.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::expected::Expected;
use crate::failure::{Context, Result};
use crate::process;
use crate::world::World;

/// What became of each test, by its name.
pub type Results = BTreeMap<String, String>;

/// A suite of tests.
#[derive(Debug, Clone)]
pub struct Suite {
    /// What it is called.
    pub name: String,
    /// The command that runs all tests.
    pub all: Vec<String>,
    /// The command that runs one, which takes the place of `TEST`.
    pub one: Vec<String>,
    /// How it is named there.
    pub form: Form,
    /// What its results look like.
    pub format: Format,
    /// Variables of its environment.
    pub env: Vec<(String, String)>,
    /// Where it is run; a directory of its own if not said.
    pub directory: Option<PathBuf>,
    /// Both sides may run at a time: no ports of its own are asked for.
    pub together: bool,
    /// The longest that a run may take.
    pub limit: Duration,
}

/// How a test is named on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// By its name.
    Word,
    /// By a regular expression of Go's, with all of its parts.
    Pattern,
}

/// How results are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `result`, a tab, the result, a tab, the name; and `begin` before that.
    Lines,
    /// `--- PASS: Name (0.00s)`
    Go,
    /// `ok 1 - name`, `not ok 2 - name`
    Tap,
}

/// What came of a suite.
#[derive(Debug, Default)]
pub struct Outcome {
    passed: [usize; 2],
    /// Sockets that were given to the suite in the place of its own, and calls on those that were
    /// not.
    switched: u64,
    left: u64,
    tests: usize,
    again: Vec<[String; 3]>,
    expected: usize,
    differences: Vec<[String; 3]>,
    unseen: Vec<String>,
    took: Duration,
}

impl Outcome {
    /// Whether all is as expected.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.differences.is_empty() && self.unseen.is_empty() && self.passed[0] > 0
    }

    /// What is not, and what was not at first, for people.
    #[must_use]
    pub fn complaints(&self) -> String {
        let differences = self.differences.iter().map(|[test, native, bypassed]| {
            format!("  {test}: natively {native}, under run {bypassed}\n")
        });
        let again = self.again.iter().map(|[test, native, bypassed]| {
            format!("  {test}: natively {native}, under run {bypassed}, and equal when run again\n")
        });
        let unseen = self.unseen.iter().map(|line| format!("  expected, and not seen: {line}\n"));
        differences.chain(again).chain(unseen).collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [native, bypassed] = self.passed;
        let Self { tests, again, expected, took, switched, left, .. } = self;
        write!(
            f,
            "{native} of {tests} passed natively, {bypassed} under run: {} differences, {expected} as \
             expected, {} equal at times; {switched} sockets switched, {left} calls left; {took:.0?}",
            self.differences.len(),
            again.len()
        )
    }
}

/// Runs a suite on both sides.
///
/// # Errors
/// When it cannot be run.
pub fn run(
    world: &World,
    suite: &Suite,
    options: &[&str],
    mut expected: Expected,
) -> Result<Outcome> {
    let started = Instant::now();
    // Both at a time: most of what they do is wait.
    let (native, bypassed) = thread::scope(|scope| {
        let native = scope.spawn(|| whole(world, suite, None));
        if suite.together {
            let bypassed = whole(world, suite, Some(options));
            return (native.join(), bypassed);
        }
        (native.join(), whole(world, suite, Some(options)))
    });
    let (native, _) = native.ok().context("the thread of the native side")??;
    let (bypassed, report) = bypassed?;
    let calls = |verdict: &str| report.pointer(&format!("/verdicts/{verdict}"));
    let calls = |verdict: &str| calls(verdict).and_then(Value::as_u64).unwrap_or(0);
    let mut outcome = Outcome {
        passed: [passed(&native), passed(&bypassed)],
        switched: calls("switched"),
        left: calls("left"),
        ..Outcome::default()
    };
    let names: BTreeSet<&String> = native.keys().chain(bypassed.keys()).collect();
    outcome.tests = names.len();
    for name in names {
        let of = |results: &Results| results.get(name).map_or("not run", String::as_str).to_owned();
        let first = [name.clone(), of(&native), of(&bypassed)];
        let [_, mut natively, mut under_run] = first.clone();
        if natively == under_run {
            continue;
        }
        if expected.covers(&[name, &natively, &under_run]) {
            outcome.expected += 1;
            continue;
        }
        for _ in 0..AGAIN {
            natively = of(&part(world, suite, None, name)?.0);
            under_run = of(&part(world, suite, Some(options), name)?.0);
            if natively == under_run {
                break;
            }
        }
        if natively == under_run {
            outcome.again.push(first);
        } else if expected.covers(&[name, &natively, &under_run]) {
            outcome.expected += 1;
        } else {
            outcome.differences.push([name.clone(), natively, under_run]);
        }
    }
    outcome.unseen = expected.unseen().map(|line| line.to_string()).collect();
    outcome.took = started.elapsed();
    Ok(outcome)
}

fn passed(results: &Results) -> usize {
    results.values().filter(|result| *result == "pass").count()
}

/// The results, and the report of `run`.
type Run = (Results, Value);

fn whole(world: &World, suite: &Suite, options: Option<&[&str]>) -> Result<Run> {
    results(world, suite, options, &suite.all, &suite.name)
}

/// One test by itself.
fn part(world: &World, suite: &Suite, options: Option<&[&str]>, name: &str) -> Result<Run> {
    // A part of a test is run with the whole.
    let of_go = || name.split('/').next().unwrap_or(name);
    let name = match suite.form {
        Form::Word => name.to_owned(),
        Form::Pattern => format!("^{}$", of_go()),
    };
    let words: Vec<String> =
        suite.one.iter().map(|word| if word == "TEST" { &name } else { word }.clone()).collect();
    results(world, suite, options, &words, &format!("{}-one", suite.name))
}

fn results(
    world: &World,
    suite: &Suite,
    options: Option<&[&str]>,
    words: &[String],
    label: &str,
) -> Result<Run> {
    let (program, arguments) = words.split_first().context("a command")?;
    let side = if options.is_some() { "run" } else { "native" };
    let place = world.directory(&format!("{}-{side}-{}", suite.name, next()))?;
    let report = place.join("report.json");
    let mut command = match options {
        None => world.as_user(program),
        Some(options) => {
            let report = report.to_str().context("a path in Unicode")?;
            let mut command = world.bypass(&[options, &["--report", report]].concat())?;
            command.arg(program);
            command
        }
    };
    command.args(arguments).envs(suite.env.iter().map(|(key, value)| (key, value)));
    command
        .env("HOME", &place)
        .env("TMPDIR", &place)
        .current_dir(suite.directory.as_ref().unwrap_or(&place));
    let output = output(&mut command, suite.limit)?;
    keep(label, side, &output);
    // There is none of what runs natively, nor where the limit was exceeded.
    let report = fs::read_to_string(report).unwrap_or_default();
    let report = serde_json::from_str(&report).unwrap_or_default();
    Ok((parse(suite.format, &output), report))
}

/// A number that no run had before.
fn next() -> usize {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    RUNS.fetch_add(1, Ordering::Relaxed)
}

/// All that it says; what exceeds its limit says what it has said so far.
fn output(command: &mut Command, limit: Duration) -> Result<String> {
    let mut running = process::start(command)?;
    // Also for those that end with a failure, which they do if a test fails.
    let _ended = running.wait(limit);
    Ok(format!("{}\n{}", running.stdout(), running.stderr()))
}

/// Where to look for why a test failed.
fn keep(label: &str, side: &str, output: &str) {
    let logs = Path::new("/var/tmp/bypass-parity");
    if fs::create_dir_all(logs).is_ok() {
        let _unwritten = fs::write(logs.join(format!("{label}-{side}.log")), output);
    }
}

/// The results in what a suite said.
#[must_use]
pub fn parse(format: Format, output: &str) -> Results {
    let mut results = Results::new();
    for line in output.lines() {
        let result = match format {
            Format::Lines => match line.split('\t').collect::<Vec<_>>().as_slice() {
                ["begin", name] => Some(((*name).to_owned(), "did not end")),
                ["result", result, name] => Some(((*name).to_owned(), *result)),
                _ => None,
            },
            Format::Go => go(line),
            Format::Tap => tap(line),
        };
        if let Some((name, result)) = result {
            results.insert(name, result.to_owned());
        }
    }
    results
}

fn go(line: &str) -> Option<(String, &'static str)> {
    let line = line.trim_start();
    let (result, rest) = [("pass", "--- PASS: "), ("fail", "--- FAIL: "), ("skip", "--- SKIP: ")]
        .iter()
        .find_map(|(result, prefix)| Some((*result, line.strip_prefix(prefix)?)))?;
    Some((rest.split(' ').next()?.to_owned(), result))
}

fn tap(line: &str) -> Option<(String, &'static str)> {
    let (good, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    let (_number, name) = rest.split_once(" - ")?;
    let (name, skip) = match name.split_once(" # SKIP") {
        Some((name, _)) => (name, true),
        None => (name, false),
    };
    let result = match (good, skip) {
        (false, _) => "fail",
        (true, true) => "skip",
        (true, false) => "pass",
    };
    Some((name.trim().to_owned(), result))
}

/// How often a test that differs is run by itself on both sides.
const AGAIN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(format: Format, output: &str) -> Vec<(String, String)> {
        parse(format, output).into_iter().collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, result)| ((*name).to_owned(), (*result).to_owned())).collect()
    }

    #[test]
    fn a_test_that_never_ended_is_told() {
        let output = "begin\ta\nresult\tpass\ta\nbegin\tb\nTimeout!\n";
        assert_eq!(parsed(Format::Lines, output), pairs(&[("a", "pass"), ("b", "did not end")]));
    }

    #[test]
    fn the_tests_of_go_have_parts() {
        let output = "=== RUN   TestA\n    --- FAIL: TestA/one (0.00s)\n--- FAIL: TestA (0.01s)\n\
                      --- SKIP: TestB (0.00s)\nok\n--- PASS: TestC (1.50s)\n";
        assert_eq!(
            parsed(Format::Go, output),
            pairs(&[
                ("TestA", "fail"),
                ("TestA/one", "fail"),
                ("TestB", "skip"),
                ("TestC", "pass")
            ])
        );
    }

    #[test]
    fn tap_says_what_was_skipped() {
        let output = "1..3\nok 1 - tcp_open\nnot ok 2 - tcp_write\n# exit code 134\n\
                      ok 3 - udp_ipv6 # SKIP no IPv6\n";
        assert_eq!(
            parsed(Format::Tap, output),
            pairs(&[("tcp_open", "pass"), ("tcp_write", "fail"), ("udp_ipv6", "skip")])
        );
    }
}
