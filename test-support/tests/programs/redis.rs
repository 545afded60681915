//! redis: a published server with a replica on the remote, a replica of a server on the remote,
//! and its benchmark in both directions.

use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6};
use test_support::{Result, ensure, ensure_eq};

use crate::container::Container;
use crate::place::Place;
use crate::program::{Expected, Program, Subject};

pub(crate) const REDIS: Program = Program {
    name: "redis_and_its_replicas",
    requires: &[Requirement::Program("redis-server"), Requirement::Program("redis-benchmark")],
    start,
    // The replica binds a port of its own; a benchmark has ten clients.
    expected: Expected { switched: (3, 21), otherwise: &["left/local", "left/host_loopback"] },
};

const SERVER: &str = "redis-server --bind '*' '-::*' --protected-mode no --save '' \
    --repl-diskless-sync yes --repl-diskless-sync-delay 0";
const READY: &str = "Ready to accept connections";
const SYNCED: &str = "sync: Finished with success";

/// Sets a value and says how many replicas have it.
fn set(port: u16, value: u64) -> String {
    format!("printf 'set key {value}\\nwait 1 60000\\n' | redis-cli -p {port}")
}

fn start<'w>(place: &Place<'w>) -> Result<Subject<'w>> {
    let master = place.serve(&format!("exec {SERVER} --port 9085"), READY)?;
    let mut container = Container::start(place, &["-p", "18085:6379"])?;
    container.serve(&format!("{SERVER} --port 6379"), READY)?;
    let replica = format!("{SERVER} --port 6380 --replicaof {REMOTE_V4} 9085");
    container.serve(&replica, SYNCED)?;
    let replica = format!("exec {SERVER} --port 9086 --replicaof {HOST_V4} 18085");
    let replica = place.serve(&replica, SYNCED)?;
    let place = place.clone();
    let mut value = 0;
    let round = move |container: &mut Container| {
        value += 1;
        let benchmark = |host: &str, port: u16| {
            format!("redis-benchmark -h {host} -p {port} -q -n 2000 -c 10 -t set,get")
        };
        for (inside, outside) in [
            (REMOTE_V4.to_string(), HOST_V4.to_string()),
            (REMOTE_V6.to_string(), HOST_V6.to_string()),
        ] {
            let said = container.ask(&benchmark(&inside, 9085))?;
            ensure!(said.contains("GET: "), "benchmark inside: {said}");
            let said = place.ask(&benchmark(&outside, 18085))?;
            ensure!(said.contains("GET: "), "benchmark on the remote: {said}");
        }
        // The replica inside connects anew.
        let killed = place.ask("redis-cli -p 9085 client kill type replica")?;
        ensure_eq!(killed, "1\n", "replicas that the remote had");
        ensure_eq!(place.ask(&set(9085, value))?, "OK\n1\n", "value for the replica inside");
        let got = container.ask("redis-cli -p 6380 get key")?;
        ensure!(got.contains(&value.to_string()), "replica inside: {got}");
        let said = container.ask(&set(6379, value))?;
        ensure!(said.ends_with("OK\n1\n"), "value for the replica on the remote: {said}");
        ensure_eq!(place.ask("redis-cli -p 9086 get key")?, format!("{value}\n"), "that replica");
        Ok(())
    };
    Ok(Subject { container, peers: vec![master, replica], round: Box::new(round) })
}
