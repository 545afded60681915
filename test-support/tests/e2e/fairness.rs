//! A container that floods the supervisor does not keep it from others.
//!
//! The CPUs are shared by all, and a flood takes its part of them. So what another container notices
//! is compared with what it notices of as many processes that only compute, and of as many that
//! make the same calls without a supervisor.
//!
//! `BYPASS_FAIRNESS=ROUNDS` in the environment makes more rounds, and prints the table that
//! docs/performance.md has.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use test_support::census::{Census, cpu_time};
use test_support::failure::{Context, Failure};
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE, Running};
use test_support::world::{REMOTE_V4, SILENT_V4};
use test_support::{Result, World, ensure, ensure_eq};

use crate::leaks::CACHED_TARGETS;
use crate::serve::{Agent, CRUN, runtime_command, socket};

pub(crate) const SCENARIOS: Group = (
    "fairness",
    &[
        Scenario { name: "floods_do_not_starve_other_containers", requires: CRUN, run: floods },
        Scenario { name: "waiting_calls_leave_room_for_others", requires: CRUN, run: waiting },
        Scenario { name: "hand_overs_under_way_are_limited", requires: CRUN, run: handed_over },
        Scenario { name: "serve_without_descriptors_sleeps", requires: CRUN, run: exhausted },
    ],
);

/// What a hostile container does all the time, and to which address.
const FLOODS: &[(&str, Whom)] = &[
    ("connect", Whom::Denied),
    ("connect", Whom::Closed),
    ("connect", Whom::Silent),
    ("scatter", Whom::Silent),
    ("waiting", Whom::Silent),
    ("dissolve", Whom::Silent),
    ("epolls", Whom::Silent),
    ("bind", Whom::Silent),
    ("forks", Whom::Denied),
    ("stops", Whom::Closed),
];

#[derive(Clone, Copy, Debug)]
enum Whom {
    /// The policy refuses it at once.
    Denied,
    /// Nobody listens there.
    Closed,
    /// Nobody answers.
    Silent,
}

impl Whom {
    fn address(self) -> SocketAddr {
        match self {
            Self::Denied => ([192, 0, 2, 66], 9).into(),
            Self::Closed => (REMOTE_V4, 1).into(),
            Self::Silent => (SILENT_V4, 9).into(),
        }
    }
}

/// Processes that flood, on a machine of two CPUs or more.
const PROCESSES: &str = "4";
/// Containers with as many.
const CONTAINERS: usize = 4;
/// What may be left of all floods, in KiB: memory that the allocator keeps.
const GROWTH: u64 = 4096;
/// Connects of the other container in one measurement.
const CONNECTS: usize = 300;

fn floods(world: &World) -> Result {
    let rounds: usize = std::env::var("BYPASS_FAIRNESS")
        .map_or(Ok(0), |rounds| rounds.parse())
        .context("rounds")?;
    let server = world.serve_remote(&["--mode", "byte", "--quiet", "[::]:0"])?;
    let agent = Agent::start(world, &["--deny", "192.0.2.66"], &[])?;
    let mut victim = Victim::start(world, &agent, server.at(REMOTE_V4))?;
    victim.connects()?;
    let before = Census::of(agent.running.pid())?;
    let mut table = Vec::new();
    for (kind, whom) in FLOODS {
        let [mut alone, mut spinning, mut unsupervised, mut one, mut many] =
            [const { Vec::new() }; 5];
        for _ in 0..rounds.max(1) {
            alone.push(victim.connects()?);
            let others = native(world, "spin", *whom)?;
            spinning.push(victim.connects()?);
            drop(others);
            let others = native(world, kind, *whom)?;
            unsupervised.push(victim.connects()?);
            drop(others);
            for (containers, times) in [(1, &mut one), (CONTAINERS, &mut many)] {
                let others: Vec<_> = (0..containers)
                    .map(|_| Flood::start(world, &agent, kind, *whom))
                    .collect::<Result<_>>()?;
                times.push(victim.connects()?);
                others.into_iter().try_for_each(Flood::end)?;
            }
        }
        let rows = [alone, spinning, unsupervised, one, many].map(Times::median);
        if rounds == 0 {
            check(kind, *whom, &rows)?;
        }
        table.push((format!("{kind}, {whom:?}"), rows));
    }
    if rounds > 0 {
        print_table(&table);
    }
    let after = before.with_cache(CACHED_TARGETS).settles(&[agent.running.pid()], PATIENCE)?;
    ensure!(after.rss_kib < before.rss_kib + GROWTH, "memory: {before:?}, then {after:?}");
    Ok(())
}

