//! Host ports are ours from the start of a run to its end, and nobody else's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, Finished, PATIENCE};
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4};
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::LIMIT;
use crate::inside::Inside;
use crate::publish::{expect_all, host_ports, remote_as_seen};
use crate::repl::Repl;

pub(crate) const SCENARIOS: Group = (
    "reserve",
    &[
        Scenario { name: "nobody_else_takes_the_port", requires: &[], run: taken },
        Scenario { name: "nobody_is_answered_before_the_server", requires: &[], run: refused },
        Scenario { name: "servers_come_and_go", requires: &[], run: restarts },
        Scenario { name: "no_address_but_the_one_asked_for_is_taken", requires: &[], run: narrow },
        Scenario { name: "contradictions_name_both", requires: &[], run: contradictions },
        Scenario { name: "connections_do_not_hold_up_the_next_run", requires: &[], run: again },
        Scenario { name: "cautious_server_follows_an_earlier_run", requires: &[], run: cautious },
        Scenario { name: "range_yields_a_free_port", requires: &[], run: range },
        Scenario { name: "signals_are_the_commands", requires: &[], run: signals },
        Scenario { name: "nobody_joins_between_bind_and_listen", requires: &[], run: joins },
        Scenario { name: "nothing_is_left_after_the_run", requires: &[], run: nothing_left },
    ],
);

/// What programs set before they bind, to have a port that another one has.
const SHARING: &[&str] =
    &["", "set:so_reuseaddr=1", "set:so_reuseport=1", "set:so_reuseaddr=1 set:so_reuseport=1"];

/// Addresses whose port 8080 overlaps `-p 8080:…`.
fn overlapping() -> Vec<(&'static str, String)> {
    vec![
        ("inet", "0.0.0.0".into()),
        ("inet", "127.0.0.1".into()),
        ("inet", HOST_V4.to_string()),
        ("inet6", "[::]".into()),
        ("inet6", "[::1]".into()),
        ("inet6", format!("[{HOST_V6}]")),
        ("inet6", "[::ffff:127.0.0.1]".into()),
    ]
}

/// Bind attempts at port 8080, by a process of the host, that did not fail as they must.
fn not_refused(host: &mut Repl, sharing: &[&str]) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for kind in ["stream", "dgram"] {
        for (family, address) in overlapping() {
            for options in sharing {
                let words = format!("sequence {family} {kind} {options} bind={address}:8080");
                let results = host.results(&words)?;
                let bind = results.last().map(|step| step["result"].clone()).unwrap_or_default();
                if bind != "EADDRINUSE" {
                    wrong.push(format!("{words}: {bind}"));
                }
            }
        }
    }
    Ok(wrong)
}

fn taken(world: &World) -> Result {
    let (mut host, mut stranger) = (Repl::host(world)?, Repl::stranger(world)?);
    let mut remote = Repl::remote(world)?;
    let mut inside = Inside::start(world, &["-p", "8080:8080", "-p", "8080:8080/udp"])?;
    let mut nobody_binds = |when: &str, same_user: &[&str]| -> Result {
        let wrong = [not_refused(&mut host, same_user)?, not_refused(&mut stranger, SHARING)?];
        let wrong = wrong.concat();
        let (count, some) = (wrong.len(), wrong.iter().take(8).cloned().collect::<Vec<_>>());
        ensure!(count == 0, "{when}, {count} were not refused, such as\n{}", some.join("\n"));
        Ok(())
    };
    nobody_binds("before the server", SHARING)?;
    for used in [false, true] {
        let server = inside.serve(world, "--mode peer [::]:8080 --udp [::]:8080")?;
        nobody_binds("beside the server", SHARING)?;
        if used {
            // The server closes first, and its side of the connection lingers.
            expect_all(&mut remote, "stream", 8080, &[(HOST_V4.into(), &REMOTE_V4.to_string())])?;
        }
        inside.stop(server)?;
        let deadline = Instant::now() + Duration::from_secs(1);
        while nobody_binds("after the server", SHARING).is_err() && Instant::now() < deadline {}
        nobody_binds("a second after the server", SHARING)?;
    }
    let workers = "--workers 2 --reuseport [::]:8080 --udp [::]:8080";
    let server = inside.serve(world, workers)?;
    // With SO_REUSEPORT anybody of the same user may join those who have it, see socket(7).
    let without_reuseport = SHARING.get(..2).unwrap_or_default();
    nobody_binds("beside workers", without_reuseport)?;
    inside.stop(server)?;
    inside.end()?;
    Ok(())
}

