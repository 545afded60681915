//! memcached over TCP and UDP: a published server, and one on the remote with its client inside.

use std::net::IpAddr;

use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6};
use test_support::{Result, ensure, ensure_eq};

use crate::container::Container;
use crate::place::Place;
use crate::program::{Expected, Program, Subject};

pub(crate) const MEMCACHED: Program = Program {
    name: "memcached_over_tcp_and_udp",
    requires: &[Requirement::Program("memcached"), Requirement::Program("python3")],
    start,
    // A connection and a UDP socket for each value.
    expected: Expected { switched: (3, 4 * VALUES), otherwise: &[] },
};

const VALUES: u64 = 20;

const SERVER: &str = "memcached -vv -t 2 -l 0.0.0.0,::";
/// It says so for each socket; this is the last thing that it binds.
const READY: &str = "server listening (udp)";

fn start<'w>(place: &Place<'w>) -> Result<Subject<'w>> {
    let client = place.file("client.py", include_bytes!("sources/memcached.py"))?;
    let peer = place.serve(&format!("exec {SERVER} -p 9087 -U 9087"), READY)?;
    let options = ["--udp", "connected", "-p", "18087:11211", "-p", "18087:11211/udp"];
    let mut container = Container::start(place, &options)?;
    container.serve(&format!("{SERVER} -p 11211 -U 11211"), READY)?;
    let place = place.clone();
    let round = move |container: &mut Container| {
        for (host, remote) in
            [(IpAddr::from(HOST_V4), IpAddr::from(REMOTE_V4)), (HOST_V6.into(), REMOTE_V6.into())]
        {
            let said = place.ask(&format!("python3 {client} {host} 18087 {VALUES}"))?;
            ensure_eq!(said, "ok\n", "values of the published server");
            let said = container.ask(&format!("python3 {client} {remote} 9087 {VALUES}"))?;
            ensure!(said.lines().any(|line| line == "ok"), "values of the remote's: {said}");
        }
        Ok(())
    };
    Ok(Subject { container, peers: vec![peer], round: Box::new(round) })
}
