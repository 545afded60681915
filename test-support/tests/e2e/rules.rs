//! The policy language: which rule decides, for which sockets, in which container.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde_json::{Value, json};
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE};
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6, Server};
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::{LIMIT, bypassed, counted, reported};
use crate::repl::Repl;
use crate::serve::{Agent, CRUN};

pub(crate) const SCENARIOS: Group = (
    "rules",
    &[
        Scenario { name: "ports_and_protocols_are_told_apart", requires: &[], run: ports },
        Scenario { name: "the_first_rule_that_matches_counts", requires: &[], run: order },
        Scenario { name: "what_is_not_allowed_is_refused", requires: &[], run: default_deny },
        Scenario { name: "what_is_not_allowed_is_left", requires: &[], run: default_leave },
        Scenario { name: "every_datagram_is_judged", requires: &[], run: datagrams },
        Scenario { name: "published_servers_keep_to_the_default", requires: &[], run: published },
        Scenario { name: "sockets_that_stay_are_denied_as_well", requires: &[], run: unbypassed },
        Scenario { name: "metadata_services_are_denied_by_preset", requires: &[], run: metadata },
        Scenario { name: "host_addresses_are_denied_as_they_come", requires: &[], run: host },
        Scenario { name: "a_mistake_in_a_file_is_told_with_its_line", requires: &[], run: mistake },
        Scenario { name: "a_file_says_what_options_say", requires: &[], run: file },
        Scenario { name: "each_container_has_its_own_policy", requires: CRUN, run: sections },
        Scenario { name: "explain_tells_what_decides", requires: &[], run: explain },
    ],
);

/// Servers on the remote, each for both protocols on one port.
fn servers(world: &World) -> Result<(Server, Server)> {
    let start = |at: &str| world.serve_remote(&[at, "--udp", at]);
    Ok((start("[::]:7020")?, start("[::]:7021")?))
}

/// The result of `connect`, and the report.
fn outcome(world: &World, options: &[&str], kind: &str, to: &str) -> Result<(String, Value)> {
    let family = if to.starts_with('[') { "inet6" } else { "inet" };
    let connect = format!("connect={to}");
    let (steps, report) = reported(world, options, &["sequence", family, kind, &connect])?;
    Ok((steps[0]["result"].as_str().unwrap_or_default().to_owned(), report))
}

/// How a connect ended, by the report: its outcome and reason.
fn reason(report: &Value, outcome: &str, reason: &str) -> u64 {
    report["reasons"][outcome][reason].as_u64().unwrap_or(0)
}

fn ports(world: &World) -> Result {
    let (one, other) = servers(world)?;
    for (to_one, to_other, target) in [
        (one.at(REMOTE_V4), other.at(REMOTE_V4), REMOTE_V4.to_string()),
        (one.at(REMOTE_V6), other.at(REMOTE_V6), format!("[{REMOTE_V6}]")),
    ] {
        let rule = format!("{target}:{}/tcp", one.port());
        let options = ["--udp", "connected", "--deny", &rule];
        for (kind, to, denied) in [
            ("stream", &to_one, true),
            ("stream", &to_other, false),
            ("dgram", &to_one, false),
            ("dgram", &to_other, false),
        ] {
            let (result, report) = outcome(world, &options, kind, to)?;
            let expected = if denied { "ENETUNREACH" } else { "ok" };
            ensure_eq!(result, expected, "{kind} {to} with {options:?}");
            ensure_eq!(reason(&report, "denied", "deny_rule"), u64::from(denied), "{report}");
        }
    }
    Ok(())
}

fn order(world: &World) -> Result {
    let (one, other) = servers(world)?;
    let exception = format!("198.18.0.2:{}", one.port());
    let options = ["--allow", &exception, "--deny", "198.18.0.0/24"];
    for (to, expected) in [
        (one.at(REMOTE_V4), "ok"),
        (other.at(REMOTE_V4), "ENETUNREACH"),
        (SocketAddr::new(REMOTE_V4.to_ipv6_mapped().into(), one.port()).to_string(), "ok"),
        (
            SocketAddr::new(REMOTE_V4.to_ipv6_mapped().into(), other.port()).to_string(),
            "ENETUNREACH",
        ),
        (other.at(REMOTE_V6), "ok"),
    ] {
        ensure_eq!(outcome(world, &options, "stream", &to)?.0, expected, "{to}");
    }
    // The other way round the exception would mean nothing, and is not taken.
    let mut command = world.bypass(&["--deny", "198.18.0.0/24", "--allow", &exception])?;
    let finished = process::run(command.arg("true"), PATIENCE)?.expect_code(125)?;
    ensure!(finished.stderr.contains("never decides"), "{finished}");
    Ok(())
}

