//! How the figures are obtained, from programs that run behind one way to the network.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use test_support::failure::{Context, Result};
use test_support::process::{self, PATIENCE, Running};
use test_support::world::{CONGESTION, REMOTE_V4, SILENT_V4, Server};
use test_support::{World, ensure_eq};

use crate::echoes::Echoes;
use crate::figure::{Direction, Figure, PARKED};
use crate::published;
use crate::ways::{Role, Way};

/// What all measurements share.
pub(crate) struct Setting<'a> {
    pub(crate) world: &'a World,
    /// Length of one measurement of throughput.
    pub(crate) seconds: usize,
    /// Sends one byte to everybody who connects.
    byte: Server,
    /// This program, where the ordinary user may run it.
    pub(crate) this: PathBuf,
    /// Configuration of nginx.
    pub(crate) nginx: PathBuf,
    echoes: Echoes,
}

impl<'a> Setting<'a> {
    pub(crate) fn new(world: &'a World, seconds: usize) -> Result<Self> {
        let byte = world.serve_remote(&["--mode", "byte", "--quiet", "[::]:0"])?;
        let this = world.directory("compare")?.join("compare");
        fs::copy(std::env::current_exe()?, &this).context("copying this program")?;
        let nginx = published::configure_nginx(world)?;
        let echoes = Echoes::new(world)?;
        Ok(Self { world, seconds, byte, this, nginx, echoes })
    }

    /// For a measurement of throughput.
    pub(crate) fn limit(&self) -> Result<Duration> {
        Ok(PATIENCE + Duration::from_secs(u64::try_from(self.seconds)?))
    }

    /// `fx-client WORDS` behind this way, and what it printed.
    pub(crate) fn client(&self, way: &Way, words: &[&str]) -> Result<Value> {
        let program = self.world.program("fx-client")?;
        let mut arguments = vec![program.to_str().context("a path in UTF-8")?];
        arguments.extend(words);
        json_of(&mut way.command(self.world, &arguments)?, PATIENCE)
    }

    /// Where one byte can be had.
    pub(crate) fn byte_address(&self) -> String {
        self.byte.at(REMOTE_V4)
    }
}

/// One run of a program, for one or several figures.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Measure {
    Throughput(Direction, u8),
    Connects,
    Untrapped,
    PublishedThroughput(Direction),
    Accepts,
    Datagrams(Direction),
    Echoes,
    PublishedCalls,
}

impl Measure {
    /// One round. The connects come thrice: they take little time, and where the scheduler
    /// puts client, server and supervisor makes more of a difference to them than anything.
    /// So do the echoes, of which the target asks for a hundredth.
    pub(crate) const ROUND: [Self; 17] = [
        Self::Throughput(Direction::Up, 1),
        Self::Connects,
        Self::Throughput(Direction::Up, 4),
        Self::Throughput(Direction::Down, 1),
        Self::Connects,
        Self::Throughput(Direction::Down, 4),
        Self::Connects,
        Self::Untrapped,
        Self::PublishedThroughput(Direction::Up),
        Self::Echoes,
        Self::PublishedThroughput(Direction::Down),
        Self::Datagrams(Direction::Up),
        Self::Echoes,
        Self::Datagrams(Direction::Down),
        Self::Accepts,
        Self::Echoes,
        Self::PublishedCalls,
    ];

    /// Whether it says anything about this way: without a filter a call is the host's.
    pub(crate) fn concerns(self, way: &Way) -> bool {
        match self {
            Self::Throughput(..) | Self::Connects => way.is_network(),
            Self::Untrapped => way.is_host() || way.has_filter(),
            Self::PublishedCalls => way.is_host() || way.has_role(Role::Filtered) || way.is_ours(),
            Self::PublishedThroughput(_) | Self::Accepts | Self::Datagrams(_) | Self::Echoes => {
                way.publishes()
            }
        }
    }

