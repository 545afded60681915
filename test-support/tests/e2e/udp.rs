//! UDP: connected sockets that are made by the host, others that are not, and what published
//! ones can do.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6, UNREACHABLE_V4};
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::{Sequence, bypassed, counted, reported, result_of};
use crate::inside::Inside;
use crate::repl::Repl;

pub(crate) const SCENARIOS: Group = (
    "udp",
    &[
        Scenario { name: "connected_sockets_are_the_hosts", requires: &[], run: connected },
        Scenario { name: "calls_have_their_native_outcome", requires: &[], run: as_natively },
        Scenario { name: "options_survive_a_connect", requires: &[], run: options },
        Scenario { name: "connecting_elsewhere_moves_the_socket", requires: &[], run: elsewhere },
        Scenario { name: "dissolved_sockets_are_the_containers", requires: &[], run: dissolved },
        Scenario { name: "unconnected_senders_stay_inside", requires: &[], run: unconnected },
        Scenario { name: "without_words_everything_stays_inside", requires: &[], run: off },
        Scenario { name: "udp_all_takes_the_first_send", requires: &[], run: all },
        Scenario { name: "udp_all_takes_clients_that_bind_first", requires: &[], run: bound_first },
        Scenario { name: "ignored_and_denied_stay_so", requires: &[], run: policy },
        Scenario { name: "published_sockets_do_all_that_native_ones_do", requires: &[], run: rich },
        Scenario { name: "host_clients_are_relayed_one_by_one", requires: &[], run: relayed },
        Scenario {
            name: "no_control_message_leads_past_the_device",
            requires: &[],
            run: past_the_device,
        },
    ],
);

const CONNECTED: &[&str] = &["--udp", "connected"];

/// A datagram that does not come is told of as EAGAIN.
const LIMIT: &str = "set:so_rcvtimeo=2000";

fn connected(world: &World) -> Result {
    let mut server = world.serve_remote(&["--udp", "[::]:0"])?;
    let mapped = format!("[::ffff:{REMOTE_V4}]:{}", server.port());
    let cases = [
        ("inet", server.at(REMOTE_V4), IpAddr::from(HOST_V4)),
        ("inet6", server.at(REMOTE_V6), IpAddr::from(HOST_V6)),
        ("inet6", mapped, IpAddr::from(HOST_V4)),
    ];
    for (family, to, from) in cases {
        let connect = format!("connect={to}");
        let words = ["sequence", family, "dgram", LIMIT, &connect, "send=hello", "recv", "local"];
        let (steps, report) = reported(world, CONNECTED, &words)?;
        ensure_eq!(steps[3]["value"], "hello", "echo from {to}: {steps}");
        ensure_eq!(server.next_peer()?.ip(), from, "address that {to} sees");
        let local: SocketAddr = steps[4]["value"].as_str().unwrap_or_default().parse()?;
        ensure_eq!(local.ip().to_canonical(), from, "own address of a socket to {to}");
        ensure_eq!(counted(&report, "switched"), Some(1), "switched sockets, {to}: {report}");
    }
    Ok(())
}

/// Steps for one socket; `ECHO`, `OTHER`, `CLOSED` and `NOROUTE` stand for addresses.
const OUTCOMES: &[&str] = &[
    "connect=ECHO send=hello recvmsg local peer flags",
    "connect=CLOSED send=x recv send=y recv peer",
    "connect=NOROUTE peer local",
    "connect=ECHO connect=NOROUTE peer",
    "connect=ECHO connect=ECHO send=hello recv",
    "connect=CLOSED connect=ECHO send=hello recv peer",
    "connect=ECHO unspec peer local",
    "unspec local peer connect=ECHO send=hello recv",
    "connect=ECHO send=hello recv unspec connect=OTHER send=again recvmsg peer",
    "connect=ECHO shutdown send=x",
    "nonblocking connect=ECHO flags wait send=hello",
    "nonblocking connect=ECHO recv",
    "cloexec connect=ECHO flags",
    "dup connect=ECHO send=hello recv flags",
    "epoll-add connect=ECHO epoll-wait send=hello recv",
    "connect=ECHO sendto=ECHO recv sendmsg=ECHO recv",
    "connect=ECHO sendmmsg recvmmsg=2",
    "connect=ECHO segmented recvmmsg=3",
    "connect=ECHO listen=5",
    "bind=ANY:0 connect=ECHO send=hello recv peer",
    "set:so_reuseaddr=1 bind=ANY:4500 connect=ECHO send=hello recv local",
];

