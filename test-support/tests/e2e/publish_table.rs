//! Every form of `-p` × protocol × address family of the server × how often it was started,
//! and every reason for which a host port cannot be had.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use test_support::harness::{Group, Scenario};
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6};
use test_support::{Result, World, ensure};

use crate::inside::Inside;
use crate::repl::{ANSWER_LIMIT, Repl};
use crate::reserve::run_true;

pub(crate) const SCENARIOS: Group = (
    "publish_table",
    &[
        Scenario { name: "every_map_serves_tcp_as_it_says", requires: &[], run: tcp },
        Scenario { name: "every_map_serves_udp_as_it_says", requires: &[], run: udp },
        Scenario { name: "every_port_that_cannot_be_had_is_explained", requires: &[], run: unfree },
    ],
);

/// A form of `-p`; `A` stands for the host address, with brackets where it takes them.
#[derive(Debug)]
struct Form {
    text: &'static str,
    /// Port of the host address, where it is not ephemeral.
    host_port: Option<u16>,
    container_port: u16,
    /// Has a host address.
    addressed: bool,
}

const fn form(
    text: &'static str,
    host_port: Option<u16>,
    container_port: u16,
    addressed: bool,
) -> Form {
    Form { text, host_port, container_port, addressed }
}

const FORMS: &[Form] = &[
    form("8080", None, 8080, false),
    form(":8080", None, 8080, false),
    form("8080:8080", Some(8080), 8080, false),
    form("8080:8090", Some(8080), 8090, false),
    form("8080-8082:8090-8092", Some(8081), 8091, false),
    form("8080-8082:8090", Some(8080), 8090, false),
    form("8090-8092", None, 8091, false),
    form("A::8080", None, 8080, true),
    form("A:8080:8080", Some(8080), 8080, true),
    form("A:8080:8090", Some(8080), 8090, true),
    form("A:8080-8082:8090-8092", Some(8082), 8092, true),
];

/// Host addresses to publish at.
const ADDRESSES: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
    IpAddr::V4(HOST_V4),
    IpAddr::V6(HOST_V6),
];

/// Address family of a server that binds the wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6Only,
    Dual,
}

/// How a server is run: one after another with the same `-p`.
const SERVERS: &[(Family, Option<usize>)] = &[
    (Family::V4, None),
    (Family::V4, None),
    (Family::Dual, None),
    (Family::Dual, Some(2)),
    (Family::V6Only, None),
    (Family::V4, Some(2)),
    (Family::V6Only, Some(2)),
    (Family::Dual, None),
];

impl Family {
    const fn has(self, ip: IpAddr) -> bool {
        match self {
            Self::V4 => ip.is_ipv4(),
            Self::V6Only => ip.is_ipv6(),
            Self::Dual => true,
        }
    }

    /// Words for `fx-server`.
    fn server(self, kind: &str, port: u16, workers: Option<usize>) -> String {
        let (address, strict) = match self {
            Self::V4 => ("0.0.0.0", ""),
            Self::V6Only => ("[::]", "--v6only 1 "),
            Self::Dual => ("[::]", "--v6only 0 "),
        };
        let kind = if kind == "dgram" { "--udp " } else { "" };
        let workers = workers.map_or_else(String::new, |n| format!("--reuseport --workers {n} "));
        format!("--mode peer {workers}{strict}{kind}{address}:{port}")
    }
}

/// A client, by where it is, the address that it asks and the address that it has.
#[derive(Debug)]
struct Client {
    remote: bool,
    to: IpAddr,
    seen: IpAddr,
}

const CLIENTS: &[Client] = &[
    Client { remote: true, to: IpAddr::V4(HOST_V4), seen: IpAddr::V4(REMOTE_V4) },
    Client { remote: true, to: IpAddr::V6(HOST_V6), seen: IpAddr::V6(REMOTE_V6) },
    Client {
        remote: false,
        to: IpAddr::V4(Ipv4Addr::LOCALHOST),
        seen: IpAddr::V4(Ipv4Addr::LOCALHOST),
    },
    Client {
        remote: false,
        to: IpAddr::V6(Ipv6Addr::LOCALHOST),
        seen: IpAddr::V6(Ipv6Addr::LOCALHOST),
    },
];

/// One `bypass-cli run`.
struct Row<'a> {
    form: &'a Form,
    address: Option<IpAddr>,
    kind: &'static str,
}

impl Row<'_> {
    fn map(&self) -> String {
        let address = match self.address {
            Some(IpAddr::V6(ip)) => format!("[{ip}]"),
            Some(IpAddr::V4(ip)) => ip.to_string(),
            None => String::new(),
        };
        let protocol = if self.kind == "dgram" { "/udp" } else { "" };
        format!("{}{protocol}", self.form.text.replace('A', &address))
    }

    /// Whether a datagram or connection to `to` is for this map.
    fn covers(&self, to: IpAddr) -> bool {
        self.address
            .is_none_or(|own| own == to || (own.is_unspecified() && own.is_ipv4() == to.is_ipv4()))
    }

    /// What a client may come upon; see [`Repl::who`].
    fn is_right(&self, family: Family, client: &Client, got: &str) -> bool {
        let reached = self.covers(client.to) && family.has(client.to);
        match (reached, self.kind) {
            // Relayed by us, from an address of ours.
            (true, "dgram") if !client.remote => got.parse::<IpAddr>().is_ok(),
            (true, _) => got.parse() == Ok(client.seen),
            (false, "dgram") => ["ECONNREFUSED", "EAGAIN"].contains(&got),
            (false, _) => got == "ECONNREFUSED",
        }
    }
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-p {}", self.map())
    }
}

