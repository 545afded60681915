//! The whole thing beside its alternatives: the host itself, `bypass-cli run`, slirp4netns,
//! pasta and bypass4netns, as far as they are installed.
//!
//! `cargo bench` runs it; it needs root, to make a world of namespaces, and what
//! `scripts/setup demo` installs. What is measured runs as an ordinary user. All ways to the
//! network take their turns in every round, in an order that changes from round to round, and
//! are compared with what the host showed *next to it*, so that whatever else the machine does
//! meets all of them. `BENCH_ROUNDS` is the number of rounds (5), `BENCH_SECONDS` the length of one
//! throughput measurement (1).
//!
//! It prints a table and, for each target of the project, whether it was met. A target that
//! was missed is a result, not a failure: the exit status says whether all was measured.

#![expect(clippy::print_stdout, reason = "it prints a table")]
#![expect(clippy::print_stderr, reason = "it says what it is doing meanwhile")]

mod bypass4netns;
mod figure;
mod measure;
mod table;
mod targets;
mod ways;

use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use bypass_benches::untrapped;
use test_support::failure::{Context, Result};
use test_support::process;
use test_support::requirement::Requirement;
use test_support::{World, ensure, stage};

use measure::{Measure, Setting};
use table::Table;

fn main() -> Result<ExitCode> {
    let has = |flag: &str| env::args().any(|argument| argument == flag);
    if has(measure::UNTRAPPED) {
        let [close, fcntl, exchange] = untrapped::measure()?;
        println!("{close} {fcntl} {exchange}");
        return Ok(ExitCode::SUCCESS);
    }
    // `cargo test` gives no flag: then it is enough that this was built. Nor is it a
    // micro-benchmark, which is what a name on the command line selects.
    if !has("--bench") || env::args().skip(1).any(|argument| !argument.starts_with('-')) {
        return Ok(ExitCode::SUCCESS);
    }
    let missing: Vec<_> = REQUIRED.iter().filter_map(|requirement| requirement.missing()).collect();
    if !missing.is_empty() {
        println!("comparison: left out, it needs {} (scripts/setup demo)", missing.join(", "));
        return Ok(ExitCode::SUCCESS);
    }
    if !has(BUILT) {
        return build_and_go_on();
    }
    stage::enter(compare)
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
    let setting = Setting::new(&world, seconds)?;
    let ways = ways::all(&setting)?;
    let mut table = Table::default();
    for round in 0..rounds {
        eprintln!("comparison: round {} of {rounds}", round + 1);
        for measure in Measure::ROUND {
            for turn in 0..ways.len() {
                let at = (turn + round) % ways.len();
                let Some(way) = ways.get(at).filter(|way| measure.concerns(way)) else { continue };
                let taken = measure.take(&setting, way);
                for (figure, value) in taken.context(format!("{measure}, {}", way.name()))? {
                    table.push(figure, at, value);
                }
            }
        }
    }
    println!("\n## Comparison\n");
    println!(
        "Linux {}, {} CPUs; {rounds} interleaved rounds in {} s, {seconds} s per throughput.",
        fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        available_parallelism()?,
        started.elapsed().as_secs(),
    );
    println!("Each cell: median (least–most) of the rounds; median of the ratios to the host.\n");
    println!("{}", table.in_markdown(&ways));
    for verdict in targets::verdicts(&table, &ways) {
        println!("{verdict}");
    }
    Ok(ExitCode::SUCCESS)
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
];

/// Tells this program, run again, that everything is built.
const BUILT: &str = "--built";

/// From nothing, on a slow machine.
const BUILD_LIMIT: Duration = Duration::from_secs(1_800);
