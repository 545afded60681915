//! Name resolution inside: a name server that the command can reach.
//!
//! With `--net none` only what is bypassed has a network, and that is TCP: the resolver
//! is told to use it (`options use-vc`, resolv.conf(5); glibc and Go honour it). A server
//! on the host's loopback, such as the stub of systemd-resolved, is out of reach; then
//! the servers behind the stub are taken.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use bypass_core::{Policy, Verdict};
use rustix::mount::{MountFlags, UnmountFlags};
use sockaddr_inspect::Destination;

use crate::args::Net;

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where resolvers with a stub on loopback write the servers behind it.
const BEHIND_STUBS: [&str; 2] =
    ["/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"];
const DNS_PORT: u16 = 53;
/// slirp4netns(1): its name server.
const SLIRP_DNS: &str = "10.0.2.3";
/// glibc reads no more than this (MAXNS).
const MAX_SERVERS: usize = 3;

/// What the command will find in its /etc/resolv.conf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resolver {
    /// This.
    File(String),
    /// What the host has: no name server can be reached.
    Unreachable,
}

/// Chooses for the running host.
pub(super) fn choose(dns: &[IpAddr], net: Net, policy: &Policy) -> Resolver {
    let host = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let behind: Vec<String> =
        BEHIND_STUBS.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    resolve(dns, net, policy, &host, &behind)
}

fn resolve(dns: &[IpAddr], net: Net, policy: &Policy, host: &str, behind: &[String]) -> Resolver {
    let reachable = |server: &IpAddr| is_reachable(*server, net, policy);
    let servers: Vec<String> = if !dns.is_empty() {
        dns.iter().map(ToString::to_string).collect()
    } else if net == Net::Slirp4netns {
        // It asks the host's servers for us, whichever they are.
        vec![SLIRP_DNS.to_owned()]
    } else {
        std::iter::once(host)
            .chain(behind.iter().map(String::as_str))
            .map(|file| servers(file).filter(&reachable).map(|ip| ip.to_string()).collect())
            .find(|found: &Vec<String>| !found.is_empty())
            .unwrap_or_default()
    };
    if servers.is_empty() {
        return Resolver::Unreachable;
    }
    let mut file = String::new();
    for server in servers.iter().take(MAX_SERVERS) {
        file.push_str(&format!("nameserver {server}\n"));
    }
    for line in host.lines() {
        if ["search", "domain", "options"].contains(&keyword(line)) {
            file.push_str(line);
            file.push('\n');
        }
    }
    if net == Net::None {
        file.push_str("options use-vc\n");
    }
    Resolver::File(file)
}

fn keyword(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

fn servers(file: &str) -> impl Iterator<Item = IpAddr> {
    file.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        // A scope (fe80::1%eth0) names a device that does not exist inside.
        words.next()?.parse().ok()
    })
}

fn is_reachable(server: IpAddr, net: Net, policy: &Policy) -> bool {
    match policy.decide(&Destination::of(SocketAddr::new(server, DNS_PORT))) {
        Verdict::Bypass => true,
        // What is left to the container goes by the attached network, if there is one.
        Verdict::Leave(_) => net != Net::None && !server.is_loopback(),
        Verdict::Deny(_) => false,
    }
}

/// Lets this file stand for /etc/resolv.conf in the calling process's mount namespace,
/// which must be its own. Nothing is left of it when the namespace ends.
pub(super) fn install(content: &str) -> io::Result<()> {
    // A file system in memory, seen for a moment over a directory that is always there.
    let scratch = Path::new("/tmp");
    rustix::mount::mount("tmpfs", scratch, "tmpfs", MountFlags::empty(), None)?;
    let file = scratch.join("resolv.conf");
    let installed = fs::write(&file, content).and_then(|()| {
        let target = fs::canonicalize(RESOLV_CONF)?;
        rustix::mount::mount_bind(&file, target).map_err(io::Error::from)
    });
    rustix::mount::unmount(scratch, UnmountFlags::DETACH)?;
    installed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy::builder().deny(["192.0.2.66/32".parse().unwrap()]).build()
    }

    fn none(host: &str, behind: &[&str]) -> Resolver {
        let behind: Vec<String> = behind.iter().map(ToString::to_string).collect();
        resolve(&[], Net::None, &policy(), host, &behind)
    }

    #[test]
    fn the_hosts_server_is_asked_over_tcp() {
        assert_eq!(
            none("# made by hand\nnameserver 192.0.2.53\nsearch example.org\n", &[]),
            Resolver::File(
                "nameserver 192.0.2.53\nsearch example.org\noptions use-vc\n".to_owned()
            )
        );
    }

    #[test]
    fn a_loopback_stub_gives_way_to_the_servers_behind_it() {
        assert_eq!(
            none("nameserver 127.0.0.53\noptions edns0\n", &["nameserver 2001:db8::53\n"]),
            Resolver::File("nameserver 2001:db8::53\noptions edns0\noptions use-vc\n".to_owned())
        );
    }

    #[test]
    fn without_a_reachable_server_there_is_none() {
        assert_eq!(none("nameserver 127.0.0.53\nnameserver ::1\n", &[]), Resolver::Unreachable);
        assert_eq!(none("nameserver 192.0.2.66\n", &[]), Resolver::Unreachable);
        assert_eq!(none("", &["garbage\nnameserver\nnameserver x\n"]), Resolver::Unreachable);
    }

    #[test]
    fn the_users_choice_is_taken_as_it_is() {
        let dns = ["192.0.2.1".parse().unwrap()];
        assert_eq!(
            resolve(&dns, Net::None, &policy(), "nameserver 192.0.2.53\n", &[]),
            Resolver::File("nameserver 192.0.2.1\noptions use-vc\n".to_owned())
        );
    }

    #[test]
    fn slirp4netns_brings_a_server_that_speaks_udp() {
        assert_eq!(
            resolve(&[], Net::Slirp4netns, &policy(), "nameserver 127.0.0.53\n", &[]),
            Resolver::File("nameserver 10.0.2.3\n".to_owned())
        );
    }
}
