//! Name resolution inside: a name server that the command can reach.
//!
//! With `--net none` only what is bypassed has a network, and that is TCP: the resolver
//! is told to use it (`options use-vc`, resolv.conf(5); glibc and Go honour it). A server
//! on the host's loopback, such as the stub of systemd-resolved, is out of reach; then
//! the servers behind the stub are taken.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use bypass_core::{Flow, Policy, Protocol, Reason, Udp, Verdict};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::args::Net;

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where resolvers with a stub on loopback write the servers behind it.
const BEHIND_STUBS: [&str; 2] =
    ["/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"];
const DNS_PORT: u16 = 53;
/// slirp4netns(1): its name server.
const SLIRP_DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 3));
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

/// What decides which servers can be reached.
pub(super) struct Reach<'a> {
    pub(super) policy: &'a Policy,
    pub(super) net: Net,
    pub(super) udp: Udp,
    pub(super) is_host_address: &'a dyn Fn(IpAddr) -> Option<bool>,
}

impl Reach<'_> {
    fn reaches(&self, server: IpAddr) -> bool {
        // With a network of its own the command asks over UDP first, without one over TCP only.
        let attached = self.net != Net::None;
        let protocol = if attached { Protocol::Udp } else { Protocol::Tcp };
        let host = if self.policy.names_host() { (self.is_host_address)(server) } else { None };
        let flow = Flow::new(protocol, SocketAddr::new(server, DNS_PORT)).of_host(host);
        // What is left to the container goes by the attached network, if there is one.
        let by_itself = attached && !server.is_loopback();
        match self.policy.decide(&flow) {
            Verdict::Bypass => true,
            Verdict::Leave(_) => by_itself,
            // The default is about what is bypassed.
            Verdict::Deny(Reason::NotAllowed) if self.udp == Udp::Off => by_itself,
            Verdict::Deny(_) => false,
        }
    }
}

/// Chooses for the running host.
pub(super) fn choose(dns: &[IpAddr], reach: &Reach<'_>) -> Resolver {
    let host = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let behind: Vec<String> =
        BEHIND_STUBS.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    resolve(dns, reach, &host, &behind)
}

fn resolve(dns: &[IpAddr], reach: &Reach<'_>, host: &str, behind: &[String]) -> Resolver {
    let reachable = |server: &IpAddr| reach.reaches(*server);
    let servers: Vec<String> = if !dns.is_empty() {
        dns.iter().map(ToString::to_string).collect()
    } else if reach.net == Net::Slirp4netns {
        // It asks the host's servers for us, whichever they are.
        [SLIRP_DNS].iter().filter(|ip| reachable(ip)).map(ToString::to_string).collect()
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
    if reach.net == Net::None {
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

    fn reach(policy: &Policy, net: Net) -> Reach<'_> {
        Reach { policy, net, udp: Udp::Connected, is_host_address: &|_| Some(false) }
    }

    fn policy(rules: &[&str]) -> Policy {
        Policy::builder().deny(rules.iter().map(|rule| rule.parse().unwrap())).build()
    }

    fn none(host: &str, behind: &[&str]) -> Resolver {
        let behind: Vec<String> = behind.iter().map(ToString::to_string).collect();
        resolve(&[], &reach(&policy(&["192.0.2.66/32"]), Net::None), host, &behind)
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
            resolve(&dns, &reach(&policy(&["any"]), Net::None), "nameserver 192.0.2.53\n", &[]),
            Resolver::File("nameserver 192.0.2.1\noptions use-vc\n".to_owned())
        );
    }

    #[test]
    fn slirp4netns_brings_a_server_that_speaks_udp() {
        assert_eq!(
            resolve(&[], &reach(&policy(&[]), Net::Slirp4netns), "nameserver 127.0.0.53\n", &[]),
            Resolver::File("nameserver 10.0.2.3\n".to_owned())
        );
        let private = policy(&["private"]);
        assert_eq!(
            resolve(&[], &reach(&private, Net::Slirp4netns), "nameserver 192.0.2.53\n", &[]),
            Resolver::Unreachable
        );
    }

    #[test]
    fn a_rule_counts_for_the_protocol_by_which_the_server_is_asked() {
        let reaches =
            |rule: &str, net| reach(&policy(&[rule]), net).reaches("192.0.2.53".parse().unwrap());
        for (rule, over_tcp, over_udp) in [
            ("any:53/tcp", false, true),
            ("any:53/udp", true, false),
            ("any:53", false, false),
            ("any:54", true, true),
        ] {
            assert_eq!(reaches(rule, Net::None), over_tcp, "{rule}");
            assert_eq!(reaches(rule, Net::Pasta), over_udp, "{rule}");
        }
    }

    #[test]
    fn what_no_rule_allows_is_asked_by_an_attached_network_where_that_has_all_udp() {
        let policy = Policy::builder().default_action(bypass_core::DefaultAction::Deny).build();
        let server = "192.0.2.53".parse().unwrap();
        for (net, udp, reaches) in [
            (Net::None, Udp::Off, false),
            (Net::Pasta, Udp::Off, true),
            (Net::Pasta, Udp::Connected, false),
        ] {
            assert_eq!(Reach { udp, ..reach(&policy, net) }.reaches(server), reaches, "{net:?}");
        }
    }
}
