//! The networks of a container's own interfaces (`--ignore auto`), and namespaces that a container
//! makes for itself: what belongs to them is left to them, and the container stays fast.

use std::net::IpAddr;
use std::process::Command;

use serde_json::Value;
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE};
use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6};
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::{counted, result_of};
use crate::inside::Inside;
use crate::repl::Repl;
use crate::serve::{Agent, CRUN, runtime_command};

pub(crate) const SCENARIOS: Group = (
    "networks",
    &[
        Scenario { name: "attached_network_is_left", requires: &[], run: attached },
        Scenario { name: "pasta_network_is_left", requires: PASTA, run: pasta },
        Scenario { name: "crun_container_is_followed_from_outside", requires: CRUN, run: followed },
        Scenario { name: "nested_namespace_is_left", requires: &[], run: nested },
        Scenario { name: "nested_server_is_not_published", requires: &[], run: nested_server },
        Scenario { name: "nested_slirp4netns_is_bypassed", requires: SLIRP, run: nested_slirp },
        Scenario {
            name: "crun_container_is_not_taken_for_what_it_makes_first",
            requires: CRUN,
            run: |world| nested_first(world, "crun"),
        },
        Scenario {
            name: "runc_container_is_not_taken_for_what_it_makes_first",
            requires: &[Requirement::Program("runc")],
            run: |world| nested_first(world, "runc"),
        },
        Scenario {
            name: "crun_first_process_that_moves_gains_nothing",
            requires: CRUN,
            run: moved,
        },
    ],
);

const SLIRP: &[Requirement] = &[Requirement::Program("slirp4netns"), Requirement::Tun];
const PASTA: &[Requirement] = &[Requirement::Program("pasta"), Requirement::Tun];

/// A namespace inside that one, by a process that stays; its id is in `$inner` afterwards.
const MAKE_INNER: &str = "mkfifo /tmp/inner.$$; unshare -n sh -c 'ip link set lo up; echo up; \
    exec sleep 1000' >/tmp/inner.$$ & inner=$!; read up </tmp/inner.$$; rm /tmp/inner.$$";

/// The addresses of the remote, in a network that the container is attached to.
const ATTACH: &[&str] = &[
    "ip link set lo up",
    "ip link add v0 type veth peer name v1 netns $inner",
    "ip addr add 198.18.0.77/24 dev v0",
    "ip addr add fd00:18::77/64 dev v0 nodad",
    "nsenter -n -t $inner ip addr add 198.18.0.2/24 dev v1",
    "nsenter -n -t $inner ip addr add fd00:18::2/64 dev v1 nodad",
    "nsenter -n -t $inner ip link set v1 up",
    "ip link set v0 up",
];

/// The container's address in a connection, which tells the way that it took.
fn source(steps: &[Value]) -> Result<IpAddr> {
    let local = steps.iter().find(|step| step["step"] == "local").context("a name")?;
    let local = local["value"].as_str().and_then(|name| name.rsplit_once(':'));
    let (ip, _) = local.context(format!("no name: {steps:?}"))?;
    Ok(ip.trim_matches(['[', ']']).parse()?)
}

