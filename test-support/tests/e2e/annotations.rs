//! What the annotations of one container change for it, and for no other; and what they cannot.

use rustix::process::Signal;
use serde_json::Value;
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE, Running};
use test_support::requirement::Requirement;
use test_support::world::REMOTE_V4;
use test_support::{Result, World, ensure, ensure_eq};

use crate::repl::Repl;
use crate::rules::annotate;
use crate::serve::{Agent, CRUN, runtime_command};
use crate::visibility::status;

pub(crate) const SCENARIOS: Group = (
    "annotations",
    &[
        Scenario {
            name: "crun_container_has_its_own_networks_and_rules",
            requires: CRUN,
            run: |world| narrowed(world, "crun"),
        },
        Scenario {
            name: "runc_container_has_its_own_networks_and_rules",
            requires: &[Requirement::Program("runc")],
            run: |world| narrowed(world, "runc"),
        },
        Scenario { name: "ports_take_the_operators_word", requires: CRUN, run: ports },
        Scenario { name: "what_is_not_understood_is_refused", requires: CRUN, run: refused },
    ],
);

/// A client in a container with these annotations.
fn client(
    world: &World,
    agent: &Agent,
    runtime: &str,
    name: &str,
    annotations: &[(&str, &str)],
) -> Result<Repl> {
    let mut command = agent.container(world, runtime, name, "fx-client", &["repl"])?;
    annotate(&command, annotations)?;
    Repl::by(&mut command).context(agent.running.stderr())
}

fn narrowed(world: &World, runtime: &str) -> Result {
    let server = world.serve_remote(&["--quiet", "0.0.0.0:0"])?;
    let connect = format!("sequence inet connect={}", server.at(REMOTE_V4));
    let deny = format!("metadata,any:{}/tcp", server.port());
    let agent = Agent::start(world, &["--allow=198.18.0.0/15", "--deny=192.0.2.0/24"], &[])?;
    let mut containers = Vec::new();
    for (at, (annotations, result)) in [
        (&[("org.example/role", "any")][..], "ok"),
        (&[("bypass.ignore", "10.0.0.0/8, 198.18.0.0/15")], "ENETUNREACH"),
        (&[("bypass.ignore", "auto")], "ok"),
        // Before what the options allow.
        (&[("bypass.deny", &deny)], "ENETUNREACH"),
        (&[("bypass.mode", "off")], "ENETUNREACH"),
        (&[("bypass.mode", "optional")], "ok"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{runtime}-annotated-{at}");
        let container = client(world, &agent, runtime, &name, annotations)?;
        containers.push((container, format!("{annotations:?}"), result));
    }
    // They hold after the policy was read anew as well.
    for round in ["at first", "after SIGHUP"] {
        for (container, annotations, result) in &mut containers {
            let said = container.results(&connect)?;
            ensure_eq!(said[0]["result"], *result, "{annotations} {round}");
        }
        agent.running.signal(Signal::HUP)?;
        agent.running.told("read anew", PATIENCE)?;
    }
    Ok(())
}

/// A container with a server that listens already.
fn server(world: &World, agent: &Agent, name: &str, ports: Option<&str>) -> Result<Running> {
    let words = ["--mode", "peer", "0.0.0.0:8080", "--udp", "0.0.0.0:8080"];
    let mut command = agent.container(world, "crun", name, "fx-server", &words)?;
    if let Some(ports) = ports {
        annotate(&command, &[("bypass.publish", ports)])?;
    }
    let mut running = process::start(&mut command)?;
    running.line("ready", PATIENCE).context(agent.running.stderr())?;
    Ok(running)
}

fn reached(host: &mut Repl, port: u16) -> Result<bool> {
    Ok(host.who("stream", ([127, 0, 0, 1], port).into())? == "127.0.0.1")
}

fn ports(world: &World) -> Result {
    const SHARED: &[&str] = &["-p", "127.0.0.1:8097:8080"];
    let mut host = Repl::host(world)?;
    let own = Some("127.0.0.1:8098:8080,127.0.0.1:8098:8080/udp");
    for (at, (options, ports, expected)) in [
        (&["--publish-annotated"][..], own, [false, true]),
        (&["--publish-annotated"], None, [true, false]),
        // As if nothing were said.
        (&[], own, [true, false]),
        (&["--ignore-bind"], own, [false, false]),
        // To take away needs nobody's word.
        (&[], Some(""), [false, false]),
        (&["--publish-annotated"], Some("127.0.0.1:8096:8080"), [false, false]),
    ]
    .into_iter()
    .enumerate()
    {
        let _holder = world.serve_host(&["127.0.0.1:8096"])?;
        let agent = Agent::start(world, options, SHARED)?;
        let name = format!("crun-ports-{at}");
        let mut container = server(world, &agent, &name, ports)?;
        let log = || agent.running.stderr();
        let reached = [reached(&mut host, 8097)?, reached(&mut host, 8098)?];
        ensure_eq!(reached, expected, "{options:?} {ports:?}: {}", log());
        if ports == own && expected == [false, true] {
            let udp = host.who("dgram", ([127, 0, 0, 1], 8098).into())?;
            ensure!(udp != "ECONNREFUSED" && udp != "EAGAIN", "UDP: {udp}: {}", log());
            let seen = status(world)?;
            let listed = seen["published"].as_array().into_iter().flatten();
            let own: Vec<&str> = listed
                .filter(|port| port["container"] == name.as_str())
                .filter_map(|port| port["host"].as_str())
                .collect();
            ensure_eq!(own, ["127.0.0.1:8098"; 2], "{seen}");
        }
        let said = log().contains("counts with --publish-annotated only");
        ensure_eq!(said, ports == own && !options.contains(&"--publish-annotated"), "{}", log());
        let in_use = ports.is_some_and(|ports| ports.contains("8096"));
        ensure_eq!(log().contains("nothing is published"), in_use, "{}", log());
        let mut kill = runtime_command(world, "crun");
        process::run(kill.args(["kill", &name, "KILL"]), PATIENCE)?.success()?;
        container.wait(PATIENCE)?;
    }
    Ok(())
}

fn refused(world: &World) -> Result {
    let agent = Agent::start(world, &["--publish-annotated"], &[])?;
    let connect = format!("sequence inet connect={REMOTE_V4}:1");
    let long = "10.0.0.0/8,".repeat(1000);
    for (at, (name, value, part)) in [
        ("bypass.deny", "10.0.0.0/8,*", "bypass.deny=*"),
        ("bypass.ignore", "nowhere\u{1b}[31m", "nowhere"),
        ("bypass.ignore", &long, "too long"),
        ("bypass.publish", "1-65535:1-65535", "more than 128 ports"),
        ("bypass.mode", "maybe", "on, off or optional"),
        ("bypass.denied", "any", "bypass.denied is not known"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("crun-refused-{at}");
        let mut container = client(world, &agent, "crun", &id, &[(name, value)])?;
        let said: Vec<Value> = container.results(&connect)?;
        ensure_eq!(said[0]["result"], "ENOSYS", "{name}");
        agent.running.told(part, PATIENCE)?;
        let log = agent.running.stderr();
        ensure!(log.contains("refused a hand-over") && !log.contains('\u{1b}'), "{name}: {log}");
    }
    // Nobody else suffers from it.
    let mut container = client(world, &agent, "crun", "crun-not-refused", &[])?;
    ensure_eq!(container.results(&connect)?[0]["result"], "ECONNREFUSED", "{connect}");
    Ok(())
}
