//! The scenarios, each of which is run with every engine.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use test_support::failure::{Context, Failure};
use test_support::process::{self, Finished, PATIENCE, Running};
use test_support::world::{HOST_V4, REMOTE_V4};
use test_support::{Result, World, ensure, ensure_eq};

use crate::engine::{Agent, Ask, Engine, wait_for};

/// Longer than an engine takes for a container on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// What starts the supervisor that an engine's containers are handed to.
pub(crate) type Start = fn(&World, &[&str]) -> Result<Agent>;

struct Row {
    name: &'static str,
    run: fn(&Bench<'_>) -> Result,
}

/// An engine with all that a scenario needs.
pub(crate) struct Bench<'a> {
    world: &'a World,
    engine: &'a dyn Engine,
    start: Start,
}

const ROWS: &[Row] = &[
    Row { name: "tcp_is_the_hosts", run: tcp },
    Row { name: "connected_udp_is_the_hosts", run: udp },
    Row { name: "a_static_program_is_bypassed", run: static_program },
    Row { name: "host_loopback_and_ignored_networks_are_left", run: left },
    Row { name: "a_port_is_published_at_one_address", run: publish },
    Row { name: "health_checks_by_exec_are_bypassed", run: exec },
    Row { name: "a_killed_container_leaves_its_port", run: killed },
    Row { name: "a_policy_is_read_anew", run: reload },
    Row { name: "an_ordinary_user_inside_is_bypassed", run: user },
    Row { name: "neighbours_reach_each_other_on_one_network_only", run: neighbours },
];

/// Runs all of them, and names those that failed.
pub(crate) fn run(world: &World, engine: &dyn Engine, start: Start) -> Result {
    let bench = Bench { world, engine, start };
    let only = std::env::var("BYPASS_ROW").unwrap_or_default();
    let failed: Vec<String> = ROWS
        .iter()
        .filter(|row| row.name.contains(&only))
        .filter_map(|row| Some(format!("{}: {}", row.name, (row.run)(&bench).err()?)))
        .collect();
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(failed.join("\n\n"))) }
}

impl Bench<'_> {
    fn agent(&self, options: &[&str]) -> Result<Agent> {
        (self.start)(self.world, options)
    }

    fn run(&self, ask: &Ask<'_>, agent: &Agent) -> Result<Finished> {
        let finished = process::run(&mut self.engine.run(self.world, ask)?, LIMIT);
        self.remove(ask.name)?;
        finished.and_then(Finished::success).context(agent.running.stderr())
    }

    fn remove(&self, name: &str) -> Result {
        if let Some(mut command) = self.engine.remove(self.world, name) {
            let _gone = process::run(&mut command, LIMIT)?;
        }
        Ok(())
    }

    /// A container that does nothing, and can be entered: its first process may run before its
    /// runtime has written down that it does.
    fn sleeping(&self, agent: &Agent, name: &str) -> Result<Running> {
        let ask = Ask::new(name, &["/bin/sleep", "600"]);
        let container = process::start(&mut self.engine.run(self.world, &ask)?)?;
        wait_for(|| self.engine.exec(self.world, name, &["/bin/true"]), &container)
            .context(agent.running.stderr())?;
        Ok(container)
    }

    /// What `fx-client WORDS` says in a container.
    fn client(&self, agent: &Agent, name: &str, user: u32, words: &[&str]) -> Result<Value> {
        let words = [&["/bin/fx-client"][..], words].concat();
        let finished = self.run(&Ask { user, ..Ask::new(name, &words) }, agent)?;
        json_of(&finished)
    }
}

fn json_of(finished: &Finished) -> Result<Value> {
    let line = finished.stdout.lines().rfind(|line| line.starts_with(['[', '{']));
    serde_json::from_str(line.unwrap_or_default())
        .map_err(|_no_json| finished.failure("no JSON was printed"))
}

/// That the first step of a connection was made by a socket of the host.
fn expect_hosts(steps: &Value) -> Result {
    ensure_eq!(source(steps)?, HOST_V4, "the socket's address: {steps}");
    Ok(())
}

/// The address of a socket that was echoed to.
fn source(steps: &Value) -> Result<IpAddr> {
    ensure_eq!(steps[2]["value"], "hello", "the echo: {steps}");
    let local = steps[3]["value"].as_str().unwrap_or_default();
    let local: SocketAddr = local.parse().context(steps)?;
    Ok(local.ip())
}

const LOCAL: [&str; 3] = ["send=hello", "recv", "local"];

fn tcp(bench: &Bench<'_>) -> Result {
    let server = bench.world.serve_remote(&["0.0.0.0:0"])?;
    let agent = bench.agent(&[])?;
    let connect = format!("connect={}", server.at(REMOTE_V4));
    let words = [&["sequence", "inet", &connect][..], &LOCAL].concat();
    expect_hosts(&bench.client(&agent, "tcp", 0, &words)?)?;
    agent.end()
}

