//! What the supervisor holds does not grow with what the container does.

use std::time::Duration;

use test_support::census::{Census, running};
use test_support::harness::{Group, Scenario};
use test_support::world::{HOST_V4, REMOTE_V4, REMOTE_V6, SILENT_V4};
use test_support::{Result, World, ensure, ensure_eq};

use crate::repl::Repl;

pub(crate) const SCENARIOS: Group = (
    "leaks",
    &[
        Scenario { name: "connects_and_kills_leave_nothing", requires: &[], run: connects },
        Scenario { name: "servers_that_come_and_go_leave_nothing", requires: &[], run: servers },
    ],
);

/// Targets that the supervisor remembers, with a descriptor for each; far fewer than the
/// processes and sockets that come and go here.
pub(crate) const CACHED_TARGETS: usize = 16;

fn connects(world: &World) -> Result {
    let byte = world.serve_remote(&["--mode", "byte", "--quiet", "[::]:0"])?;
    let echo = world.serve_remote(&["--quiet", "[::]:0"])?;
    let mut inside = Repl::bypassed(world, &[])?;
    let work = |inside: &mut Repl, scale: usize| -> Result {
        for (words, key, expected) in [
            (format!("cycles {} {}", byte.at(REMOTE_V4), 100 * scale), "done", 100 * scale),
            (format!("cycles {} {}", byte.at(REMOTE_V6), 20 * scale), "done", 20 * scale),
            (format!("threads {} 8 {scale}", echo.at(REMOTE_V4)), "done", 8 * scale),
            (format!("killed {SILENT_V4}:9 {scale}"), "killed", scale),
        ] {
            inside.expect(&words, key, expected)?;
        }
        for steps in [
            format!("connect={REMOTE_V4}:1"),
            format!("nonblocking connect={SILENT_V4}:9"),
            format!("connect={} unspec", echo.at(REMOTE_V4)),
        ] {
            inside.ask(&format!("sequence inet {steps}"))?;
        }
        Ok(())
    };
    // What is taken once, caches included, is there after a warm-up of the same kind.
    work(&mut inside, 30)?;
    let pids = running("bypass-cli", "run")?;
    let before = Census::of_all(&pids)?.with_cache(CACHED_TARGETS);
    work(&mut inside, 1_000)?;
    let after = before.settles(&pids, Duration::from_secs(10))?;
    ensure!(after.rss_kib <= before.rss_kib + 1024, "memory grew: {before:?}, then {after:?}");
    ensure_eq!(running("bypass-cli", "run")?, pids, "processes");
    Ok(())
}

fn servers(world: &World) -> Result {
    let maps = ["-p", "8065:8080", "-p", "127.0.0.1:8066:8080", "-p", "8065:8080/udp"];
    let mut inside = Repl::bypassed(world, &maps)?;
    let (mut remote, mut host) = (Repl::remote(world)?, Repl::host(world)?);
    let wait = "set:so_rcvtimeo=5000";
    let mut work = |rounds: usize| -> Result {
        for _ in 0..rounds {
            let listen = format!("set:so_reuseaddr=1 {wait} bind=[::]:8080 listen=5");
            inside.succeed(&format!("open stream inet6 {listen}"))?;
            inside.succeed(&format!("open dgram inet6 dgram {wait} bind=[::]:8080"))?;
            // The second client comes by the relay.
            for (client, to) in
                [(&mut remote, format!("{HOST_V4}:8065")), (&mut host, "127.0.0.1:8066".into())]
            {
                client.succeed(&format!("open c inet {wait} connect={to}"))?;
                inside.succeed("on stream accept send=hello back")?;
                ensure_eq!(client.succeed("on c recv")?, "hello", "greeting at {to}");
                client.ask("close c")?;
            }
            remote.succeed(&format!("open u inet dgram {wait} connect={HOST_V4}:8065 send=hi"))?;
            inside.succeed("on dgram recvmsg reply=back")?;
            ensure_eq!(remote.succeed("on u recv")?, "back", "reply");
            inside.ask("close stream")?;
            inside.ask("close dgram")?;
        }
        Ok(())
    };
    work(20)?;
    let pids = running("bypass-cli", "run")?;
    let before = Census::of_all(&pids)?.with_cache(CACHED_TARGETS);
    work(200)?;
    let after = before.settles(&pids, Duration::from_secs(10))?;
    ensure!(after.rss_kib <= before.rss_kib + 1024, "memory grew: {before:?}, then {after:?}");
    Ok(())
}