/// A container that connects, and takes the time.
struct Victim {
    running: Running,
    address: String,
}

impl Victim {
    fn start(world: &World, agent: &Agent, address: String) -> Result<Self> {
        let mut command = agent.container(world, "crun", "victim", "fx-client", &["repl"])?;
        let mut running = process::start_interactive(&mut command)?;
        running.line("ready", PATIENCE)?;
        Ok(Self { running, address })
    }

    fn connects(&mut self) -> Result<Times> {
        self.running.write(format!("cycles {} {CONNECTS}\n", self.address).as_bytes())?;
        let answer: Value = serde_json::from_str(&self.running.line("done", LIMIT)?)?;
        ensure_eq!(answer["done"], CONNECTS, "connects of the other container: {answer}");
        let us = |key: &str| answer[key].as_f64().context(key.to_owned());
        Ok(Times { p50: us("p50_us")?, p99: us("p99_us")? })
    }
}

/// Of one connect in thousands, on a machine that is busy with others.
const LIMIT: Duration = Duration::from_secs(60);

/// In µs.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    p50: f64,
    p99: f64,
}

impl Times {
    fn median(many: Vec<Self>) -> Self {
        let median = |of: fn(&Self) -> f64| {
            let mut values: Vec<f64> = many.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        Self { p50: median(|times| times.p50), p99: median(|times| times.p99) }
    }
}

/// The processes of a flood, without a supervisor.
fn native(world: &World, kind: &str, whom: Whom) -> Result<Running> {
    let mut command = world.as_user(world.program("fx-client")?);
    command.args(["flood", kind, &whom.address().to_string(), PROCESSES]);
    let mut running = process::start(&mut command)?;
    running.line("flooding", PATIENCE)?;
    Ok(running)
}

/// A hostile container.
struct Flood<'a> {
    world: &'a World,
    name: String,
    running: Running,
}

impl<'a> Flood<'a> {
    fn start(world: &'a World, agent: &Agent, kind: &str, whom: Whom) -> Result<Self> {
        // A bundle's directory is used once.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("flood-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let words = ["flood", kind, &whom.address().to_string(), PROCESSES];
        let mut command = agent.container(world, "crun", &name, "fx-client", &words)?;
        let mut running = process::start(&mut command)?;
        running.line("flooding", PATIENCE)?;
        Ok(Self { world, name, running })
    }

    fn end(mut self) -> Result {
        let mut kill = runtime_command(self.world, "crun");
        process::run(kill.args(["kill", &self.name, "KILL"]), PATIENCE)?.success()?;
        self.running.wait(PATIENCE)?;
        Ok(())
    }
}