fn udp(bench: &Bench<'_>) -> Result {
    let server = bench.world.serve_remote(&["--udp", "0.0.0.0:0"])?;
    let agent = bench.agent(&[])?;
    let connect = format!("connect={}", server.at(REMOTE_V4));
    let words = [&["sequence", "inet", "dgram", &connect][..], &LOCAL].concat();
    let steps = bench.client(&agent, "udp", 0, &words)?;
    let hosts = source(&steps)? == HOST_V4;
    ensure_eq!(hosts, bench.engine.bypasses_udp(), "whether it is the host's: {steps}");
    agent.end()
}

fn static_program(bench: &Bench<'_>) -> Result {
    let server = bench.world.serve_remote(&["--mode", "peer", "0.0.0.0:0"])?;
    let agent = bench.agent(&[])?;
    let (to, port) = (REMOTE_V4.to_string(), server.port().to_string());
    let words = ["/bin/busybox", "nc", &to, &port];
    let said = bench.run(&Ask::new("static", &words), &agent)?;
    ensure!(said.stdout.starts_with(&HOST_V4.to_string()), "{said}");
    agent.end()
}

fn left(bench: &Bench<'_>) -> Result {
    let server = bench.world.serve_remote(&["0.0.0.0:0"])?;
    let guarded = bench.world.serve_host(&["0.0.0.0:7009"])?;
    let ignore = format!("--ignore={REMOTE_V4}/32");
    let agent = bench.agent(&[&ignore])?;
    let has_network = bench.engine.has_network();
    for (at, to) in [server.at(REMOTE_V4), "127.0.0.1:7009".to_owned()].into_iter().enumerate() {
        let connect = format!("connect={to}");
        let words = [&["sequence", "inet", &connect][..], &LOCAL].concat();
        let steps = bench.client(&agent, &format!("left-{at}"), 0, &words)?;
        if has_network && at == 0 {
            ensure!(source(&steps)? != HOST_V4, "it is not left to its network: {steps}");
            continue;
        }
        // Without a network of its own, a container that is left to itself reaches nobody.
        let result = steps[0]["result"].as_str().unwrap_or_default();
        ensure!(["ENETUNREACH", "ECONNREFUSED"].contains(&result), "{to}: {steps}");
    }
    ensure_eq!(server.peers().len(), usize::from(has_network), "peers of the ignored remote");
    ensure_eq!(guarded.peers(), [], "peers on the host's loopback");
    agent.end()
}

const SERVER: &[&str] = &["/bin/fx-server", "--mode", "peer", "0.0.0.0:8080"];

fn serving(name: &str) -> Ask<'_> {
    Ask { serves: true, ..Ask::new(name, SERVER) }
}

/// What a client on the host comes upon at the published port.
fn asked(bench: &Bench<'_>, at: &str) -> Result<Value> {
    let mut client = bench.world.as_user(bench.world.program("fx-client")?);
    client.args(["sequence", "inet", &format!("connect={at}:8090"), "recv"]);
    json_of(&process::run(&mut client, LIMIT)?)
}

fn publish(bench: &Bench<'_>) -> Result {
    let agent = bench.agent(&[])?;
    let mut container = process::start(&mut bench.engine.run(bench.world, &serving("publish"))?)?;
    container.line("ready", LIMIT).context(agent.running.stderr())?;
    let steps = asked(bench, "127.0.0.1")?;
    let seen = steps[1]["value"].as_str().unwrap_or_default();
    ensure!(seen.starts_with("127.0.0.1:"), "the client's own address: {steps}");
    let steps = asked(bench, &HOST_V4.to_string())?;
    ensure_eq!(steps[0]["result"], "ECONNREFUSED", "another address of the host: {steps}");
    process::run(&mut bench.engine.kill(bench.world, "publish"), LIMIT)?.success()?;
    container.wait(LIMIT)?;
    bench.remove("publish")?;
    agent.end()
}

fn exec(bench: &Bench<'_>) -> Result {
    let server = bench.world.serve_remote(&["0.0.0.0:0"])?;
    let agent = bench.agent(&[])?;
    let mut container = bench.sleeping(&agent, "exec")?;
    let connect = format!("connect={}", server.at(REMOTE_V4));
    let words = [&["/bin/fx-client", "sequence", "inet", &connect][..], &LOCAL].concat();
    // As a health check does, again and again.
    for _ in 0..3 {
        let mut check = bench.engine.exec(bench.world, "exec", &words);
        let said = process::run(&mut check, LIMIT)?.success().context(agent.running.stderr())?;
        expect_hosts(&json_of(&said)?)?;
    }
    agent.says("a session joined")?;
    process::run(&mut bench.engine.kill(bench.world, "exec"), LIMIT)?.success()?;
    container.wait(LIMIT)?;
    bench.remove("exec")?;
    agent.end()
}