/// What relays and looks after ports must not take the signals that are meant for the command.
fn signals(world: &World) -> Result {
    for round in 0..10 {
        let mut command = world.bypass(&["-p", "8080:8080", "-p", "8080:8080/udp"])?;
        let script = "trap 'exit 7' TERM; sleep 60 & echo ready; wait";
        let mut running = process::start_interactive(command.args(["sh", "-c", script]))?;
        running.line("ready", PATIENCE)?;
        rustix::process::kill_process(process::pid_of(running.pid())?, Signal::TERM)?;
        let finished = running.finish(PATIENCE)?;
        ensure_eq!(finished.status.code(), Some(7), "round {round}: {finished}");
    }
    Ok(())
}

/// A bound socket that does not listen yet can be joined by others with `SO_REUSEADDR`, natively.
fn joins(world: &World) -> Result {
    let (mut host, mut stranger) = (Repl::host(world)?, Repl::stranger(world)?);
    let mut inside = Repl::bypassed(world, &["-p", "8080:8080", "-p", "8080:8080/udp"])?;
    for own in ["", "set:so_reuseaddr=1"] {
        inside.succeed(&format!("open a inet6 {own} bind=[::]:8080"))?;
        inside.succeed(&format!("open b inet6 dgram {own} bind=[::]:8080"))?;
        for someone in [&mut host, &mut stranger] {
            let wrong = not_refused(someone, SHARING)?;
            ensure!(wrong.is_empty(), "with `{own}`: {}", wrong.join("\n"));
        }
        inside.succeed("on a listen=5")?;
        inside.ask("close a")?;
        inside.ask("close b")?;
    }
    Ok(())
}

fn refused(world: &World) -> Result {
    let _inside = Inside::start(world, &["-p", "8080:8080"])?;
    let expected = [HOST_V4.into(), HOST_V6.into()].map(|to: IpAddr| (to, "ECONNREFUSED"));
    expect_all(&mut Repl::remote(world)?, "stream", 8080, &expected)?;
    expect_all(&mut Repl::host(world)?, "stream", 8080, &expected)
}

/// Ports of the host that are in use, and were not.
fn new_ports(before: &[u16]) -> Result<Vec<u16>> {
    let new = |port: &u16| !before.contains(port);
    Ok(host_ports()?.into_iter().filter(new).collect())
}

fn restarts(world: &World) -> Result {
    let mut remote = Repl::remote(world)?;
    let mut inside = Inside::start(world, &["-p", "8080:8080", "-p", "8080:8080/udp"])?;
    let before = host_ports()?;
    for round in 0..10 {
        let words = match round % 3 {
            0 => "--mode peer [::]:8080 --udp [::]:8080",
            1 => "--mode peer 0.0.0.0:8080 [::]:8080 --v6only 1 --udp 0.0.0.0:8080 --udp [::]:8080",
            _ => "--mode peer --workers 2 --reuseport [::]:8080 --udp [::]:8080",
        };
        let server = inside.serve(world, words)?;
        for (to, seen) in &remote_as_seen() {
            for kind in ["stream", "dgram"] {
                expect_all(&mut remote, kind, 8080, &[(*to, seen)])?;
            }
        }
        inside.stop(server)?;
        expect_all(&mut remote, "stream", 8080, &[(HOST_V4.into(), "ECONNREFUSED")])?;
    }
    let deadline = Instant::now() + Duration::from_secs(1);
    // Closed connections linger, with the port as theirs, and those of other tests end meanwhile.
    while !new_ports(&before)?.is_empty() {
        ensure!(Instant::now() < deadline, "besides {before:?}: {:?}", new_ports(&before)?);
        std::thread::yield_now();
    }
    ensure!(host_ports()?.contains(&8080), "the port is not reserved any more");
    Ok(())
}

fn narrow(world: &World) -> Result {
    let uplink = format!("{HOST_V4}:8020:8080");
    let options = ["-p", "127.0.0.1:8021:8080", "-p", &uplink, "-p", "[::1]:8022:8080/udp"];
    let mut inside = Inside::start(world, &options)?;
    inside.serve(world, "[::]:8080 --udp [::]:8080")?;
    let mut host = Repl::host(world)?;
    for (family, kind, address) in [
        ("inet", "stream", format!("{HOST_V4}:8021")),
        ("inet", "stream", "127.0.0.1:8020".to_owned()),
        ("inet6", "stream", "[::1]:8020".to_owned()),
        ("inet6", "dgram", format!("[{HOST_V6}]:8022")),
        ("inet", "dgram", "127.0.0.1:8022".to_owned()),
        ("inet", "dgram", "0.0.0.0:8020".to_owned()),
    ] {
        let results = host.results(&format!("sequence {family} {kind} bind={address}"))?;
        ensure_eq!(results[0]["result"], "ok", "{kind} {address}, which nobody asked for");
    }
    Ok(())
}