fn tcp(world: &World) -> Result {
    every_row(world, "stream")
}

fn udp(world: &World) -> Result {
    every_row(world, "dgram")
}

fn every_row(world: &World, kind: &'static str) -> Result {
    let (mut remote, mut host) = (Repl::remote(world)?, Repl::host(world)?);
    let mut wrong = Vec::new();
    for form in FORMS {
        let addresses: Vec<_> = match form.addressed {
            true => ADDRESSES.iter().copied().map(Some).collect(),
            false => vec![None],
        };
        for address in addresses {
            let row = Row { form, address, kind };
            let differences = serve(world, &row, &mut remote, &mut host);
            match differences {
                Ok(list) => wrong.extend(list),
                Err(failure) => wrong.push(format!("{row}: {failure}")),
            }
        }
    }
    let some = wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    ensure!(wrong.is_empty(), "{} differ, such as\n{some}", wrong.len());
    Ok(())
}

/// Runs every server with one `-p`; returns what clients should not have come upon.
fn serve(world: &World, row: &Row<'_>, remote: &mut Repl, host: &mut Repl) -> Result<Vec<String>> {
    let map = row.map();
    let mut inside = Inside::start(world, &["-p", &map])?;
    let container_port = row.form.container_port;
    let host_port = match row.form.host_port {
        Some(port) => port,
        None => inside.published(container_port)?,
    };
    let mut wrong = Vec::new();
    for (at, (family, workers)) in SERVERS.iter().enumerate() {
        let server = inside.serve(world, &family.server(row.kind, container_port, *workers))?;
        for client in CLIENTS {
            let from = if client.remote { &mut *remote } else { &mut *host };
            let reached = row.covers(client.to) && family.has(client.to);
            let limit = if reached { ANSWER_LIMIT } else { SILENCE };
            let got = from.who_within(row.kind, SocketAddr::new(client.to, host_port), limit)?;
            if !row.is_right(*family, client, &got) {
                let servers = workers.map_or(1, |count| count);
                wrong
                    .push(format!("{row}, server {at}, {servers} × {family:?}, {client:?}: {got}"));
            }
        }
        inside.stop(server)?;
    }
    inside.end()?;
    Ok(wrong)
}

fn unfree(world: &World) -> Result {
    let mut host = Repl::host(world)?;
    let mut wrong = Vec::new();
    for (kind, protocol) in [("stream", ""), ("dgram", "/udp")] {
        let listen = if kind == "stream" { " listen=1" } else { "" };
        for (family, holder, addresses) in HELD {
            host.succeed(&format!("open held {family} {kind} bind={holder}:8085{listen}"))?;
            for address in *addresses {
                for ports in ["8085:80", "8085:8085", "8084-8086:80-82"] {
                    let map = format!("{address}{ports}{protocol}");
                    check_refusal(world, &map, &["8085", "in use"], &mut wrong)?;
                }
            }
            host.ask("close held")?;
        }
        for address in ["", "0.0.0.0:", "[::]:", "127.0.0.1:", "[::1]:"] {
            for (ports, port) in [("80:8080", "80"), ("1:1", "1"), ("1023:1023", "1023")] {
                let map = format!("{address}{ports}{protocol}");
                let sysctl = "net.ipv4.ip_unprivileged_port_start";
                check_refusal(world, &map, &[port, sysctl], &mut wrong)?;
            }
        }
        for (address, name) in [("203.0.113.7:", "203.0.113.7"), ("[2001:db8::7]:", "2001:db8::7")]
        {
            for ports in ["8085:8080", ":8080", "8085-8086:1-2"] {
                let map = format!("{address}{ports}{protocol}");
                check_refusal(world, &map, &[name, "address"], &mut wrong)?;
            }
        }
        // What is beside is free: the first port after the privileged ones, another protocol.
        host.succeed(&format!("open held inet {kind} bind=0.0.0.0:8085{listen}"))?;
        let other = if kind == "stream" { "/udp" } else { "/tcp" };
        let maps = [format!("8085:80{other}"), format!("1024:80{protocol}")];
        let maps: Vec<&str> = maps.iter().map(String::as_str).collect();
        run_true(world, &maps)?.success()?;
        host.ask("close held")?;
    }
    ensure!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// Family and address that hold a port, and the host addresses that cannot be had beside it.
const HELD: &[(&str, &str, &[&str])] = &[
    ("inet", "0.0.0.0", &["", "0.0.0.0:", "127.0.0.1:"]),
    ("inet", "127.0.0.1", &["", "0.0.0.0:", "127.0.0.1:"]),
    ("inet6", "[::]", &["", "[::]:", "[::1]:", "127.0.0.1:"]),
    ("inet6", "[::1]", &["", "[::]:", "[::1]:"]),
];

fn check_refusal(world: &World, map: &str, words: &[&str], wrong: &mut Vec<String>) -> Result {
    let finished = run_true(world, &[map])?;
    let missing = words.iter().chain([&map]).find(|word| !finished.stderr.contains(**word));
    if finished.code() != 125 || missing.is_some() {
        let stderr = finished.stderr.trim();
        wrong.push(format!("-p {map}: {}, no {missing:?} in: {stderr}", finished.code()));
    }
    Ok(())
}

/// Shorter than [`ANSWER_LIMIT`]: most of what is to be silent is refused at once.
const SILENCE: Duration = Duration::from_millis(150);