fn default_deny(world: &World) -> Result {
    let (one, other) = servers(world)?;
    let allow = format!("198.18.0.2:{}/tcp,fd00:18::/64", one.port());
    let options = ["--default", "deny", "--allow", &allow, "--ignore", "203.0.113.0/24"];
    for (to, result, key, why) in [
        (one.at(REMOTE_V4), "ok", "switched", "allowed"),
        (other.at(REMOTE_V4), "ENETUNREACH", "denied", "not_allowed"),
        (other.at(REMOTE_V6), "ok", "switched", "allowed"),
        (format!("{HOST_V4}:{}", one.port()), "ENETUNREACH", "denied", "not_allowed"),
        // Nobody is there, and that is what the container's own network says.
        ("203.0.113.9:80".to_owned(), "ENETUNREACH", "left", "ignored"),
        ("127.0.0.1:80".to_owned(), "ECONNREFUSED", "left", "host_loopback"),
    ] {
        let (said, report) = outcome(world, &options, "stream", &to)?;
        ensure_eq!(said, result, "{to}: {report}");
        ensure_eq!(reason(&report, key, why), 1, "{to}: {report}");
    }
    Ok(())
}

fn default_leave(world: &World) -> Result {
    let (one, other) = servers(world)?;
    let allow = format!("198.18.0.2:{}", one.port());
    let options = ["--default", "leave", "--allow", &allow];
    let (said, report) = outcome(world, &options, "stream", &one.at(REMOTE_V4))?;
    ensure_eq!(said, "ok", "{report}");
    ensure_eq!(counted(&report, "switched"), Some(1), "{report}");
    let (said, report) = outcome(world, &options, "stream", &other.at(REMOTE_V4))?;
    // Inside there is no route.
    ensure_eq!(said, "ENETUNREACH", "{report}");
    ensure_eq!(reason(&report, "left", "not_allowed"), 1, "{report}");
    ensure_eq!(other.peers(), [], "peers of what is left");
    Ok(())
}

/// Ways to send a datagram to `TO` with a socket of the host that talks to `FRIEND`.
const WAYS: &[&str] = &[
    "connect=FRIEND sendto=TO",
    "connect=FRIEND sendmsg=TO",
    "connect=FRIEND sendmmsg=TO",
    "connect=FRIEND segmented=TO",
    "connect=FRIEND connect=TO send=x",
    "connect=FRIEND unspec connect=TO send=x",
    "connect=FRIEND dup sendto=TO",
    "connect=FRIEND child:sendto=TO",
    "connect=TO send=x",
    "sendto=TO",
    "sendmsg=TO",
    "sendto=FRIEND sendto=TO",
    "sendto=FRIEND sendmmsg=TO",
];

fn datagrams(world: &World) -> Result {
    let (one, mut other) = servers(world)?;
    let allow = format!("any:{}/udp", one.port());
    let deny = format!("any:{}", other.port());
    for udp in ["connected", "all"] {
        for options in [
            ["--default", "deny", "--allow", &allow],
            ["--default", "leave", "--allow", &allow],
            ["--default", "allow", "--deny", &deny],
        ] {
            let options = [&["--udp", udp][..], &options].concat();
            let mut inside = Repl::bypassed(world, &options)?;
            for (family, ip) in
                [("inet", IpAddr::from(REMOTE_V4)), ("inet6", IpAddr::from(REMOTE_V6))]
            {
                for way in WAYS {
                    let steps = way.replace("FRIEND", &one.at(ip)).replace("TO", &other.at(ip));
                    inside.ask(&format!("sequence {family} dgram {steps}"))?;
                }
                let hello =
                    format!("sequence {family} dgram connect={} send=hello recv", one.at(ip));
                inside.succeed(&hello)?;
            }
            ensure_eq!(other.peers(), [], "peers of what is not allowed, {options:?}");
        }
    }
    // By each of these ways it is reached where nothing forbids it.
    let mut free = Repl::bypassed(world, &["--udp", "all"])?;
    for way in WAYS {
        let steps = way.replace("FRIEND", &one.at(REMOTE_V4)).replace("TO", &other.at(REMOTE_V4));
        free.ask(&format!("sequence inet dgram {steps}"))?;
        other.next_peer().context(format!("nobody came by {way}"))?;
    }
    Ok(())
}