    pub(crate) fn take(self, setting: &Setting<'_>, way: &Way) -> Result<Vec<(Figure, f64)>> {
        match self {
            Self::Throughput(direction, streams) => {
                let rate = throughput(setting, way, direction, streams)?;
                Ok(vec![(Figure::Throughput(direction, streams), rate)])
            }
            Self::Connects => connects(setting, way),
            Self::Untrapped => untrapped(setting, way),
            Self::PublishedThroughput(direction) => published::throughput(setting, way, direction),
            Self::Accepts => published::accepts(setting, way),
            Self::Datagrams(direction) => published::datagrams(setting, way, direction),
            Self::Echoes => setting.echoes.take(setting.world, way),
            Self::PublishedCalls => published::calls(setting, way),
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Throughput(direction, streams) => Figure::Throughput(*direction, *streams).fmt(f),
            Self::Connects => f.write_str("connects"),
            Self::Untrapped => f.write_str("untrapped calls"),
            Self::PublishedThroughput(direction) => Figure::PublishedThroughput(*direction).fmt(f),
            Self::Accepts => Figure::Accepts.fmt(f),
            Self::Datagrams(direction) => Figure::Datagrams(*direction).fmt(f),
            Self::Echoes => f.write_str("UDP echoes"),
            Self::PublishedCalls => f.write_str("calls on published ports"),
        }
    }
}

fn throughput(setting: &Setting<'_>, way: &Way, direction: Direction, streams: u8) -> Result<f64> {
    // A server of its own for each measurement: it serves one client at a time.
    let mut server = setting.world.in_remote("iperf3");
    let mut server = process::start(server.args(["-s", "-1", "-p", PORT, "--forceflush"]))?;
    server.line("listening", PATIENCE)?;
    let (remote, streams) = (REMOTE_V4.to_string(), streams.to_string());
    let seconds = setting.seconds.to_string();
    let mut words = vec!["iperf3", "-J", "-c", &remote, "-p", PORT, "-t", &seconds, "-P", &streams];
    words.extend(["-C", CONGESTION]);
    if direction == Direction::Down {
        words.push("-R");
    }
    let result = json_of(&mut way.command(setting.world, &words)?, setting.limit()?)?;
    let rate = result.pointer("/end/sum_received/bits_per_second").and_then(Value::as_f64);
    server.wait(PATIENCE)?;
    Ok(rate.context("iperf3 reports no rate")? / 1e9)
}

/// One process first connects with nothing beside it, then beside the parked connects.
fn connects(setting: &Setting<'_>, way: &Way) -> Result<Vec<(Figure, f64)>> {
    let (silent, address) = (format!("{SILENT_V4}:9"), setting.byte_address());
    let (parked, cycles) = (PARKED.to_string(), CYCLES.to_string());
    let answer = setting.client(way, &["parking", &silent, &address, &parked, &cycles])?;
    let p50 = |when: &str| {
        let done = answer.pointer(&format!("/{when}/done")).and_then(Value::as_u64);
        ensure_eq!(done, Some(CYCLES), "connects that succeeded: {answer}");
        let p50 = answer.pointer(&format!("/{when}/p50_us")).and_then(Value::as_f64);
        p50.context("no median")
    };
    Ok(vec![(Figure::Connect, p50("before")?), (Figure::BesideParked, p50("beside")?)])
}

fn untrapped(setting: &Setting<'_>, way: &Way) -> Result<Vec<(Figure, f64)>> {
    let this = setting.this.to_str().context("a path in UTF-8")?;
    let mut command = way.command(setting.world, &[this, UNTRAPPED])?;
    command.args(way.has_role(Role::Filtered).then_some(FILTERED));
    let finished = process::run(&mut command, PATIENCE)?.success()?;
    let figures = finished.stdout.split_whitespace().enumerate();
    figures.map(|(at, word)| Ok((Figure::Untrapped(at), word.parse()?))).collect()
}

/// Runs a program that prints JSON.
pub(crate) fn json_of(command: &mut Command, limit: Duration) -> Result<Value> {
    let finished = process::run(command, limit)?.success()?;
    serde_json::from_str(&finished.stdout).map_err(|_no_json| finished.failure("no JSON"))
}

/// Ends a server in order, so that the next one finds its ports free.
pub(crate) fn end(mut server: Running) -> Result {
    server.signal(Signal::TERM)?;
    server.wait(PATIENCE)?;
    Ok(())
}

/// Has this program, run again, measure untrapped calls.
pub(crate) const UNTRAPPED: &str = "--untrapped";

/// Has it install a filter that allows everything, before that.
pub(crate) const FILTERED: &str = "--filtered";

/// Connects for one median.
const CYCLES: u64 = 500;

/// iperf3's own.
const PORT: &str = "5201";
