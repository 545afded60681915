//! Whoever connects to the socket of `bypass-cli serve` and is no well-behaved runtime.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use test_support::census::Census;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE};
use test_support::requirement::Requirement;
use test_support::world::REMOTE_V4;
use test_support::{Result, World, ensure, ensure_eq, fail};

use crate::serve::{Agent, CRUN, socket};

pub(crate) const SCENARIOS: Group = (
    "serve",
    &[
        Scenario { name: "malformed_hand_overs_are_refused", requires: CRUN, run: malformed },
        Scenario { name: "slow_peers_hold_up_no_container", requires: CRUN, run: slow },
        Scenario {
            name: "another_user_hands_over_nothing",
            requires: &[Requirement::Program("python3")],
            run: strangers,
        },
    ],
);

/// Connects, as root, who may.
fn peer(world: &World) -> Result<UnixStream> {
    let stream = UnixStream::connect(socket(world))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Waits for the agent to close its end.
fn closed(mut stream: &UnixStream) -> Result {
    match stream.read(&mut [0]) {
        Ok(0) => Ok(()),
        // It did not read all that was sent.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        other => fail!("the peer is not refused but told {other:?}"),
    }
}

/// A container is still served.
fn serves(world: &World, agent: &Agent, name: &str) -> Result {
    let server = world.serve_remote(&["--mode", "byte", "--quiet", "[::]:0"])?;
    let answer = agent.client(world, "crun", name, &["cycles", &server.at(REMOTE_V4), "5"])?;
    ensure_eq!(answer["done"], 5, "connects of {name}: {answer}");
    Ok(())
}

fn malformed(world: &World) -> Result {
    let agent = Agent::start(world, &[], &[])?;
    let pids = [agent.running.pid()];
    serves(world, &agent, "peers-before")?;
    let before = Census::of_all(&pids)?;
    let deep = "[".repeat(100_000);
    let nameless = r#"{"fds":["seccompFd"],"pid":1,"state":{"id":"","status":"creating"}}"#;
    let large = format!(r#"{{"metadata":"{}"#, "x".repeat(2 << 20));
    for (sent, told) in [
        ("", "peer closed the connection"),
        ("GET / HTTP/1.1\r\n\r\n", "malformed"),
        (r#"{"fds":"#, "malformed"),
        (r#"{"fds":[],"pid":"x"}"#, "malformed"),
        (&format!(r#"{{"fds":{deep}"#), "malformed"),
        (&large, "longer than 1 MiB"),
        (r#"{"fds":[],"state":{"id":"x"}}"#, "no descriptor is named seccompFd"),
        (nameless, "1 descriptors are named, 0 were received"),
    ] {
        let mut stream = peer(world)?;
        // What is too long is not read to its end.
        let _unread = stream.write_all(sent.as_bytes());
        let _closed = stream.shutdown(Shutdown::Write);
        closed(&stream)?;
        agent.running.told(told, PATIENCE)?;
    }
    serves(world, &agent, "peers-after")?;
    before.settles(&pids, PATIENCE)?;
    Ok(())
}

fn slow(world: &World) -> Result {
    let agent = Agent::start(world, &[], &[])?;
    let begun = Instant::now();
    // Few enough that none of the warnings about them is left out.
    let silent: Vec<_> = (0..40).map(|_| peer(world)).collect::<Result<_>>()?;
    agent.running.told("the oldest makes room", PATIENCE)?;
    for round in 0..3 {
        serves(world, &agent, &format!("peers-beside-{round}"))?;
    }
    // Long before the first of them has used up its time.
    let container = begun.elapsed();
    ensure!(container < Duration::from_secs(4), "containers took {container:?}");
    // One that says a little now and then has no more time for it.
    let mut dribbling = peer(world)?;
    let dribbled = Instant::now();
    dribbling.set_read_timeout(Some(Duration::from_millis(100)))?;
    dribbling.write_all(b"{")?;
    while dribbling.read(&mut [0]).is_err() && dribbling.write_all(b" ").is_ok() {
        ensure!(dribbled.elapsed() < Duration::from_secs(8), "a dribbling peer is still heard");
    }
    ensure!(dribbled.elapsed() > Duration::from_secs(3), "it was cut off early");
    for stream in &silent {
        closed(stream)?;
    }
    agent.running.told("not complete in time", PATIENCE)?;
    Ok(())
}

/// The directory keeps others out, and so does the socket's mode: both are opened for this.
fn strangers(world: &World) -> Result {
    const TRY: &str = "import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.settimeout(3)
print('refused' if s.recv(1) == b'' else 'heard')";
    let agent = Agent::start(world, &[], &[])?;
    keeps_strangers_out(world, &socket(world), TRY)?;
    agent.running.told("the peer is user 65534", PATIENCE)
}

/// Another user cannot connect to this socket of the ordinary user's runtime directory, and where modes
/// would let it, is hung up on. `python` connects to the path that it is given, and says `refused`.
pub(crate) fn keeps_strangers_out(world: &World, path: &Path, python: &str) -> Result {
    ensure_eq!(fs::metadata(path)?.permissions().mode() & 0o077, 0, "mode for others");
    let attempt = || {
        let mut command = world.on_host("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", "python3", "-c"]);
        process::run(command.arg(python).arg(path), PATIENCE)
    };
    ensure!(attempt()?.stderr.contains("PermissionError"), "the mode keeps nobody out");
    let directory = world.runtime_dir();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    let tried = attempt();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
    ensure_eq!(tried?.success()?.stdout.trim(), "refused", "another user");
    Ok(())
}