/// A published UDP socket cannot be left to the container, so what is not allowed it does not reach.
fn published(world: &World) -> Result {
    let (one, other) = servers(world)?;
    let allow = format!("198.18.0.2:{}", one.port());
    for default in ["deny", "leave"] {
        let options = ["--default", default, "--allow", &allow, "-p", "8090:8090/udp"];
        let mut inside = Repl::bypassed(world, &options)?;
        inside.succeed("open server inet dgram bind=0.0.0.0:8090")?;
        let sent = inside.results(&format!("on server sendto={}", one.at(REMOTE_V4)))?;
        ensure_eq!(sent[0]["result"], "ok", "to who is allowed: {sent:?}");
        for way in ["sendto", "sendmsg", "sendmmsg", "connect"] {
            let sent = inside.results(&format!("on server {way}={}", other.at(REMOTE_V4)))?;
            ensure_eq!(sent[0]["result"], "ENETUNREACH", "{way} to who is not: {sent:?}");
        }
    }
    ensure_eq!(other.peers(), [], "peers that are not allowed");
    Ok(())
}

/// `--udp off` keeps UDP in the container, which is no way past a rule.
fn unbypassed(world: &World) -> Result {
    let (one, _) = servers(world)?;
    let options = ["--udp", "off", "--deny", "198.18.0.0/24"];
    let (said, report) = outcome(world, &options, "dgram", &one.at(REMOTE_V4))?;
    ensure_eq!(said, "ENETUNREACH", "{report}");
    ensure_eq!(reason(&report, "denied", "deny_rule"), 1, "{report}");
    Ok(())
}

const METADATA_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

fn metadata(world: &World) -> Result {
    for (words, remote) in [
        ("addr add 169.254.169.254/32 dev up0", true),
        ("addr add fd00:ec2::254/128 dev up0 nodad", true),
        ("route add 169.254.169.254 dev up0", false),
        ("route add fd00:ec2::254 dev up0", false),
    ] {
        let mut ip = if remote { world.in_remote("ip") } else { world.on_host("ip") };
        process::run(ip.args(words.split(' ')), PATIENCE)?.success()?;
    }
    let server = world.serve_remote(&["[::]:0"])?;
    let port = server.port();
    let v6 = format!("[fd00:ec2::254]:{port}");
    let mapped = SocketAddr::new(METADATA_V4.to_ipv6_mapped().into(), port).to_string();
    for to in [server.at(METADATA_V4), v6, mapped] {
        ensure_eq!(outcome(world, &[], "stream", &to)?.0, "ok", "{to} without a rule");
        for options in [["--deny-preset", "metadata"], ["--deny", "metadata"]] {
            let (said, report) = outcome(world, &options, "stream", &to)?;
            ensure_eq!(said, "ENETUNREACH", "{to} with {options:?}");
            ensure_eq!(reason(&report, "denied", "deny_rule"), 1, "{report}");
        }
        let except = format!("metadata:{port}/tcp");
        let options = ["--allow", &except, "--deny-preset", "metadata"];
        ensure_eq!(outcome(world, &options, "stream", &to)?.0, "ok", "{to} with {options:?}");
    }
    let (said, _) =
        outcome(world, &["--deny-preset", "metadata"], "stream", &server.at(REMOTE_V4))?;
    ensure_eq!(said, "ok", "another address");
    Ok(())
}

