//! What root has: a namespace behind a veth pair, and a host that forwards and translates addresses in
//! the kernel, as engines that run as root make it.
//!
//! ```text
//!   rootful netns            nat netns                      remote netns
//!   eth0 10.88.0.2/24 ────── br 10.88.0.1/24
//!                            up1 198.18.1.1/24 ──────────── up1 198.18.1.2/24, and 198.18.0.2
//! ```
//!
//! The host that translates is a namespace of its own, since connection tracking would meet whatever
//! else the host does: the other ways have a host without it.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::process::Command;

use super::{PUBLISHED, same_congestion};
use crate::failure::Result;
use crate::process::{self, PATIENCE};
use crate::world::{LINK_MTU, REMOTE_V4, World};

/// Address of the host that translates, on its uplink.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);

/// A namespace that is there for as long as the world.
#[derive(Debug)]
pub(super) struct Rootful(());

impl Rootful {
    pub(super) fn new(world: &World) -> Result<Self> {
        run(world, None, "ip", "netns add nat")?;
        run(world, None, "ip", "netns add rootful")?;
        let link = |name: &str, in_one: &str, peer: &str, in_other: &str| {
            format!(
                "link add {name} mtu {LINK_MTU} netns {in_one} type veth peer name {peer} \
                 mtu {LINK_MTU} netns {in_other}"
            )
        };
        run(world, None, "ip", &link("up1", "nat", "up1", "remote"))?;
        run(world, None, "ip", &link("eth0", "rootful", "br", "nat"))?;
        for (namespace, device, address) in [
            ("nat", "up1", format!("{HOST}/24")),
            ("remote", "up1", "198.18.1.2/24".to_owned()),
            ("nat", "br", format!("{GATEWAY}/24")),
            ("rootful", "eth0", format!("{INSIDE}/24")),
        ] {
            run(world, Some(namespace), "ip", &format!("addr add {address} dev {device}"))?;
            run(world, Some(namespace), "ip", &format!("link set dev {device} up"))?;
        }
        for namespace in ["nat", "rootful"] {
            run(world, Some(namespace), "ip", "link set lo up")?;
            shell(world, namespace, &same_congestion())?;
        }
        run(world, Some("nat"), "ip", &format!("route add {REMOTE_V4} dev up1"))?;
        // Servers of UDP that are bound to any address answer from that of the route.
        let back = format!("route replace 198.18.1.0/24 dev up1 src {REMOTE_V4}");
        run(world, Some("remote"), "ip", &back)?;
        run(world, Some("rootful"), "ip", &format!("route add default via {GATEWAY}"))?;
        shell(world, "nat", "echo 1 > /proc/sys/net/ipv4/ip_forward")?;
        translate(world)?;
        Ok(Self(()))
    }

    pub(super) fn enter(&self, world: &World, program: impl AsRef<OsStr>) -> Command {
        world.as_user_in("rootful", program)
    }
}

/// As engines do it: what goes out has the host's address, and what comes in at a published port has
/// the container's.
fn translate(world: &World) -> Result {
    let nat = |rule: &str| run(world, Some("nat"), "iptables", &format!("--wait -t nat {rule}"));
    nat("-A POSTROUTING -s 10.88.0.0/24 -o up1 -j MASQUERADE")?;
    for port in PUBLISHED {
        let (protocol, number) = (port.protocol, port.number);
        nat(&format!(
            "-A PREROUTING -i up1 -p {protocol} --dport {number} -j DNAT --to {INSIDE}:{number}"
        ))?;
    }
    // Connections that have ended are tracked for two minutes, and the table is the machine's: a
    // benchmark of connections would fill it.
    let ended = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_time_wait";
    shell(world, "nat", &format!("echo 5 > {ended}"))
}

fn shell(world: &World, namespace: &str, script: &str) -> Result {
    let mut command = inside(world, Some(namespace), "sh");
    process::run(command.args(["-ec", script]), PATIENCE)?.success()?;
    Ok(())
}

/// Runs a set-up command, as root, given as words separated by spaces.
fn run(world: &World, namespace: Option<&str>, program: &str, words: &str) -> Result {
    let mut command = inside(world, namespace, program);
    process::run(command.args(words.split_whitespace()), PATIENCE)?.success()?;
    Ok(())
}

fn inside(world: &World, namespace: Option<&str>, program: &str) -> Command {
    let Some(namespace) = namespace else { return world.on_host(program) };
    let mut command = world.on_host("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg("--").arg(program);
    command
}

const GATEWAY: &str = "10.88.0.1";
const INSIDE: &str = "10.88.0.2";
