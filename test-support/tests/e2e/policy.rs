//! Where a container may not reach, whatever calls it makes in whatever order.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;
use test_support::census::{running, wait_connecting};
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE};
use test_support::world::{REMOTE_V4, REMOTE_V6, SILENT_V4, Server};
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::{LIMIT, bypassed, counted, native, reported};
use crate::repl::Repl;

pub(crate) const SCENARIOS: Group = (
    "policy",
    &[
        Scenario { name: "host_loopback_is_never_reached", requires: &[], run: loopback },
        Scenario {
            name: "host_loopback_stays_out_of_reach_unpinned",
            requires: &[],
            run: unpinned,
        },
        Scenario { name: "host_loopback_is_not_reached_by_a_race", requires: &[], run: race },
        Scenario {
            name: "published_sockets_do_not_reach_host_loopback",
            requires: &[],
            run: published,
        },
        Scenario {
            name: "published_sockets_do_not_reach_it_unpinned",
            requires: &[],
            run: published_unpinned,
        },
        Scenario { name: "datagrams_do_not_reach_it_with_all", requires: &[], run: all_datagrams },
        Scenario { name: "published_sockets_keep_to_the_policy", requires: &[], run: kept },
        Scenario { name: "no_port_opens_on_the_host", requires: &[], run: listening },
        Scenario { name: "denied_networks_are_refused", requires: &[], run: denied },
        Scenario { name: "ignored_networks_stay_inside", requires: &[], run: ignored },
        Scenario { name: "host_loopback_is_reached_when_allowed", requires: &[], run: allowed },
        Scenario { name: "own_loopback_works", requires: &[], run: own_loopback },
    ],
);

/// Addresses that mean the host's loopback if a host socket connects to them.
const LOOPBACKS: &[(&str, &str)] = &[
    ("inet", "127.0.0.1"),
    ("inet", "127.9.9.9"),
    ("inet", "0.0.0.0"),
    ("inet6", "[::1]"),
    ("inet6", "[::]"),
    ("inet6", "[::ffff:127.0.0.1]"),
    ("inet6", "[::ffff:0.0.0.0]"),
];

/// Ways to get a socket there; `TO` is the loopback, `REMOTE`, `CLOSED` and `SILENT` are
/// addresses that are allowed.
const WAYS: &[&str] = &[
    "stream connect=TO",
    "stream nonblocking connect=TO wait",
    "stream connect=REMOTE connect=TO",
    "stream connect=REMOTE unspec connect=TO",
    "stream connect=REMOTE shutdown unspec connect=TO send=x",
    "stream connect=CLOSED connect=TO",
    "stream connect=CLOSED unspec connect=TO",
    "stream connect=CLOSED connect=CLOSED connect=TO",
    "stream nonblocking connect=REMOTE connect=TO wait",
    "stream nonblocking connect=SILENT unspec connect=TO wait",
    "stream nonblocking connect=CLOSED wait connect=TO wait",
    "stream fastopen=TO",
    "stream connect=CLOSED fastopen=TO",
    "stream connect=REMOTE unspec fastopen=TO",
    "stream sendto=TO",
    "stream connect=REMOTE sendto=TO",
    "stream connect=REMOTE unspec sendto=TO",
    "stream connect=REMOTE unspec sendmsg=TO",
    "stream dup connect=REMOTE unspec dup connect=TO",
    "dgram connect=TO send=x",
    "dgram sendto=TO",
    "dgram sendmsg=TO",
    "dgram connect=REMOTE connect=TO send=x",
    "dgram connect=REMOTE unspec connect=TO send=x",
    "dgram connect=REMOTE sendto=TO",
    "dgram connect=REMOTE sendmsg=TO",
    "dgram connect=REMOTE unspec sendto=TO",
    "dgram connect=REMOTE unspec sendmsg=TO",
    "dgram sendmmsg=TO",
    "dgram segmented=TO",
    "dgram connect=REMOTE sendmmsg=TO",
    "dgram connect=REMOTE segmented=TO",
    "dgram connect=REMOTE unspec sendmmsg=TO",
    "dgram connect=REMOTE dup sendto=TO",
    "dgram connect=REMOTE dup connect=TO send=x",
    "dgram connect=REMOTE child:sendto=TO",
    "dgram connect=REMOTE child:sendmmsg=TO",
    "dgram connect=REMOTE child:connect=TO send=x",
    "dgram connect=REMOTE dup unspec sendto=TO",
    "dgram connect=REMOTE dup unspec back sendto=TO",
    "dgram connect=REMOTE dup unspec back sendmmsg=TO",
    "dgram connect=REMOTE dup unspec back connect=TO send=x",
    "dgram connect=REMOTE dup connect=127.0.0.1:9 back sendto=TO",
    "dgram connect=REMOTE dup connect=CLOSED back sendto=TO",
    "dgram connect=REMOTE dup connect=SILENT back sendmsg=TO",
    "dgram connect=REMOTE child:unspec sendto=TO",
    "dgram connect=REMOTE child:connect=127.0.0.1:9 sendto=TO",
    "dgram connect=REMOTE oif4=TO",
    "dgram connect=REMOTE oif6=TO",
    "dgram connect=REMOTE oif4-many=TO",
    "dgram connect=REMOTE oif6-many=TO",
    "dgram connect=REMOTE child:oif4=TO",
    "dgram sendto=REMOTE oif4=TO",
    "dgram connect=REMOTE set:so_bindtoifindex=1 sendto=TO",
    "dgram connect=REMOTE set:so_bindtoifindex=0 sendto=TO",
    "dgram connect=REMOTE set:ip_unicast_if=16777216 sendto=TO",
    "dgram connect=REMOTE set:ipv6_unicast_if=16777216 sendto=TO",
    "dgram connect=CLOSED send=x connect=TO send=x",
    "dgram sendto=REMOTE sendto=TO",
    "dgram sendto=REMOTE sendmsg=TO",
    "dgram sendmsg=REMOTE connect=TO send=x",
    "dgram sendmmsg=REMOTE sendmmsg=TO",
    "dgram sendto=REMOTE connect=REMOTE unspec sendto=TO",
    "dgram bind=ANY:0 sendto=TO",
    "dgram bind=ANY:0 connect=REMOTE sendto=TO",
    "dgram bind=ANY:0 sendto=REMOTE sendto=TO",
];

