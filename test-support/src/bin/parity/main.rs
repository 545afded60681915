//! Runs programs natively and under `bypass-cli run`, and compares what they do. Fails where that
//! differs and nobody expects it to.
//!
//! ```text
//! parity [--quick] [--dup] [SUITE]...       all suites, or these
//! parity replay 'CALL; CALL...'              one sequence, call by call
//! ```
//!
//! `SEED` and `RUNS` in the environment say where the sequences begin and how many there are.

#![expect(clippy::print_stdout, reason = "it prints a summary")]

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use test_support::failure::Result;
use test_support::parity::expected::{EXPECTED, Expected};
use test_support::parity::generate::Kinds;
use test_support::parity::sequences::{Compared, Plan, Sides};
use test_support::{World, ensure, stage};

fn main() -> Result<ExitCode> {
    let words: Vec<String> = env::args().skip(1).collect();
    ensure!(nix::unistd::geteuid().is_root(), "root is needed to make network namespaces");
    stage::enter(|| {
        let world = World::new()?;
        if let [replay, script, ..] = words.as_slice()
            && replay == "replay"
        {
            let calls: Vec<String> = script.split(';').map(|c| c.trim().to_owned()).collect();
            return replay_one(&world, &calls);
        }
        let quick = words.iter().any(|word| word == "--quick");
        let duplicates = words.iter().any(|word| word == "--dup");
        let plan = Plan {
            seed: number("SEED")?.unwrap_or(1),
            runs: number("RUNS")?.unwrap_or(if quick { QUICK } else { 10_000 }).try_into()?,
            limit: LIMIT,
            kinds: Kinds { duplicates },
        };
        let mut expected = Expected::of("sequences", EXPECTED)?;
        let started = Instant::now();
        let tally = Sides::new(&world, OPTIONS)?.run(&plan, &mut expected)?;
        println!(
            "sequences: {} of {} calls in {:.0?}, {} equal when run again, {} differ as expected",
            tally.sequences,
            tally.calls,
            started.elapsed(),
            tally.again,
            tally.expected
        );
        for difference in &tally.differences {
            println!("{difference}");
        }
        Ok(if tally.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

fn replay_one(world: &World, calls: &[String]) -> Result<ExitCode> {
    match Sides::new(world, OPTIONS)?.compare(calls)? {
        Compared::Different(difference) => {
            println!("{difference}");
            Ok(ExitCode::FAILURE)
        }
        _ => {
            println!("no difference");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn number(name: &str) -> Result<Option<u64>> {
    Ok(env::var(name).ok().filter(|v| !v.is_empty()).map(|value| value.parse()).transpose()?)
}

/// Sequences that take about two minutes on two CPUs.
const QUICK: u64 = 4000;
/// An end to those that were asked for by the million.
const LIMIT: Duration = Duration::from_secs(24 * 3600);
/// Of `run`, for sequences.
const OPTIONS: &[&str] = &["--udp", "all"];
