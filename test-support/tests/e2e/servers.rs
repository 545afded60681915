//! Servers that were not written by us, published, with clients that were not either.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, Finished, PATIENCE};
use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6};
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::LIMIT;
use crate::inside::Inside;

pub(crate) const SCENARIOS: Group = (
    "servers",
    &[
        Scenario {
            name: "nginx_serves_and_logs_real_clients",
            requires: &[Requirement::Program("nginx"), Requirement::Program("curl")],
            run: nginx,
        },
        Scenario {
            name: "nginx_takes_many_short_connections",
            requires: &[Requirement::Program("nginx"), Requirement::Program("wrk")],
            run: short_connections,
        },
        Scenario {
            name: "redis_is_reached",
            requires: &[Requirement::Program("redis-server"), Requirement::Program("redis-cli")],
            run: redis,
        },
        Scenario {
            name: "memcached_is_reached_over_tcp_and_udp",
            requires: &[Requirement::Program("memcached"), Requirement::Program("python3")],
            run: memcached,
        },
        Scenario {
            name: "dnsmasq_answers_over_udp",
            requires: &[Requirement::Program("dnsmasq"), Requirement::Program("dig")],
            run: dnsmasq,
        },
        Scenario {
            name: "nsd_answers_over_udp_and_tcp",
            requires: &[Requirement::Program("nsd"), Requirement::Program("dig")],
            run: nsd,
        },
        Scenario {
            name: "iperf3_measures_tcp_and_udp",
            requires: &[Requirement::Program("iperf3")],
            run: iperf3,
        },
        Scenario { name: "quic_server_sees_real_clients", requires: &[], run: quic_server },
        Scenario { name: "quic_client_is_seen_as_the_host", requires: &[], run: quic_client },
    ],
);

/// The host's addresses as URLs and command lines have them, with what the remote is seen as.
const PATHS: [(IpAddr, IpAddr); 2] =
    [(IpAddr::V4(HOST_V4), IpAddr::V4(REMOTE_V4)), (IpAddr::V6(HOST_V6), IpAddr::V6(REMOTE_V6))];

fn succeed(command: &mut Command) -> Result<Finished> {
    process::run(command, LIMIT)?.success()
}

fn curl(mut command: Command, to: SocketAddr) -> Result<String> {
    command.args(["--silent", "--show-error", "--max-time", "10", "--globoff"]);
    Ok(succeed(command.arg(format!("http://{to}/")))?.stdout)
}

/// A configuration whose every file is in `directory`; says who asks, and where.
fn nginx_configuration(directory: &Path, listen: &str) -> String {
    let at = directory.display();
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {at}/{kind};"));
    format!(
        "daemon off; worker_processes 2; pid {at}/pid; error_log {at}/error.log;\n\
         events {{ worker_connections 512; }}\n\
         http {{\n\
           access_log {at}/access.log; {}\n\
           server {{ {listen}\n\
             location / {{ return 200 \"$remote_addr $server_addr $server_port\\n\"; }} }} }}\n",
        paths.concat()
    )
}

/// Starts nginx, which writes its process id once it listens.
fn start_nginx(inside: &mut Inside, directory: &Path, listen: &str) -> Result<u32> {
    let configuration = directory.join("nginx.conf");
    fs::write(&configuration, nginx_configuration(directory, listen))?;
    let pid_file = directory.join("pid").display().to_string();
    let error_log = directory.join("error.log").display().to_string();
    inside.expect(&format!("rm -f {pid_file}"))?;
    let command = format!("nginx -e {error_log} -c {}", configuration.display());
    let pid = inside.launch(&command, "", 0)?;
    let wait = format!(
        "until [ -s {pid_file} ]; do kill -0 {pid} || {{ cat {error_log}; exit 1; }}; done"
    );
    inside.expect(&format!("( {wait} )"))?;
    Ok(pid)
}

/// What servers listen on; each is a restart of the one before.
const LISTEN: &[&str] = &[
    "listen 8080; listen [::]:8080 ipv6only=on;",
    "listen [::]:8080 ipv6only=off;",
    "listen 8080 reuseport; listen [::]:8080 ipv6only=on reuseport;",
    "listen [::]:8080 ipv6only=off reuseport;",
    "listen 8080; listen [::]:8080 ipv6only=on;",
];

