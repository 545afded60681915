//! Published ports: who reaches them, and who is seen there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::Value;
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process;
use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6};
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::{LIMIT, result_of};
use crate::inside::Inside;
use crate::repl::Repl;

pub(crate) const SCENARIOS: Group = (
    "publish",
    &[
        Scenario { name: "remote_is_seen_with_its_address", requires: &[], run: addresses },
        Scenario { name: "loopback_map_is_for_the_host_alone", requires: &[], run: loopback },
        Scenario { name: "one_port_has_several_host_addresses", requires: &[], run: several },
        Scenario { name: "service_answers_inside_on_its_own_port", requires: &[], run: own_port },
        Scenario { name: "unpublished_servers_stay_inside", requires: &[], run: unpublished },
        Scenario { name: "nothing_is_bound_with_ignore_bind", requires: &[], run: ignore_bind },
        Scenario { name: "binds_have_their_native_outcome", requires: &[], run: as_natively },
        Scenario { name: "every_bind_may_be_one_of_the_host", requires: &[], run: host_binds },
        Scenario { name: "low_ports_take_root_inside", requires: &[], run: low_ports },
        Scenario { name: "ephemeral_port_is_told", requires: &[], run: ephemeral },
        Scenario { name: "server_reaches_out_as_well", requires: &[], run: both_ways },
        Scenario {
            name: "service_answers_at_the_containers_address",
            requires: &[Requirement::Program("slirp4netns"), Requirement::Tun],
            run: own_address,
        },
    ],
);

const LOOPBACK_V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LOOPBACK_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Checks what a client comes upon at each address; see [`Repl::who`].
pub(crate) fn expect_all(
    from: &mut Repl,
    kind: &str,
    port: u16,
    expected: &[(IpAddr, &str)],
) -> Result {
    for (to, answer) in expected {
        let got = from.who(kind, SocketAddr::new(*to, port))?;
        ensure_eq!(got, *answer, "{kind} to {to}, port {port}");
    }
    Ok(())
}

/// The host's addresses on its uplink, and what the remote is seen with there.
pub(crate) fn remote_as_seen() -> [(IpAddr, String); 2] {
    [(HOST_V4.into(), REMOTE_V4.to_string()), (HOST_V6.into(), REMOTE_V6.to_string())]
}

fn addresses(world: &World) -> Result {
    let mut inside = Inside::start(world, &["-p", "8080:8080", "-p", "8080:8080/udp"])?;
    inside.serve(world, "--mode peer [::]:8080 --udp [::]:8080")?;
    let (mut remote, mut host) = (Repl::remote(world)?, Repl::host(world)?);
    for (to, seen) in &remote_as_seen() {
        for kind in ["stream", "dgram"] {
            expect_all(&mut remote, kind, 8080, &[(*to, seen)])?;
        }
    }
    let own = [
        (LOOPBACK_V4, "127.0.0.1"),
        (LOOPBACK_V6, "::1"),
        (HOST_V4.into(), &*HOST_V4.to_string()),
        (HOST_V6.into(), &*HOST_V6.to_string()),
    ];
    expect_all(&mut host, "stream", 8080, &own)?;
    // What comes by loopback in UDP is relayed: it is answered, from another address.
    for (to, _) in own {
        let answer = host.who("dgram", SocketAddr::new(to, 8080))?;
        ensure!(answer.parse::<IpAddr>().is_ok(), "UDP from the host to {to}: {answer}");
    }
    Ok(())
}

fn loopback(world: &World) -> Result {
    let maps = ["127.0.0.1:8080:8080", "[::1]:8081:8080", "127.0.0.1:8080:8080/udp"];
    let options = maps.iter().flat_map(|map| ["-p", map]).collect::<Vec<_>>();
    let mut inside = Inside::start(world, &options)?;
    inside.serve(world, "--mode peer [::]:8080 --udp [::]:8080")?;
    let (mut remote, mut host) = (Repl::remote(world)?, Repl::host(world)?);
    let refused = "ECONNREFUSED";
    let uplink = [(HOST_V4.into(), refused), (HOST_V6.into(), refused)];
    for port in [8080, 8081] {
        expect_all(&mut remote, "stream", port, &uplink)?;
        expect_all(&mut host, "stream", port, &uplink)?;
    }
    expect_all(&mut remote, "dgram", 8080, &uplink)?;
    let own = [(LOOPBACK_V4, "127.0.0.1"), (LOOPBACK_V6, refused)];
    expect_all(&mut host, "stream", 8080, &own)?;
    // One socket cannot be bound to both, so one of them is relayed.
    let answer = host.who("stream", SocketAddr::new(LOOPBACK_V6, 8081))?;
    ensure!(answer.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()), "TCP to ::1: {answer}");
    expect_all(&mut host, "stream", 8081, &[(LOOPBACK_V4, refused)])?;
    let answer = host.who("dgram", SocketAddr::new(LOOPBACK_V4, 8080))?;
    ensure!(answer.parse::<IpAddr>().is_ok(), "UDP from the host's loopback: {answer}");
    Ok(())
}