fn host(world: &World) -> Result {
    const LATER: &str = "198.18.0.77";
    let server = world.serve_host(&["[::]:0", "--udp", "[::]:0"])?;
    let remote = world.serve_remote(&["[::]:0"])?;
    let port = server.port();
    let own = [server.at(HOST_V4), server.at(HOST_V6), format!("[::ffff:{HOST_V4}]:{port}")];
    // Without a rule they are reached, or the rest would show nothing.
    for to in &own {
        ensure_eq!(outcome(world, &[], "stream", to)?.0, "ok", "{to} without a rule");
    }
    let peers = server.peers().len();
    let mut inside =
        Repl::bypassed(world, &["--udp", "all", "--deny-preset", "host", "--deny", "198.18.0.9"])?;
    let connect = |inside: &mut Repl, kind: &str, to: &str| -> Result<String> {
        let family = if to.starts_with('[') { "inet6" } else { "inet" };
        let steps = inside.results(&format!("sequence {family} {kind} connect={to}"))?;
        Ok(steps[0]["result"].as_str().unwrap_or_default().to_owned())
    };
    for to in &own {
        for kind in ["stream", "dgram"] {
            ensure_eq!(connect(&mut inside, kind, to)?, "ENETUNREACH", "{kind} to {to}");
        }
        let family = if to.starts_with('[') { "inet6" } else { "inet" };
        let sent = inside.results(&format!("sequence {family} dgram sendto={to}"))?;
        ensure_eq!(sent[0]["result"], "ENETUNREACH", "a datagram to {to}");
    }
    ensure_eq!(connect(&mut inside, "stream", &remote.at(REMOTE_V4))?, "ok", "the remote");
    // Its own loopback is the container's.
    let refused = connect(&mut inside, "stream", &format!("127.0.0.1:{port}"))?;
    ensure_eq!(refused, "ECONNREFUSED", "the container's loopback");

    let change = |verb: &str| -> Result {
        let mut ip = world.on_host("ip");
        let address = format!("{LATER}/24");
        process::run(ip.args(["addr", verb, &address, "dev", "up0"]), PATIENCE)?.success()?;
        Ok(())
    };
    let later = format!("{LATER}:{port}");
    change("add")?;
    let with = connect(&mut inside, "stream", &later);
    change("del")?;
    ensure_eq!(with?, "ENETUNREACH", "an address that the host was given meanwhile");
    ensure_eq!(server.peers().len(), peers, "peers of the host's server");
    Ok(())
}

/// A policy file that the ordinary user can read.
fn written(world: &World, name: &str, text: &str) -> Result<PathBuf> {
    let path = world.directory(name)?.join("policy.toml");
    std::fs::write(&path, text)?;
    Ok(path)
}

fn mistake(world: &World) -> Result {
    let path =
        written(world, "mistaken", "default = \"deny\"\nrules = [\n  { alow = \"any\" },\n]\n")?;
    let path = path.to_str().context("a path in UTF-8")?;
    let mut run = world.bypass(&["--policy", path])?;
    run.arg("true");
    let mut serve = world.as_user(world.program("bypass-cli")?);
    serve.args(["serve", "--policy", path]);
    let mut profile = world.as_user(world.program("bypass-cli")?);
    profile.args(["profile", "--policy", path]);
    for mut command in [run, serve, profile] {
        let finished = process::run(&mut command, PATIENCE)?.expect_code(125)?;
        let expected = format!("{path}:3: \"alow\" is not known here: write one of allow, deny");
        ensure!(finished.stderr.contains(&expected), "{finished}");
    }
    let absent = format!("{path}.absent");
    let finished = process::run(world.bypass(&["--policy", &absent])?.arg("true"), PATIENCE)?;
    ensure!(finished.stderr.contains("cannot be read; name a file"), "{finished}");
    ensure_eq!(finished.code(), 125, "exit status without the file");
    Ok(())
}

