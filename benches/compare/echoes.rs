//! The time of one datagram and its echo: to a published server, and from a client that
//! connects its socket.
//!
//! Client and server share a processor. On two, most of the time is that of waking up an idle
//! one, or of finding it awake: a factor of five from one run to the next, in which a
//! hundredth could not be seen.

use std::net::SocketAddr;
use std::process::Command;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use serde_json::Value;
use test_support::failure::{Context, Result};
use test_support::process::{self, PATIENCE, Running};
use test_support::stacks::ECHO;
use test_support::world::REMOTE_V4;
use test_support::{World, ensure};

use crate::figure::{Figure, Side};
use crate::measure::{self, json_of};
use crate::ways::Way;

/// What the measurements share.
pub(crate) struct Echoes {
    server: Vec<String>,
    /// Without its last arguments: where to, and how often.
    client: Vec<String>,
    /// The server on the remote; ends with its handle.
    _on_remote: Running,
}

impl Echoes {
    pub(crate) fn new(world: &World) -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let first = (0..CpuSet::count()).find(|cpu| matches!(allowed.is_set(*cpu), Ok(true)));
        let cpu = first.context("no processor")?.to_string();
        let pinned = |program: &str, arguments: &[&str]| -> Result<Vec<String>> {
            let path = world.program(program)?;
            let path = path.to_str().context("a path in UTF-8")?;
            let words = ["taskset", "--cpu-list", &cpu, path].into_iter().chain(arguments.to_vec());
            Ok(words.map(str::to_owned).collect())
        };
        let server = pinned("fx-server", &["--udp", &format!("0.0.0.0:{}", ECHO.number)])?;
        let client = pinned("fx-client", &["datagrams"])?;
        let on_remote = started(in_remote(world, &words(&server))?)?;
        Ok(Self { server, client, _on_remote: on_remote })
    }

    /// First the server behind this way, then the client.
    pub(crate) fn take(&self, world: &World, way: &Way) -> Result<Vec<(Figure, f64)>> {
        let server = started(way.server(world, &words(&self.server))?)?;
        let client = self.client_of(way.published(ECHO)?);
        let to_server = time(in_remote(world, &words(&client))?)?;
        measure::end(server)?;
        let client = self.client_of(SocketAddr::new(REMOTE_V4.into(), ECHO.number));
        let from_client = time(way.datagrams(world, &words(&client))?)?;
        Ok(vec![(Figure::Echo(Side::Server), to_server), (Figure::Echo(Side::Client), from_client)])
    }

    fn client_of(&self, server: SocketAddr) -> Vec<String> {
        self.client.iter().cloned().chain([server.to_string(), COUNT.to_string()]).collect()
    }
}

fn words(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

fn in_remote(world: &World, words: &[&str]) -> Result<Command> {
    let (program, arguments) = words.split_first().context("no program")?;
    let mut command = world.in_remote(program);
    command.args(arguments);
    Ok(command)
}

fn started(mut server: Command) -> Result<Running> {
    let mut server = process::start(&mut server)?;
    server.line("ready", PATIENCE)?;
    Ok(server)
}

/// The median in µs that the client reports.
fn time(mut client: Command) -> Result<f64> {
    let answer: Value = json_of(&mut client, PATIENCE)?;
    let done = answer.pointer("/done").and_then(Value::as_u64).context("no count")?;
    // A machine that stands still for a second may lose one; more is not what is measured.
    ensure!(done * 100 >= COUNT * 99, "echoes that came back: {answer}");
    answer.pointer("/p50_us").and_then(Value::as_f64).context("no median")
}

/// For one median.
const COUNT: u64 = 2_000;
