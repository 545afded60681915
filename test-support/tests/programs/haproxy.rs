//! HAProxy, published, in front of a web server that is bypassed: as a proxy of requests with a
//! pool of connections, and of bytes.

use std::net::IpAddr;

use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6};
use test_support::{Result, ensure};

use crate::container::Container;
use crate::nginx::wrk;
use crate::place::Place;
use crate::program::{Expected, Program, Subject};
use crate::web;

pub(crate) const PROXY: Program = Program {
    name: "haproxy_with_health_checks",
    requires: &[
        Requirement::Program("haproxy"),
        Requirement::Program("nginx"),
        Requirement::Program("curl"),
        Requirement::Program("wrk"),
    ],
    start,
    // Each client of the proxy of bytes takes a connection.
    // It connects a UDP socket to its name server.
    expected: Expected { switched: (5, 32), otherwise: &["left/protocol"] },
};

fn start<'w>(place: &Place<'w>) -> Result<Subject<'w>> {
    let peer = web::remote(place, 9083)?;
    let configuration = place.file(
        "haproxy.cfg",
        format!(
            "global\n maxconn 200\n\
             defaults\n timeout connect 20s\n timeout client 60s\n timeout server 60s\n\
             frontend web\n mode http\n bind 0.0.0.0:8083\n bind :::8083 v6only\n\
             \x20default_backend pool\n\
             frontend bytes\n mode tcp\n bind 0.0.0.0:8084\n bind :::8084 v6only\n\
             \x20default_backend raw\n\
             backend pool\n mode http\n http-reuse always\n option httpchk GET /who\n\
             \x20server four {REMOTE_V4}:9083 check inter 200ms\n\
             \x20server six [{REMOTE_V6}]:9083 check inter 200ms\n\
             backend raw\n mode tcp\n server four {REMOTE_V4}:9083\n"
        ),
    )?;
    let mut container = Container::start(place, &["-p", "18083-18084:8083-8084"])?;
    container.serve(&format!("haproxy -W -db -f {configuration}"), "Loading success")?;
    let place = place.clone();
    let round = move |_: &mut Container| {
        for host in [IpAddr::from(HOST_V4), HOST_V6.into()] {
            for port in [18083, 18084] {
                let url = format!("http://{}/who", std::net::SocketAddr::new(host, port));
                // Twice: the servers take turns.
                let who = place.ask(&format!("curl -sSfg -m 60 {url} {url}"))?;
                let seen = [HOST_V4.to_string(), HOST_V6.to_string()];
                ensure!(who.lines().all(|line| seen.iter().any(|own| own == line)), "{who}");
                wrk(&place, &url, "")?;
            }
        }
        Ok(())
    };
    Ok(Subject { container, peers: vec![peer], round: Box::new(round) })
}
