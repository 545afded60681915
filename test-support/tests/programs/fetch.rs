//! curl and wget: what their options make of sockets, and what they fetch.

use std::time::{Duration, Instant};

use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6, SILENT_V4, SILENT_V6};
use test_support::{Result, ensure, ensure_eq};

use crate::container::Container;
use crate::place::Place;
use crate::program::{Expected, Program, Subject};
use crate::web;

pub(crate) const CURL: Program = Program {
    name: "curl",
    requires: &[Requirement::Program("curl"), Requirement::Program("nginx")],
    start: curl,
    // Of 50 pages at once, by 20 connections or more; a source port is bound inside first.
    expected: Expected { switched: (0, 25), otherwise: &["left/local"] },
};

pub(crate) const CURL_INTERFACE: Program = Program {
    name: "curl_by_an_interface_of_the_container",
    requires: &[
        Requirement::Program("curl"),
        Requirement::Program("nginx"),
        Requirement::Program("slirp4netns"),
        Requirement::Tun,
    ],
    start: interface,
    // It is left where a device or an address of the container was asked for, and there alone.
    expected: Expected {
        switched: (0, 1),
        otherwise: &["left/local", "left/option", "left/source_address"],
    },
};

pub(crate) const WGET: Program = Program {
    name: "wget",
    requires: &[Requirement::Program("wget"), Requirement::Program("nginx")],
    start: wget,
    expected: Expected { switched: (0, 4), otherwise: &[] },
};

/// Longer than it takes to turn to the next address, and shorter than to give one up.
const SOON: Duration = Duration::from_secs(30);

fn curl<'w>(place: &Place<'w>) -> Result<Subject<'w>> {
    let peer = web::remote(place, 9096)?;
    place.file("page", "x".repeat(1 << 20))?;
    let container = Container::start(place, &[])?;
    let mut source = 0_u16;
    let round = move |inside: &mut Container| {
        let curl = "curl -sSfg -m 60";
        for host in [REMOTE_V4.to_string(), format!("[{REMOTE_V6}]")] {
            let url = format!("http://{host}:9096");
            // Each time another port, since the host remembers those of connections that have
            // ended; and none that it gives to those who name none.
            source = 20_000 + (source + 1) % 10_000;
            let bound = format!("--local-port {source} {url}/port");
            let seen = inside.ask(&format!("{curl} {bound}"))?;
            ensure_eq!(seen, format!("{source}\n"), "source port");
            let size = inside.ask(&format!("{curl} {url}/page | wc -c"))?;
            ensure_eq!(size.trim(), (1 << 20).to_string(), "size of a page");
        }
        // Both addresses of a name: the first that answers is taken. (The path to either has been
        // used by now: of a link that has just come up, the first answer takes a while.)
        for (first, seen) in [
            (SILENT_V6.to_string(), HOST_V4.to_string()),
            (REMOTE_V6.to_string(), HOST_V6.to_string()),
        ] {
            let began = Instant::now();
            let name = format!("--resolve 'name.test:9096:[{first}],{REMOTE_V4}'");
            let who = inside.ask(&format!("{curl} {name} http://name.test:9096/who"))?;
            ensure_eq!(who, format!("{seen}\n"), "which of [{first}] and {REMOTE_V4}");
            ensure!(began.elapsed() < SOON, "after {:?}", began.elapsed());
        }
        let many = format!("-Z --parallel-immediate 'http://{REMOTE_V4}:9096/who?[1-50]'");
        let who = inside.ask(&format!("curl -sSf -m 60 {many}"))?;
        ensure_eq!(who, format!("{HOST_V4}\n").repeat(50), "50 pages at once");
        // The container has no such address, and no such device.
        let status = inside.ask(&format!(
            "curl -s --interface {HOST_V4} http://{REMOTE_V4}:9096/who; echo $?; \
             curl -s --interface if!up0 http://{REMOTE_V4}:9096/who; echo $?"
        ))?;
        ensure_eq!(status, "45\n45\n", "by an interface of the host");
        Ok(())
    };
    Ok(Subject { container, peers: vec![peer], round: Box::new(round) })
}

fn interface<'w>(place: &Place<'w>) -> Result<Subject<'w>> {
    let peer = web::remote(place, 9097)?;
    let container = Container::start(place, &["--net", "slirp4netns"])?;
    let round = move |inside: &mut Container| {
        let url = format!("http://{REMOTE_V4}:9097/who");
        for options in ["", "--interface 10.0.2.100", "--interface tap0"] {
            let who = inside.ask(&format!("curl -sSf -m 60 {options} {url}"))?;
            ensure_eq!(who, format!("{HOST_V4}\n"), "client that the remote sees, {options}");
        }
        Ok(())
    };
    Ok(Subject { container, peers: vec![peer], round: Box::new(round) })
}

fn wget<'w>(place: &Place<'w>) -> Result<Subject<'w>> {
    let peer = web::remote(place, 9098)?;
    let links: String = (0..10).map(|n| format!("<a href=page{n}>{n}</a>\n")).collect();
    place.file("index.html", &links)?;
    for n in 0..10 {
        place.file(&format!("page{n}"), "x".repeat(100_000))?;
    }
    let container = Container::start(place, &[])?;
    let round = move |inside: &mut Container| {
        let wget = "wget -q -T 60 -t 1";
        for (host, seen) in [
            (REMOTE_V4.to_string(), HOST_V4.to_string()),
            (format!("[{REMOTE_V6}]"), HOST_V6.to_string()),
        ] {
            let who = inside.ask(&format!("{wget} -O - http://{host}:9098/who"))?;
            ensure_eq!(who, format!("{seen}\n"), "client that {host} sees");
            let tree = format!("{wget} -r -nH -P got http://{host}:9098/");
            let size = inside.ask(&format!("{tree} && cat got/page* | wc -c; rm -r got"))?;
            ensure_eq!(size.trim(), "1000000", "size of what was fetched");
        }
        // It has SIGALRM take it out of a connect that waits.
        let began = Instant::now();
        let status = inside.ask(&format!("wget -q -T 1 -t 1 http://{SILENT_V4}:9/; echo $?"))?;
        ensure_eq!(status, "4\n", "connect that times out");
        ensure!(began.elapsed() < SOON, "after {:?}", began.elapsed());
        Ok(())
    };
    Ok(Subject { container, peers: vec![peer], round: Box::new(round) })
}