fn killed(bench: &Bench<'_>) -> Result {
    let agent = bench.agent(&[])?;
    for round in 0..2 {
        let name = format!("killed-{round}");
        let mut container = process::start(&mut bench.engine.run(bench.world, &serving(&name))?)?;
        container.line("ready", LIMIT).context(agent.running.stderr())?;
        let steps = asked(bench, "127.0.0.1")?;
        ensure_eq!(steps[1]["result"], "ok", "round {round}: {steps}");
        process::run(&mut bench.engine.kill(bench.world, &name), LIMIT)?.success()?;
        container.wait(LIMIT)?;
        bench.remove(&name)?;
        let steps = asked(bench, "127.0.0.1")?;
        ensure_eq!(steps[0]["result"], "ECONNREFUSED", "after round {round}: {steps}");
    }
    agent.says("ended")?;
    agent.end()
}

fn reload(bench: &Bench<'_>) -> Result {
    let server = bench.world.serve_remote(&["0.0.0.0:0"])?;
    let file = bench.world.runtime_dir().join("reloaded.toml");
    std::fs::write(&file, "")?;
    let agent = bench.agent(&[&format!("--policy={}", file.display())])?;
    let mut container = bench.sleeping(&agent, "reload")?;
    let connect = format!("connect={}", server.at(REMOTE_V4));
    let words = ["/bin/fx-client", "sequence", "inet", &connect];
    let result = || -> Result<Value> {
        let mut check = bench.engine.exec(bench.world, "reload", &words);
        let said = process::run(&mut check, LIMIT)?.success().context(agent.running.stderr())?;
        Ok(json_of(&said)?[0]["result"].clone())
    };
    ensure_eq!(result()?, "ok", "before");
    for (policy, expected) in [("rules = [{ deny = \"any/tcp\" }]", "ENETUNREACH"), ("", "ok")] {
        std::fs::write(&file, policy)?;
        agent.running.signal(rustix::process::Signal::HUP)?;
        let begin = std::time::Instant::now();
        loop {
            let result = result()?;
            if result == expected {
                break;
            }
            ensure!(begin.elapsed() < PATIENCE, "{policy:?}: {result}, {}", agent.running.stderr());
        }
    }
    process::run(&mut bench.engine.kill(bench.world, "reload"), LIMIT)?.success()?;
    container.wait(LIMIT)?;
    bench.remove("reload")?;
    agent.end()
}

fn user(bench: &Bench<'_>) -> Result {
    let server = bench.world.serve_remote(&["0.0.0.0:0"])?;
    let agent = bench.agent(&[])?;
    let connect = format!("connect={}", server.at(REMOTE_V4));
    let words = [&["sequence", "inet", &connect][..], &LOCAL].concat();
    expect_hosts(&bench.client(&agent, "user", 1000, &words)?)?;
    agent.end()
}

fn neighbours(bench: &Bench<'_>) -> Result {
    const NETWORKS: [&str; 2] = ["bypass-one", "bypass-two"];
    for network in NETWORKS {
        let Some(mut make) = bench.engine.make_network(bench.world, network) else { return Ok(()) };
        process::run(&mut make, LIMIT)?.success()?;
    }
    let agent = bench.agent(&["--handle-c2c-connections", "--ignore=auto"])?;
    let ask = Ask { network: Some(NETWORKS[0]), ..serving("server") };
    let mut server = process::start(&mut bench.engine.run(bench.world, &ask)?)?;
    server.line("ready", LIMIT).context(agent.running.stderr())?;
    let mut ip =
        bench.engine.exec(bench.world, "server", &["/bin/ip", "-4", "addr", "show", "eth0"]);
    let said = process::run(&mut ip, LIMIT)?.success()?;
    let mut words = said.stdout.split([' ', '/']).skip_while(|word| *word != "inet");
    let connect = format!("connect={}:8080", words.nth(1).context("the server has an address")?);
    let patience = ["set:so_sndtimeo=500", "set:so_rcvtimeo=500"];
    let words = [&["/bin/fx-client", "sequence", "inet"][..], &patience, &[&connect, "recv"]];
    let words = words.concat();
    for (at, network) in NETWORKS.into_iter().enumerate() {
        let name = format!("neighbour-{at}");
        let ask = Ask { network: Some(network), ..Ask::new(&name, &words) };
        let steps = json_of(&bench.run(&ask, &agent)?)?;
        let (result, seen) = (&steps[2]["result"], steps[3]["value"].as_str().unwrap_or_default());
        // By the host, which is what the server sees.
        ensure_eq!(result == "ok", at == 0, "on {network}: {steps}\n{}", agent.running.stderr());
        ensure_eq!(seen.starts_with("127.0.0.1:"), at == 0, "on {network}: {steps}");
    }
    process::run(&mut bench.engine.kill(bench.world, "server"), LIMIT)?.success()?;
    server.wait(LIMIT)?;
    bench.remove("server")?;
    agent.end()
}
