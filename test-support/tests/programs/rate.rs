//! nginx in front of a bypassed upstream, next to the same nginx on the host: no request fails,
//! and none takes longer.

use std::time::{Duration, Instant};

use test_support::harness::{Group, Scenario};
use test_support::process;
use test_support::world::{HOST_V4, REMOTE_V4};
use test_support::{Result, World, ensure};

use crate::container::Container;
use crate::nginx::{self, READY, nginx};
use crate::place::{LIMIT, Place};
use crate::web;

pub(crate) const SCENARIOS: Group = (
    "rate",
    &[Scenario {
        name: "nginx_proxies_as_fast_as_on_the_host",
        requires: nginx::PROXY.requires,
        run: rate,
    }],
);

/// Through the container, at least.
const REQUESTS: u64 = 100_000;
/// Pairs of measurements, at least.
const ROUNDS: usize = 9;
/// What is asserted. Where nothing else runs, the median lies between 0.97 and 1.03; of a machine
/// with two processors and other work this is what can be relied on.
const LEAST: f64 = 0.85;
/// On a machine that does not get to so many requests.
const ENOUGH: Duration = Duration::from_secs(150);

/// Of the proxy, where it is the container's and where it is the host's.
const PORTS: [u16; 2] = [18_105, 18_106];

fn proxy(port: u16) -> String {
    format!(
        "upstream pool {{ server {REMOTE_V4}:9105; keepalive 32; }}\n\
         proxy_http_version 1.1; proxy_set_header Connection '';\n\
         server {{ listen {port};\n\
           location = /pool {{ proxy_pass http://pool/who; }}\n\
           location = /fresh {{ proxy_set_header Connection close;\n\
             proxy_pass http://{REMOTE_V4}:9105/who; }} }}"
    )
}

fn rate(world: &World) -> Result {
    let place = Place::new(world, "rate")?;
    let _upstream = web::remote(&place, 9105)?;
    let [inside, outside] = PORTS;
    let mut container = Container::start(&place, &["-p", &format!("0.0.0.0:{inside}:8105")])?;
    container.serve(&nginx(&place, "inside", &proxy(8105))?, READY)?;
    let command = format!("exec {} 2>&1", nginx(&place, "outside", &proxy(outside))?);
    let mut host = process::start(place.host("sh").args(["-c", &command]))?;
    host.line(READY, LIMIT)?;

    for path in ["fresh", "pool"] {
        let measure =
            |port: u16| nginx::wrk(&place, &format!("http://{HOST_V4}:{port}/{path}"), "");
        let (began, mut rates, mut total) = (Instant::now(), [Vec::new(), Vec::new()], 0);
        // Connections without a pool leave ports behind, of which there are not so many.
        let (rounds, requests) = if path == "pool" { (ROUNDS, REQUESTS) } else { (3, 0) };
        for port in PORTS {
            measure(port)?;
        }
        while rates[0].len() < rounds || total < requests {
            ensure!(began.elapsed() < ENOUGH, "{total} requests in {ENOUGH:?}: {rates:?}");
            let mut round = [0, 1];
            round.rotate_left(rates[0].len() % 2);
            for at in round {
                let count = measure(PORTS[at])?;
                rates[at].push(count);
                total += if at == 0 { count } else { 0 };
            }
        }
        let [inside, outside] = rates.map(median);
        let ratio = inside / outside;
        print(&format!(
            "{path}: {total} requests without an error, {inside:.0}/s, host {outside:.0}/s: {ratio:.3}"
        ));
        ensure!(path != "pool" || ratio >= LEAST, "{inside} requests/s, on the host {outside}");
    }
    let report = container.end()?;
    report.expect_only(&[])?;
    report.expect_direct()
}

#[expect(clippy::cast_precision_loss, reason = "requests in a second")]
fn median(mut counts: Vec<u64>) -> f64 {
    counts.sort_unstable();
    let middle = |at: usize| counts.get(at).copied().unwrap_or_default() as f64;
    f64::midpoint(middle((counts.len() - 1) / 2), middle(counts.len() / 2))
}

#[expect(clippy::print_stdout, reason = "figures for a person")]
fn print(line: &str) {
    println!("\n{line}");
}