/// Ways of sockets whose port is published: `BIND` binds to it, and at `OWN` another server of
/// the container is published.
const PUBLISHED_WAYS: &[&str] = &[
    "dgram BIND sendto=TO",
    "dgram BIND sendmsg=TO",
    "dgram BIND sendmmsg=TO",
    "dgram BIND segmented=TO",
    "dgram BIND connect=TO send=x",
    "dgram BIND connect=REMOTE sendto=TO",
    "dgram BIND connect=REMOTE sendmsg=TO",
    "dgram BIND connect=REMOTE connect=TO send=x",
    "dgram BIND connect=REMOTE unspec sendto=TO",
    "dgram BIND connect=REMOTE unspec connect=TO send=x",
    "dgram BIND unspec sendto=TO",
    "dgram BIND sendto=REMOTE sendto=TO",
    "dgram BIND oif4=TO",
    "dgram BIND oif6=TO",
    "dgram BIND oif4-many=TO",
    "dgram BIND oif6-many=TO",
    "dgram BIND set:so_bindtoifindex=1 sendto=TO",
    "dgram BIND set:ip_unicast_if=16777216 sendto=TO",
    "dgram BIND set:ipv6_unicast_if=16777216 sendto=TO",
    "dgram BIND dup sendto=TO",
    "dgram BIND dup unspec sendmmsg=TO",
    "dgram BIND connect=REMOTE dup unspec back sendto=TO",
    "dgram BIND connect=REMOTE child:unspec sendto=TO",
    "dgram BIND connect=REMOTE unspec sendmsg=TO",
    "dgram BIND connect=REMOTE unspec sendmmsg=TO",
    "dgram BIND connect=REMOTE unspec segmented=TO",
    "dgram BIND child:sendto=TO",
    "dgram BIND child:sendmsg=TO",
    "dgram BIND child:connect=TO send=x",
    "dgram set:so_reuseport=1 BIND sendto=TO",
    "dgram set:so_broadcast=1 BIND sendto=TO",
    "stream BIND connect=TO",
    "stream BIND nonblocking connect=TO wait",
    "stream BIND listen=5 connect=TO",
    "stream BIND listen=5 shutdown connect=TO",
    "stream BIND unspec connect=TO",
    "stream BIND listen=5 unspec connect=TO",
    "stream BIND fastopen=TO",
    "stream BIND listen=5 fastopen=TO",
    "stream BIND sendto=TO",
    "stream BIND sendmsg=TO",
    "stream BIND connect=REMOTE unspec connect=TO",
    "stream BIND connect=CLOSED connect=TO",
    "stream BIND dup connect=TO",
    "stream BIND child:connect=TO",
    "stream BIND listen=5 dup shutdown connect=TO",
    "stream connect=OWN unspec connect=TO",
    "stream connect=OWN connect=TO",
    "stream connect=OWN shutdown unspec connect=TO",
    "stream connect=OWN unspec fastopen=TO",
    "dgram connect=OWN connect=TO send=x",
    "dgram connect=OWN sendto=TO",
    "dgram connect=OWN unspec sendto=TO",
];

