//! iperf3 and wrk inside, and a published iperf3.

use serde_json::Value;
use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6};
use test_support::{Result, ensure};

use crate::container::Container;
use crate::nginx::requests;
use crate::place::{LIMIT, Place};
use crate::program::{Expected, Program, Subject};
use crate::web;

pub(crate) const IPERF3: Program = Program {
    name: "iperf3_over_tcp_and_udp",
    requires: &[Requirement::Program("iperf3")],
    start: iperf3,
    // A connection to control each test, and its streams.
    expected: Expected { switched: (1, 2 + 5 + 2), otherwise: &[] },
};

pub(crate) const WRK: Program = Program {
    name: "wrk",
    requires: &[Requirement::Program("wrk"), Requirement::Program("nginx")],
    start: wrk,
    expected: Expected { switched: (0, 3 * 32), otherwise: &[] },
};

const LISTENING: &str = "Server listening";

fn check(said: &str, sum: &str) -> Result {
    let json = said.get(said.find('{').unwrap_or(0)..).unwrap_or_default();
    // A server beside it may have written something after it.
    let end = json.rfind("\n}").map_or(json.len(), |at| at + 2);
    let result: Value = serde_json::from_str(json.get(..end).unwrap_or_default())?;
    let bytes = result["end"][sum]["bytes"].as_f64();
    ensure!(bytes.is_some_and(|bytes| bytes > 1e5), "{bytes:?} bytes: {result}");
    Ok(())
}

fn iperf3<'w>(place: &Place<'w>) -> Result<Subject<'w>> {
    let mut peer = place.serve("exec iperf3 -s -p 9103 --forceflush", LISTENING)?;
    let options = ["--udp", "connected", "-p", "18103:5201", "-p", "18103:5201/udp"];
    let mut container = Container::start(place, &options)?;
    container.serve("iperf3 -s --forceflush", LISTENING)?;
    let place = place.clone();
    let round = move |container: &mut Container| {
        let (four, six) = (REMOTE_V4.to_string(), REMOTE_V6.to_string());
        let ways = [(&four, "-P 4"), (&six, "-R"), (&four, "-u -b 20M")];
        for (to, way) in ways {
            let said = container.ask(&format!("iperf3 -J -t 1 -p 9103 -c {to} {way}"))?;
            check(&said, if way.contains("-u") { "sum" } else { "sum_received" })?;
            // It serves one at a time.
            peer.line(LISTENING, LIMIT)?;
        }
        for (to, way) in [(HOST_V4.to_string(), ""), (HOST_V6.to_string(), "-u -b 20M")] {
            let said = place.ask(&format!("iperf3 -J -t 1 -p 18103 -c {to} {way}"))?;
            check(&said, if way.contains("-u") { "sum" } else { "sum_received" })?;
            container.until(":", LISTENING)?;
        }
        Ok(())
    };
    Ok(Subject { container, peers: Vec::new(), round: Box::new(round) })
}

fn wrk<'w>(place: &Place<'w>) -> Result<Subject<'w>> {
    let peer = web::remote(place, 9104)?;
    let container = Container::start(place, &[])?;
    let round = move |container: &mut Container| {
        for (host, way) in [
            (REMOTE_V4.to_string(), ""),
            (format!("[{REMOTE_V6}]"), ""),
            (REMOTE_V4.to_string(), "-H 'Connection: close'"),
        ] {
            let url = format!("http://{host}:9104/who");
            let command = format!("wrk -t 2 -c 32 -d 1s --timeout 60s {way} {url}");
            requests(|| container.ask(&command))?;
        }
        Ok(())
    };
    Ok(Subject { container, peers: vec![peer], round: Box::new(round) })
}
