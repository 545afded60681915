//! Programs that are given a name and not an address, with nothing but `run` between them and the
//! name server.

use test_support::harness::{Group, Scenario};
use test_support::process;
use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6, SILENT_V6};
use test_support::{Result, World, ensure};

use crate::container::Container;
use crate::place::{LIMIT, Place};
use crate::web;

pub(crate) const SCENARIOS: Group = (
    "names",
    &[Scenario {
        name: "programs_look_names_up",
        requires: &[
            Requirement::Program("curl"),
            Requirement::Program("git"),
            Requirement::Program("go"),
            Requirement::Program("javac"),
            Requirement::Program("nginx"),
            Requirement::Program("node"),
            Requirement::Program("python3"),
            Requirement::Program("wget"),
        ],
        run: look_up,
    }],
);

fn look_up(world: &World) -> Result {
    let place = Place::new(world, "names")?;
    let records = [format!("name.test={REMOTE_V4}"), format!("name.test={REMOTE_V6}")];
    let mut server = world.in_remote(world.program("fx-dns")?);
    let mut server = process::start(server.arg(format!("{REMOTE_V4}:53")).args(records))?;
    server.line("ready", LIMIT)?;
    let _remote = web::remote(&place, 9106)?;
    let mut container = Container::start(&place, &[])?;
    let mut wrong = Vec::new();
    let mut check = |command: &str, pages: usize| match container.ask(command) {
        Ok(said) if fetched(&said) == pages => {}
        Ok(said) => wrong.push(format!("`{command}`, not {pages} pages: {said}")),
        Err(failure) => wrong.push(failure.to_string()),
    };
    for program in ["curl -sSf -m 60", "curl -4 -sSf -m 60", "curl -6 -sSf -m 60"] {
        check(&format!("{program} http://name.test:9106/who"), 1);
    }
    check("wget -q -t 1 -T 60 -O - http://name.test:9106/who", 1);
    // Both arguments are the name, so all its pages are of either family.
    for language in [web::python, web::node, web::go, web::java] {
        let language = language(&place)?;
        let (four, six) = language.pages;
        let client = &language.client;
        check(&format!("{client} name.test name.test 9106 {SILENT_V6}"), four + six);
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// How many lines say that the host was seen.
fn fetched(said: &str) -> usize {
    let hosts = [HOST_V4.to_string(), HOST_V6.to_string()];
    said.lines().filter(|line| hosts.iter().any(|host| host == line)).count()
}
