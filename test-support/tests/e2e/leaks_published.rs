//! Servers that come and go on published ports, and their clients, leave nothing behind: neither in
//! the supervisor nor of the ports.

use std::fs;
use std::time::Instant;

use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::PATIENCE;
use test_support::world::{HOST_V4, REMOTE_V4};
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::counted;
use crate::inside::Inside;
use crate::leaks::{Baseline, soak};
use crate::repl::Repl;

pub(crate) const SCENARIOS: Group = (
    "leaks",
    &[
        Scenario { name: "tcp_servers_leave_nothing", requires: &[], run: tcp_servers },
        Scenario { name: "udp_servers_leave_nothing", requires: &[], run: udp_servers },
        Scenario { name: "workers_and_orphans_leave_nothing", requires: &[], run: processes },
        Scenario { name: "relayed_clients_leave_nothing", requires: &[], run: relayed },
        Scenario { name: "servers_killed_at_any_moment_leave_nothing", requires: &[], run: killed },
    ],
);

/// The container's port 8080 by two host addresses in TCP, the second of which is relayed, and by
/// all in UDP.
const MAPS: &[&str] = &["-p", "8065:8080", "-p", "127.0.0.1:8066:8080", "-p", "8065:8080/udp"];

/// For calls that wait for somebody.
const WAIT: &str = "set:so_rcvtimeo=5000";

