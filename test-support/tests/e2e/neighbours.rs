//! Containers that reach each other's published ports by their own addresses
//! (`--handle-c2c-connections`): where the networks lead there, and nowhere else.

use serde_json::Value;
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE, Running};
use test_support::requirement::Requirement;
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::result_of;
use crate::networks::{interactive, pid_of};
use crate::repl::Repl;
use crate::serve::{Agent, CRUN, runtime_command};

pub(crate) const SCENARIOS: Group = (
    "neighbours",
    &[
        Scenario {
            name: "one_network_leads_over_the_host",
            requires: CRUN,
            run: |world| with(world, ("crun", "one"), MAPS, one_network),
        },
        Scenario {
            name: "two_networks_do_not",
            requires: CRUN,
            run: |world| with(world, ("crun", "two"), MAPS, two_networks),
        },
        Scenario {
            name: "runc_one_network_leads_over_the_host",
            requires: RUNC,
            run: |world| with(world, ("runc", "one"), MAPS, one_network),
        },
        Scenario {
            name: "runc_two_networks_do_not",
            requires: RUNC,
            run: |world| with(world, ("runc", "two"), MAPS, two_networks),
        },
        Scenario {
            name: "an_address_is_not_stolen",
            requires: CRUN,
            run: |world| with(world, ("crun", "stolen"), MAPS, stolen),
        },
        Scenario {
            name: "changes_count_at_once",
            requires: CRUN,
            run: |world| with(world, ("crun", "changes"), MAPS, changes),
        },
        Scenario {
            name: "without_the_option_nothing_is_led",
            requires: CRUN,
            run: |world| with(world, ("crun", "without"), &MAPS[..4], without),
        },
    ],
);

const RUNC: &[Requirement] = &[Requirement::Program("runc")];
const MAPS: &[&str] = &["-p", "8077:8080", "-p", "8078:8081", "--handle-c2c-connections"];
const CLIENT: &str = "10.77.0.2/24";
const SERVER: &str = "10.77.0.3/24";

/// A container that serves, and one with a client.
struct Pair {
    runtime: &'static str,
    agent: Agent,
    client: Repl,
    client_pid: u64,
    server_pid: u64,
    servers: Vec<(String, Running)>,
}

impl Pair {
    fn start(world: &World, runtime: &'static str, test: &str, maps: &[&str]) -> Result<Self> {
        let agent = Agent::start(world, &["--ignore", "auto"], maps)?;
        let name = format!("{runtime}-{test}-client");
        let client = interactive(world, &agent, runtime, &name)?;
        let client_pid = pid_of(world, runtime, &name)?;
        let mut pair =
            Self { runtime, agent, client, client_pid, server_pid: 0, servers: Vec::new() };
        pair.server_pid = pair.serve(world, &format!("{runtime}-{test}-server"), "[::]:8080")?;
        Ok(pair)
    }

    /// Starts a container with a server; its process id.
    fn serve(&mut self, world: &World, name: &str, at: &str) -> Result<u64> {
        let words = ["--mode", "peer", at];
        let mut command = self.agent.container(world, self.runtime, name, "fx-server", &words)?;
        self.servers.push((name.to_owned(), process::start(&mut command)?));
        let (_, running) = self.servers.last_mut().context("a server")?;
        running.line("ready", PATIENCE).context(self.agent.running.stderr())?;
        pid_of(world, self.runtime, name)
    }

    /// Ends the containers with servers.
    fn end(&mut self, world: &World) -> Result {
        for (name, mut running) in self.servers.drain(..) {
            let mut kill = runtime_command(world, self.runtime);
            process::run(kill.args(["kill", &name, "KILL"]), PATIENCE)?;
            running.wait(PATIENCE)?;
        }
        Ok(())
    }

    /// One network for both.
    fn join(&mut self, world: &World) -> Result {
        let peer = format!("link add e0 type veth peer name e0 netns {}", self.server_pid);
        ip(world, self.client_pid, &peer)?;
        for (pid, address) in [(self.client_pid, CLIENT), (self.server_pid, SERVER)] {
            ip(world, pid, &format!("addr add {address} dev e0"))?;
            ip(world, pid, "link set e0 up")?;
        }
        self.settle("inet", "10.77.0.3:9")
    }

    /// Waits until packets come through: those of the first moments may be lost.
    fn settle(&mut self, family: &str, closed: &str) -> Result {
        let results = self.client.results(&format!("sequence {family} connect={closed}"))?;
        ensure_eq!(result_of(&results, 0), "ECONNREFUSED", "{closed}");
        Ok(())
    }

    /// What a connect to the server's address comes to, within a moment.
    fn connect(&mut self, to: &str) -> Result<String> {
        let family = if to.starts_with('[') { "inet6" } else { "inet" };
        let words = format!("sequence {family} set:so_sndtimeo=300 connect={to}");
        let results = self.client.results(&words)?;
        Ok(result_of(&results, 1).to_owned())
    }
}

/// ip(8) in a container, as whoever owns all of them: an engine that makes networks.
fn ip(world: &World, pid: u64, words: &str) -> Result {
    let mut command = world.on_host("nsenter");
    command.args(["-t", &pid.to_string(), "-n", "ip"]).args(words.split(' '));
    process::run(&mut command, PATIENCE)?.success()?;
    Ok(())
}