fn nginx(world: &World) -> Result {
    let directory = world.directory("nginx")?;
    let mut inside = Inside::start(world, &["-p", "8081:8080"])?;
    for listen in LISTEN {
        let server = start_nginx(&mut inside, &directory, listen)?;
        for reloaded in [false, true] {
            for (host, remote) in PATHS {
                let page = curl(world.in_remote("curl"), SocketAddr::new(host, 8081))?;
                // The form that addresses have on a dual-stack socket.
                let page = page.replace("::ffff:", "");
                ensure_eq!(page, format!("{remote} {host} 8080\n"), "{listen} from {remote}");
            }
            let health = inside.expect("curl -sS --max-time 10 http://127.0.0.1:8080/")?;
            ensure!(health.ends_with(" 8080\n"), "{listen}, from inside: {health}");
            if !reloaded {
                inside.expect(&format!("kill -HUP {server}"))?;
            }
        }
        inside.stop(server)?;
    }
    let log = fs::read_to_string(directory.join("access.log"))?;
    for (_, remote) in PATHS {
        let client = format!("{remote} ");
        let own = |line: &&str| line.trim_start_matches("::ffff:").starts_with(&client);
        let count = log.lines().filter(own).count();
        ensure_eq!(count, 2 * LISTEN.len(), "requests of {remote} in the log:\n{log}");
    }
    Ok(())
}

fn short_connections(world: &World) -> Result {
    let directory = world.directory("nginx-short")?;
    let mut inside = Inside::start(world, &["-p", "8083:8080"])?;
    let listen = "listen 8080 reuseport; listen [::]:8080 reuseport;";
    let server = start_nginx(&mut inside, &directory, listen)?;
    for (host, _) in PATHS {
        let mut wrk = world.in_remote("wrk");
        wrk.args(["-t", "1", "-c", "8", "-d", "1s", "-H", "Connection: close"]);
        let finished = succeed(wrk.arg(format!("http://{}/", SocketAddr::new(host, 8083))))?;
        let failed = ["Socket errors", "Non-2xx"].iter().find(|w| finished.stdout.contains(**w));
        ensure!(failed.is_none(), "{host}: {finished}");
    }
    inside.stop(server)
}

fn redis(world: &World) -> Result {
    let directory = world.directory("redis")?;
    let mut inside = Inside::start(world, &["-p", "6380:6379"])?;
    let command = format!(
        "redis-server --port 6379 --protected-mode no --save '' --dir {}",
        directory.display()
    );
    for _ in 0..2 {
        let server = inside.launch(&command, "Ready to accept connections", 1)?;
        for (host, remote) in PATHS {
            let cli = |words: &[&str]| {
                let mut command = world.in_remote("redis-cli");
                command.args(["-h", &host.to_string(), "-p", "6380"]).args(words);
                succeed(&mut command)
            };
            ensure_eq!(cli(&["set", "key", "value"])?.stdout, "OK\n", "set");
            ensure_eq!(cli(&["get", "key"])?.stdout, "value\n", "get");
            let clients = cli(&["client", "list"])?.stdout;
            let own = format!("laddr={}", SocketAddr::new(host, 6379));
            let seen = SocketAddr::new(remote, 0).to_string();
            let seen = format!("addr={}", seen.trim_end_matches('0'));
            ensure!(clients.contains(&own) && clients.contains(&seen), "{own}, {seen}: {clients}");
            let mut benchmark = world.in_remote("redis-benchmark");
            benchmark.args(["-h", &host.to_string(), "-p", "6380", "-q", "-n", "2000", "-c", "10"]);
            let finished = succeed(benchmark.args(["-t", "set,get"]))?;
            ensure!(finished.stdout.contains("GET: "), "no figure: {finished}");
        }
        let health = inside.expect("redis-cli -h 127.0.0.1 ping")?;
        ensure!(health.contains("PONG"), "from inside: {health}");
        inside.stop(server)?;
    }
    Ok(())
}

/// Sets a value over TCP, gets it over TCP and over UDP, and asks who is connected.
const MEMCACHED_CLIENT: &str = r#"
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
tcp = socket.create_connection((host, port), 10)
def tell(line, end):
    tcp.sendall(line)
    got = b''
    while not got.endswith(end):
        got += tcp.recv(65536)
    return got
