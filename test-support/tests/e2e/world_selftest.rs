//! The world itself, without the program under test: if these fail, look here first.

use std::net::IpAddr;

use serde_json::Value;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE};
use test_support::requirement::Requirement;
use test_support::world::{
    HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6, SILENT_V4, SILENT_V6, UNREACHABLE_V4,
};
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::{LIMIT, native, result_of};

pub(crate) const SCENARIOS: Group = (
    "world",
    &[
        Scenario { name: "remote_is_reached_with_the_host_address", requires: &[], run: reach },
        Scenario { name: "silent_peer_never_answers", requires: &[], run: silence },
        Scenario { name: "errors_come_at_once", requires: &[], run: errors },
        Scenario { name: "every_client_command_works", requires: &[], run: commands },
        Scenario { name: "ordinary_user_has_no_privilege", requires: &[], run: user },
        Scenario { name: "names_are_resolved_by_the_remote", requires: &[], run: names },
        Scenario {
            name: "iperf3_reaches_the_remote",
            requires: &[Requirement::Program("iperf3")],
            run: iperf3,
        },
    ],
);

fn reach(world: &World) -> Result {
    let mut server = world.serve_remote(&["[::]:0"])?;
    for (to, from) in [
        (server.at(REMOTE_V4), IpAddr::from(HOST_V4)),
        (server.at(REMOTE_V6), IpAddr::from(HOST_V6)),
    ] {
        let family = if to.starts_with('[') { "inet6" } else { "inet" };
        let connect = format!("connect={to}");
        let steps = native(
            world,
            &["sequence", family, &connect, "send=hello", "recv", "peer", "get-all"],
        )?;
        ensure_eq!(steps[2]["value"], "hello", "echo");
        ensure_eq!(steps[3]["value"], to.as_str(), "peer");
        ensure_eq!(server.next_peer()?.ip(), from, "address that the remote sees");
    }
    Ok(())
}

fn silence(world: &World) -> Result {
    for (family, to) in [("inet", format!("{SILENT_V4}:9")), ("inet6", format!("[{SILENT_V6}]:9"))]
    {
        let connect = format!("connect={to}");
        let timed = native(world, &["sequence", family, "set:so_sndtimeo=300", &connect])?;
        ensure_eq!(timed[1]["result"], "EINPROGRESS", "{to} after SO_SNDTIMEO");
        let retried = native(world, &["sequence", family, "set:tcp_syncnt=1", &connect])?;
        ensure_eq!(retried[1]["result"], "ETIMEDOUT", "{to} after one retry");
    }
    Ok(())
}

fn errors(world: &World) -> Result {
    let server = world.serve_remote(&["--mode", "reset", "[::]:0"])?;
    for (steps, expected) in [
        (format!("connect={REMOTE_V4}:1"), "ECONNREFUSED"),
        (format!("connect={UNREACHABLE_V4}:1"), "EHOSTUNREACH"),
        (format!("connect={} send=x recv", server.at(REMOTE_V4)), "ECONNRESET"),
    ] {
        let words: Vec<_> = ["sequence", "inet"].into_iter().chain(steps.split(' ')).collect();
        let answer = native(world, &words)?;
        let list = answer.as_array().map(Vec::as_slice).unwrap_or_default();
        ensure_eq!(result_of(list, list.len() - 1), expected, "{steps}");
    }
    Ok(())
}

fn commands(world: &World) -> Result {
    let echo = world.serve_remote(&["[::]:0"])?;
    let byte = world.serve_remote(&["--mode", "byte", "--quiet", "[::]:0"])?;
    let (echo, byte) = (echo.at(REMOTE_V4), byte.at(REMOTE_V6));
    let silent = format!("{SILENT_V4}:9");
    ensure_eq!(native(world, &["cycles", &byte, "50"])?["done"], 50, "cycles");
    ensure_eq!(native(world, &["threads", &echo, "4", "5"])?["done"], 20, "threads");
    ensure_eq!(native(world, &["fork", &echo])?["forked"], true, "fork");
    ensure_eq!(native(world, &["exec", &echo])?["executed"], true, "exec");
    ensure_eq!(native(world, &["pass", &echo])?["passed"], true, "pass");
    ensure_eq!(native(world, &["killed", &silent, "3"])?["killed"], 3, "killed");
    let parking = native(world, &["parking", &silent, &byte, "20", "50"])?;
    ensure_eq!(parking["beside"]["done"], 50, "parking");
    let race = native(world, &["race", "127.0.0.1:1", &echo, "100"])?;
    ensure!(race["swaps"].as_u64().is_some_and(|swaps| swaps > 0), "race: {race}");
    Ok(())
}

fn user(world: &World) -> Result {
    let mut id = world.as_user("sh");
    id.args(["-c", "id -u; grep CapEff /proc/self/status; touch /run/bypass-test/run/mine; pwd"]);
    let finished = process::run(&mut id, PATIENCE)?.success()?;
    let lines: Vec<_> = finished.stdout.lines().collect();
    let expected =
        [world.uid().to_string(), "CapEff:\t0000000000000000".to_owned(), "/".to_owned()];
    ensure_eq!(lines, expected, "identity");
    Ok(())
}

fn names(world: &World) -> Result {
    let mut server = world.in_remote(world.program("fx-dns")?);
    let mut server =
        process::start(server.args([&format!("{REMOTE_V4}:53"), "name.test=198.18.0.2"]))?;
    server.line("ready", PATIENCE)?;
    let lookup = process::run(world.as_user("getent").args(["hosts", "name.test"]), LIMIT)?;
    ensure!(lookup.success()?.stdout.starts_with("198.18.0.2"), "name.test has another address");
    let lookup = process::run(world.as_user("getent").args(["hosts", "none.test"]), LIMIT)?;
    lookup.expect_code(2)?;
    server.line("query udp name.test", PATIENCE)?;
    Ok(())
}

fn iperf3(world: &World) -> Result {
    let mut server = world.in_remote("iperf3");
    let mut server = process::start(server.args(["-s", "-1", "-p", "5201", "--forceflush"]))?;
    server.line("listening", PATIENCE)?;
    let mut client = world.as_user("iperf3");
    client.args(["-c", &REMOTE_V4.to_string(), "-p", "5201", "-t", "1", "-J"]);
    let finished = process::run(&mut client, LIMIT)?.success()?;
    let result: Value = serde_json::from_str(&finished.stdout)?;
    let rate = result["end"]["sum_received"]["bits_per_second"].as_f64();
    ensure!(rate.is_some_and(|rate| rate > 1e8), "throughput {rate:?}");
    Ok(())
}