fn several(world: &World) -> Result {
    let (v4, v6) = (format!("{HOST_V4}:8073:8080"), format!("[{HOST_V6}]:8074:8080"));
    let maps = ["127.0.0.1:8075:8080", &v4, &v6];
    let options = maps.iter().flat_map(|map| ["-p", map]).collect::<Vec<_>>();
    let mut inside = Inside::start(world, &options)?;
    let server = inside.serve(world, "--mode peer [::]:8080")?;
    let (mut remote, mut host) = (Repl::remote(world)?, Repl::host(world)?);
    for round in 0..2 {
        for (at, port) in [(IpAddr::from(HOST_V4), 8073), (HOST_V6.into(), 8074)] {
            let answer = remote.who("stream", SocketAddr::new(at, port))?;
            ensure!(answer.parse::<IpAddr>().is_ok(), "round {round}, {at}:{port}: {answer}");
        }
        let answer = host.who("stream", SocketAddr::new(LOOPBACK_V4, 8075))?;
        ensure!(answer.parse::<IpAddr>().is_ok(), "round {round}, host's loopback: {answer}");
        for (to, port) in [(HOST_V4.into(), 8075), (HOST_V4.into(), 8074), (HOST_V6.into(), 8073)] {
            expect_all(&mut remote, "stream", port, &[(to, "ECONNREFUSED")])?;
        }
        if round == 0 {
            inside.stop(server)?;
            inside.serve(world, "--mode peer [::]:8080")?;
        }
    }
    Ok(())
}

fn own_port(world: &World) -> Result {
    let maps = ["--map-root", "-p", "8080:80", "-p", "8053:53/udp"];
    let mut inside = Inside::start(world, &maps)?;
    for (family, address) in [("inet", "127.0.0.1"), ("inet6", "[::1]")] {
        // Nothing is published at the host's port number, so there it is untouched.
        for port in [80, 8080] {
            let connect = format!("{family} stream connect={address}:{port}");
            let before = inside.client(world, &connect)?;
            ensure_eq!(result_of(&before, 0), "ECONNREFUSED", "{connect} before the server");
        }
    }
    let server = inside.serve(world, "--mode peer [::]:80 --udp [::]:53")?;
    for (family, address) in [("inet", "127.0.0.1"), ("inet6", "[::1]")] {
        let limit = "set:so_rcvtimeo=2000";
        let stream = format!("{family} stream {limit} connect={address}:80 recv");
        let answer = inside.client(world, &stream)?;
        let said = answer.get(2).and_then(|step| step["value"].as_str()).unwrap_or_default();
        ensure!(said.contains(address), "{address} inside: {answer:?}");
        let datagram = format!("{family} dgram {limit} connect={address}:53 send=who recv");
        let answer = inside.client(world, &datagram)?;
        ensure_eq!(result_of(&answer, 3), "ok", "UDP to {address} inside: {answer:?}");
    }
    inside.stop(server)?;
    let after = inside.client(world, "inet stream connect=127.0.0.1:80")?;
    ensure_eq!(result_of(&after, 0), "ECONNREFUSED", "after the server");
    Ok(())
}

/// Ports of every TCP and UDP socket in the host's network namespace that a process has bound.
pub(crate) fn host_ports() -> Result<Vec<u16>> {
    let mut ports = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        for line in std::fs::read_to_string(format!("/proc/net/{table}"))?.lines().skip(1) {
            let local = line.split_whitespace().nth(1).and_then(|local| local.rsplit_once(':'));
            ports.push(u16::from_str_radix(local.context("an address")?.1, 16)?);
        }
    }
    ports.sort_unstable();
    Ok(ports)
}