print(tell(b'set key 0 0 5\r\nhello\r\n', b'STORED\r\n').decode())
print(tell(b'get key\r\n', b'END\r\n').decode())
family = socket.AF_INET6 if ':' in host else socket.AF_INET
for connected in [False, True]:
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.settimeout(10)
    frame = b'\x00\x01\x00\x00\x00\x01\x00\x00get key\r\n'
    if connected:
        udp.connect((host, port))
        udp.send(frame)
    else:
        udp.sendto(frame, (host, port))
    print('udp', udp.recv(2048)[8:].decode())
print(tell(b'stats conns\r\n', b'END\r\n').decode())
"#;

fn memcached(world: &World) -> Result {
    let options = ["-p", "11212:11211", "-p", "11212:11211/udp"];
    let mut inside = Inside::start(world, &options)?;
    for listen in ["-l 0.0.0.0,::", "-l ::"] {
        let command = format!("memcached -vv -p 11211 -U 11211 {listen}");
        let server = inside.launch(&command, "server listening", 2)?;
        for (host, remote) in
            PATHS.iter().filter(|(host, _)| host.is_ipv6() || listen.contains('0'))
        {
            let mut client = world.in_remote("python3");
            client.args(["-c", MEMCACHED_CLIENT, &host.to_string(), "11212"]);
            let said = succeed(&mut client)?.stdout;
            let values = said.matches("VALUE key 0 5\r\nhello").count();
            ensure_eq!(values, 3, "values over TCP, UDP and connected UDP: {said}");
            ensure!(said.contains(&remote.to_string()), "{remote} is not connected: {said}");
        }
        inside.stop(server)?;
    }
    Ok(())
}

fn dig(world: &World, host: IpAddr, port: u16, way: &str) -> Result {
    let mut dig = world.in_remote("dig");
    dig.args(["+short", "+tries=1", "+time=5", way, "-p", &port.to_string(), "name.test"]);
    let finished = succeed(dig.arg(format!("@{host}")))?;
    ensure_eq!(finished.stdout, "198.18.0.77\n", "{host}, {way}");
    Ok(())
}

/// Over UDP alone: over TCP it answers on interfaces that it finds in its own namespace only.
fn dnsmasq(world: &World) -> Result {
    let mut inside = Inside::start(world, &["-p", "5354:5353/udp"])?;
    let command = "dnsmasq --keep-in-foreground --no-resolv --no-hosts --port=5353 --log-queries \
         --log-facility=- --conf-file=/dev/null --pid-file= --address=/name.test/198.18.0.77";
    for _ in 0..2 {
        let server = inside.launch(command, "started", 1)?;
        for (host, remote) in PATHS {
            dig(world, host, 5354, "+notcp")?;
            inside.0.running.line(&format!("name.test from {remote}"), PATIENCE)?;
        }
        inside.stop(server)?;
    }
    Ok(())
}

/// Processes that share the port, whose every file is in `directory`.
fn nsd_configuration(directory: &Path) -> String {
    let at = directory.display();
    format!(
        "server:\n ip-address: 0.0.0.0@5353\n ip-address: ::@5353\n server-count: 2\n \
         reuseport: yes\n username: \"\"\n chroot: \"\"\n zonesdir: \"{at}\"\n pidfile: \"\"\n \
         xfrdfile: \"\"\n database: \"\"\n xfrdir: \"{at}\"\n zonelistfile: \"{at}/zones\"\n\
         remote-control:\n control-enable: no\n\
         zone:\n name: test\n zonefile: zone\n"
    )
}

fn nsd(world: &World) -> Result {
    let directory = world.directory("nsd")?;
    let configuration = directory.join("nsd.conf");
    fs::write(&configuration, nsd_configuration(&directory))?;
    let zone = "$ORIGIN test.\n@ 60 IN SOA ns root 1 1 1 1 60\n@ 60 IN NS ns\n\
         ns 60 IN A 198.18.0.1\nname 60 IN A 198.18.0.77\n";
    fs::write(directory.join("zone"), zone)?;
    let mut inside = Inside::start(world, &["-p", "5356:5353", "-p", "5356:5353/udp"])?;
    for _ in 0..2 {
        let command = format!("nsd -d -c {}", configuration.display());
        let server = inside.launch(&command, "nsd started", 1)?;
        for (host, _) in PATHS {
            for way in ["+notcp", "+tcp", "+notcp", "+tcp"] {
                dig(world, host, 5356, way)?;
            }
        }
        inside.stop(server)?;
    }
    Ok(())
}