/// Whether nobody else has, or can have, the published ports while no server runs.
fn are_reserved(host: &mut Repl) -> Result<bool> {
    for (step, expected) in [
        ("stream set:so_reuseaddr=1 bind=0.0.0.0:8065", "EADDRINUSE"),
        ("stream set:so_reuseaddr=1 bind=127.0.0.1:8066", "EADDRINUSE"),
        ("dgram set:so_reuseaddr=1 bind=0.0.0.0:8065", "EADDRINUSE"),
        ("stream connect=127.0.0.1:8065", "ECONNREFUSED"),
        ("stream connect=127.0.0.1:8066", "ECONNREFUSED"),
    ] {
        let results = host.results(&format!("sequence inet {step}"))?;
        if results.last().is_none_or(|step| step["result"] != expected) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Waits until they are, and then until the supervisor holds no more than before.
fn settled(baseline: &Baseline, host: &mut Repl) -> Result {
    let deadline = Instant::now() + PATIENCE;
    while !are_reserved(host)? {
        ensure!(Instant::now() < deadline, "the ports are not reserved again");
    }
    baseline.returns()
}

/// Everybody else may have the ports once the run has ended.
fn are_free(host: &mut Repl) -> Result {
    for words in [
        "stream set:so_reuseaddr=1 bind=[::]:8065 listen=1",
        "stream set:so_reuseaddr=1 bind=[::]:8066 listen=1",
        "dgram bind=[::]:8065",
    ] {
        host.succeed(&format!("sequence inet6 {words}"))?;
    }
    Ok(())
}

fn tcp_servers(world: &World) -> Result {
    let mut inside = Repl::bypassed(world, MAPS)?;
    let (mut remote, mut host) = (Repl::remote(world)?, Repl::host(world)?);
    let mut work = |rounds: usize, host: &mut Repl| -> Result {
        for _ in 0..rounds {
            let listen = format!("set:so_reuseaddr=1 {WAIT} bind=[::]:8080 listen=5");
            inside.succeed(&format!("open stream inet6 {listen}"))?;
            // The second client comes by the relay.
            for (client, to) in
                [(&mut remote, format!("{HOST_V4}:8065")), (host, "127.0.0.1:8066".to_owned())]
            {
                client.succeed(&format!("open c inet {WAIT} connect={to}"))?;
                inside.succeed("on stream accept send=hello back")?;
                ensure_eq!(client.succeed("on c recv")?, "hello", "greeting at {to}");
                client.ask("close c")?;
            }
            // Its own clients are led to the host, and back.
            inside.succeed(&format!("open c inet {WAIT} connect=127.0.0.1:8080"))?;
            inside.succeed("on stream accept send=hello back")?;
            ensure_eq!(inside.succeed("on c recv")?, "hello", "greeting inside");
            inside.ask("close c")?;
            inside.ask("close stream")?;
        }
        Ok(())
    };
    work(20, &mut host)?;
    let baseline = Baseline::take()?;
    work(300 * soak(), &mut host)?;
    settled(&baseline, &mut host)?;
    drop(inside);
    are_free(&mut host)
}

fn udp_servers(world: &World) -> Result {
    let mut inside = Repl::bypassed(world, MAPS)?;
    let (mut remote, mut host) = (Repl::remote(world)?, Repl::host(world)?);
    let mut work = |rounds: usize, host: &mut Repl| -> Result {
        for _ in 0..rounds {
            inside.succeed(&format!("open dgram inet6 dgram {WAIT} bind=[::]:8080"))?;
            // Directly, by the relay, and from inside, where a relay is as well.
            for (client, to) in
                [(&mut remote, format!("{HOST_V4}:8065")), (host, "127.0.0.1:8065".to_owned())]
            {
                client.succeed(&format!("open u inet dgram {WAIT} connect={to} send=hi"))?;
                inside.succeed("on dgram recvmsg reply=back")?;
                ensure_eq!(client.succeed("on u recv")?, "back", "reply at {to}");
                client.ask("close u")?;
            }
            let ask = "connect=127.0.0.1:8080 send=hi";
            inside.succeed(&format!("open u inet dgram {WAIT} {ask}"))?;
            inside.succeed("on dgram recvmsg reply=back")?;
            ensure_eq!(inside.succeed("on u recv")?, "back", "reply inside");
            inside.ask("close u")?;
            inside.ask("close dgram")?;
        }
        Ok(())
    };
    work(20, &mut host)?;
    let baseline = Baseline::take()?;
    work(300 * soak(), &mut host)?;
    settled(&baseline, &mut host)?;
    drop(inside);
    are_free(&mut host)
}

/// Which process answers a client, and the client's address as it is seen there.
fn who_answers(client: &mut Repl, kind: &str, to: &str) -> Result<(u32, String)> {
    let send = if kind == "dgram" { "send=who" } else { "" };
    let answer =
        client.succeed(&format!("sequence inet {kind} {WAIT} connect={to} {send} recv"))?;
    let (client, pid) =
        answer.as_str().and_then(|text| text.trim().split_once(' ')).context("an introduction")?;
    Ok((pid.parse()?, client.to_owned()))
}

/// Servers of several processes, and such as have sent the one away that has bound the sockets.
fn processes(world: &World) -> Result {
    // A UDP port of which all is relayed.
    let maps = [MAPS, &["-p", "127.0.0.1:8067:8081/udp"]].concat();
    let mut inside = Inside::start(world, &maps)?;
    let (mut remote, mut host) = (Repl::remote(world)?, Repl::host(world)?);
    let direct = format!("{HOST_V4}:8065");
    let mut work = |rounds: usize, host: &mut Repl| -> Result {
        for _ in 0..rounds {
            let words = "--mode peer --workers 2 --reuseport [::]:8080 --udp [::]:8080";
            let workers = inside.serve(world, words)?;
            for _ in 0..4 {
                who_answers(&mut remote, "stream", &direct)?;
            }
            inside.stop(workers)?;
            let words = "--mode peer --detach [::]:8080 --udp [::]:8080 --udp [::]:8081";
            let parent = inside.serve(world, words)?;
            inside.expect(&format!("wait {parent}"))?;
            let (child, seen) = who_answers(&mut remote, "stream", &direct)?;
            ensure!(child != parent, "process {parent} is still there");
            ensure!(seen.starts_with(&REMOTE_V4.to_string()), "client {seen}");
            for to in ["127.0.0.1:8065", "127.0.0.1:8067"] {
                for _ in 0..2 {
                    ensure_eq!(who_answers(host, "dgram", to)?.0, child, "who answers at {to}");
                }
            }
            let kill = format!("kill -KILL {child}; while kill -0 {child} 2>&-; do :; done");
            inside.expect(&kill)?;
        }
        Ok(())
    };
    work(3, &mut host)?;
    let baseline = Baseline::take()?;
    work(100 * soak(), &mut host)?;
    settled(&baseline, &mut host)?;
    inside.end()?;
    are_free(&mut host)
}

fn relayed(world: &World) -> Result {
    let mut inside = Inside::start(world, MAPS)?;
    let mut host = Repl::host(world)?;
    let mut work = |count: usize, host: &mut Repl| -> Result {
        let server = inside.serve(world, "--mode byte --quiet [::]:8080")?;
        host.expect(&format!("cycles 127.0.0.1:8066 {count}"), "done", count)?;
        inside.stop(server)?;
        let server = inside.serve(world, "--quiet --udp [::]:8080")?;
        host.expect(&format!("askers 127.0.0.1:8065 {count}"), "done", count)?;
        host.expect(&format!("askers [::1]:8065 {count}"), "done", count)?;
        inside.stop(server)
    };
    work(100, &mut host)?;
    let baseline = Baseline::take()?;
    for _ in 0..soak() {
        work(2_000, &mut host)?;
    }
    settled(&baseline, &mut host)?;
    inside.end()?;
    are_free(&mut host)
}

fn killed(world: &World) -> Result {
    let echo = world.serve_remote(&["--udp", "[::]:0"])?;
    let report = world.directory("leaks-killed")?.join("report.json");
    let report_path = report.to_str().context("a path in UTF-8")?;
    let options = [MAPS, &["--udp", "all", "--report", report_path]].concat();
    let mut inside = Repl::bypassed(world, &options)?;
    let mut host = Repl::host(world)?;
    let words = format!("killings 127.0.0.1:8080 {}", echo.at(REMOTE_V4));
    inside.expect(&format!("{words} 20"), "done", 20)?;
    let baseline = Baseline::take()?;
    for _ in 0..soak() {
        inside.expect(&format!("{words} 200"), "done", 200)?;
    }
    settled(&baseline, &mut host)?;
    drop(inside);
    let report = serde_json::from_slice(&fs::read(&report)?)?;
    ensure!(counted(&report, "gone") > Some(0), "nobody was killed in a call: {report}");
    are_free(&mut host)
}
