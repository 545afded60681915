//! The benchmark report: real programs in namespaces, on the host, with us and with other networks.
//!
//! ```text
//! report [--quick] [--only PART] [--rounds N] [--minutes N] [--out DIR] [--readme FILE] [--compare OLD.json]
//! report --render [--out DIR] [--readme FILE]
//! ```
//!
//! All ways to the network take their turns at every row, in an order that changes from round to round,
//! and a ratio is to what the host showed in the same round: whatever else the machine does meets all of
//! them. A cell that fails says so in the report, and the others are measured. It needs root, to make the
//! namespaces, and what `scripts/setup bench` installs; what is measured runs as an ordinary user.
//!
//! `report.json` is what was measured ([`schema`]); the tables and plots are made of it, and `--render`
//! makes them anew.

#![expect(clippy::print_stderr, reason = "it says what it is doing meanwhile")]

mod compare;
mod lab;
mod machine;
mod markdown;
mod plot;
mod readme;
mod rows;
mod schema;
mod tasks;
mod turns;
mod ways;
mod write;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use test_support::failure::{Context, Result};
use test_support::requirement::Requirement;
use test_support::{World, ensure, stage};

use lab::Lab;
use schema::Report;
use turns::Plan;

#[derive(Debug, Parser)]
#[command(about = "Measures networks of rootless containers and writes the benchmark report")]
struct Args {
    /// About a minute and a half, to see that everything works; the figures say nothing
    #[arg(long)]
    quick: bool,
    /// Only rows with this in their keys
    #[arg(long, default_value = "")]
    only: String,
    /// How often each cell takes its turn
    #[arg(long)]
    rounds: Option<usize>,
    /// Begin no round that would end later
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// Where the report goes
    #[arg(long, default_value = "docs/benchmarks")]
    out: PathBuf,
    /// A file with markers, between which the headline goes
    #[arg(long)]
    readme: Option<PathBuf>,
    /// A report from before, to be compared with
    #[arg(long)]
    compare: Option<PathBuf>,
    /// The load average from before all this was built, which is a load as well
    #[arg(long)]
    load: Option<f64>,
    /// Measure nothing: make tables and plots of the report.json that is there
    #[arg(long)]
    render: bool,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if args.render {
        let path = args.out.join(write::JSON);
        let report = write::read(&path)?;
        return finish(&args, &report);
    }
    let missing: Vec<_> = REQUIRED.iter().filter_map(|requirement| requirement.missing()).collect();
    ensure!(missing.is_empty(), "it needs {} (scripts/setup bench)", missing.join(", "));
    stage::enter(|| {
        let report = measure(&args)?;
        finish(&args, &report)
    })
}

fn measure(args: &Args) -> Result<Report> {
    let (started, begun) = (Instant::now(), SystemTime::now());
    let rounds = args.rounds.unwrap_or(if args.quick { 1 } else { ROUNDS }).max(1);
    let machine = machine::describe(args.load)?;
    if machine.load > markdown::QUIET && !args.quick {
        eprintln!(
            "bench: load average {}: other programs run here, and will be seen",
            machine.load
        );
    }
    let world = World::new()?;
    world.set_congestion()?;
    let (ways, missing) = ways::all(&world)?;
    missing.iter().for_each(|reason| eprintln!("bench: {reason}"));
    let lab = Lab { world: &world, quick: args.quick };
    let limit = Duration::from_secs(args.minutes * 60);
    let (rounds, mut rows) = turns::take(&lab, &ways, Plan { rounds, limit, only: &args.only });
    rows.iter_mut().for_each(schema::Row::sum_up);
    let columns = ways
        .iter()
        .map(|way| schema::Column { name: way.name().to_owned(), about: way.about().to_owned() });
    Ok(Report {
        version: schema::VERSION,
        begun: humantime::format_rfc3339_seconds(begun).to_string(),
        seconds: started.elapsed().as_secs(),
        rounds,
        quick: args.quick,
        machine,
        columns: columns.collect(),
        missing,
        rows,
    })
}

fn finish(args: &Args, report: &Report) -> Result<ExitCode> {
    fs::create_dir_all(&args.out).context(args.out.display())?;
    let files = write::files(report)?;
    write::write(&args.out, &files)?;
    eprintln!("bench: {} files in {}", files.len(), args.out.display());
    if let Some(path) = &args.readme {
        match readme::update(path, report) {
            Ok(()) => eprintln!("bench: headline in {}", path.display()),
            Err(error) => eprintln!("bench: no headline in {}: {error}", path.display()),
        }
    }
    turns::failures(report).for_each(|failure| eprintln!("bench: {failure}"));
    if let Some(path) = &args.compare {
        let old = write::read(path)?;
        for line in compare::changes(&old, report) {
            eprintln!("bench: {line}");
        }
    }
    // Programs of others may fail without our being at fault.
    Ok(if turns::is_complete(report) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Without these there is no world; whatever else is missing leaves out rows or columns.
const REQUIRED: &[Requirement] = &[
    Requirement::Root,
    Requirement::OrdinaryUser,
    Requirement::Program("ip"),
    Requirement::Program("unshare"),
    Requirement::Program("nsenter"),
    Requirement::Program("setpriv"),
];

/// That take about a quarter of an hour.
const ROUNDS: usize = 5;
