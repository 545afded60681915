//! How the figures of servers are obtained whose ports are published: the server runs behind
//! one way to the network, the client on the remote.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use test_support::failure::{Context, Result};
use test_support::process::{self, PATIENCE};
use test_support::stacks::{ECHO, HTTP, IDLE, IPERF};
use test_support::world::{CONGESTION, SILENT_V4};
use test_support::{World, ensure};

use crate::figure::{Direction, Figure};
use crate::measure::{self, Setting, json_of};
use crate::ways::{Role, Way};

/// TCP throughput in Gbit/s, as the receiver counted it.
pub(crate) fn throughput(
    setting: &Setting<'_>,
    way: &Way,
    direction: Direction,
) -> Result<Vec<(Figure, f64)>> {
    let result = iperf(setting, way, direction, &["-C", CONGESTION])?;
    Ok(vec![(Figure::PublishedThroughput(direction), received(&result)?)])
}

/// UDP at a fixed rate: what arrived, in Gbit/s, and what did not, in percent.
pub(crate) fn datagrams(
    setting: &Setting<'_>,
    way: &Way,
    direction: Direction,
) -> Result<Vec<(Figure, f64)>> {
    let buffer = socket_buffer()?.to_string();
    let words = ["-u", "-b", DATAGRAM_RATE, "-l", DATAGRAM_SIZE, "-w", &buffer];
    let result = iperf(setting, way, direction, &words)?;
    let lost = result.pointer("/end/sum/lost_percent").and_then(Value::as_f64);
    Ok(vec![
        (Figure::Datagrams(direction), received(&result)?),
        (Figure::DatagramsLost(direction), lost.context("iperf3 reports no loss")?),
    ])
}

fn received(result: &Value) -> Result<f64> {
    let rate = result.pointer("/end/sum_received/bits_per_second").and_then(Value::as_f64);
    Ok(rate.context("iperf3 reports no rate")? / 1e9)
}

/// One run of iperf3, with a server of its own, and what its client reports.
fn iperf(setting: &Setting<'_>, way: &Way, direction: Direction, more: &[&str]) -> Result<Value> {
    let to = way.published(IPERF)?;
    let (inside, outside) = (IPERF.number.to_string(), to.port().to_string());
    let words = ["iperf3", "-s", "-1", "-p", &inside, "--forceflush"];
    let mut server = process::start(&mut way.server(setting.world, &words)?)?;
    server.line("listening", PATIENCE)?;
    let mut client = setting.world.in_remote("iperf3");
    client.args(["-J", "-c", &to.ip().to_string(), "-p", &outside]);
    client.args(["-t", &setting.seconds.to_string()]).args(more);
    if direction == Direction::Down {
        client.arg("-R");
    }
    let result = json_of(&mut client, setting.limit()?)?;
    server.wait(PATIENCE)?;
    Ok(result)
}

/// A buffer that holds what arrives while the receiver has to wait for a processor, as far as
/// every user may have one.
fn socket_buffer() -> Result<usize> {
    let limit = |name: &str| -> Result<usize> {
        let path = format!("/proc/sys/net/core/{name}");
        Ok(fs::read_to_string(&path).context(&path)?.trim().parse()?)
    };
    Ok(limit("rmem_max")?.min(limit("wmem_max")?).min(4 << 20))
}

/// Requests per second to nginx, each over a connection of its own.
pub(crate) fn accepts(setting: &Setting<'_>, way: &Way) -> Result<Vec<(Figure, f64)>> {
    let configuration = setting.nginx.to_str().context("a path in UTF-8")?;
    // What it logs goes to standard error, and nothing else says that it is ready.
    let script = "exec nginx -e stderr -c \"$0\" 2>&1";
    let words = ["sh", "-c", script, configuration];
    let mut server = process::start(&mut way.server(setting.world, &words)?)?;
    server.line("start worker process ", PATIENCE)?;
    let mut client = setting.world.in_remote("wrk");
    client.args(["--threads=1", &format!("--connections={CONNECTIONS}")]);
    client.args([&format!("--duration={}s", setting.seconds), "--header=Connection: close"]);
    client.arg(format!("http://{}/", way.published(HTTP)?));
    let finished = process::run(&mut client, setting.limit()?)?.success()?;
    for trouble in ["Socket errors", "Non-2xx"] {
        ensure!(!finished.stdout.contains(trouble), "{finished}");
    }
    let rate = finished.stdout.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    let rate = rate.context(format!("wrk reports no rate: {finished}"))?.trim().parse()?;
    measure::end(server)?;
    Ok(vec![(Figure::Accepts, rate)])
}

/// Makes the configuration of nginx, with everything that it writes in a directory of the
/// ordinary user.
pub(crate) fn configure_nginx(world: &World) -> Result<PathBuf> {
    let directory = world.directory("nginx")?;
    let configuration = directory.join("nginx.conf");
    fs::write(&configuration, nginx_configuration(&directory))?;
    Ok(configuration)
}

/// The user is root's namesake in the container, the only one there.
fn nginx_configuration(directory: &Path) -> String {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary =
        temporary.map(|name| format!("{name}_temp_path {}/{name};", directory.display()));
    format!(
        "daemon off; user root; worker_processes 1; pid {}/pid; error_log stderr notice;
         events {{ worker_connections 512; }}
         http {{
             access_log off; {}
             server {{ listen {}; location / {{ return 200 \"hello\\n\"; }} }}
         }}",
        directory.display(),
        temporary.join(" "),
        HTTP.number,
    )
}

/// Calls of a server that nobody asks anything.
pub(crate) fn calls(setting: &Setting<'_>, way: &Way) -> Result<Vec<(Figure, f64)>> {
    let this = setting.this.to_str().context("a path in UTF-8")?;
    let silent = SocketAddr::new(SILENT_V4.into(), 9).to_string();
    let words = [this, CALLS, &IDLE.number.to_string(), &ECHO.number.to_string(), &silent];
    let mut command = way.server(setting.world, &words)?;
    command.args(way.has_role(Role::Filtered).then_some(measure::FILTERED));
    let finished = process::run(&mut command, PATIENCE)?.success()?;
    let [listen, exchange] = *finished.stdout.split_whitespace().collect::<Vec<_>>() else {
        return Err(finished.failure("no two figures"));
    };
    let (listen, exchange): (f64, f64) = (listen.parse()?, exchange.parse()?);
    Ok(vec![(Figure::Listen, listen / 1e3), (Figure::Exchange, exchange)])
}

/// Has this program, run again, measure calls on published ports.
pub(crate) const CALLS: &str = "--published";

/// What two processors just carry without loss.
const DATAGRAM_RATE: &str = "2G";
/// Large enough that the rate is not one of system calls alone, and fragmented therefore.
const DATAGRAM_SIZE: &str = "8000";
/// That wrk keeps open at a time.
const CONNECTIONS: u32 = 16;