/// A network of its own, with this address.
fn alone(world: &World, pid: u64, address: &str) -> Result {
    ip(world, pid, "link add e0 type veth peer name e1")?;
    ip(world, pid, &format!("addr add {address} dev e0"))?;
    ip(world, pid, "link set e0 up")?;
    ip(world, pid, "link set e1 up")
}

/// Runs a test of two containers and ends them, whatever comes of it.
fn with(
    world: &World,
    (runtime, name): (&'static str, &str),
    maps: &[&str],
    test: impl FnOnce(&World, &mut Pair) -> Result,
) -> Result {
    let mut pair = Pair::start(world, runtime, name, maps)?;
    let result = test(world, &mut pair);
    let log = pair.agent.running.stderr();
    pair.end(world)?;
    result.context(format!("serve said: {log}"))
}

fn one_network(world: &World, pair: &mut Pair) -> Result {
    pair.join(world)?;
    ip(world, pair.client_pid, "addr add fd77::2/64 dev e0 nodad")?;
    ip(world, pair.server_pid, "addr add fd77::3/64 dev e0 nodad")?;
    pair.settle("inet6", "[fd77::3]:9")?;
    for (family, to, seen) in
        [("inet", "10.77.0.3:8080", "127.0.0.1:"), ("inet6", "[fd77::3]:8080", "127.0.0.1:")]
    {
        for blocking in ["blocking", "nonblocking"] {
            let words =
                format!("sequence {family} {blocking} connect={to} wait peer blocking recv");
            let results = pair.client.results(&words)?;
            let connected = result_of(&results, 1);
            ensure!(matches!(connected, "ok" | "EINPROGRESS"), "{to}: {results:?}");
            ensure_eq!(results[3]["value"], Value::from(to), "the name of {to}: {results:?}");
            let said = results[5]["value"].as_str().unwrap_or_default();
            ensure!(said.starts_with(seen), "by the host: {results:?}");
        }
    }
    // Nothing else of it is led anywhere.
    ensure_eq!(pair.connect("10.77.0.3:8081")?, "ECONNREFUSED", "a port that is not served");
    ensure_eq!(pair.connect("10.77.0.3:8077")?, "ECONNREFUSED", "the host's port");
    let log = pair.agent.running.stderr();
    ensure!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    Ok(())
}

fn two_networks(world: &World, pair: &mut Pair) -> Result {
    alone(world, pair.client_pid, CLIENT)?;
    alone(world, pair.server_pid, SERVER)?;
    for _ in 0..3 {
        let result = pair.connect("10.77.0.3:8080")?;
        ensure!(matches!(&*result, "EINPROGRESS" | "EHOSTUNREACH"), "{result}");
    }
    // The same address is the client's own.
    ip(world, pair.client_pid, "addr add 10.77.0.3/24 dev e0")?;
    ensure_eq!(pair.connect("10.77.0.3:8081")?, "ECONNREFUSED", "its own address");
    Ok(())
}

/// Another container gives itself the address of the one that is meant.
fn stolen(world: &World, pair: &mut Pair) -> Result {
    let thief = pair.serve(world, "crun-stolen-thief", "[::]:8081")?;
    alone(world, thief, SERVER)?;
    pair.join(world)?;
    for _ in 0..3 {
        ensure_eq!(pair.connect("10.77.0.3:8081")?, "ECONNREFUSED", "the thief's port");
        ensure_eq!(pair.connect("10.77.0.3:8080")?, "ok", "the server's");
    }
    Ok(())
}

fn changes(world: &World, pair: &mut Pair) -> Result {
    let (client, server) = (pair.client_pid, pair.server_pid);
    pair.join(world)?;
    let to = "10.77.0.3:8080";
    for _ in 0..3 {
        ensure_eq!(pair.connect(to)?, "ok", "joined");
        ip(world, server, &format!("addr del {SERVER} dev e0"))?;
        ensure!(pair.connect(to)? != "ok", "an address that the server has no more");
        ip(world, server, &format!("addr add {SERVER} dev e0"))?;
        ensure_eq!(pair.connect(to)?, "ok", "it has it again");
        ip(world, client, &format!("addr del {CLIENT} dev e0"))?;
        ensure!(pair.connect(to)? != "ok", "a network that the client is in no more");
        ip(world, client, &format!("addr add {CLIENT} dev e0"))?;
    }
    ip(world, server, "link del e0")?;
    // Both have the same addresses as before, in networks of their own.
    alone(world, client, CLIENT)?;
    alone(world, server, SERVER)?;
    ensure!(pair.connect(to)? != "ok", "a network that is gone");
    ip(world, client, "link del e0")?;
    ip(world, server, "link del e0")?;
    // One that comes in its place leads to the server, too.
    pair.join(world)?;
    ensure_eq!(pair.connect(to)?, "ok", "joined again");
    pair.end(world)?;
    ensure!(pair.connect(to)? != "ok", "a server that is gone");
    Ok(())
}

fn without(world: &World, pair: &mut Pair) -> Result {
    pair.join(world)?;
    ensure_eq!(pair.connect("10.77.0.3:8080")?, "ECONNREFUSED", "in its own network");
    Ok(())
}