fn iperf3(world: &World) -> Result {
    let options = ["-p", "5202:5201", "-p", "5202:5201/udp"];
    let mut inside = Inside::start(world, &options)?;
    inside.launch("iperf3 -s -p 5201 --forceflush", "", 0)?;
    for (host, _) in PATHS {
        for (way, least) in [(&["-t", "1"][..], 1e8), (&["-u", "-b", "10M", "-t", "1"], 7e6)] {
            // Once more after each client.
            inside.0.running.line("Server listening", PATIENCE)?;
            let mut client = world.in_remote("iperf3");
            client.args(["-J", "-p", "5202", "-c", &host.to_string()]);
            let finished = succeed(client.args(way))?;
            let result: Value = serde_json::from_str(&finished.stdout)?;
            let sum = if way.contains(&"-u") { "sum" } else { "sum_received" };
            let rate = result["end"][sum]["bits_per_second"].as_f64();
            ensure!(rate.is_some_and(|rate| rate > least), "{host} {way:?}: {rate:?}, {result}");
            let lost = result["end"][sum]["lost_percent"].as_f64().unwrap_or(0.0);
            // How few they can be is the benchmark's to tell: this machine may have other work.
            ensure!(lost < 25.0, "{host} {way:?}: {lost} % were lost");
        }
    }
    Ok(())
}

/// More than one window, so that segments are sent and received in batches.
const QUIC_BYTES: &str = "2000000";

fn quic_server(world: &World) -> Result {
    let certificate = world.directory("quic")?.join("certificate");
    let (program, certificate) = (world.program("fx-quic")?, certificate.display().to_string());
    let mut inside = Inside::start(world, &["-p", "4434:4433/udp"])?;
    for listen in ["[::]:4433", "0.0.0.0:4433"] {
        let command = format!("{} serve {certificate} {listen}", program.display());
        let server = inside.launch(&command, "ready", 1)?;
        let paths = PATHS.iter().filter(|(host, _)| host.is_ipv4() || listen.starts_with('['));
        for (host, remote) in paths {
            let to = SocketAddr::new(*host, 4434).to_string();
            let mut client = world.in_remote(&program);
            let finished = succeed(client.args(["ask", &certificate, &to, QUIC_BYTES]))?;
            ensure_eq!(finished.stdout, format!("echoed {QUIC_BYTES}\n"), "{to}");
            let line = inside.0.running.line("peer ", PATIENCE)?;
            let seen = line.starts_with(&format!("peer {}:", bracketed(*remote)));
            ensure!(seen && line.ends_with(&format!(" at {host}")), "{to} from {remote}: {line}");
        }
        // From the host's loopback, by way of the relay.
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 4434)).to_string();
        let mut client = world.as_user(&program);
        let finished = succeed(client.args(["ask", &certificate, &to, QUIC_BYTES]))?;
        ensure_eq!(finished.stdout, format!("echoed {QUIC_BYTES}\n"), "{to}");
        inside.0.running.line("peer ", PATIENCE)?;
        inside.stop(server)?;
    }
    Ok(())
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

fn quic_client(world: &World) -> Result {
    let certificate = world.directory("quic-client")?.join("certificate");
    let (program, path) = (world.program("fx-quic")?, certificate.display().to_string());
    let mut server = world.in_remote(&program);
    let mut server = process::start(server.args(["serve", &path, "[::]:4433"]))?;
    server.line("ready", PATIENCE)?;
    for (host, remote) in PATHS {
        let to = SocketAddr::new(remote, 4433).to_string();
        let mut command = world.bypass(&["--udp", "all"])?;
        command.arg(&program).args(["ask", &path, &to, QUIC_BYTES]);
        let finished = succeed(&mut command)?;
        ensure_eq!(finished.stdout, format!("echoed {QUIC_BYTES}\n"), "{to}");
        let line = server.line("peer ", PATIENCE).context(&to)?;
        ensure!(line.starts_with(&format!("peer {}:", bracketed(host))), "{to}: {line}");
    }
    Ok(())
}