fn unpublished(world: &World) -> Result {
    let mut inside = Inside::start(world, &["-p", "8080:8080", "-p", "8080:8080/udp"])?;
    // Loopback of the container, another port, and the other protocol's port.
    inside.serve(world, "--mode peer 127.0.0.1:8080 [::1]:8080 --udp 127.0.0.1:8080")?;
    inside.serve(world, "--mode peer [::]:8090 --udp [::]:8090 [::]:0")?;
    let (mut remote, mut host) = (Repl::remote(world)?, Repl::host(world)?);
    let ports = host_ports()?;
    ensure!(!ports.contains(&8090), "port 8090 is open on the host: {ports:?}");
    let refused = "ECONNREFUSED";
    let uplink = [(HOST_V4.into(), refused), (HOST_V6.into(), refused)];
    expect_all(&mut remote, "stream", 8080, &uplink)?;
    expect_all(&mut remote, "stream", 8090, &uplink)?;
    let own = [(LOOPBACK_V4, refused), (LOOPBACK_V6, refused)];
    expect_all(&mut host, "stream", 8080, &own)?;
    expect_all(&mut host, "stream", 8090, &own)?;
    for at in ["inet stream connect=127.0.0.1:8080", "inet6 stream connect=[::1]:8090"] {
        let answer = inside.client(world, &format!("{at} recv"))?;
        let said = answer.get(1).and_then(|step| step["value"].as_str()).unwrap_or_default();
        ensure!(said.contains("127.0.0.1:") || said.contains("[::1]:"), "{at}: {answer:?}");
    }
    Ok(())
}

fn ignore_bind(world: &World) -> Result {
    let options = ["--ignore-bind", "-p", "8080:8080"];
    let mut inside = Inside::start(world, &options)?;
    let before = host_ports()?;
    inside.serve(world, "--mode peer [::]:8080 --udp [::]:8080")?;
    ensure_eq!(host_ports()?, before, "ports on the host");
    let mut remote = Repl::remote(world)?;
    expect_all(&mut remote, "stream", 8080, &[(HOST_V4.into(), "ECONNREFUSED")])
}

/// Calls on several sockets; one line for each `open`, `on` or `close` of `fx-client repl`.
/// Port 8071 is published, 8090 is not.
const BINDS: &[&[&str]] = &[
    &["open a inet bind=0.0.0.0:8071 listen=5 local", "open b inet bind=0.0.0.0:8071"],
    &["open a inet bind=0.0.0.0:8071", "open b inet bind=0.0.0.0:8071 listen=5"],
    &[
        "open a inet set:so_reuseport=1 bind=0.0.0.0:8071 listen=5",
        "open b inet set:so_reuseport=1 bind=0.0.0.0:8071 listen=5",
        "open c inet bind=0.0.0.0:8071",
    ],
    &[
        "open a inet set:so_reuseaddr=1 bind=0.0.0.0:8071",
        "open b inet set:so_reuseaddr=1 bind=0.0.0.0:8071",
        "on a listen=5",
        "on b listen=5",
    ],
    &["open a inet6 bind=[::]:8071 listen=5", "open b inet bind=0.0.0.0:8071"],
    &[
        "open a inet6 set:ipv6_v6only=1 bind=[::]:8071 listen=5 local",
        "open b inet bind=0.0.0.0:8071 listen=5 local",
    ],
    &[
        "open a inet bind=0.0.0.0:8071 listen=5",
        "close a",
        "open b inet bind=0.0.0.0:8071 listen=5",
    ],
    &["open a inet bind=0.0.0.0:8071 bind=0.0.0.0:8071 bind=0.0.0.0:8090 listen=5 listen=9"],
    &["open a inet listen=5 bind=0.0.0.0:8071"],
    &["open a inet bind=[::]:8071", "open b inet6 bind=0.0.0.0:8071"],
    &["open a inet bind=203.0.113.7:8071", "open b inet6 bind=[2001:db8::7]:8071"],
    &[
        "open a inet bind=0.0.0.0:8071 flags",
        "open b inet nonblocking cloexec bind=0.0.0.0:8071 flags",
    ],
    &["open a inet nonblocking cloexec bind=0.0.0.0:8071 listen=5 flags accept"],
    &["open a inet set-all bind=0.0.0.0:8071 get-all listen=5 get-all"],
    &["open a inet6 set-all bind=[::]:8071 get-all listen=5 get-all"],
    &["open a inet dgram bind=0.0.0.0:8071 local", "open b inet dgram bind=0.0.0.0:8071"],
    &["open a inet6 dgram bind=[::]:8071 local", "open b inet dgram bind=0.0.0.0:8071"],
    &[
        "open a inet dgram set:so_reuseport=1 bind=0.0.0.0:8071",
        "open b inet dgram set:so_reuseport=1 bind=0.0.0.0:8071",
    ],
    &[
        "open a inet dgram set:so_reuseaddr=1 bind=0.0.0.0:8071",
        "open b inet dgram set:so_reuseaddr=1 bind=0.0.0.0:8071",
    ],
    &["open a inet dgram set-all bind=0.0.0.0:8071 get-all"],
    &["open a inet6 dgram set-all bind=[::]:8071 get-all"],
    &["open a inet dgram bind=0.0.0.0:8071", "close a", "open b inet dgram bind=0.0.0.0:8071"],
];

