//! Throughput and connection set-up of a rootless command: on the host, through
//! `bypass-cli run`, and through user-space network stacks.
//!
//! Everything is measured in one world of namespaces, in turns, so that whatever
//! else the machine does meets all of them. `DEMO_SECONDS` is the length of one
//! measurement (2), `DEMO_ROUNDS` how often each is repeated (5); the table shows medians.

#![expect(clippy::print_stdout, reason = "it prints a table")]

use std::env;
use std::process::{Command, ExitCode};
use std::time::Duration;

use serde_json::Value;
use test_support::failure::{Context, Result};
use test_support::process::{self, PATIENCE};
use test_support::stacks::{self, Stack};
use test_support::world::{CONGESTION, REMOTE_V4, Server};
use test_support::{World, ensure, stage};

fn main() -> Result<ExitCode> {
    ensure!(nix::unistd::geteuid().is_root(), "root is needed to make network namespaces");
    stage::enter(|| {
        let (seconds, rounds) = (setting("DEMO_SECONDS", 2)?, setting("DEMO_ROUNDS", 5)?);
        let world = World::new()?;
        world.set_congestion()?;
        let stacks = stacks::all(&world)?;
        let mut rows: Vec<_> = stacks.iter().map(Row::new).collect();
        let byte = world.serve_remote(&["--mode", "byte", "--quiet", "[::]:0"])?;
        println!("{rounds} rounds of {seconds} s per direction, interleaved; medians");
        for _ in 0..rounds {
            for (stack, row) in stacks.iter().zip(&mut rows) {
                row.up.push(throughput(&world, stack, seconds, &[])?);
                row.down.push(throughput(&world, stack, seconds, &["-R"])?);
                row.connect.push(connect_time(&world, stack, &byte)?);
            }
        }
        print_table(&rows);
        Ok(verdict(&rows))
    })
}

fn setting(name: &str, default: u64) -> Result<u64> {
    let value = env::var(name).map_or(Ok(default), |text| text.parse()).context(name)?;
    ensure!(value > 0, "{name} must not be 0");
    Ok(value)
}

/// Gbit/s of one TCP stream, as the receiver counted it.
fn throughput(world: &World, stack: &Stack, seconds: u64, direction: &[&str]) -> Result<f64> {
    // A server of its own for each measurement: it serves one client at a time.
    let mut server = world.in_remote("iperf3");
    let mut server = process::start(server.args(["-s", "-1", "-p", "5201", "--forceflush"]))?;
    server.line("listening", PATIENCE)?;
    let mut client = stack.command(world, "iperf3")?;
    client.args(["-c", &REMOTE_V4.to_string(), "-p", "5201", "-J", "-t", &seconds.to_string()]);
    client.args(["-C", CONGESTION]).args(direction);
    let result = json_of(&mut client, Duration::from_secs(seconds) + PATIENCE)
        .context(format!("iperf3, {}", stack.name))?;
    let rate = result.pointer("/end/sum_received/bits_per_second").and_then(Value::as_f64);
    server.wait(PATIENCE)?;
    Ok(rate.context("iperf3 reports no rate")? / 1e9)
}

/// Median time of connect, one byte, close, in µs.
fn connect_time(world: &World, stack: &Stack, server: &Server) -> Result<f64> {
    let mut client = stack.command(world, world.program("fx-client")?)?;
    let result = json_of(client.args(["cycles", &server.at(REMOTE_V4), "1000"]), PATIENCE)
        .context(format!("connect cycles, {}", stack.name))?;
    ensure!(result.pointer("/done").and_then(Value::as_u64) == Some(1000), "{result}");
    result.pointer("/p50_us").and_then(Value::as_f64).context("no median")
}

fn json_of(command: &mut Command, limit: Duration) -> Result<Value> {
    let finished = process::run(command, limit)?.success()?;
    serde_json::from_str(&finished.stdout).map_err(|_no_json| finished.failure("no JSON"))
}

struct Row {
    name: &'static str,
    up: Vec<f64>,
    down: Vec<f64>,
    connect: Vec<f64>,
}

impl Row {
    fn new(stack: &Stack) -> Self {
        Self { name: stack.name, up: Vec::new(), down: Vec::new(), connect: Vec::new() }
    }

    fn medians(&self) -> [f64; 3] {
        [&self.up, &self.down, &self.connect].map(|values| median(values))
    }
}

fn print_table(rows: &[Row]) {
    let host = rows.first().map(Row::medians).unwrap_or_default();
    println!(
        "{:<12} {:>10} {:>7} {:>10} {:>7} {:>13} {:>7}",
        "mode", "up Gbit/s", "x host", "down", "x host", "connect p50 µs", "x host"
    );
    for row in rows {
        let [up, down, connect] = row.medians();
        println!(
            "{:<12} {up:>10.2} {:>7.2} {down:>10.2} {:>7.2} {connect:>14.0} {:>7.2}",
            row.name,
            up / host[0],
            down / host[1],
            connect / host[2],
        );
    }
}

/// The demonstration shows what it claims, or it fails.
fn verdict(rows: &[Row]) -> ExitCode {
    // The best turn of each: what else runs on the machine only ever takes away.
    let up = |name: &str| {
        let row = rows.iter().find(|row| row.name == name)?;
        row.up.iter().copied().reduce(f64::max)
    };
    let (Some(ours), Some(slirp)) = (up(stacks::BYPASS), up(stacks::SLIRP)) else {
        println!("no comparison: slirp4netns was not measured");
        return ExitCode::FAILURE;
    };
    let factor = ours / slirp;
    println!("at best, {} sends {factor:.1} times as fast as {}", stacks::BYPASS, stacks::SLIRP);
    if factor >= WANTED_FACTOR {
        ExitCode::SUCCESS
    } else {
        println!("that is less than {WANTED_FACTOR} times");
        ExitCode::FAILURE
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How many times slirp4netns's throughput the bypass must have.
const WANTED_FACTOR: f64 = 5.0;
