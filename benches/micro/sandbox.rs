//! A *host* and a *remote* of the benchmark's own, joined by a veth pair.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use test_support::failure::{Context, Result};
use test_support::process::{self, PATIENCE};
use test_support::requirement::Requirement;
use test_support::world;

use crate::fixture::{Fixture, Role};

/// The remote's address, of the range for benchmarks (RFC 2544).
pub(crate) const REMOTE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

/// The namespaces, for as long as it is held.
#[derive(Debug)]
pub(crate) struct Sandbox {
    _remote: Fixture,
    /// Sends one byte to everybody who connects.
    pub(crate) server: SocketAddr,
}

impl Sandbox {
    /// Makes the network namespace of the host and enters it; must come before the first
    /// thread. The inner error is what the machine lacks for it.
    pub(crate) fn enter() -> Result<std::result::Result<Self, String>> {
        if !Fixture::probe()? {
            return Ok(Err("user namespaces for ordinary users".to_owned()));
        }
        if let Some(missing) = Requirement::Program("ip").missing() {
            return Ok(Err(missing));
        }
        enter_network()?;
        ip("link set lo up")?;
        let mut remote = Fixture::start(Role::Remote)?;
        remote.receive::<1>()?;
        ip(&format!("link add {DEVICE} type veth peer name {DEVICE} netns {}", remote.pid()))?;
        set_up_device(HOST)?;
        remote.send([0])?;
        let port = u16::from_ne_bytes(remote.receive()?);
        Ok(Ok(Self { _remote: remote, server: SocketAddr::new(REMOTE.into(), port) }))
    }
}

/// Gives this network namespace's end of the link its address.
pub(crate) fn set_up_device(address: Ipv4Addr) -> Result {
    ip(&format!("addr add {address}/24 dev {DEVICE}"))?;
    ip(&format!("link set {DEVICE} up"))
}

/// Root goes without a user namespace, in which it would lose the right to write results
/// into the directories of others.
fn enter_network() -> Result {
    match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) => enter_as_root(),
        Err(error) => Err(error).context("network namespace"),
    }
}

/// Enters a user and a network namespace of one's own. As root, so that a program that is
/// started there keeps its capabilities; and with a group, since without one there are no
/// user namespaces to be had within.
pub(crate) fn enter_as_root() -> Result {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).context("user namespace")?;
    fs::write("/proc/self/setgroups", "deny").context("setgroups")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1")).context("uid_map")?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1")).context("gid_map")
}

fn ip(arguments: &str) -> Result {
    let mut command = Command::new("ip");
    command.env("PATH", world::PATH).args(arguments.split(' '));
    process::run(&mut command, PATIENCE)?.success()?;
    Ok(())
}

const HOST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const DEVICE: &str = "up0";
