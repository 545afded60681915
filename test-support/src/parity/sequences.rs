//! Sequences of calls, made on both sides and compared call by call.
//!
//! Where a sequence gives another trace under `run`, it is run natively again, up to
//! [`AGAIN`] times: what the kernel does at times is no difference. What is left is made shorter,
//! for as long as it stays a difference, and shown as a script.

use std::collections::BTreeSet;
use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::expected::Expected;
use super::generate::{self, Kinds, Sequence};
use crate::failure::{Context, Result};
use crate::process::{self, PATIENCE, Running};
use crate::world::World;
use crate::{ensure, fail};

/// How often a sequence is run natively before a trace is called one that the kernel never gives.
pub const AGAIN: usize = 20;

/// Differences after which no more are looked for.
pub const ENOUGH: usize = 5;

/// Which sequences, and how many.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Where they begin: the same seed gives the same sequences.
    pub seed: u64,
    /// The most sequences.
    pub runs: usize,
    /// After this, no further one is begun.
    pub limit: Duration,
    /// What they are made of.
    pub kinds: Kinds,
}

/// How many sequences were run, and what came of them.
#[derive(Debug, Default)]
pub struct Tally {
    /// Sequences.
    pub sequences: usize,
    /// Calls of theirs.
    pub calls: usize,
    /// Sequences whose trace the kernel gave only when it was asked again.
    pub again: usize,
    /// The first differences, [`ENOUGH`] at most.
    pub differences: Vec<Difference>,
    /// Sequences that differ as is expected.
    pub expected: usize,
}

/// A sequence that shows which side it is run on.
#[derive(Debug)]
pub struct Difference {
    sequence: Sequence,
    native: Vec<String>,
    bypassed: Vec<String>,
}

impl Difference {
    /// The calls up to the one that differs.
    #[must_use]
    pub fn script(&self) -> String {
        self.sequence.join("; ")
    }

    /// Leaves out what comes after the call that differs.
    fn cut(&mut self) {
        let alike =
            self.native.iter().zip(&self.bypassed).take_while(|(native, ours)| native == ours);
        let length = alike.count() + 1;
        self.sequence.truncate(length);
        self.native.truncate(length);
        self.bypassed.truncate(length);
    }

    /// The first call that differs, by name, and what it gave on both sides.
    #[must_use]
    pub fn what(&self) -> [&str; 3] {
        let outcomes = self.native.iter().zip(&self.bypassed);
        let mut calls = self.sequence.iter().zip(outcomes);
        let first = calls.find(|(_, (native, bypassed))| native != bypassed);
        first.map_or(["", "", ""], |(call, (native, bypassed))| {
            [call.split(' ').next().unwrap_or_default(), native, bypassed]
        })
    }
}

/// What came of running a sequence on both sides.
#[derive(Debug)]
pub enum Compared {
    /// The same.
    Equal,
    /// The kernel gives that trace as well, but not always.
    EqualAgain,
    /// Something that the kernel was never seen to give.
    Different(Difference),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:30} {:38} under run", "", "natively")?;
        let outcomes = self.native.iter().zip(&self.bypassed);
        for (call, (native, bypassed)) in self.sequence.iter().zip(outcomes) {
            let mark = if native == bypassed { ' ' } else { '>' };
            writeln!(f, "{mark} {call:30} {native:38} {bypassed}")?;
        }
        write!(f, "make parity ARGS='replay \"{}\"'", self.script())
    }
}

/// Both sides, ready for sequences.
#[derive(Debug)]
pub struct Sides<'w> {
    world: &'w World,
    options: &'w [&'w str],
    peers: String,
    _peer: Running,
    native: Running,
    bypassed: Running,
    next_port: u16,
}