fn file(world: &World) -> Result {
    let (one, other) = servers(world)?;
    let port = one.port();
    let text = format!(
        "default = 'deny'\nignore = '203.0.113.0/24'\nallow-host-loopback = true\nrules = [\n\
         {{ deny = ['metadata', 'private:{port}'] }},\n\
         {{ allow = ['198.18.0.2:{port}/tcp', '127.0.0.1:{port}'] }},\n]\n"
    );
    let path = written(world, "options-as-a-file", &text)?;
    let options = ["--policy", path.to_str().context("a path in UTF-8")?];
    let local = world.serve_host(&[&format!("127.0.0.1:{port}")])?;
    for (to, expected) in [
        (one.at(REMOTE_V4), "ok"),
        (other.at(REMOTE_V4), "ENETUNREACH"),
        (local.at(Ipv4Addr::LOCALHOST), "ok"),
        (other.at(Ipv4Addr::LOCALHOST), "ENETUNREACH"),
    ] {
        let (said, report) = outcome(world, &options, "stream", &to)?;
        ensure_eq!(said, expected, "{to}: {report}");
    }
    // What the options say comes first.
    let deny = [&options[..], &["--deny", "198.18.0.0/24"]].concat();
    let (said, report) = outcome(world, &deny, "stream", &one.at(REMOTE_V4))?;
    ensure_eq!(said, "ENETUNREACH", "{report}");
    let allow = [&options[..], &["--default", "allow"]].concat();
    let steps = bypassed(
        world,
        &allow,
        &["sequence", "inet", &format!("connect={}", other.at(REMOTE_V4))],
    )?;
    ensure_eq!(steps[0]["result"], "ok", "with another default");
    Ok(())
}

fn sections(world: &World) -> Result {
    let (one, other) = servers(world)?;
    let (to_one, to_other) = (one.at(REMOTE_V4), other.at(REMOTE_V4));
    let text = format!(
        "rules = [{{ deny = 'any:{other}' }}]\n\
         [[container]]\nid = 'closed-*'\ndefault = 'deny'\n\
         [[container]]\nannotations = {{ 'org.example/role' = 'front?' }}\n\
         rules = [{{ allow = 'any:{other}' }}]\n",
        other = other.port()
    );
    let path = written(world, "sections", &text)?;
    let policy = ["--policy", path.to_str().context("a path in UTF-8")?];
    // The profile needs to know it, for UDP.
    let agent = Agent::start(world, &[], &policy)?;
    for (name, role, reaches_one, reaches_other) in [
        ("open", None, true, false),
        ("closed-1", None, false, false),
        ("front", Some("front1"), true, true),
        ("behind", Some("front"), true, false),
        ("closed-2", Some("front1"), false, true),
    ] {
        for (way, to, reaches) in [("a", &to_one, reaches_one), ("b", &to_other, reaches_other)] {
            let connect = format!("connect={to}");
            let words = ["sequence", "inet", &connect];
            let name = format!("{name}-{way}");
            let mut command = agent.container(world, "crun", &name, "fx-client", &words)?;
            if let Some(role) = role {
                annotate(&command, &[("org.example/role", role)])?;
            }
            let finished = process::run(&mut command, LIMIT)?.success()?;
            let line = finished.stdout.lines().last().unwrap_or_default();
            let steps: Value = serde_json::from_str(line)?;
            let expected = if reaches { "ok" } else { "ENETUNREACH" };
            ensure_eq!(steps[0]["result"], expected, "{name} to {to}: {}", agent.running.stderr());
        }
    }
    Ok(())
}

/// Gives the container that the command runs annotations.
pub(crate) fn annotate(command: &std::process::Command, all: &[(&str, &str)]) -> Result {
    let mut words = command.get_args().skip_while(|word| *word != "--bundle").skip(1);
    let path = PathBuf::from(words.next().context("a bundle")?).join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let all = all.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
    config["annotations"] = Value::Object(all.collect());
    std::fs::write(&path, serde_json::to_vec(&config)?)?;
    Ok(())
}

fn explain(world: &World) -> Result {
    let path = written(world, "explained", "rules = [\n{ deny = 'host' },\n]\n")?;
    let path = path.to_str().context("a path in UTF-8")?;
    let mut command = world.as_user(world.program("bypass-cli")?);
    command.args(["explain", "--policy", path, "--allow", "any:22"]);
    command.args(["tcp://198.18.0.1:80", "tcp://198.18.0.1:22", "udp://198.18.0.2:53"]);
    let finished = process::run(&mut command, PATIENCE)?.success()?;
    let expected = format!(
        "tcp://198.18.0.1:80 deny: deny host ({path}:2)\n\
         tcp://198.18.0.1:22 bypass: allow any:22 (--allow)\n\
         udp://198.18.0.2:53 bypass: no rule matches, and the default is allow\n"
    );
    ensure_eq!(finished.stdout, expected, "explained");
    Ok(())
}
