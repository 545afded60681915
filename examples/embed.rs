//! A whole supervisor for OCI containers, as a runtime would embed it.
//!
//! ```text
//! embed SOCKET        and name SOCKET as listenerPath in the container's seccomp profile
//!                     (bypass-cli profile --socket SOCKET prints one)
//! ```
//!
//! It serves one container, and prints what became of its calls when it ends.

#![expect(clippy::print_stdout, reason = "this is what the program is for")]

use std::error::Error;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use bypass_core::{Policy, Preset, Settings, Supervisor};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: embed SOCKET")?;

    // Where sockets of the container may go: anywhere but to the host's loopback, which is
    // the default, to where clouds serve credentials, and to mail servers.
    let policy = Policy::builder().deny([Preset::Metadata.into(), "any:25/tcp".parse()?]).build();
    let supervisor = Supervisor::new()?;

    // The runtime connects here when it creates the container.
    let endpoint = UnixListener::bind(&path)?;
    println!("waiting for a runtime at {path}");
    let (stream, _) = endpoint.accept()?;
    let handoff = seccomp_notify::receive_handoff(&stream, Duration::from_secs(5))?;
    let name = handoff.state.state.id;
    println!("serving container {name}");

    // From here on its connections are made by the host. Dropping `container` would end that.
    let container = supervisor.attach(handoff.listener, Settings::new(name, policy))?;
    while container.wait(Duration::from_secs(60)).is_none() {
        println!("so far: {:?}", container.stats().verdicts);
    }
    println!("in the end: {:?}", container.stats().verdicts);
    std::fs::remove_file(&path)?;
    Ok(())
}
