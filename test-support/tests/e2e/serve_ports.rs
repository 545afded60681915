//! Containers that have a published port one after the other: it is always theirs or nobody's, and
//! nothing is left of those that have ended.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use test_support::census::{Census, wait_thread_ended};
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE, Running};
use test_support::world::{HOST_V4, REMOTE_V4};
use test_support::{Result, World, ensure};

use crate::leaks::{CACHED_TARGETS, soak};
use crate::publish::{expect_all, remote_as_seen};
use crate::repl::Repl;
use crate::serve::{Agent, CRUN, runtime_command};

pub(crate) const SCENARIOS: Group = (
    "serve",
    &[
        Scenario {
            name: "crun_containers_with_a_port_leave_nothing",
            requires: CRUN,
            run: |world| in_turn(world, "crun"),
        },
        Scenario {
            name: "crun_containers_take_little_memory",
            requires: CRUN,
            run: |world| memory(world, "crun"),
        },
    ],
);

const MAPS: &[&str] = &["-p", "8075:8080", "-p", "127.0.0.1:8076:8080", "-p", "8075:8080/udp"];

/// Different programs that are the containers' servers.
const SERVERS: &[&[&str]] = &[
    &["--mode", "peer", "[::]:8080", "--udp", "[::]:8080"],
    &["--mode", "peer", "--workers", "2", "--reuseport", "[::]:8080", "--udp", "[::]:8080"],
    &["--mode", "peer", "0.0.0.0:8080", "--udp", "0.0.0.0:8080", "--udp", "127.0.0.1:8081"],
];

/// Attempts at the ports, by another user with what would help, that did not fail as they must.
fn taken(stranger: &mut Repl) -> Result<Vec<String>> {
    let mut taken = Vec::new();
    for (kind, address) in [
        ("stream", "0.0.0.0:8075"),
        ("stream", "127.0.0.1:8076"),
        ("dgram", "0.0.0.0:8075"),
        ("dgram", "127.0.0.1:8075"),
    ] {
        for options in ["set:so_reuseaddr=1", "set:so_reuseaddr=1 set:so_reuseport=1"] {
            let words = format!("sequence inet {kind} {options} bind={address}");
            let results = stranger.results(&words)?;
            let bind = results.last().map(|step| step["result"].clone()).unwrap_or_default();
            if bind != "EADDRINUSE" {
                taken.push(format!("{words}: {bind}"));
            }
        }
    }
    Ok(taken)
}

fn in_turn(world: &World, runtime: &str) -> Result {
    let agent = Agent::start(world, &[], MAPS)?;
    let (mut remote, mut host) = (Repl::remote(world)?, Repl::host(world)?);
    let mut stranger = Repl::stranger(world)?;
    let pids = [agent.running.pid()];
    let mut before = None;
    for round in 0..30 * soak() {
        let words = SERVERS.iter().cycle().nth(round).context("a server")?;
        let mut container =
            start(world, &agent, runtime, &format!("{runtime}-turn-{round}"), words)?;
        for (to, seen) in &remote_as_seen() {
            if to.is_ipv4() || words.contains(&"[::]:8080") {
                expect_all(&mut remote, "stream", 8075, &[(*to, seen)])?;
                expect_all(&mut remote, "dgram", 8075, &[(*to, seen)])?;
            }
        }
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        for (kind, port) in [("stream", 8076), ("dgram", 8075)] {
            let answer = host.who(kind, (loopback, port).into())?;
            ensure!(answer.parse::<IpAddr>().is_ok(), "round {round}, {kind} {port}: {answer}");
        }
        let wrong = taken(&mut stranger)?;
        ensure!(wrong.is_empty(), "round {round}, beside the container: {wrong:?}");

        let mut kill = runtime_command(world, runtime);
        let name = format!("{runtime}-turn-{round}");
        process::run(kill.args(["kill", &name, "KILL"]), PATIENCE)?.success()?;
        container.wait(PATIENCE)?;
        let ended = Instant::now();
        loop {
            let lost = taken(&mut stranger)?;
            if lost.is_empty() {
                break;
            }
            ensure!(ended.elapsed() < Duration::from_secs(1), "round {round}: {lost:?}");
        }
        let refused: &[(IpAddr, &str)] = &[(HOST_V4.into(), "ECONNREFUSED")];
        expect_all(&mut remote, "stream", 8075, refused)?;
        if round == 5 {
            wait_thread_ended(&pids, "ports", PATIENCE)?;
            before = Some(Census::of_all(&pids)?.with_cache(CACHED_TARGETS));
        }
    }
    wait_thread_ended(&pids, "ports", PATIENCE)?;
    let before = before.context("there was a sixth round")?;
    let after = before.settles(&pids, PATIENCE)?;
    ensure!(after.rss_kib <= before.rss_kib + 1024, "memory grew: {before:?}, then {after:?}");
    Ok(())
}

/// A container that is ready to serve.
fn start(
    world: &World,
    agent: &Agent,
    runtime: &str,
    name: &str,
    words: &[&str],
) -> Result<Running> {
    let mut container = agent.container(world, runtime, name, "fx-server", words)?;
    let mut container = process::start(&mut container)?;
    let ready = container.line("ready", PATIENCE);
    ready.context(format!("serve said: {}", agent.running.stderr()))?;
    Ok(container)
}

/// Containers that have connected and sent, each with a thread and buffers in `serve`.
fn memory(world: &World, runtime: &str) -> Result {
    let echo = world.serve_remote(&["--udp", "0.0.0.0:0"])?;
    let agent = Agent::start(world, &[], MAPS)?;
    let pids = [agent.running.pid()];
    let send = format!("sequence inet dgram connect={0} sendmsg={0}\n", echo.at(REMOTE_V4));
    let mut containers = Vec::new();
    let mut more = |count: usize| -> Result<Census> {
        for _ in 0..count {
            let name = format!("{runtime}-memory-{}", containers.len());
            let mut command = agent.container(world, runtime, &name, "fx-client", &["repl"])?;
            let mut container = process::start_interactive(&mut command)?;
            container.line("ready", PATIENCE)?;
            container.write(send.as_bytes())?;
            container.line("sendmsg", PATIENCE)?;
            containers.push(container);
        }
        Census::of_all(&pids)
    };
    let (few, many) = (more(5)?, more(20)?);
    let each = many.rss_kib.saturating_sub(few.rss_kib) / 20;
    ensure!(each <= EACH, "{each} KiB for each container: {few:?}, then {many:?}");
    Ok(())
}

/// In KiB, for a program that is built without optimisation; a release takes two thirds.
const EACH: u64 = 96;
