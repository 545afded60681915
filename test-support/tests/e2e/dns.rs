//! Names are resolved inside, through the host's name server or another.

use std::fs;

use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE, Running};
use test_support::world::{REMOTE_V4, REMOTE_V6};
use test_support::{Result, World, ensure};

use crate::client::LIMIT;

pub(crate) const SCENARIOS: Group = (
    "dns",
    &[
        Scenario { name: "names_are_resolved", requires: &[], run: resolved },
        Scenario { name: "names_are_resolved_over_tcp", requires: &[], run: over_tcp },
        Scenario { name: "another_name_server_can_be_named", requires: &[], run: another },
        Scenario { name: "loopback_name_server_is_explained", requires: &[], run: loopback },
    ],
);

fn name_server(world: &World, address: &str, record: &str) -> Result<Running> {
    let mut command = world.in_remote(world.program("fx-dns")?);
    let mut running = process::start(command.args([address, record]))?;
    running.line("ready", PATIENCE)?;
    Ok(running)
}

fn resolved(world: &World) -> Result {
    let mut server = name_server(world, &format!("{REMOTE_V4}:53"), "name.test=198.18.0.77")?;
    let lookup = process::run(world.bypass(&[])?.args(["getent", "hosts", "name.test"]), LIMIT)?;
    ensure!(lookup.stdout.starts_with("198.18.0.77"), "{lookup}");
    server.line(" name.test", PATIENCE)?;
    let lookup = process::run(world.bypass(&[])?.args(["getent", "hosts", "none.test"]), LIMIT)?;
    lookup.expect_code(2)?;
    Ok(())
}

fn over_tcp(world: &World) -> Result {
    let mut server = name_server(world, &format!("{REMOTE_V4}:53"), "name.test=198.18.0.77")?;
    let mut command = world.bypass(&[])?;
    command.args(["getent", "hosts", "name.test"]).env("RES_OPTIONS", "use-vc");
    let lookup = process::run(&mut command, LIMIT)?;
    ensure!(lookup.stdout.starts_with("198.18.0.77"), "{lookup}");
    server.line("query tcp name.test", PATIENCE)?;
    Ok(())
}

fn another(world: &World) -> Result {
    let address = REMOTE_V6.to_string();
    let mut server = name_server(world, &format!("[{address}]:53"), "name.test=198.18.0.88")?;
    let mut command = world.bypass(&["--dns", &address])?;
    let lookup = process::run(command.args(["getent", "hosts", "name.test"]), LIMIT)?;
    ensure!(lookup.stdout.starts_with("198.18.0.88"), "{lookup}");
    server.line("name.test", PATIENCE)?;
    Ok(())
}

/// A stub resolver on the host's loopback cannot be reached from inside; the user is told,
/// and told what to do.
fn loopback(world: &World) -> Result {
    let file = world.directory("dns-loopback")?.join("resolv.conf");
    fs::write(&file, "nameserver 127.0.0.53\n")?;
    let mut command = world.bypass(&[])?;
    command.arg("true");
    let mut command = world.with_file(&file, "/etc/resolv.conf", &command);
    let finished = process::run(&mut command, LIMIT)?.success()?;
    for word in ["name server", "--dns"] {
        ensure!(finished.stderr.contains(word), "no `{word}` in the message: {finished}");
    }
    Ok(())
}