/// With few descriptors, more containers than there are descriptors for have as many calls wait as
/// they are let. Without shares they would have all.
fn waiting(world: &World) -> Result {
    let server = world.serve_remote(&["--mode", "byte", "--quiet", "[::]:0"])?;
    let agent = Agent::start_limited(world, 512)?;
    let mut floods = Vec::new();
    for _ in 0..8 {
        floods.push(Flood::start(world, &agent, "waiting", Whom::Silent)?);
    }
    let pid = agent.running.pid();
    let deadline = Instant::now() + PATIENCE;
    // As many as they are let: half of the descriptors or so.
    while Census::of(pid)?.fds < 200 {
        ensure!(Instant::now() < deadline, "too few calls wait: {:?}", Census::of(pid)?);
        std::thread::yield_now();
    }
    let (silent, address) = (Whom::Silent.address().to_string(), server.at(REMOTE_V4));
    let words = ["parking", &silent, &address, "4", "100"];
    let answer = agent.client(world, "crun", "waiting-victim", &words)?;
    for when in ["before", "beside"] {
        ensure_eq!(answer[when]["done"], 100, "connects: {answer}");
    }
    floods.into_iter().try_for_each(Flood::end)?;
    let settled = Census { fds: 100, threads: 8, rss_kib: 0 };
    settled.settles(&[pid], PATIENCE).map(drop)
}

/// Who connects and says nothing, or not all, takes a place for five seconds; there are 32.
fn handed_over(world: &World) -> Result {
    let agent = Agent::start(world, &[], &[])?;
    let threads = || Ok::<_, Failure>(Census::of(agent.running.pid())?.threads);
    let before = threads()?;
    let mut silent = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while !agent.running.stderr().contains("32 hand-overs are under way") {
        ensure!(Instant::now() < deadline, "{} connections were not refused", silent.len());
        let mut stream = UnixStream::connect(socket(world))?;
        // The start of what a runtime says; one that is refused is closed already.
        stream.write_all(b"{\"ociVersion\":").ok();
        silent.push(stream);
    }
    // The thread of one that made room takes a moment to end.
    while threads()? > before + 32 {
        ensure!(Instant::now() < deadline, "{} threads", threads()?);
        std::thread::yield_now();
    }
    drop(silent);
    agent.client(world, "crun", "handed-over", &["sequence", "inet", "flags"]).map(drop)
}

/// It cannot accept then, and asking again at once would do nothing but take a CPU.
fn exhausted(world: &World) -> Result {
    let agent = Agent::start_limited(world, 28)?;
    let held: Vec<UnixStream> = std::iter::repeat_with(|| UnixStream::connect(socket(world)))
        .take(40)
        .collect::<std::io::Result<_>>()?;
    let (before, stretch) = (cpu_time(agent.running.pid())?, Duration::from_secs(1));
    // Not to wait for something: what it does in this time is what it does until they are closed.
    std::thread::sleep(stretch);
    let busy = cpu_time(agent.running.pid())?.saturating_sub(before);
    ensure!(busy < stretch / 5, "it was on a CPU for {busy:?} of {stretch:?}");
    ensure!(agent.running.stderr().contains("could not accept"), "{}", agent.running.stderr());
    drop(held);
    agent.client(world, "crun", "after", &["sequence", "inet", "flags"]).map(drop)
}

/// Generous, for machines with other work: who waits for another's calls waits for all of them.
fn check(kind: &str, whom: Whom, rows: &[Times; 5]) -> Result {
    let [_alone, spinning, unsupervised, floods @ ..] = rows;
    let bound = 4.0 * spinning.p50.max(unsupervised.p50) + 1_000.0;
    for flood in floods {
        ensure!(
            flood.p50 <= bound,
            "beside `{kind}` ({whom:?}) others need {:.0} µs, at most {bound:.0}: {rows:?}",
            flood.p50
        );
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "it prints a table")]
fn print_table(table: &[(String, [Times; 5])]) {
    println!("\nconnect + 1 byte + close of a container, p50 / p99, µs");
    let heads = ["compute", "do it unsupervised", "do it in a container"].join(" | ");
    let last = format!("do it in each of {CONTAINERS} containers");
    println!("| beside {PROCESSES} processes that | alone | {heads} | {last} |");
    println!("|---|---|---|---|---|---|");
    for (what, rows) in table {
        let cells = rows.map(|times| format!(" {:.0} / {:.0} |", times.p50, times.p99));
        println!("| {what} |{}", cells.concat());
    }
}
