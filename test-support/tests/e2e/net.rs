//! A user-space network stack beside us, for what is not bypassed.

use std::net::IpAddr;

use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE};
use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, REMOTE_V4};
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::{LIMIT, bypassed, counted, reported};

pub(crate) const SCENARIOS: Group = (
    "net",
    &[
        Scenario {
            name: "slirp4netns_carries_what_is_left",
            requires: &[Requirement::Program("slirp4netns"), Requirement::Tun],
            run: |world| carries(world, "slirp4netns"),
        },
        Scenario {
            name: "pasta_carries_what_is_left",
            requires: &[Requirement::Program("pasta"), Requirement::Tun],
            run: |world| carries(world, "pasta"),
        },
        Scenario {
            name: "stack_ends_with_the_command",
            requires: &[Requirement::Program("slirp4netns"), Requirement::Tun],
            run: ends,
        },
    ],
);

fn carries(world: &World, stack: &str) -> Result {
    let mut server = world.serve_remote(&["0.0.0.0:0"])?;
    let connect = format!("connect={}", server.at(REMOTE_V4));
    let words = ["sequence", "inet", &connect, "send=hello", "recv", "local"];

    let (steps, report) = reported(world, &["--net", stack], &words)?;
    ensure_eq!(steps[2]["value"], "hello", "bypassed echo: {steps}");
    ensure_eq!(counted(&report, "switched"), Some(1), "switched in {report}");
    ensure_eq!(server.next_peer()?.ip(), IpAddr::from(HOST_V4), "peer");

    let options = ["--net", stack, "--ignore", "198.18.0.0/15"];
    let (steps, report) = reported(world, &options, &words)?;
    ensure_eq!(steps[2]["value"], "hello", "echo through {stack}: {steps}");
    ensure_eq!(counted(&report, "switched").unwrap_or(0), 0, "switched in {report}");
    ensure_eq!(server.next_peer()?.ip(), IpAddr::from(HOST_V4), "peer through {stack}");

    // A datagram to an address, on a socket that is not connected.
    let server = world.serve_remote(&["--udp", "0.0.0.0:0"])?;
    let send = format!("sendto={}", server.at(REMOTE_V4));
    let steps = bypassed(world, &["--net", stack], &["sequence", "dgram", &send, "recv"])?;
    ensure_eq!(steps[1]["value"], "payload", "datagram through {stack}: {steps}");
    Ok(())
}

fn ends(world: &World) -> Result {
    let mut command = world.bypass(&["--net", "slirp4netns"])?;
    process::run(command.arg("true"), LIMIT)?.success()?;
    // It may take a moment to notice, but not longer than that.
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let left = test_support::census::of_user(world.uid())?;
        if !left.iter().any(|(_, name)| name.starts_with("slirp4netns")) {
            return Ok(());
        }
        ensure!(std::time::Instant::now() < deadline, "left behind: {left:?}");
    }
}