fn as_natively(world: &World) -> Result {
    let echo = world.serve_remote(&["--quiet", "--udp", "[::]:0"])?;
    let other = world.serve_remote(&["--quiet", "--udp", "[::]:0"])?;
    let mut wrong = Vec::new();
    for template in OUTCOMES {
        for (family, remote, any) in
            [("inet", IpAddr::from(REMOTE_V4), "0.0.0.0"), ("inet6", REMOTE_V6.into(), "[::]")]
        {
            if family == "inet6" && template.contains("NOROUTE") {
                continue;
            }
            let steps = format!("{LIMIT} {template}")
                .replace("ECHO", &echo.at(remote))
                .replace("OTHER", &other.at(remote))
                .replace("CLOSED", &SocketAddr::new(remote, 1).to_string())
                .replace("NOROUTE", &format!("{UNREACHABLE_V4}:9"))
                .replace("ANY", any);
            let sequence = Sequence { family, steps: &format!("dgram {steps}") };
            if let Err(difference) = sequence.same_as_native(world, CONNECTED) {
                wrong.push(format!("{template} ({family}): {difference}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{} sequences differ\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

fn options(world: &World) -> Result {
    let echo = world.serve_remote(&["--quiet", "--udp", "[::]:0"])?;
    for (family, to) in [("inet", echo.at(REMOTE_V4)), ("inet6", echo.at(REMOTE_V6))] {
        for steps in [
            format!("dgram set-all get-all connect={to} get-all set:udp_segment=0 send=hello recv"),
            format!("dgram connect={to} set-all get-all"),
            format!("dgram get-all connect={to} get-all unspec get-all"),
        ] {
            Sequence { family, steps: &steps }.same_as_native(world, CONNECTED)?;
        }
    }
    Ok(())
}

fn elsewhere(world: &World) -> Result {
    let mut one = world.serve_remote(&["--udp", "[::]:0"])?;
    let mut two = world.serve_remote(&["--udp", "[::]:0"])?;
    let mut inside = Repl::bypassed(world, CONNECTED)?;
    for (family, remote, host) in [
        ("inet", IpAddr::from(REMOTE_V4), IpAddr::from(HOST_V4)),
        ("inet6", REMOTE_V6.into(), HOST_V6.into()),
    ] {
        let words = format!(
            "sequence {family} dgram {LIMIT} connect={} send=one recv connect={} send=two recvmsg",
            one.at(remote),
            two.at(remote)
        );
        let last = inside.succeed(&words)?;
        ensure_eq!(last["text"], "two", "echo from the second");
        ensure_eq!(last["from"], two.at(remote), "where it came from");
        ensure_eq!(one.next_peer()?.ip(), host, "address that the first sees");
        ensure_eq!(two.next_peer()?.ip(), host, "address that the second sees");
    }
    // From the outside to the container's own, and out again.
    inside.succeed("open own inet dgram bind=127.0.0.1:4501")?;
    let words = format!(
        "open c inet dgram {LIMIT} connect={} send=out recv connect=127.0.0.1:4501 send=in",
        one.at(REMOTE_V4)
    );
    inside.succeed(&words)?;
    ensure_eq!(inside.succeed(&format!("on own {LIMIT} recv"))?, "in", "the container's own");
    let back = inside.succeed(&format!("on c connect={} send=out recv", one.at(REMOTE_V4)))?;
    ensure_eq!(back, "out", "the outside, again");
    Ok(())
}

fn dissolved(world: &World) -> Result {
    let server = world.serve_remote(&["--udp", "0.0.0.0:0"])?;
    let mut inside = Repl::bypassed(world, CONNECTED)?;
    inside.succeed("open own inet dgram bind=127.0.0.1:4501")?;
    let words = format!(
        "open c inet dgram {LIMIT} connect={} send=hello recv unspec sendto=127.0.0.1:4501",
        server.at(REMOTE_V4)
    );
    inside.succeed(&words)?;
    let got = inside.succeed(&format!("on own {LIMIT} recvmsg"))?;
    ensure_eq!(got["text"], "payload", "a datagram to the container's own loopback");
    let from = got["from"].as_str().unwrap_or_default();
    ensure!(from.starts_with("127.0.0.1:"), "it came from {from}");
    // Without a connection it is the container's, which has no way out.
    let lost = inside.results(&format!("on c sendto={}", server.at(REMOTE_V4)))?;
    ensure_eq!(result_of(&lost, 0), "ENETUNREACH", "a datagram to the remote");
    ensure_eq!(server.peers().len(), 1, "peers");
    Ok(())
}

const UNCONNECTED: &[&str] = &["sendto", "sendmsg", "sendmmsg"];

fn unconnected(world: &World) -> Result {
    stay_inside(world, CONNECTED, UNCONNECTED)
}

fn off(world: &World) -> Result {
    let ways = [&["connect"], UNCONNECTED].concat();
    stay_inside(world, &[], &ways)?;
    stay_inside(world, &["--udp", "off"], &ways)
}

/// Without a network stack beside us they have no way out.
fn stay_inside(world: &World, options: &[&str], ways: &[&str]) -> Result {
    let server = world.serve_remote(&["--udp", "[::]:0"])?;
    for (family, to) in [("inet", server.at(REMOTE_V4)), ("inet6", server.at(REMOTE_V6))] {
        for way in ways {
            let step = format!("{way}={to}");
            let steps = bypassed(world, options, &["sequence", family, "dgram", &step])?;
            ensure_eq!(steps[0]["result"], "ENETUNREACH", "{step}");
        }
    }
    ensure_eq!(server.peers(), [], "peers");
    Ok(())
}

fn all(world: &World) -> Result {
    let mut server = world.serve_remote(&["--udp", "[::]:0"])?;
    let mut other = world.serve_remote(&["--udp", "[::]:0"])?;
    let mut inside = Repl::bypassed(world, &["--udp", "all"])?;
    for (family, remote, host) in [
        ("inet", IpAddr::from(REMOTE_V4), IpAddr::from(HOST_V4)),
        ("inet6", REMOTE_V6.into(), HOST_V6.into()),
    ] {
        for (way, replies) in [
            ("sendto", "recvmsg"),
            ("sendmsg", "recvmsg"),
            ("sendmmsg", "recvmmsg=2"),
            ("segmented", "recvmmsg=3"),
        ] {
            let words = format!(
                "sequence {family} dgram {LIMIT} {way}={} {replies} {way}={} {replies}",
                server.at(remote),
                other.at(remote)
            );
            inside.succeed(&words)?;
            ensure_eq!(server.next_peer()?.ip(), host, "{way}: address that the first sees");
            ensure_eq!(other.next_peer()?.ip(), host, "{way}: address that the second sees");
        }
    }
    // What is the container's own is so with `all` as well.
    inside.succeed("open own inet dgram bind=127.0.0.1:4501")?;
    for way in UNCONNECTED {
        inside.succeed(&format!("sequence inet dgram {way}=127.0.0.1:4501"))?;
        let got = inside.succeed(&format!("on own {LIMIT} recvmsg"))?;
        ensure!(got["from"].as_str().is_some_and(|from| from.starts_with("127.0.0.1:")), "{got}");
        if *way == "sendmmsg" {
            inside.succeed("on own recvmsg")?;
        }
    }
    Ok(())
}

/// Clients of QUIC bind to the wildcard and a port of the kernel's choice before they send.
fn bound_first(world: &World) -> Result {
    let mut server = world.serve_remote(&["--udp", "[::]:0"])?;
    let mut inside = Repl::bypassed(world, &["--udp", "all"])?;
    for (family, any, remote, host) in [
        ("inet", "0.0.0.0", IpAddr::from(REMOTE_V4), IpAddr::from(HOST_V4)),
        ("inet6", "[::]", REMOTE_V6.into(), HOST_V6.into()),
    ] {
        // Event loops have registered it by then, some with two descriptors of their epoll.
        for way in ["sendto", "sendmsg", "epoll-add sendmsg", "epoll-add epoll-dup segmented"] {
            let to = server.at(remote);
            let words = format!("sequence {family} dgram {LIMIT} bind={any}:0 {way}={to} recvmsg");
            inside.succeed(&words)?;
            ensure_eq!(server.next_peer()?.ip(), host, "{way}: address that the remote sees");
        }
    }
    Ok(())
}

fn policy(world: &World) -> Result {
    let server = world.serve_remote(&["--udp", "[::]:0"])?;
    let nets = "198.18.0.0/24,fd00:18::/64";
    for udp in ["connected", "all"] {
        for (family, to) in [("inet", server.at(REMOTE_V4)), ("inet6", server.at(REMOTE_V6))] {
            for way in ["connect", "sendto", "sendmsg", "sendmmsg"] {
                let step = format!("{way}={to}");
                let words = ["sequence", family, "dgram", &step];
                let steps = bypassed(world, &["--udp", udp, "--ignore", nets], &words)?;
                ensure_eq!(steps[0]["result"], "ENETUNREACH", "{step}, ignored");
                let steps = bypassed(world, &["--udp", udp, "--deny", nets], &words)?;
                ensure!(steps[0]["result"] != "ok", "{step}, denied: {steps}");
            }
        }
    }
    ensure_eq!(server.peers(), [], "peers");
    Ok(())
}

/// A server's calls and a remote client's, in turn: `S` is the server, `C` a client of it that
/// is connected, `U` one that is not. `TO` is the server, `CLIENT` the client `C`.
const EXCHANGES: &[&[(&str, &str)]] = &[
    &[("C", "send=one"), ("S", "recvmsg reply=back"), ("C", "recvmsg")],
    &[("U", "sendto=TO sendmsg=TO"), ("S", "recvmsg recvmsg reply=back"), ("U", "recvmsg")],
    &[("C", "sendmmsg"), ("S", "recvmmsg=2 sendmmsg=CLIENT"), ("C", "recvmmsg=2")],
    &[("U", "sendmmsg=TO"), ("S", "recvmmsg=2")],
    &[("S", "segmented=CLIENT"), ("C", "recvmmsg=3")],
    &[("C", "set:udp_gro=1"), ("S", "segmented=CLIENT"), ("C", "recvmsg")],
    &[("C", "segmented"), ("S", "recvmsg recvmsg recvmsg")],
    &[("S", "set:udp_gro=1"), ("C", "segmented"), ("S", "recvmsg set:udp_gro=0")],
    &[("C", "TOS=2 send=ect0"), ("S", "recvmsg"), ("C", "TOS=3 send=ce"), ("S", "recvmsg")],
    &[("C", "RECVTOS=1"), ("S", "TOS=1 sendto=CLIENT"), ("C", "recvmsg")],
    &[("C", "send="), ("S", "recvmsg reply="), ("C", "recvmsg")],
    &[("S", "connect=CLIENT send=pinned"), ("C", "recvmsg send=back"), ("S", "recvmsg")],
    &[("S", "unspec local"), ("C", "send=again"), ("S", "recvmsg reply=back"), ("C", "recvmsg")],
    &[("S", "dup"), ("C", "send=dup"), ("S", "recvmsg reply=back"), ("C", "recvmsg")],
];

/// Server and clients do the same twice: natively on the host, and published.
fn rich(world: &World) -> Result {
    for family in ["inet", "inet6"] {
        let mut native = Repl::host(world)?;
        let expected = exchange(world, &mut native, family)?;
        drop(native);
        let mut inside = Repl::bypassed(world, &["-p", "4600:4600/udp"])?;
        let got = exchange(world, &mut inside, family)?;
        ensure_eq!(got.len(), expected.len(), "{family}, steps");
        for (got, expected) in got.iter().zip(&expected) {
            ensure_eq!(got, expected, "{family}");
        }
    }
    Ok(())
}

fn exchange(world: &World, server: &mut Repl, family: &str) -> Result<Vec<Value>> {
    let (any, host, tos, recvtos, pktinfo) = match family {
        "inet" => ("0.0.0.0", HOST_V4.to_string(), "ip_tos", "ip_recvtos", "ip_pktinfo"),
        _ => ("[::]", format!("[{HOST_V6}]"), "ipv6_tclass", "ipv6_recvtclass", "ipv6_recvpktinfo"),
    };
    let mut remote = Repl::remote(world)?;
    let set = format!("{LIMIT} set:{recvtos}=1 set:{pktinfo}=1");
    server.succeed(&format!("open S {family} dgram {set} bind={any}:4600"))?;
    let client =
        remote.succeed(&format!("open C {family} dgram {LIMIT} connect={host}:4600 local"))?;
    let client = client.as_str().context("the client's address")?;
    remote.succeed(&format!("open U {family} dgram {LIMIT}"))?;
    let mut all = Vec::new();
    for (who, steps) in EXCHANGES.iter().copied().flatten() {
        let steps = steps
            .replace("RECVTOS", &format!("set:{recvtos}"))
            .replace("TOS", &format!("set:{tos}"))
            .replace("TO", &format!("{host}:4600"))
            .replace("CLIENT", client);
        let actor = if *who == "S" { &mut *server } else { &mut remote };
        let results = actor.results(&format!("on {who} {steps}"))?;
        all.extend(results.iter().map(|step| told(who, step, client)));
    }
    Ok(all)
}

/// A step without times and the ports that the kernel chose.
fn told(who: &str, step: &Value, client: &str) -> Value {
    let name = step["step"].as_str().unwrap_or_default().replace(client, "CLIENT");
    let mut value = step["value"].clone();
    let mask = |value: &mut Value| {
        if let Some(ip) = value["from"].as_str().and_then(|from| from.rsplit_once(':')) {
            value["from"] = json!(ip.0);
        }
    };
    if value.is_object() {
        mask(&mut value);
    } else {
        value.as_array_mut().into_iter().flatten().for_each(mask);
    }
    json!({ "who": who, "step": name, "result": step["result"], "value": value })
}

fn relayed(world: &World) -> Result {
    let mut inside =
        Inside::start(world, &["-p", "4600:4601/udp", "-p", "127.0.0.1:4602:4601/udp"])?;
    let mut host = Repl::host(world)?;
    for round in ["first", "second"] {
        let server = inside.serve(world, "--udp [::]:4601")?;
        for (family, to) in
            [("inet", "127.0.0.1:4600"), ("inet6", "[::1]:4600"), ("inet", "127.0.0.1:4602")]
        {
            let open = format!("inet dgram {LIMIT} connect={to}").replace("inet", family);
            for name in ["a", "b", "c"] {
                host.succeed(&format!("open {name} {open}"))?;
            }
            // All of them are under way before the first is answered.
            for name in ["a", "b", "c"] {
                host.succeed(&format!("on {name} send={name}-{round} sendmmsg send="))?;
            }
            for name in ["c", "a", "b"] {
                let steps = host.results(&format!("on {name} recv recv recv recv"))?;
                let got: Vec<_> = steps.iter().map(|step| step["value"].clone()).collect();
                let expected = json!([format!("{name}-{round}"), "first", "second", ""]);
                ensure_eq!(json!(got), expected, "{round} server, client {name} of {to}");
            }
        }
        inside.stop(server)?;
    }
    Ok(())
}

/// What the pin alone does not keep: the kernel lets the device that a control message names
/// go before the one that the socket is bound to.
fn past_the_device(world: &World) -> Result {
    let mut guarded = world.serve_host(&["--udp", "127.0.0.1:4610"])?;
    let server = world.serve_remote(&["--quiet", "--udp", "0.0.0.0:0"])?;
    let uplink = nix::net::if_::if_nametoindex("up0")?;
    let steps = format!("connect={} oif4=127.0.0.1:4610", server.at(REMOTE_V4));
    let pinned = format!("sequence inet dgram set:so_bindtoifindex={} {steps}", uplink);
    Repl::host(world)?.succeed(&pinned)?;
    guarded.next_peer().context("natively the datagram passes a pinned socket by")?;
    let mut inside = Repl::bypassed(world, CONNECTED)?;
    for many in ["", "-many"] {
        let words =
            format!("sequence inet dgram {}", steps.replace("oif4", &format!("oif4{many}")));
        let results = inside.results(&words)?;
        ensure_eq!(result_of(&results, 0), "ok", "connect");
    }
    // Whatever came before is told of before we are.
    Repl::host(world)?.succeed("sequence inet dgram connect=127.0.0.1:4610 send=ours recv")?;
    guarded.next_peer()?;
    ensure_eq!(guarded.peers().len(), 2, "peers");
    Ok(())
}