/// What several clients printed.
fn answers(printed: &str) -> Result<Vec<Value>> {
    printed.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn attached(world: &World) -> Result {
    let _server = world.serve_remote(&["--quiet", "[::]:7461"])?;
    let mut inside = Inside::start(world, &["--map-root", "--ignore", "auto"])?;
    let ways: [(String, IpAddr, IpAddr); 2] = [
        (format!("inet connect={REMOTE_V4}:7461 local"), HOST_V4.into(), "198.18.0.77".parse()?),
        (format!("inet6 connect=[{REMOTE_V6}]:7461 local"), HOST_V6.into(), "fd00:18::77".parse()?),
    ];
    for round in 0..3 {
        for (words, host, _) in &ways {
            ensure_eq!(source(&inside.client(world, words)?)?, *host, "{words} in round {round}");
        }
        inside.expect(MAKE_INNER)?;
        for command in ATTACH {
            inside.expect(command)?;
        }
        let program = world.program("fx-server")?;
        let serve = format!("nsenter -n -t $inner {} --quiet [::]:7461", program.display());
        let served = inside.launch(&serve, "ready", 1)?;
        for (words, _, own) in &ways {
            ensure_eq!(source(&inside.client(world, words)?)?, *own, "{words} in round {round}");
        }
        inside.expect("ip link del v0")?;
        for (words, host, _) in &ways {
            ensure_eq!(source(&inside.client(world, words)?)?, *host, "{words} in round {round}");
        }
        inside.stop(served)?;
        inside.expect("kill $inner")?;
    }
    Ok(())
}

/// It gives the container the host's address, and with it the host's network.
fn pasta(world: &World) -> Result {
    let mut server = world.serve_remote(&["0.0.0.0:0"])?;
    let connect = format!("connect={}", server.at(REMOTE_V4));
    let words = ["sequence", "inet", &connect, "send=hello", "recv"];
    for (options, reason) in [
        (&["--net", "pasta"][..], "allowed"),
        (&["--net", "pasta", "--ignore", "auto"], "own_network"),
    ] {
        let (steps, report) = crate::client::reported(world, options, &words)?;
        ensure_eq!(steps[2]["value"], "hello", "{options:?}: {steps}");
        ensure_eq!(counted(&report["reasons"], reason), Some(1), "{options:?}: {report}");
        ensure_eq!(server.next_peer()?.ip(), IpAddr::from(HOST_V4), "peer");
    }
    Ok(())
}

/// A container of `serve` and a client in it that takes commands.
pub(crate) fn interactive(world: &World, agent: &Agent, runtime: &str, name: &str) -> Result<Repl> {
    Repl::by(&mut agent.container(world, runtime, name, "fx-client", &["repl"])?)
}

/// The first process of a container.
pub(crate) fn pid_of(world: &World, runtime: &str, name: &str) -> Result<u64> {
    let mut state = runtime_command(world, runtime);
    let finished = process::run(state.args(["state", name]), PATIENCE)?.success()?;
    let state: Value = serde_json::from_str(&finished.stdout)?;
    state["pid"].as_u64().context("a pid")
}

/// ip(8) in the network namespace of a process of the user's.
pub(crate) fn ip_in(world: &World, pid: u64, words: &str) -> Result {
    let mut command = world.as_user("nsenter");
    command.args(["-t", &pid.to_string(), "-U", "-n", "--preserve-credentials", "ip"]);
    process::run(command.args(words.split(' ')), PATIENCE)?.success()?;
    Ok(())
}

/// By the policy file, which has it for one container and not for the other.
fn followed(world: &World) -> Result {
    let server = world.serve_remote(&["--quiet", "[::]:0"])?;
    let file = world.runtime_dir().join("auto.toml");
    std::fs::write(&file, "[[container]]\nid = \"crun-auto-*\"\nignore = \"auto\"\n")?;
    let path = file.to_str().context("a path in UTF-8")?;
    let agent = Agent::start(world, &["--policy", path], &[])?;
    for (name, follows) in [("crun-auto-1", true), ("crun-plain-1", false)] {
        let mut client = interactive(world, &agent, "crun", name)?;
        let pid = pid_of(world, "crun", name)?;
        for (family, to, net) in [
            ("inet", server.at(REMOTE_V4), "198.18.0.77/24"),
            ("inet6", server.at(REMOTE_V6), "fd00:18::77/64 nodad"),
        ] {
            let connect = format!("sequence {family} nonblocking connect={to} wait");
            ensure_eq!(result_of(&client.results(&connect)?, 2), "ok", "{name}: before");
            // A device that leads nowhere.
            ip_in(world, pid, &format!("link add d-{family} type veth peer name e-{family}"))?;
            ip_in(world, pid, &format!("addr add {net} dev d-{family}"))?;
            let connect = format!("sequence {family} nonblocking connect={to}");
            let result = client.results(&connect)?;
            let expected = if follows { "ENETUNREACH" } else { "EINPROGRESS" };
            // The device is not up, so that what is left has nowhere to go.
            ensure_eq!(result_of(&result, 1), expected, "{name}: attached: {result:?}");
            ip_in(world, pid, &format!("link del d-{family}"))?;
            ensure_eq!(result_of(&client.results(&connect)?, 1), "EINPROGRESS", "{name}: removed");
        }
    }
    Ok(())
}

fn nested(world: &World) -> Result {
    let mut server = world.serve_remote(&["[::]:0"])?;
    let to = server.at(REMOTE_V4);
    let client = world.program("fx-client")?;
    let script = format!(
        "{0} sequence inet connect={to}; unshare -n {0} sequence inet connect={to}; \
         unshare -n sh -c 'ip link set lo up; {0} sequence inet connect=127.0.0.1:1 \
         new bind=0.0.0.0:7464 listen=1 local'; {0} sequence inet connect={to} local",
        client.display()
    );
    let mut command = world.bypass(&["--map-root", "--report", "-"])?;
    let finished = process::run(command.args(["sh", "-c", &script]), PATIENCE)?.success()?;
    let answers = answers(&finished.stdout)?;
    let [first, inner, own, last] = &answers[..] else { return Err(finished.failure("answers")) };
    ensure_eq!(first[0]["result"], "ok", "outer: {first}");
    ensure_eq!(inner[0]["result"], "ENETUNREACH", "inner: {inner}");
    ensure_eq!(own[0]["result"], "ECONNREFUSED", "its own loopback: {own}");
    ensure_eq!(own[4]["value"], "0.0.0.0:7464", "its own port: {own}");
    ensure_eq!(last[0]["result"], "ok", "outer, afterwards: {last}");
    for _ in 0..2 {
        ensure_eq!(server.next_peer()?.ip(), IpAddr::from(HOST_V4), "peer");
    }
    let report = finished.stderr.find('{').and_then(|start| finished.stderr.get(start..));
    let report: Value = serde_json::from_str(report.context("a report")?)?;
    let reasons = &report["reasons"];
    ensure_eq!(counted(&reasons["left"], "nested_netns"), Some(2), "{report}");
    ensure_eq!(counted(&reasons["switched"], "allowed"), Some(2), "{report}");
    Ok(())
}

fn nested_server(world: &World) -> Result {
    let mut inside = Inside::start(world, &["--map-root", "-p", "7463:80"])?;
    let mut remote = Repl::remote(world)?;
    let host: IpAddr = HOST_V4.into();
    let at = |ip: IpAddr| std::net::SocketAddr::new(ip, 7463);
    inside.expect(MAKE_INNER)?;
    let program = world.program("fx-server")?.display().to_string();
    let inner = format!("nsenter -n -t $inner {program} --mode peer 0.0.0.0:80");
    let inner = inside.launch(&inner, "ready", 1)?;
    ensure_eq!(remote.who("stream", at(host))?, "ECONNREFUSED", "the inner server is reached");
    // It is where it is meant to be, and the outer one can have the port.
    let outer = inside.launch(&format!("{program} --mode peer 0.0.0.0:80"), "ready", 1)?;
    ensure_eq!(remote.who("stream", at(host))?, REMOTE_V4.to_string(), "the outer server");
    let client = world.program("fx-client")?.display().to_string();
    let words = format!("nsenter -n -t $inner {client} sequence inet connect=127.0.0.1:80 recv");
    let said = inside.expect(&words)?;
    ensure!(said.contains("127.0.0.1:"), "the inner server is not reached from there: {said}");
    inside.stop(outer)?;
    inside.stop(inner)?;
    Ok(())
}

/// What a network stack inside sends for a namespace inside is the container's, and as fast.
fn nested_slirp(world: &World) -> Result {
    let mut server = world.serve_remote(&["0.0.0.0:0"])?;
    let mut inside = Inside::start(world, &["--map-root"])?;
    inside.expect(MAKE_INNER)?;
    inside.expect(
        "mkfifo /tmp/ready.$$; slirp4netns --configure --mtu=1500 --ready-fd=3 $inner tap0 \
         3>/tmp/ready.$$ >/dev/null 2>&1 & slirp=$!; head -c 1 /tmp/ready.$$; rm /tmp/ready.$$",
    )?;
    let client = world.program("fx-client")?.display().to_string();
    let to = server.at(REMOTE_V4);
    let words =
        format!("nsenter -n -t $inner {client} sequence inet connect={to} send=hi recv local");
    let said = inside.expect(&words)?;
    let line = said.lines().find(|line| line.starts_with('[')).context("no results")?;
    let steps = crate::client::steps(serde_json::from_str(line)?)?;
    ensure_eq!(steps[2]["value"], "hi", "echo: {steps:?}");
    ensure_eq!(source(&steps)?, "10.0.2.100".parse::<IpAddr>()?, "the inner client: {steps:?}");
    // The outer one has no other way out than to be bypassed.
    ensure_eq!(server.next_peer()?.ip(), IpAddr::from(HOST_V4), "peer");
    inside.expect("kill $slirp $inner")?;
    Ok(())
}

/// A container whose first call is made from a namespace of its own making: the container's is told
/// by the runtime's word, not by who comes first.
fn nested_first(world: &World, runtime: &str) -> Result {
    let mut server = world.serve_remote(&["[::]:0"])?;
    let agent = Agent::start(world, &[], &[])?;
    let client = world.program("fx-client")?.display().to_string();
    let to = server.at(REMOTE_V4);
    let script = format!(
        "unshare -Un {client} sequence inet connect={to}; {client} sequence inet connect={to} local"
    );
    for round in 0..3 {
        let name = format!("{runtime}-nested-{round}");
        let mut command: Command = agent.shell(world, runtime, &name, &script)?;
        let finished = process::run(&mut command, PATIENCE)?.success()?;
        let answers = answers(&finished.stdout)?;
        let [inner, outer] = &answers[..] else { return Err(finished.failure("answers")) };
        let said = agent.running.stderr();
        ensure_eq!(inner[0]["result"], "ENETUNREACH", "inner: {inner}; serve said: {said}");
        ensure_eq!(outer[0]["result"], "ok", "outer: {outer}; serve said: {said}");
        ensure_eq!(server.next_peer()?.ip(), IpAddr::from(HOST_V4), "peer");
    }
    Ok(())
}

/// A first process that goes into a namespace of its own may have that taken for the container's: then
/// it is held to the same policy.
fn moved(world: &World) -> Result {
    let guarded = world.serve_host(&["[::]:7465"])?;
    let remote = world.serve_remote(&["--quiet", "[::]:0"])?;
    let denied = format!("{REMOTE_V4}:{}", remote.port());
    let agent = Agent::start(world, &["--deny", &denied], &[])?;
    let client = world.program("fx-client")?.display().to_string();
    let script = format!(
        "exec unshare -Un {client} sequence inet connect={denied} new connect=127.0.0.1:7465 \
         new bind=0.0.0.0:7466 listen=1"
    );
    for round in 0..3 {
        let mut command = agent.shell(world, "crun", &format!("crun-moved-{round}"), &script)?;
        let finished = process::run(&mut command, PATIENCE)?.success()?;
        let answers = answers(&finished.stdout)?;
        let steps = answers.first().context("an answer")?;
        ensure_eq!(steps[0]["result"], "ENETUNREACH", "what is denied: {steps}");
        ensure!(steps[2]["result"] != "ok", "the host's loopback: {steps}");
        ensure_eq!(steps[5]["result"], "ok", "its own port: {steps}");
    }
    ensure_eq!(guarded.peers(), [], "peers on the host's loopback");
    ensure_eq!(remote.peers(), [], "peers of what is denied");
    Ok(())
}
