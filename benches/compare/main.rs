//! The whole thing beside its alternatives: the host itself, `bypass-cli run`, slirp4netns,
//! pasta, RootlessKit and bypass4netns, as far as they are installed.
//!
//! `cargo bench` runs it; it needs root, to make a world of namespaces, and what
//! `scripts/setup bench` installs. What is measured runs as an ordinary user. All ways to the
//! network take their turns in every round, in an order that changes from round to round, and
//! are compared with what the host showed *next to it*, so that whatever else the machine does
//! meets all of them. `BENCH_ROUNDS` is the number of rounds (5), `BENCH_SECONDS` the length of
//! one throughput measurement (1), `BENCH_ONLY` a part of the name of the measurements that are
//! wanted, such as `published` or `UDP` (all).
//!
//! It prints a table and, for each target of the project, whether it was met. A target that
//! was missed is a result, not a failure, and so is a program of others that fails: the exit
//! status says whether the host and we ourselves could be measured.

#![expect(clippy::print_stdout, reason = "it prints a table")]
#![expect(clippy::print_stderr, reason = "it says what it is doing meanwhile")]

mod echoes;
mod figure;
mod measure;
mod published;
mod table;
mod targets;
mod ways;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use bypass_benches::untrapped;
use seccomp_notify::Filter;
use test_support::failure::{Context, Result};
use test_support::process;
use test_support::requirement::Requirement;
use test_support::{Failure, World, ensure, fail, stage};

use measure::{Measure, Setting};
use table::Table;
use ways::Way;

fn main() -> Result<ExitCode> {
    let has = |flag: &str| env::args().any(|argument| argument == flag);
    // Kept to the end: nothing traps, but the kernel is to have the same work.
    let _filter = has(measure::FILTERED).then(|| Filter::allow_all().install()).transpose()?;
    if has(measure::UNTRAPPED) {
        println!("{}", untrapped::measure()?.map(|figure| figure.to_string()).join(" "));
        return Ok(ExitCode::SUCCESS);
    }
    if has(published::CALLS) {
        return measure_published();
    }
    // `cargo test` gives no flag: then it is enough that this was built. What else is given,
    // such as the name of a benchmark, is meant for Criterion.
    let alien = |argument: String| argument != "--bench" && argument != BUILT;
    if !has("--bench") || env::args().skip(1).any(alien) {
        return Ok(ExitCode::SUCCESS);
    }
    let missing: Vec<_> = REQUIRED.iter().filter_map(|requirement| requirement.missing()).collect();
    if !missing.is_empty() {
        println!("comparison: left out, it needs {} (scripts/setup bench)", missing.join(", "));
        return Ok(ExitCode::SUCCESS);
    }
    if !has(BUILT) {
        return build_and_go_on();
    }
    stage::enter(compare)
}

/// With the ports and the address that [`published::calls`] gives.
fn measure_published() -> Result<ExitCode> {
    let words: Vec<_> = env::args().skip(2).take(3).collect();
    let [tcp, udp, silent] = words.as_slice() else { fail!("no ports, or no address: {words:?}") };
    let listen = bypass_benches::published::listen(tcp.parse()?)?;
    let exchange = bypass_benches::published::exchange(udp.parse()?, silent.parse()?)?;
    println!("{listen} {exchange}");
    Ok(ExitCode::SUCCESS)
}

/// `cargo bench` builds the benchmarks alone, and without this what is measured would be an
/// old build, or none.
fn build_and_go_on() -> Result<ExitCode> {
    let this = env::current_exe()?;
    // TARGET/release/deps/compare-HASH
    let target = this.ancestors().nth(3).context("this program is in a target directory")?;
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--release", "--bins", "-p", "bypass-cli", "-p", "test-support"]);
    build.arg("--manifest-path").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    build.arg("--target-dir").arg(target);
    eprintln!("comparison: building what is measured");
    process::run(&mut build, BUILD_LIMIT)?.success()?;
    let error = Command::new(&this).args(env::args_os().skip(1)).arg(BUILT).exec();
    Err(error).context(this.display())
}

fn compare() -> Result<ExitCode> {
    let (rounds, seconds) = (number("BENCH_ROUNDS", 5)?, number("BENCH_SECONDS", 1)?);
    let started = Instant::now();
    let world = World::new()?;
    world.set_congestion()?;
    let setting = Setting::new(&world, seconds)?;
    let ways = ways::all(&setting)?;
    let Outcome { table, retired } = take_turns(&setting, &ways, rounds)?;
    println!("\n## Comparison\n");
    println!(
        "Linux {}, {} CPUs; {rounds} interleaved rounds in {} s, {seconds} s per throughput.",
        fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        available_parallelism()?,
        started.elapsed().as_secs(),
    );
    println!("Each cell: median (least–most) of the turns; median of the ratios to the host.\n");
    println!("{}", table.in_markdown(&ways));
    for reason in retired.values() {
        println!("- took no further turns: {reason}");
    }
    for verdict in targets::verdicts(&table, &ways) {
        println!("{verdict}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What came of all rounds.
#[derive(Default)]
struct Outcome {
    table: Table,
    /// Programs of others that failed, by position and by what was measured, and how. What
    /// they did until then is in the table.
    retired: BTreeMap<(usize, String), Failure>,
}

fn take_turns(setting: &Setting<'_>, ways: &[Way], rounds: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let only = env::var("BENCH_ONLY").unwrap_or_default();
    let is_wanted = |measure: &Measure| measure.to_string().contains(&only);
    for round in 0..rounds {
        eprintln!("comparison: round {} of {rounds}", round + 1);
        for measure in Measure::ROUND.into_iter().filter(is_wanted) {
            for turn in 0..ways.len() {
                let at = (turn + round) % ways.len();
                let turn = (at, measure.to_string());
                let takes_turns =
                    |way: &&Way| measure.concerns(way) && !outcome.retired.contains_key(&turn);
                let Some(way) = ways.get(at).filter(takes_turns) else { continue };
                let taken = measure.take(setting, way);
                match taken.context(format!("{measure}, {}", way.name())) {
                    Ok(taken) => {
                        taken.into_iter().for_each(|(row, is)| outcome.table.push(row, at, is));
                    }
                    Err(error) if way.is_foreign() => drop(outcome.retired.insert(turn, error)),
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(outcome)
}

fn number(name: &str, default: usize) -> Result<usize> {
    let value = env::var(name).map_or(Ok(default), |text| text.parse()).context(name)?;
    ensure!(value > 0, "{name} must not be 0");
    Ok(value)
}

const REQUIRED: &[Requirement] = &[
    Requirement::Root,
    Requirement::OrdinaryUser,
    Requirement::Program("ip"),
    Requirement::Program("unshare"),
    Requirement::Program("nsenter"),
    Requirement::Program("setpriv"),
    Requirement::Program("iperf3"),
    Requirement::Program("taskset"),
    Requirement::Program("nginx"),
    Requirement::Program("wrk"),
];

/// Tells this program, run again, that everything is built.
const BUILT: &str = "--built";

/// From nothing, on a slow machine.
const BUILD_LIMIT: Duration = Duration::from_secs(1_800);