fn as_natively(world: &World) -> Result {
    let mut natively = Repl::bypassed(world, &["--ignore-bind"])?;
    let mut ours = Repl::bypassed(world, &["-p", "8071:8071", "-p", "8071:8071/udp"])?;
    let mut wrong = Vec::new();
    for lines in BINDS {
        for line in *lines {
            let (native, ours) = (natively.ask(line)?, ours.ask(line)?);
            if untimed(&native) != untimed(&ours) {
                wrong.push(format!("{lines:?}\nnatively  {native}\npublished {ours}"));
            }
        }
        for name in ["a", "b", "c"].iter().take(lines.len()) {
            // Some of them have closed it themselves.
            let close = format!("close {name}\n");
            for repl in [&mut natively, &mut ours] {
                repl.running.write(close.as_bytes())?;
                repl.running.line("", LIMIT)?;
            }
        }
    }
    ensure!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

fn untimed(results: &Value) -> Value {
    let mut results = results.clone();
    for step in results.as_array_mut().into_iter().flatten() {
        step["ms"] = Value::Null;
    }
    results
}

/// Binding a low port takes `CAP_NET_BIND_SERVICE` inside, as it does natively.
fn low_ports(world: &World) -> Result {
    let mut unable = Repl::bypassed(world, &["-p", "8078:80"])?;
    let refused = unable.results("open a inet bind=0.0.0.0:80")?;
    ensure_eq!(refused[0]["result"], "EACCES", "port 80 without a capability");
    let mut able = Repl::bypassed(world, &["--map-root", "-p", "8079:80"])?;
    able.succeed("open a inet bind=0.0.0.0:80 listen=5")?;
    Ok(())
}

fn ephemeral(world: &World) -> Result {
    let report = world.directory("ephemeral")?.join("report.json");
    let path = report.to_str().context("a path in UTF-8")?;
    let options = ["--report", path, "-p", "8080", "-p", "127.0.0.1::8081/udp"];
    let mut inside = Inside::start(world, &options)?;
    inside.serve(world, "--mode peer [::]:8080 --udp [::]:8081")?;
    let (mut remote, mut host) = (Repl::remote(world)?, Repl::host(world)?);
    let (stream, datagram) = (inside.published(8080)?, inside.published(8081)?);
    for (to, seen) in &remote_as_seen() {
        expect_all(&mut remote, "stream", stream, &[(*to, seen)])?;
    }
    let answer = host.who("dgram", SocketAddr::new(LOOPBACK_V4, datagram))?;
    ensure!(answer.parse::<IpAddr>().is_ok(), "UDP to port {datagram}: {answer}");
    ensure!(inside.end()?.success(), "the run failed");

    let report: Value = serde_json::from_str(&std::fs::read_to_string(&report)?)?;
    let published = report["published"].as_array().context("`published` is a list")?;
    for (protocol, container, port) in [("tcp", 8080, stream), ("udp", 8081, datagram)] {
        let found = published.iter().any(|map| {
            map["protocol"] == protocol
                && map["container_port"] == container
                && map["host"].as_str().is_some_and(|host| host.ends_with(&format!(":{port}")))
        });
        ensure!(found, "{protocol} port {port} is not in the report: {published:?}");
    }
    Ok(())
}

/// One program is server and client; the remote sees the host, and is seen itself.
fn both_ways(world: &World) -> Result {
    let server = world.serve_remote(&["--quiet", "--mode", "peer", "[::]:0"])?;
    let mut inside = Repl::bypassed(world, &["-p", "8072:8072"])?;
    inside.succeed("open l inet bind=0.0.0.0:8072 listen=5")?;
    let mut remote = Repl::remote(world)?;
    remote.succeed(&format!("open c inet connect={HOST_V4}:8072 send=hello"))?;
    let from = inside.succeed("on l accept")?;
    ensure!(from.as_str().is_some_and(|from| from.starts_with("198.18.0.2:")), "from {from}");
    inside.succeed("on l recv send=back back")?;
    ensure_eq!(remote.succeed("on c recv")?, "back", "reply");
    let to = SocketAddr::new(REMOTE_V4.into(), server.port());
    ensure_eq!(inside.who("stream", to)?, HOST_V4.to_string(), "who the remote sees");
    let mut command = world.bypass(&["-p", "8072:8072"])?;
    let refused = process::run(command.arg("true"), LIMIT)?.expect_code(125)?;
    ensure!(refused.stderr.contains("8072"), "a second run has the port: {refused}");
    Ok(())
}

/// With a network stack beside us the container has an address, and may be bound to it.
fn own_address(world: &World) -> Result {
    let maps = ["--net", "slirp4netns", "-p", "8062:8080", "-p", "8062:8080/udp"];
    let mut inside = Inside::start(world, &maps)?;
    let (own, mut remote) = ("10.0.2.100", Repl::remote(world)?);
    for bound in ["0.0.0.0", own] {
        let words = format!("--mode peer {bound}:8080 --udp {bound}:8080");
        let server = inside.serve(world, &words)?;
        for kind in ["stream", "dgram"] {
            expect_all(&mut remote, kind, 8062, &[(HOST_V4.into(), &REMOTE_V4.to_string())])?;
        }
        let reached = if bound == own { &[own][..] } else { &[own, "127.0.0.1"] };
        for to in reached {
            let ask = format!("inet set:so_rcvtimeo=5000 connect={to}:8080 recv");
            let answer = inside.client(world, &ask)?;
            ensure_eq!(result_of(&answer, 2), "ok", "{to}, bound to {bound}: {answer:?}");
        }
        let ask = format!("inet dgram set:so_rcvtimeo=5000 connect={own}:8080 send=who recv");
        let answer = inside.client(world, &ask)?;
        ensure_eq!(result_of(&answer, 3), "ok", "UDP, bound to {bound}: {answer:?}");
        inside.stop(server)?;
    }
    Ok(())
}

fn host_binds(world: &World) -> Result {
    let words = ["--host-binds"];
    let refused = process::run(world.bypass(&words)?.arg("true"), LIMIT)?.expect_code(125)?;
    ensure!(refused.stderr.contains("--allow-host-loopback"), "{refused}");

    let words = ["--host-binds", "--allow-host-loopback", "--udp", "all"];
    let mut inside = Inside::start(world, &words)?;
    inside.serve(world, "--mode peer [::]:8080 --udp [::]:8080")?;
    inside.serve(world, "--mode peer 127.0.0.1:8081")?;
    let (mut remote, mut host) = (Repl::remote(world)?, Repl::host(world)?);
    for (to, seen) in &remote_as_seen() {
        for kind in ["stream", "dgram"] {
            expect_all(&mut remote, kind, 8080, &[(*to, seen)])?;
        }
    }
    expect_all(&mut remote, "stream", 8081, &[(HOST_V4.into(), "ECONNREFUSED")])?;
    expect_all(&mut host, "stream", 8081, &[(LOOPBACK_V4, "127.0.0.1")])?;
    let answer = inside.client(world, "inet stream connect=127.0.0.1:8081 recv")?;
    let said = answer.get(1).and_then(|step| step["value"].as_str()).unwrap_or_default();
    ensure!(said.contains("127.0.0.1:"), "{answer:?}");
    Ok(())
}
