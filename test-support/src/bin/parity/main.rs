//! Runs programs natively and under `bypass-cli run`, and compares what they do. Fails where that
//! differs and nobody expects it to.
//!
//! ```text
//! parity [--quick] [--no-dup] [SUITE]...       all suites, or these
//! parity replay [--host] 'CALL; CALL...'       one sequence, call by call
//! ```
//!
//! `SEED` and `RUNS` in the environment say where the sequences begin and how many there are.

#![expect(clippy::print_stdout, reason = "it prints a summary")]

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use test_support::failure::{Context, Result};
use test_support::parity::expected::{EXPECTED, Expected};
use test_support::parity::generate::Kinds;
use test_support::parity::sequences::{Compared, Plan, Sides};
use test_support::parity::{HOST, INSIDE, catalog, suites};
use test_support::{World, ensure, stage};

fn main() -> Result<ExitCode> {
    let words: Vec<String> = env::args().skip(1).collect();
    ensure!(nix::unistd::geteuid().is_root(), "root is needed to make network namespaces");
    stage::enter(|| {
        let world = World::new()?;
        if let [first, rest @ ..] = words.as_slice()
            && first == "replay"
        {
            return replay(&world, rest);
        }
        let has = |flag: &str| words.iter().any(|word| word == flag);
        let runs = if has("--quick") { QUICK } else { MANY as u64 };
        let plan = Plan {
            seed: number("SEED")?.unwrap_or(1),
            runs: number("RUNS")?.unwrap_or(runs).try_into()?,
            limit: LIMIT,
            kinds: Kinds { duplicates: !has("--no-dup") },
        };
        let chosen: Vec<_> = words.iter().filter(|word| !word.starts_with('-')).collect();
        let wants = |name: &str| chosen.is_empty() || chosen.iter().any(|word| *word == name);
        let (mut summary, mut failed) = (Vec::new(), false);
        for (name, options) in SEQUENCES {
            if wants(name) {
                failed |= sequences(&world, name, options, &plan, &mut summary)?;
            }
        }
        for name in catalog::names().filter(|name| wants(name)) {
            let built = built()?;
            let suite = catalog::suite(&world, name, &built)?;
            let expected = Expected::of(name, EXPECTED)?;
            let outcome = suites::run(&world, &suite, HOST, expected)?;
            println!("{name}: {outcome}\n{}", outcome.complaints());
            failed |= !outcome.is_good();
            summary.push(format!("{name}: {outcome}"));
        }
        println!("\n{}", summary.join("\n"));
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

/// Whether there is a difference that is not expected.
fn sequences(
    world: &World,
    name: &str,
    options: &[&str],
    plan: &Plan,
    summary: &mut Vec<String>,
) -> Result<bool> {
    let (mut expected, started) = (Expected::of(name, EXPECTED)?, Instant::now());
    let tally = Sides::new(world, options)?.run(plan, &mut expected)?;
    for difference in &tally.differences {
        println!("{name}\n{difference}");
    }
    // Fewer sequences do not come by all of them.
    for line in expected.unseen().filter(|_| plan.runs >= MANY) {
        println!("{name}: expected, and not seen: {line}");
    }
    summary.push(format!(
        "{name}: {} sequences of {} calls in {:.0?}: {} differences, {} as expected, {} equal at times",
        tally.sequences,
        tally.calls,
        started.elapsed(),
        tally.differences.len(),
        tally.expected,
        tally.again,
    ));
    Ok(!tally.differences.is_empty())
}

fn replay(world: &World, words: &[String]) -> Result<ExitCode> {
    let options = if words.iter().any(|word| word == "--host") { HOST } else { INSIDE };
    let script = words.iter().find(|word| !word.starts_with('-')).context("which calls?")?;
    let calls: Vec<String> = script.split(';').map(|call| call.trim().to_owned()).collect();
    match Sides::new(world, options)?.compare(&calls)? {
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

/// Where `scripts/parity-suites` has put what it built: beside the programs of this workspace.
fn built() -> Result<PathBuf> {
    let this = env::current_exe()?;
    let target = this.ancestors().nth(2).context("a directory for what is built")?;
    Ok(target.join("parity"))
}

fn number(name: &str) -> Result<Option<u64>> {
    Ok(env::var(name).ok().filter(|v| !v.is_empty()).map(|value| value.parse()).transpose()?)
}

/// The suites of sequences, with the options of `run`.
const SEQUENCES: [(&str, &[&str]); 2] = [("sequences", INSIDE), ("host-sequences", HOST)];

/// Sequences of a suite, of which there are two: about two minutes on two CPUs.
const QUICK: u64 = 2500;
/// As many as show everything that is expected.
const MANY: usize = 10_000;
/// An end to those that were asked for by the million.
const LIMIT: Duration = Duration::from_secs(24 * 3600);
