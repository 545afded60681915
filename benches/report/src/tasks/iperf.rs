//! Throughput, as iperf3's receiver counts it, and the CPU time of one stream.

use std::fs;

use serde_json::Value;
use test_support::failure::{Context, Result};
use test_support::process::{self, PATIENCE};
use test_support::stacks::IPERF;
use test_support::world::{CONGESTION, REMOTE_V4};

use super::{Figures, Task};
use crate::lab::{Lab, json_of, number};
use crate::ways::Way;

/// One run of iperf3 with its client inside, or its server.
struct Iperf {
    keys: &'static [&'static str],
    kind: Kind,
    down: bool,
    streams: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Published,
}

pub(super) fn tasks(quick: bool) -> Vec<Box<dyn Task>> {
    let task = |keys, kind, down, streams| Iperf { keys, kind, down, streams };
    let mut tasks = vec![
        task(&["tcp-up-1", "cpu-up"], Kind::Tcp, false, 1),
        task(&["tcp-up-4"], Kind::Tcp, false, 4),
        task(&["tcp-up-16"], Kind::Tcp, false, 16),
        task(&["tcp-down-1", "cpu-down"], Kind::Tcp, true, 1),
        task(&["tcp-down-4"], Kind::Tcp, true, 4),
        task(&["tcp-down-16"], Kind::Tcp, true, 16),
        task(&["udp-up", "udp-up-lost"], Kind::Udp, false, 1),
        task(&["udp-down", "udp-down-lost"], Kind::Udp, true, 1),
        task(&["published-to"], Kind::Published, false, 1),
        task(&["published-from"], Kind::Published, true, 1),
    ];
    if quick {
        // A run takes a second at least; each kind once is enough to see that it works.
        let kept = ["tcp-up-1", "tcp-down-16", "udp-up", "published-to"];
        tasks.retain(|task| task.keys.first().is_some_and(|key| kept.contains(key)));
    }
    tasks.into_iter().map(|task| -> Box<dyn Task> { Box::new(task) }).collect()
}

impl Task for Iperf {
    fn keys(&self) -> &'static [&'static str] {
        self.keys
    }

    fn left_out(&self, way: &Way) -> Option<&'static str> {
        match self.kind {
            Kind::Tcp => None,
            Kind::Udp => way.no_datagrams(),
            Kind::Published => way.no_server(),
        }
    }

    fn measure(&self, lab: &Lab<'_>, way: &Way) -> Result<Figures> {
        let before = lab.cpu_time()?;
        let result = match self.kind {
            Kind::Published => self.published(lab, way)?,
            Kind::Tcp | Kind::Udp => self.outwards(lab, way)?,
        };
        let spent = lab.cpu_time()? - before;
        let rate = number(&result, "/end/sum_received/bits_per_second")? / 1e9;
        let other = match self.kind {
            Kind::Udp => number(&result, "/end/sum/lost_percent")?,
            Kind::Tcp | Kind::Published => {
                spent / (number(&result, "/end/sum_received/bytes")? / GIBIBYTE)
            }
        };
        Ok(self.keys.iter().copied().zip([rate, other]).collect())
    }
}

impl Iperf {
    fn outwards(&self, lab: &Lab<'_>, way: &Way) -> Result<Value> {
        // A server of its own for each run: it serves one client at a time.
        let mut server = lab.remote("iperf3");
        let mut server = process::start(server.args(["-s", "-1", "-p", PORT, "--forceflush"]))?;
        server.line("listening", PATIENCE)?;
        let (to, options) = (REMOTE_V4.to_string(), self.options(lab)?);
        let words = ["iperf3", "-J", "-c", &to, "-p", PORT].into_iter();
        let words: Vec<&str> = words.chain(options.iter().map(String::as_str)).collect();
        let mut client = match self.kind {
            Kind::Udp => way.datagrams(lab.world, &words)?,
            Kind::Tcp | Kind::Published => way.command(lab.world, &words)?,
        };
        let result = json_of(&mut client)?;
        server.wait(PATIENCE)?;
        Ok(result)
    }

    fn published(&self, lab: &Lab<'_>, way: &Way) -> Result<Value> {
        let to = way.published(IPERF)?;
        let inside = IPERF.number.to_string();
        let words = ["iperf3", "-s", "-1", "-p", &inside, "--forceflush"];
        let mut server = process::start(&mut way.server(lab.world, &words)?)?;
        server.line("listening", PATIENCE)?;
        let mut client = lab.remote("iperf3");
        client.args(["-J", "-c", &to.ip().to_string(), "-p", &to.port().to_string()]);
        let result = json_of(client.args(self.options(lab)?))?;
        server.wait(PATIENCE)?;
        Ok(result)
    }

    fn options(&self, lab: &Lab<'_>) -> Result<Vec<String>> {
        let mut options = vec!["-t".to_owned(), lab.choose(SECONDS, 1).to_string()];
        if self.kind == Kind::Udp {
            let buffer = socket_buffer()?.to_string();
            options.extend(["-u", "-b", "2G", "-l", "8000", "-w", &buffer].map(str::to_owned));
        } else {
            options.extend(["-C".to_owned(), CONGESTION.to_owned()]);
            options.extend(["-P".to_owned(), self.streams.to_string()]);
        }
        options.extend(self.down.then(|| "-R".to_owned()));
        Ok(options)
    }
}

/// A buffer that holds what arrives while the receiver has to wait for a processor, as far as
/// every user may have one.
fn socket_buffer() -> Result<usize> {
    let limit = |name: &str| -> Result<usize> {
        let path = format!("/proc/sys/net/core/{name}");
        Ok(fs::read_to_string(&path).context(&path)?.trim().parse()?)
    };
    Ok(limit("rmem_max")?.min(limit("wmem_max")?).min(4 << 20))
}

/// iperf3's own.
const PORT: &str = "5201";
const GIBIBYTE: f64 = 1_073_741_824.0;
const SECONDS: u32 = 1;
