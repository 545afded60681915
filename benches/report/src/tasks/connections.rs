//! Connections one after the other and side by side, and what goes to and fro on one.

use test_support::ensure;
use test_support::failure::{Context, Result};
use test_support::process::Running;
use test_support::world::{REMOTE_V4, Server};

use super::{Figures, Task};
use crate::lab::{Lab, json_of, number, serve};
use crate::ways::Way;

pub(super) fn tasks() -> Vec<Box<dyn Task>> {
    vec![
        Box::new(Connections::default()),
        Box::new(Requests::default()),
        Box::new(Echoes::default()),
    ]
}

/// Connect, one byte, close.
#[derive(Default)]
struct Connections {
    server: Option<Server>,
}

impl Task for Connections {
    fn keys(&self) -> &'static [&'static str] {
        &["cycle", "rate-1", "rate-8", "rate-64", "cpu-connection"]
    }

    fn prepare(&mut self, lab: &Lab<'_>) -> Result {
        self.server = Some(lab.world.serve_remote(&["--mode", "byte", "--quiet", "0.0.0.0:0"])?);
        Ok(())
    }

    fn measure(&self, lab: &Lab<'_>, way: &Way) -> Result<Figures> {
        let address = self.server.as_ref().context("no server")?.at(REMOTE_V4);
        let cycles = lab.choose(2_000, 200);
        let answer = lab.client(way, &["cycles", &address, &cycles.to_string()])?;
        ensure!(number(&answer, "/done")? >= f64::from(cycles), "{answer}");
        let mut figures = vec![("cycle", number(&answer, "/p50_us")?)];
        let millis = lab.choose(1_000, 200).to_string();
        for (key, clients) in [("rate-1", 1), ("rate-8", 8), ("rate-64", 64)] {
            let before = lab.cpu_time()?;
            let words = ["connections", &address, &clients.to_string(), &millis];
            let answer = lab.client(way, &words)?;
            let done = number(&answer, "/done")?;
            figures.push((key, done / number(&answer, "/seconds")?));
            if clients == 8 {
                figures.push(("cpu-connection", (lab.cpu_time()? - before) / done * 1e6));
            }
        }
        Ok(figures)
    }
}

/// 64 bytes and their echo over one connection.
#[derive(Default)]
struct Requests {
    server: Option<Server>,
}

impl Task for Requests {
    fn keys(&self) -> &'static [&'static str] {
        &["request-p50", "request-p99"]
    }

    fn prepare(&mut self, lab: &Lab<'_>) -> Result {
        self.server = Some(lab.world.serve_remote(&["--quiet", "0.0.0.0:0"])?);
        Ok(())
    }

    fn measure(&self, lab: &Lab<'_>, way: &Way) -> Result<Figures> {
        let address = self.server.as_ref().context("no server")?.at(REMOTE_V4);
        let count = lab.choose(5_000, 500).to_string();
        let answer = lab.client(way, &["requests", &address, &count])?;
        Ok(vec![
            ("request-p50", number(&answer, "/p50_us")?),
            ("request-p99", number(&answer, "/p99_us")?),
        ])
    }
}

/// A datagram and its echo, of a client that connects its socket.
#[derive(Default)]
struct Echoes {
    _server: Option<Running>,
}

impl Task for Echoes {
    fn keys(&self) -> &'static [&'static str] {
        &["udp-echo"]
    }

    fn left_out(&self, way: &Way) -> Option<&'static str> {
        way.no_datagrams()
    }

    fn prepare(&mut self, lab: &Lab<'_>) -> Result {
        let mut server = lab.remote(&lab.fixture("fx-server")?);
        self._server = Some(serve(server.args(["--udp", &format!("0.0.0.0:{ECHO}")]), "ready")?);
        Ok(())
    }

    fn measure(&self, lab: &Lab<'_>, way: &Way) -> Result<Figures> {
        let (program, count) = (lab.fixture("fx-client")?, lab.choose(5_000, 500));
        let address = format!("{REMOTE_V4}:{ECHO}");
        let words = [&program, "datagrams", &address, &count.to_string()];
        let answer = json_of(&mut way.datagrams(lab.world, &words)?)?;
        // A machine that stands still for a second may lose one; more is not what is measured.
        ensure!(number(&answer, "/done")? >= f64::from(count) * 0.99, "{answer}");
        Ok(vec![("udp-echo", number(&answer, "/p50_us")?)])
    }
}

const ECHO: u16 = 7007;
