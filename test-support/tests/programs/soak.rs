//! All programs at once, for a minute in CI; `BYPASS_SOAK=N` in the environment makes it N
//! minutes. Nothing may fail, and what the supervisors hold must not grow with what was done.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use test_support::census::Census;
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::{Failure, Result, World};

use crate::place::Place;
use crate::program::{Program, Subject};

pub(crate) const SCENARIOS: Group = (
    "soak",
    // What a machine lacks for it, the programs' own tests say.
    &[Scenario { name: "all_programs_at_once_leave_nothing", requires: &[], run: soak }],
);

/// How long they work beside each other.
fn duration() -> Duration {
    let minutes = std::env::var("BYPASS_SOAK").ok().and_then(|times| times.parse().ok());
    Duration::from_secs(60) * minutes.unwrap_or(1)
}

/// What one program did, and what its supervisor held after the first round, in the middle of the
/// soak, and at its end.
struct Line {
    name: &'static str,
    rounds: u64,
    switched: u64,
    held: [Census; 3],
}

fn soak(world: &World) -> Result {
    let (started, failed) = (Barrier::new(crate::ALL.len()), AtomicBool::new(false));
    let results: Vec<Result<Line>> = thread::scope(|scope| {
        let work = |program: &'static Program| {
            let done = Place::new(world, program.name)
                .and_then(|place| (program.start)(&place))
                .inspect_err(|_| failed.store(true, Ordering::Relaxed));
            // Whoever could not start keeps nobody waiting.
            started.wait();
            done.and_then(|subject| work(program, subject, &failed))
                .inspect_err(|_| failed.store(true, Ordering::Relaxed))
                .context(program.name)
        };
        let threads: Vec<_> =
            crate::ALL.iter().map(|program| scope.spawn(move || work(program))).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|done| done.unwrap_or_else(|_| Err(Failure::new("a panic")))).collect()
    });
    // The figures of those that went well are of use where another did not.
    print(results.iter().flatten());
    results.into_iter().try_for_each(|result| result.map(drop))
}

/// Rounds of one program until the time is over, or until another one has failed.
fn work(program: &Program, mut subject: Subject<'_>, failed: &AtomicBool) -> Result<Line> {
    let began = Instant::now();
    let mut rounds = 0;
    let round = |subject: &mut Subject<'_>, rounds: &mut u64| {
        *rounds += 1;
        subject.round().context(format!("round {rounds}"))
    };
    round(&mut subject, &mut rounds)?;
    let first = subject.container.census()?;
    let mut until = |end: Duration, subject: &mut Subject<'_>| -> Result {
        while began.elapsed() < end && !failed.load(Ordering::Relaxed) {
            round(subject, &mut rounds)?;
        }
        Ok(())
    };
    until(duration() / 2, &mut subject)?;
    let middle = subject.container.census()?;
    until(duration(), &mut subject)?;
    let end = subject.container.returns_to(&middle)?;
    let report = subject.end(&program.expected, rounds)?;
    let switched = report.switched();
    Ok(Line { name: program.name, rounds, switched, held: [first, middle, end] })
}

#[expect(clippy::print_stdout, reason = "figures for a person")]
fn print<'a>(lines: impl Iterator<Item = &'a Line>) {
    println!(
        "\n{} s; held by the supervisor after the first round, in the middle, at the end\n\
         {:40} {:>6} {:>9}  {:>11}  {:>8}  {:>17}",
        duration().as_secs(),
        "program",
        "rounds",
        "switched",
        "descriptors",
        "threads",
        "resident KiB"
    );
    for line in lines {
        let fds = line.held.map(|held| held.fds.to_string()).join(" ");
        let threads = line.held.map(|held| held.threads.to_string()).join(" ");
        let memory = line.held.map(|held| held.rss_kib.to_string()).join(" ");
        println!(
            "{:40} {:>6} {:>9}  {fds:>11}  {threads:>8}  {memory:>17}",
            line.name, line.rounds, line.switched
        );
    }
}