impl<'w> Sides<'w> {
    /// Starts the peer and both sides; `options` are those of `run`.
    ///
    /// # Errors
    /// When one of them does not start.
    pub fn new(world: &'w World, options: &'w [&'w str]) -> Result<Self> {
        let mut unlimited = world.in_remote("sh");
        process::run(unlimited.args(["-c", UNLIMITED]), PATIENCE)?.success()?;
        let mut peer = process::start(world.in_remote(world.program(FIXTURE)?).arg("peer"))?;
        let peers = peer.line(",", PATIENCE)?;
        let native = begin(&mut natively(world, &peers)?)?;
        let bypassed = begin(&mut under_run(world, options, &peers)?)?;
        Ok(Self { world, options, peers, _peer: peer, native, bypassed, next_port: FIRST_PORT })
    }

    /// Runs the sequences of a plan, until [`ENOUGH`] have shown differences that nobody expects.
    ///
    /// # Errors
    /// When a side cannot be run.
    pub fn run(&mut self, plan: &Plan, expected: &mut Expected) -> Result<Tally> {
        let (mut tally, started) = (Tally::default(), Instant::now());
        let mut seed = [0; 32];
        for (to, from) in seed.iter_mut().zip(plan.seed.to_le_bytes()) {
            *to = from;
        }
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let strategy = generate::sequences(plan.kinds);
        while tally.sequences < plan.runs && started.elapsed() < plan.limit {
            let Ok(tree) = strategy.new_tree(&mut runner) else { fail!("no sequence") };
            let sequence = tree.current();
            tally.sequences += 1;
            tally.calls += sequence.len();
            match self.compare(&sequence)? {
                Compared::Equal => {}
                Compared::EqualAgain => tally.again += 1,
                Compared::Different(found) => {
                    let shortest = self.shorten(found)?;
                    let [_, native, bypassed] = shortest.what();
                    if expected.covers(&[&shortest.script(), native, bypassed]) {
                        tally.expected += 1;
                    } else if !tally.differences.iter().any(|known| known.what() == shortest.what())
                    {
                        tally.differences.push(shortest);
                        if tally.differences.len() >= ENOUGH {
                            break;
                        }
                    }
                }
            }
        }
        Ok(tally)
    }

    /// Leaves out one call after the other, for as long as the difference stays the same.
    fn shorten(&mut self, mut shortest: Difference) -> Result<Difference> {
        let deadline = Instant::now() + SHORTENING;
        shortest.cut();
        let mut left_out = true;
        while left_out {
            left_out = false;
            for at in (0..shortest.sequence.len()).rev() {
                let mut shorter = shortest.sequence.clone();
                shorter.remove(at);
                if Instant::now() > deadline {
                    return Ok(shortest);
                }
                if let Compared::Different(mut found) = self.compare(&shorter)?
                    && found.what() == shortest.what()
                {
                    found.cut();
                    shortest = found;
                    left_out = true;
                    break;
                }
            }
        }
        Ok(shortest)
    }

    /// What a sequence shows.
    ///
    /// # Errors
    /// When a side cannot be run.
    pub fn compare(&mut self, sequence: &[String]) -> Result<Compared> {
        let native = self.native(sequence)?;
        let bypassed = self.bypassed(sequence)?;
        if native == bypassed {
            return Ok(Compared::Equal);
        }
        let mut seen = BTreeSet::from([native.clone()]);
        for _ in 1..AGAIN {
            seen.insert(self.native(sequence)?);
            if seen.contains(&bypassed) {
                return Ok(Compared::EqualAgain);
            }
        }
        // The native trace that it is like for longest says where it departs.
        let alike = |trace: &Vec<String>| {
            trace.iter().zip(&bypassed).take_while(|(native, ours)| native == ours).count()
        };
        let native = seen.into_iter().max_by_key(alike).unwrap_or(native);
        Ok(Compared::Different(Difference { sequence: sequence.to_vec(), native, bypassed }))
    }

    fn native(&mut self, sequence: &[String]) -> Result<Vec<String>> {
        let line = self.line(sequence);
        ask(&mut self.native, &line).context("natively")
    }

    /// What ended under `run` is one trace of it.
    fn bypassed(&mut self, sequence: &[String]) -> Result<Vec<String>> {
        let line = self.line(sequence);
        match ask(&mut self.bypassed, &line) {
            Ok(trace) => Ok(trace),
            Err(failure) => {
                let command = &mut under_run(self.world, self.options, &self.peers)?;
                self.bypassed = begin(command)?;
                Ok(vec![format!("ended: {failure}"); sequence.len()])
            }
        }
    }

    /// Each run has a port of its own, since the host remembers connections for a minute.
    fn line(&mut self, sequence: &[String]) -> String {
        self.next_port = if self.next_port < LAST_PORT { self.next_port + 1 } else { FIRST_PORT };
        format!("{} {}\n", self.next_port, sequence.join("; "))
    }
}

fn natively(world: &World, peers: &str) -> Result<Command> {
    let mut command = world.as_user(world.program(FIXTURE)?);
    command.args(["run", peers]);
    Ok(command)
}

fn under_run(world: &World, options: &[&str], peers: &str) -> Result<Command> {
    let mut command = world.bypass(options)?;
    command.arg(world.program(FIXTURE)?).args(["run", peers]);
    Ok(command)
}

fn begin(command: &mut Command) -> Result<Running> {
    let mut running = process::start_interactive(command)?;
    running.line("ready", PATIENCE)?;
    Ok(running)
}

fn ask(side: &mut Running, line: &str) -> Result<Vec<String>> {
    side.write(line.as_bytes())?;
    let answer = side.line("trace\t", PATIENCE)?;
    let trace: Vec<_> = answer.split('\t').skip(1).map(ToOwned::to_owned).collect();
    ensure!(!trace.is_empty(), "an empty trace");
    Ok(trace)
}

const FIXTURE: &str = "fx-parity";

/// Every refusal of the remote's is told, however many there are.
const UNLIMITED: &str = "echo 0 > /proc/sys/net/ipv4/icmp_ratelimit; \
     echo 0 > /proc/sys/net/ipv6/icmp/ratelimit; \
     if [ -e /proc/sys/net/ipv4/icmp_msgs_per_sec ]; then \
     echo 1000000 > /proc/sys/net/ipv4/icmp_msgs_per_sec; \
     echo 1000000 > /proc/sys/net/ipv4/icmp_msgs_burst; fi";

/// Below those that the kernel chooses from.
const FIRST_PORT: u16 = 10_000;
const LAST_PORT: u16 = 32_000;

/// How long a difference is made shorter.
const SHORTENING: Duration = Duration::from_secs(10);
