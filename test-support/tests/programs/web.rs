//! Web servers and clients in the languages that people write such in. Each is a server whose port
//! is published, and a client of a web server on the remote.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use test_support::process::Running;
use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6, SILENT_V6};
use test_support::{Result, ensure_eq};

use crate::container::Container;
use crate::nginx::{READY, nginx, wrk};
use crate::place::{Place, succeed};
use crate::program::{Expected, Program, Subject};

pub(crate) const PYTHON: Program = Program {
    name: "python_with_asyncio_and_requests",
    requires: &[
        Requirement::Program("nginx"),
        Requirement::Program("curl"),
        Requirement::Program("wrk"),
        Requirement::Program("python3"),
    ],
    start: |place| python(place)?.start(place),
    // Those that are not kept: 5 + 5 by urllib and requests, 20 by asyncio, for either family.
    // It tries whether it may bind to ::1.
    expected: Expected { switched: (2, 60), otherwise: &["left/local"] },
};

pub(crate) const NODE: Program = Program {
    name: "node",
    requires: &[
        Requirement::Program("nginx"),
        Requirement::Program("curl"),
        Requirement::Program("wrk"),
        Requirement::Program("node"),
    ],
    start: |place| node(place)?.start(place),
    expected: Expected { switched: (1, 80), otherwise: &[] },
};

pub(crate) const GO: Program = Program {
    name: "go_net_http",
    requires: &[
        Requirement::Program("nginx"),
        Requirement::Program("curl"),
        Requirement::Program("wrk"),
        Requirement::Program("go"),
    ],
    start: |place| go(place)?.start(place),
    // The same.
    expected: Expected { switched: (1, 80), otherwise: &["left/local"] },
};

pub(crate) const JAVA: Program = Program {
    name: "java_nio",
    requires: &[
        Requirement::Program("nginx"),
        Requirement::Program("curl"),
        Requirement::Program("wrk"),
        Requirement::Program("javac"),
    ],
    start: |place| java(place)?.start(place),
    expected: Expected { switched: (1, 80), otherwise: &[] },
};

pub(crate) const ERLANG: Program = Program {
    name: "erlang_gen_tcp_and_httpc",
    requires: &[
        Requirement::Program("nginx"),
        Requirement::Program("curl"),
        Requirement::Program("wrk"),
        Requirement::Program("erlc"),
    ],
    start: |place| erlang(place)?.start(place),
    // Its virtual machine binds a port as it starts.
    expected: Expected { switched: (1, 40), otherwise: &["left/local"] },
};

/// One of them.
pub(crate) struct Web {
    /// On the host, for the server; its own is [`PORT`].
    published: u16,
    /// Of the web server on the remote.
    remote: u16,
    server: String,
    /// Gets as arguments the remote's addresses of both families, its port, and an address that
    /// never answers. Prints what it fetches.
    pub(crate) client: String,
    /// How often over either family.
    pub(crate) pages: (usize, usize),
}

/// Of the server in the container.
const PORT: u16 = 8080;

pub(crate) fn python(place: &Place<'_>) -> Result<Web> {
    let client = place.file("client.py", include_bytes!("sources/client.py"))?;
    let server = place.file("server.py", include_bytes!("sources/server.py"))?;
    let (client, server) = (format!("python3 {client}"), format!("python3 {server}"));
    Ok(Web { published: 18_091, remote: 9_091, server, client, pages: (75, 75) })
}

pub(crate) fn node(place: &Place<'_>) -> Result<Web> {
    let client = place.file("client.js", include_bytes!("sources/client.js"))?;
    let server = place.file("server.js", include_bytes!("sources/server.js"))?;
    let (client, server) = (format!("node {client}"), format!("node {server}"));
    Ok(Web { published: 18_092, remote: 9_092, server, client, pages: (81, 80) })
}

pub(crate) fn go(place: &Place<'_>) -> Result<Web> {
    let source = place.file("main.go", include_bytes!("sources/main.go"))?;
    let program = place.path("main");
    // As root, whose build cache is still there the next time.
    let mut compiler = place.world.on_host("go");
    compiler.env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "local");
    succeed(compiler.args(["build", "-o", &program, &source]))?;
    let client = program.clone();
    Ok(Web { published: 18_093, remote: 9_093, server: program, client, pages: (81, 80) })
}

pub(crate) fn java(place: &Place<'_>) -> Result<Web> {
    let source = place.file("Nio.java", include_bytes!("sources/Nio.java"))?;
    compile(place.host("javac").arg(&source))?;
    let program = format!("java -Xmx128m -XX:+UseSerialGC -cp {} Nio", place.path(""));
    let client = program.clone();
    Ok(Web { published: 18_094, remote: 9_094, server: program, client, pages: (60, 60) })
}

fn erlang(place: &Place<'_>) -> Result<Web> {
    let source = place.file("fetch.erl", include_bytes!("sources/fetch.erl"))?;
    compile(place.host("erlc").arg(&source))?;
    let program = "erl -noshell -eval 'fetch:main(init:get_plain_arguments())' -extra".to_owned();
    let client = program.clone();
    Ok(Web { published: 18_095, remote: 9_095, server: program, client, pages: (40, 40) })
}

fn compile(compiler: &mut Command) -> Result {
    succeed(compiler)?;
    Ok(())
}

/// A web server on the remote, which says at `/who` and `/port` who asks, and serves files of the
/// place.
pub(crate) fn remote(place: &Place<'_>, port: u16) -> Result<Running> {
    remote_with(place, port, "")
}

/// The same with more locations.
pub(crate) fn remote_with(place: &Place<'_>, port: u16, locations: &str) -> Result<Running> {
    let http = format!(
        "server {{ listen {port}; listen [::]:{port}; root {};\n\
         location = /who {{ return 200 \"$remote_addr\\n\"; }}\n\
         location = /port {{ return 200 \"$remote_port\\n\"; }}\n{locations} }}",
        place.path("")
    );
    place.serve(&format!("exec {}", nginx(place, "remote", &http)?), READY)
}

impl Web {
    fn start<'w>(self, place: &Place<'w>) -> Result<Subject<'w>> {
        let peer = remote(place, self.remote)?;
        let map = format!("{}:{PORT}", self.published);
        let mut container = Container::start(place, &["-p", &map])?;
        container.serve(&format!("{} {PORT}", self.server), "ready")?;
        let place = place.clone();
        let round = move |container: &mut Container| self.round(&place, container);
        Ok(Subject { container, peers: vec![peer], round: Box::new(round) })
    }

    fn round(&self, place: &Place<'_>, container: &mut Container) -> Result {
        let (client, port) = (&self.client, self.remote);
        let said =
            container.ask(&format!("{client} {REMOTE_V4} {REMOTE_V6} {port} {SILENT_V6}"))?;
        let (v4, v6) = (HOST_V4.to_string(), HOST_V6.to_string());
        let pages = |seen: &str| said.lines().filter(|line| *line == seen).count();
        ensure_eq!((pages(&v4), pages(&v6)), self.pages, "pages that were fetched");
        for (host, remote) in
            [(IpAddr::from(HOST_V4), IpAddr::from(REMOTE_V4)), (HOST_V6.into(), REMOTE_V6.into())]
        {
            let url = format!("http://{}/", SocketAddr::new(host, self.published));
            let who = place.ask(&format!("curl -sSfg -m 60 {url}"))?;
            // Java writes addresses without their short form.
            let who = who.trim().parse::<IpAddr>()?;
            ensure_eq!(who, remote, "client that {host} sees");
            wrk(place, &url, "")?;
        }
        Ok(())
    }
}
