//! redis-benchmark against a server on the remote.

use test_support::failure::{Context, Result};
use test_support::process::Running;
use test_support::world::REMOTE_V4;

use super::{Figures, Task};
use crate::lab::{Lab, finish, serve};
use crate::ways::Way;

pub(super) fn tasks() -> Vec<Box<dyn Task>> {
    vec![Box::new(Redis::default())]
}

#[derive(Default)]
struct Redis {
    _server: Option<Running>,
}

impl Task for Redis {
    fn keys(&self) -> &'static [&'static str] {
        &["redis", "redis-pipelined"]
    }

    fn prepare(&mut self, lab: &Lab<'_>) -> Result {
        let mut server = lab.remote("redis-server");
        server.args(["--port", PORT, "--bind", "0.0.0.0", "--protected-mode", "no"]);
        server.args(["--save", "", "--daemonize", "no"]);
        self._server = Some(serve(&mut server, "Ready to accept connections")?);
        Ok(())
    }

    fn measure(&self, lab: &Lab<'_>, way: &Way) -> Result<Figures> {
        let rate = |requests: u32, pipelined: &str| -> Result<f64> {
            let (to, requests) = (REMOTE_V4.to_string(), requests.to_string());
            let words = [
                "redis-benchmark",
                "-h",
                &to,
                "-p",
                PORT,
                "-t",
                "get",
                "-c",
                "50",
                "-n",
                &requests,
                "-P",
                pipelined,
                "--csv",
            ];
            let finished = finish(&mut way.command(lab.world, &words)?)?;
            // "GET","50000.00",latencies
            let line = finished.stdout.lines().find_map(|line| line.strip_prefix("\"GET\",\""));
            let rate = line.and_then(|rest| rest.split('"').next()?.parse().ok());
            rate.context("a rate").map_err(|_none| finished.failure("no rate"))
        };
        Ok(vec![
            ("redis", rate(lab.choose(40_000, 4_000), "1")?),
            ("redis-pipelined", rate(lab.choose(400_000, 40_000), "16")?),
        ])
    }
}

const PORT: &str = "9085";