pub(crate) fn run_true(world: &World, maps: &[&str]) -> Result<Finished> {
    let options: Vec<_> = maps.iter().flat_map(|map| ["-p", map]).collect();
    process::run(world.bypass(&options)?.arg("true"), LIMIT)
}

fn contradictions(world: &World) -> Result {
    for (first, second) in [
        ("8080:80", "8080:81"),
        ("8080:80", "127.0.0.1:8080:80"),
        ("0.0.0.0:8080:80/udp", "127.0.0.1:8080:81/udp"),
        ("8000-8009:80-89", "[::1]:8005:8005"),
    ] {
        let finished = run_true(world, &[first, second])?.expect_code(125)?;
        let named = finished.stderr.contains(first) && finished.stderr.contains(second);
        ensure!(named, "not both are named: {finished}");
    }
    for wrong in ["8080:80/sctp", "8080:0", "::1:8080:80", "host:8080:80", "80-81:90-92", ""] {
        let finished = run_true(world, &[wrong])?.expect_code(125)?;
        ensure!(finished.stderr.contains(wrong), "-p {wrong} is not named: {finished}");
    }
    run_true(world, &["8080:80", "8080:80/udp", "127.0.0.1:8081:80", "[::1]:8081:80"])?
        .success()?;
    Ok(())
}

/// The server closes first, so its side of each connection lingers in TIME-WAIT; that of a
/// relay as well.
fn again(world: &World) -> Result {
    let (mut remote, mut host) = (Repl::remote(world)?, Repl::host(world)?);
    let maps = ["-p", "8068:8080", "-p", "127.0.0.1:8069:8081", "-p", "[::1]:8069:8081"];
    for _ in 0..3 {
        let mut inside = Inside::start(world, &maps)?;
        for _ in 0..2 {
            let server = inside.serve(world, "--mode peer [::]:8080 [::]:8081")?;
            for (to, seen) in &remote_as_seen() {
                expect_all(&mut remote, "stream", 8068, &[(*to, seen)])?;
            }
            for to in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
                let answer = host.who("stream", SocketAddr::new(to, 8069))?;
                ensure!(answer.parse::<IpAddr>().is_ok(), "{to}, port 8069: {answer}");
            }
            inside.stop(server)?;
        }
        inside.end()?;
    }
    Ok(())
}

/// A new container's namespace has no lingering connections, so a server need not set
/// `SO_REUSEADDR` there, whatever an earlier one has left on the host.
fn cautious(world: &World) -> Result {
    let mut remote = Repl::remote(world)?;
    for run in ["first", "second"] {
        let mut inside = Repl::bypassed(world, &["-p", "8023:8080"])?;
        inside
            .succeed("open l inet set:so_rcvtimeo=5000 bind=0.0.0.0:8080 listen=5")
            .context(format!("the {run} run"))?;
        remote.succeed(&format!("open c inet connect={HOST_V4}:8023"))?;
        // The server closes first.
        inside.succeed("on l accept back")?;
        remote.succeed("on c recv")?;
        remote.ask("close c")?;
    }
    Ok(())
}

fn range(world: &World) -> Result {
    let mut host = Repl::host(world)?;
    host.succeed("open first inet bind=0.0.0.0:8085 listen=5")?;
    let mut inside = Inside::start(world, &["-p", "8085-8086:8080"])?;
    inside.serve(world, "--mode peer [::]:8080")?;
    for (to, seen) in &remote_as_seen() {
        expect_all(&mut Repl::remote(world)?, "stream", 8086, &[(*to, seen)])?;
    }
    host.succeed("open second inet bind=127.0.0.1:8087 listen=5")?;
    let full = run_true(world, &["8085-8087:8080"])?.expect_code(125)?;
    ensure!(full.stderr.contains("8085-8087"), "the range is not named: {full}");
    Ok(())
}

fn nothing_left(world: &World) -> Result {
    let before = host_ports()?;
    // A port of its own: nobody connects, so no connection lingers.
    let maps = ["-p", "8070:8080", "-p", "8070:8080/udp", "-p", "8090-8099:8090-8099"];
    let mut inside = Inside::start(world, &maps)?;
    inside.serve(world, "[::]:8080 --udp [::]:8080 [::]:8090")?;
    inside.end()?;
    let left = new_ports(&before)?;
    ensure!(left.is_empty(), "ports on the host: {left:?}, besides {before:?}");
    let mut host = Repl::host(world)?;
    for kind in ["stream", "dgram"] {
        host.succeed(&format!("sequence inet6 {kind} bind=[::]:8070"))?;
    }
    Ok(())
}