fn loopback(world: &World) -> Result {
    try_every_way(world, &[], WAYS)
}

fn unpinned(world: &World) -> Result {
    try_every_way(world, &["--pin", "off"], WAYS)
}

fn all_datagrams(world: &World) -> Result {
    try_every_way(world, &["--udp", "all"], WAYS)?;
    try_every_way(world, &["--udp", "all", "--pin", "off"], WAYS)
}

/// Every protocol and host address that a socket could go astray by.
const PUBLISHED: &[&str] = &[
    "-p",
    "7010:7010",
    "-p",
    "7010:7010/udp",
    "-p",
    "127.0.0.1:7011:7010",
    "-p",
    "[::1]:7011:7010/udp",
    "-p",
    "7012:7012",
    "-p",
    "7012:7012/udp",
];

fn published(world: &World) -> Result {
    try_every_way(world, PUBLISHED, PUBLISHED_WAYS)?;
    try_every_way(world, &[PUBLISHED, &["--udp", "all"]].concat(), PUBLISHED_WAYS)
}

fn published_unpinned(world: &World) -> Result {
    try_every_way(world, &[PUBLISHED, &["--pin", "off"]].concat(), PUBLISHED_WAYS)
}

/// What is denied is denied to published sockets as well.
fn kept(world: &World) -> Result {
    let server = world.serve_remote(&["[::]:0", "--udp", "[::]:0"])?;
    let deny = ["--deny", "198.18.0.0/24,fd00:18::/64"];
    for udp in ["connected", "all"] {
        let options = [PUBLISHED, &deny, &["--udp", udp]].concat();
        let mut inside = Repl::bypassed(world, &options)?;
        for (family, to) in [("inet", server.at(REMOTE_V4)), ("inet6", server.at(REMOTE_V6))] {
            let others = ["REMOTE", "CLOSED"];
            let alone = |way: &&&str| !others.iter().any(|other| way.contains(other));
            for way in PUBLISHED_WAYS.iter().filter(alone) {
                inside.ask(&format!("sequence {family} {}", with_addresses(way, family, &to)))?;
                let peers = server.peers();
                ensure!(peers.is_empty(), "--udp {udp}, {peers:?} came through: {way} to {to}");
            }
        }
    }
    ensure_eq!(server.peers(), [], "peers that are denied");
    Ok(())
}

fn with_addresses(way: &str, family: &str, to: &str) -> String {
    let (any, own) = match family {
        "inet" => ("0.0.0.0", "127.0.0.1:7012"),
        _ => ("[::]", "[::1]:7012"),
    };
    way.replace("BIND", &format!("set:so_reuseaddr=1 bind={any}:7010"))
        .replace("ANY", any)
        .replace("OWN", own)
        .replace("TO", to)
}

