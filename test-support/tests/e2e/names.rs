//! What an application is told of its own addresses when another port shows on the host.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4};
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::{reported, result_of};
use crate::repl::Repl;

pub(crate) const SCENARIOS: Group = (
    "names",
    &[
        Scenario { name: "names_are_those_of_a_native_bind", requires: &[], run: as_natively },
        Scenario { name: "accepted_connections_have_the_own_port", requires: &[], run: accepted },
        Scenario { name: "kernel_names_show_when_switched_off", requires: &[], run: off },
        Scenario { name: "ports_of_others_are_left_alone", requires: &[], run: others },
        Scenario { name: "only_who_needs_it_is_trapped", requires: &[], run: untrapped },
    ],
);

/// Port 80 inside is 8080 outside, in both protocols.
const MAPPED: &[&str] = &["--map-root", "-p", "8080:80", "-p", "8080:80/udp"];

/// Lengths for the buffer of a name: wrong, none, truncating, exact, generous.
const ROOMS: &[&str] =
    &["-1", "0", "1", "2", "3", "4", "8", "15", "16", "17", "27", "28", "29", "64", "128"];

/// Calls on sockets named in one line each; `NAMES` stands for getsockname and getpeername
/// with every room.
const CALLS: &[&[&str]] = &[
    &["open l inet NAMES", "on l bind=0.0.0.0:80 local peer NAMES", "on l listen=5 local NAMES"],
    &["open l inet6 NAMES", "on l bind=[::]:80 local peer NAMES", "on l listen=5 local NAMES"],
    &["open l inet6 set:ipv6_v6only=1 bind=[::]:80 listen=5 local NAMES"],
    &["open l inet6 bind=[::ffff:0.0.0.0]:80 listen=5 local NAMES"],
    &["open l inet dgram NAMES", "on l bind=0.0.0.0:80 local peer NAMES"],
    &["open l inet6 dgram NAMES", "on l bind=[::]:80 local peer NAMES"],
    &["open l inet bind=127.0.0.1:80 listen=5 local NAMES"],
    &["open l inet bind=0.0.0.0:81 listen=5 local NAMES"],
    &[
        "open l inet set:so_reuseaddr=1 set:so_rcvtimeo=5000 bind=0.0.0.0:80 listen=5",
        "open c inet connect=127.0.0.1:80 local peer NAMES",
        "on l accept local peer NAMES send=hello back local",
        "on c recv shutdown peer",
    ],
    &[
        "open l inet6 set:so_reuseaddr=1 set:so_rcvtimeo=5000 bind=[::]:80 listen=5",
        "open c inet6 connect=[::1]:80 local peer NAMES",
        "on l accept local peer NAMES send=hello back local",
        "open d inet connect=127.0.0.1:80 peer NAMES",
        "on l accept local peer NAMES back",
        "open e inet connect=127.0.0.1:80",
        "on l accept:16 back",
        "open f inet connect=127.0.0.1:80",
        "on l accept:5 local:5 peer:5 back",
        "open g inet connect=127.0.0.1:80",
        "on l accept:nobuffer",
    ],
];

fn as_natively(world: &World) -> Result {
    // Each with a port of its own: connections linger, and not every server here minds.
    for (mode, tcp, udp) in [("auto", "8063:80", "8063:80/udp"), ("on", "8064:80", "8064:80/udp")] {
        let options = ["--map-root", "-p", tcp, "-p", udp, "--virtual-names", mode];
        let mut natively = Repl::bypassed(world, &["--map-root", "--ignore-bind"])?;
        let mut ours = Repl::bypassed(world, &options)?;
        let mut wrong = Vec::new();
        for lines in CALLS {
            let mut opened = Vec::new();
            for line in *lines {
                let line = line.replace("NAMES", &every_room());
                if let Some(name) = line.strip_prefix("open ").and_then(|l| l.split(' ').next()) {
                    opened.push(name.to_owned());
                }
                let native = comparable(&natively.results(&line)?);
                let published = comparable(&ours.results(&line)?);
                for (native, published) in native.iter().zip(&published) {
                    if native != published {
                        wrong.push(format!(
                            "{lines:?}, at {line}\nnatively  {native}\npublished {published}"
                        ));
                    }
                }
            }
            for name in opened {
                natively.ask(&format!("close {name}"))?;
                ours.ask(&format!("close {name}"))?;
            }
        }
        let some = wrong.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
        ensure!(wrong.is_empty(), "--virtual-names {mode}: {} differ\n{some}", wrong.len());
    }
    Ok(())
}

fn every_room() -> String {
    let rooms = ROOMS.iter().chain(&["nobuffer", "nolength"]);
    let words: Vec<_> = rooms.map(|room| format!("local:{room} peer:{room}")).collect();
    words.join(" ")
}

/// Steps without what differs from run to run: times, and ports that the kernel chose.
fn comparable(steps: &[Value]) -> Vec<Value> {
    let masked = |step: &Value| {
        let value = &step["value"];
        let value = match (value.as_str(), value["written"].as_str()) {
            (Some(text), _) => match text.parse::<SocketAddr>() {
                Ok(address) if is_ephemeral(address.port()) => json!(address.ip()),
                _ => value.clone(),
            },
            // The family comes first, then the port in network order.
            (None, Some(hex)) => {
                let port = hex.get(4..8).and_then(|port| u16::from_str_radix(port, 16).ok());
                let from = match port {
                    Some(port) if is_ephemeral(port) => 8,
                    Some(_) => 0,
                    // Cut off, maybe in the middle of it.
                    None => 6,
                };
                let rest = hex.get(from..).unwrap_or_default();
                json!({ "length": value["length"], "written": hex.len(), "rest": rest })
            }
            _ => value.clone(),
        };
        json!({ "step": step["step"], "result": step["result"], "value": value })
    };
    steps.iter().map(masked).collect()
}

