//! nginx as a web server whose port is published, and as a reverse proxy of a server that is
//! bypassed: with a pool of connections that are kept, and without.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use test_support::failure::Context;
use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6};
use test_support::{Result, ensure, ensure_eq};

use crate::container::Container;
use crate::place::{LIMIT, Place};
use crate::program::{Expected, Program, Subject};

pub(crate) const SERVER: Program = Program {
    name: "nginx_serves",
    requires: &[
        Requirement::Program("nginx"),
        Requirement::Program("curl"),
        Requirement::Program("wrk"),
    ],
    start: server,
    // One for each family.
    expected: Expected { switched: (2, 0), otherwise: &[] },
};

pub(crate) const PROXY: Program = Program {
    name: "nginx_is_a_reverse_proxy",
    requires: SERVER.requires,
    start: proxy,
    // Without a pool each request takes a connection: those of curl, and the first of wrk's clients.
    expected: Expected { switched: (1, 1 + 16), otherwise: &[] },
};

/// A command that runs nginx in the foreground, with what it writes in the place's directory, and
/// with `http` as the section of that name; it says [`READY`].
pub(crate) fn nginx(place: &Place<'_>, name: &str, http: &str) -> Result<String> {
    let at = place.path(name);
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {at}.{kind};"));
    let configuration = place.file(
        &format!("{name}.conf"),
        format!(
            "daemon off; worker_processes 1; pid {at}.pid; error_log stderr notice;\n\
             events {{ worker_connections 512; }}\n\
             http {{ access_log off; keepalive_requests 1000000; {}\n{http} }}\n",
            paths.concat()
        ),
    )?;
    Ok(format!("nginx -e stderr -c {configuration}"))
}

/// What it says when it takes requests.
pub(crate) const READY: &str = "start worker process ";

/// wrk on the remote: a second of requests, without one error; returns how many.
pub(crate) fn wrk(place: &Place<'_>, url: &str, options: &str) -> Result<u64> {
    let command = format!("wrk -t 1 -c 16 -d 1s --timeout 60s {options} '{url}'");
    requests(|| place.ask(&command))
}

/// How many requests wrk made, of which none may fail. It is run again where none was: on a busy
/// machine a second may go by without.
pub(crate) fn requests(mut run: impl FnMut() -> Result<String>) -> Result<u64> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let said = run()?;
        let failed = ["Socket errors", "Non-2xx"].iter().find(|words| said.contains(**words));
        ensure!(failed.is_none(), "{said}");
        let line = said.lines().find(|line| line.contains(" requests in "));
        let count = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        let count: u64 = count.context(format!("no count: {said}"))?;
        if count > 0 {
            return Ok(count);
        }
        ensure!(Instant::now() < deadline, "nothing was answered: {said}");
    }
}

fn server<'w>(place: &Place<'w>) -> Result<Subject<'w>> {
    let mut container = Container::start(place, &["-p", "18081:8081"])?;
    place.file("page", "x".repeat(1 << 20))?;
    let http = format!(
        "server {{ listen 8081; listen [::]:8081; sendfile on; root {};\n\
           location = /who {{ return 200 \"$remote_addr\\n\"; }} }}",
        place.path("")
    );
    container.serve(&nginx(place, "nginx", &http)?, READY)?;
    let place = place.clone();
    let round = move |container: &mut Container| {
        for (host, remote) in
            [(IpAddr::from(HOST_V4), IpAddr::from(REMOTE_V4)), (HOST_V6.into(), REMOTE_V6.into())]
        {
            let url = format!("http://{}", SocketAddr::new(host, 18081));
            let who = place.ask(&format!("curl -sSfg -m 20 {url}/who"))?;
            ensure_eq!(who, format!("{remote}\n"), "client that {host} sees");
            let size = place.ask(&format!("curl -sSfg -m 20 {url}/page | wc -c"))?;
            ensure_eq!(size.trim(), (1 << 20).to_string(), "size of a page from {host}");
            wrk(&place, &format!("{url}/who"), "")?;
        }
        wrk(&place, &format!("http://{HOST_V4}:18081/who"), "-H 'Connection: close'")?;
        // The next worker takes over the sockets; the one before it ends.
        container.until("kill -HUP $(cat nginx.pid)", "exited with code 0")
    };
    Ok(Subject { container, peers: Vec::new(), round: Box::new(round) })
}

fn proxy<'w>(place: &Place<'w>) -> Result<Subject<'w>> {
    let upstream = "server { listen 9081; listen [::]:9081;\n\
        location / { return 200 \"$remote_addr\\n\"; } }";
    let peer = place.serve(&format!("exec {}", nginx(place, "upstream", upstream)?), READY)?;
    let http = format!(
        "upstream pool {{ server {REMOTE_V4}:9081; keepalive 32; }}\n\
         upstream six {{ server [{REMOTE_V6}]:9081; keepalive 4; }}\n\
         proxy_http_version 1.1; proxy_set_header Connection '';\n\
         server {{ listen 8082; listen [::]:8082;\n\
           location = /pool {{ proxy_pass http://pool; }}\n\
           location = /six {{ proxy_pass http://six; }}\n\
           location = /fresh {{ proxy_set_header Connection close;\n\
             proxy_pass http://{REMOTE_V4}:9081; }} }}"
    );
    let mut container = Container::start(place, &["-p", "18082:8082"])?;
    container.serve(&nginx(place, "nginx", &http)?, READY)?;
    let place = place.clone();
    let round = move |_: &mut Container| {
        let at = format!("http://{HOST_V4}:18082");
        for (path, seen) in
            [("pool", IpAddr::from(HOST_V4)), ("fresh", HOST_V4.into()), ("six", HOST_V6.into())]
        {
            let who = place.ask(&format!("curl -sSf -m 20 {at}/{path}"))?;
            ensure_eq!(who, format!("{seen}\n"), "client that the upstream sees, {path}");
            wrk(&place, &format!("{at}/{path}"), "")?;
        }
        Ok(())
    };
    Ok(Subject { container, peers: vec![peer], round: Box::new(round) })
}