fn try_every_way(world: &World, options: &[&str], ways: &[&str]) -> Result {
    let mut target = Guarded::start(world)?;
    let remote = world.serve_remote(&["--quiet", "[::]:0", "--udp", "[::]:0"])?;
    let mut inside = Repl::bypassed(world, options)?;
    inside.succeed("open own-stream inet6 set:so_reuseaddr=1 bind=[::]:7012 listen=99")?;
    inside.succeed("open own-dgram inet6 dgram bind=[::]:7012")?;
    for (family, loopback) in LOOPBACKS {
        let (remote, closed) = match *family {
            "inet" => (remote.at(REMOTE_V4), format!("{REMOTE_V4}:1")),
            _ => (remote.at(REMOTE_V6), format!("[{REMOTE_V6}]:1")),
        };
        // An IPv6 socket takes the IPv4 address in its mapped form.
        let silent = match *family {
            "inet" => format!("{SILENT_V4}:9"),
            _ => format!("[::ffff:{SILENT_V4}]:9"),
        };
        for way in ways {
            let to = format!("{loopback}:{}", target.server.port());
            let steps = with_addresses(way, family, &to)
                .replace("REMOTE", &remote)
                .replace("CLOSED", &closed)
                .replace("SILENT", &silent);
            let answer = inside.ask(&format!("sequence {family} {steps}"))?;
            let peers = target.server.peers();
            ensure!(peers.is_empty(), "{peers:?} came through: {way} to {loopback}");
            if way.starts_with("stream") && !way.contains("BIND") {
                allowed_steps_worked(&answer, &remote)?;
            }
            // Without its port it would be no published socket.
            let bound = answer.as_array().into_iter().flatten().all(|step| {
                let bind = step["step"].as_str().is_some_and(|step| step.starts_with("bind="));
                !bind || step["result"] == "ok"
            });
            ensure!(bound, "{way}: {answer}");
        }
    }
    target.nobody_came(world)
}

/// Confinement by a supervisor that refuses everything, or is dead, shows nothing: what is
/// allowed must have worked on the way.
fn allowed_steps_worked(answer: &Value, remote: &str) -> Result {
    for step in answer.as_array().map(Vec::as_slice).unwrap_or_default() {
        let result = step["result"].as_str().unwrap_or_default();
        ensure!(result != "ENOSYS", "nobody answers: {answer}");
        let allowed = step["step"] == "unspec" || step["step"] == format!("connect={remote}");
        ensure!(!allowed || ["ok", "EINPROGRESS"].contains(&result), "allowed, failed: {answer}");
    }
    Ok(())
}

/// A server on the host's loopback, TCP and UDP on one port, that nobody inside may reach.
struct Guarded {
    server: Server,
}

impl Guarded {
    fn start(world: &World) -> Result<Self> {
        let addresses = ["127.0.0.1:7007", "127.9.9.9:7007", "[::1]:7007"];
        let words: Vec<_> = addresses.iter().flat_map(|at| [*at, "--udp", *at]).collect();
        Ok(Self { server: world.serve_host(&words)? })
    }

    /// Whatever came before is reported before we are, so two peers are ours.
    fn nobody_came(&mut self, world: &World) -> Result {
        let to = format!("connect={}", self.server.at(Ipv4Addr::LOCALHOST));
        for kind in ["stream", "dgram"] {
            let steps = native(world, &["sequence", "inet", kind, &to, "send=ours", "recv"])?;
            ensure_eq!(steps[2]["value"], "ours", "our own {kind} on the host");
            self.server.next_peer()?;
        }
        let peers = self.server.peers();
        ensure!(peers.len() == 2, "not only we came: {peers:?}");
        Ok(())
    }
}

fn race(world: &World) -> Result {
    let mut target = Guarded::start(world)?;
    let remote = world.serve_remote(&["--quiet", "[::]:0"])?;
    let mut inside = Repl::bypassed(world, &[])?;
    for (_, loopback) in LOOPBACKS {
        let to = format!("{loopback}:{}", target.server.port());
        let remote = remote.at(REMOTE_V4);
        let answer = inside.ask(&format!("race {to} {remote} 500"))?;
        ensure!(answer["swaps"].as_u64().is_some_and(|swaps| swaps > 0), "{answer}");
        ensure!(answer["outcomes"].get("ok").is_none(), "connected to {to}: {answer}");
        inside.expect(&format!("threads {remote} 1 1"), "done", 1)?;
    }
    target.nobody_came(world)
}