/// Whether the kernel chooses such ports, see `ip_local_port_range` in ip(7).
const fn is_ephemeral(port: u16) -> bool {
    port >= 32_768
}

fn accepted(world: &World) -> Result {
    let mut remote = Repl::remote(world)?;
    for mode in ["auto", "on"] {
        let options = [MAPPED, &["--virtual-names", mode]].concat();
        let mut inside = Repl::bypassed(world, &options)?;
        inside.succeed("open l inet6 set:so_reuseaddr=1 bind=[::]:80 listen=5")?;
        for (family, to, mapped) in
            [("inet", IpAddr::from(HOST_V4), true), ("inet6", HOST_V6.into(), false)]
        {
            let to = SocketAddr::new(to, 8080);
            let client = remote.succeed(&format!("open c {family} connect={to} local"))?;
            let steps = inside.results("on l accept local peer back")?;
            let (from, local) = (text(&steps, 0)?, text(&steps, 1)?);
            ensure_eq!(canonical(&text(&steps, 2)?)?, canonical(&from)?, "accept and getpeername");
            let client = client.as_str().context("the client's address")?;
            ensure_eq!(canonical(&from)?, client.parse()?, "the client, {mode}");
            ensure_eq!(canonical(&local)?, SocketAddr::new(to.ip(), 80), "own name, {mode}");
            // The form is that of the socket's family.
            ensure_eq!(local.contains("::ffff:"), mapped, "{local}");
            remote.ask("close c")?;
        }
        let steps = inside.results("open u inet dgram bind=0.0.0.0:80 local")?;
        ensure_eq!(text(&steps, 1)?, "0.0.0.0:80", "UDP, {mode}");
    }
    Ok(())
}

fn text(steps: &[Value], at: usize) -> Result<String> {
    let step = steps.get(at).and_then(|step| step["value"].as_str());
    Ok(step.context(format!("step {at} in {steps:?}"))?.to_owned())
}

fn canonical(address: &str) -> Result<SocketAddr> {
    let address: SocketAddr = address.parse()?;
    Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

fn off(world: &World) -> Result {
    let options = [MAPPED, &["--virtual-names", "off"]].concat();
    let mut inside = Repl::bypassed(world, &options)?;
    ensure_eq!(
        inside.succeed("open l inet set:so_reuseaddr=1 bind=0.0.0.0:80 listen=5 local")?,
        "0.0.0.0:8080",
        "off"
    );
    let mut remote = Repl::remote(world)?;
    remote.succeed(&format!("open c inet connect={HOST_V4}:8080"))?;
    let local = inside.succeed("on l accept local")?;
    ensure_eq!(local, format!("{HOST_V4}:8080"), "accepted");
    Ok(())
}

/// A port of the remote that has the number of a published host port is no published port.
fn others(world: &World) -> Result {
    let _server = world.serve_remote(&["--quiet", "0.0.0.0:8080", "--udp", "0.0.0.0:8080"])?;
    let to = SocketAddr::new(REMOTE_V4.into(), 8080);
    for mode in ["auto", "on"] {
        let options = [MAPPED, &["--udp", "connected", "--virtual-names", mode]].concat();
        let mut inside = Repl::bypassed(world, &options)?;
        for kind in ["stream", "dgram"] {
            let steps = format!("sequence inet {kind} connect={to} peer");
            ensure_eq!(inside.succeed(&steps)?, to.to_string(), "{kind} peer, {mode}");
        }
        // The container's own loopback, at the number of the host's port.
        inside.succeed("open l inet set:so_reuseaddr=1 bind=127.0.0.1:8080 listen=5")?;
        let local = inside.succeed("on l local")?;
        ensure_eq!(local, "127.0.0.1:8080", "a port of the container, {mode}");
        let peer = inside.succeed("open c inet connect=127.0.0.1:8080 peer")?;
        ensure_eq!(peer, "127.0.0.1:8080", "its client's peer, {mode}");
    }
    Ok(())
}

/// Counts of trapped calls with and without a hundred calls for names.
fn untrapped(world: &World) -> Result {
    let names = ["local"; 100];
    let calls = ["sequence", "inet", "set:so_reuseaddr=1", "bind=0.0.0.0:8080", "listen=5"];
    let many = [&calls[..], &names].concat();
    let count = |options: &[&str], words: &[&str]| -> Result<u64> {
        let (steps, report) = reported(world, options, words)?;
        let steps = steps.as_array().context("steps")?;
        ensure_eq!(result_of(steps, 1), "ok", "bind");
        let verdicts = report["verdicts"].as_object().context("`verdicts`")?;
        let verdicts: u64 = verdicts.values().filter_map(Value::as_u64).sum();
        Ok(verdicts + report["continued"].as_u64().context("`continued`")?)
    };
    for options in [
        &[][..],
        &["-p", "8080:8080"],
        &["-p", "8080:8080", "--virtual-names", "auto"],
        &["-p", "8081:8080", "--virtual-names", "off"],
    ] {
        ensure_eq!(count(options, &many)?, count(options, &calls)?, "trapped calls, {options:?}");
    }
    Ok(())
}