fn listening(world: &World) -> Result {
    let remote = world.serve_remote(&["--quiet", "[::]:0"])?;
    let before = listening_ports()?;
    let silent = format!("connect={SILENT_V4}:9");
    let remote = format!("connect={}", remote.at(REMOTE_V4));
    let closed = format!("connect={REMOTE_V4}:1");
    for way in [
        vec!["listen=5"],
        vec![&closed, "listen=5"],
        vec![&remote, "listen=5"],
        vec![&remote, "unspec", "listen=5"],
        vec![&remote, "unspec", "bind=0.0.0.0:0", "listen=5"],
        vec![&remote, "shutdown", "unspec", "listen=5"],
    ] {
        // The last call keeps the process, and with it the listener, where it is.
        let mut command = world.bypass(&[])?;
        command.arg(world.program("fx-client")?).args(["sequence", "inet"]).args(&way);
        let held = process::start(command.args(["new", &silent]))?;
        let pid = loop {
            if let [pid, ..] = running("fx-client", &silent)?.as_slice() {
                break *pid;
            }
            ensure!(held.is_running()?, "{way:?} ended: {}{}", held.stdout(), held.stderr());
        };
        wait_connecting(pid, 1, PATIENCE)?;
        ensure_eq!(listening_ports()?, before, "ports that listen on the host after {way:?}");
        drop(held);
        test_support::census::wait_unmarked(&silent, PATIENCE)?;
    }
    Ok(())
}

/// Local addresses of listening TCP sockets in this network namespace, as the kernel prints
/// them.
fn listening_ports() -> Result<Vec<String>> {
    let mut ports = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table)?.lines() {
            let mut fields = line.split_whitespace().skip(1);
            if let (Some(local), Some(_), Some("0A")) =
                (fields.next(), fields.next(), fields.next())
            {
                ports.push(local.to_owned());
            }
        }
    }
    ports.sort();
    Ok(ports)
}

fn denied(world: &World) -> Result {
    let mut server = world.serve_remote(&["[::]:0"])?;
    let mapped = SocketAddr::new(REMOTE_V4.to_ipv6_mapped().into(), server.port()).to_string();
    let options = ["--deny", "198.18.0.0/24"];
    for (family, to) in [("inet", server.at(REMOTE_V4)), ("inet6", mapped)] {
        let connect = format!("connect={to}");
        let (steps, report) = reported(world, &options, &["sequence", family, &connect])?;
        ensure!(steps[0]["result"] != "ok", "{to} was connected to");
        ensure_eq!(counted(&report, "denied"), Some(1), "denied calls in {report}");
    }
    let other = format!("connect={}", server.at(REMOTE_V6));
    let steps = bypassed(world, &options, &["sequence", "inet6", &other])?;
    ensure_eq!(steps[0]["result"], "ok", "another network");
    // Whoever came before would have been told of first.
    server.next_peer()?;
    ensure_eq!(server.peers().len(), 1, "peers");
    Ok(())
}

fn ignored(world: &World) -> Result {
    let server = world.serve_remote(&["[::]:0"])?;
    let options = ["--ignore", "203.0.113.0/24,198.18.0.0/24", "--ignore", "fd00:18::/64"];
    for (family, to) in [("inet", server.at(REMOTE_V4)), ("inet6", server.at(REMOTE_V6))] {
        let connect = format!("connect={to}");
        let (steps, report) = reported(world, &options, &["sequence", family, &connect])?;
        // Inside there is no route.
        ensure_eq!(steps[0]["result"], "ENETUNREACH", "connect to {to}");
        ensure_eq!(counted(&report, "left"), Some(1), "calls that were left in {report}");
        ensure_eq!(counted(&report, "switched").unwrap_or(0), 0, "switched in {report}");
    }
    ensure_eq!(server.peers(), [], "peers");
    Ok(())
}

fn allowed(world: &World) -> Result {
    let server = world.serve_host(&["127.0.0.1:0"])?;
    let connect = format!("connect={}", server.at(Ipv4Addr::LOCALHOST));
    let words = ["sequence", "inet", &connect, "send=hello", "recv"];
    let steps = bypassed(world, &["--allow-host-loopback"], &words)?;
    ensure_eq!(steps[2]["value"], "hello", "echo from the host's loopback");
    Ok(())
}

fn own_loopback(world: &World) -> Result {
    let mut command = world.bypass(&[])?;
    // Both ends inside: the server's readiness is its own line.
    let script = "\"$0\" --mode http 127.0.0.1:7008 '[::1]:7008' > /tmp/own-loopback & \
        until grep -q ready /tmp/own-loopback; do :; done; \
        curl -sS --max-time 20 http://127.0.0.1:7008/ -g 'http://[::1]:7008/'";
    command.args(["sh", "-c", script]).arg(world.program("fx-server")?);
    let finished = process::run(&mut command, LIMIT)?.success()?;
    ensure_eq!(finished.stdout, "hello\nhello\n", "pages from the container's own loopback");
    Ok(())
}
