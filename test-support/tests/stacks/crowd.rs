//! One supervisor for a hundred containers.

use test_support::census::Census;
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE};
use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, REMOTE_V4};
use test_support::{Result, World, ensure, ensure_eq};

use crate::bundles::{Bundles, Way};
use crate::engine::{Agent, Ask, Engine as _};
use crate::table::LIMIT;

const CRUN: &[Requirement] = &[Requirement::Program("crun"), Requirement::Program("newuidmap")];

pub(crate) const SCENARIOS: Group = (
    "crowd",
    &[Scenario { name: "a_hundred_containers_are_served", requires: CRUN, run: hundred }],
);

const COUNT: usize = 100;

fn hundred(world: &World) -> Result {
    let bundles = Bundles::new(world, "crun", Way::Profile, "crowd")?;
    let server = world.serve_remote(&["--quiet", "0.0.0.0:0"])?;
    let agent = Agent::start(world, &[])?;
    let connect = format!("connect={}", server.at(REMOTE_V4));
    let script =
        format!("/bin/fx-client sequence inet {connect} send=hello recv local && exec sleep 600");
    let pids = [agent.running.pid()];
    let before = Census::of_all(&pids)?;
    let mut containers = Vec::new();
    for at in 0..COUNT {
        let name = format!("crowd-{at}");
        let words = ["/bin/sh", "-c", &script];
        let mut container = process::start(&mut bundles.run(world, &Ask::new(&name, &words))?)?;
        let line = container.line("hello", LIMIT).context(agent.running.stderr())?;
        ensure!(line.contains(&HOST_V4.to_string()), "container {at}: {line}");
        containers.push((name, container));
    }
    // The first are served as the last are.
    for at in [0, COUNT / 2, COUNT - 1] {
        let words = ["/bin/fx-client", "sequence", "inet", &connect];
        let mut exec = bundles.exec(world, &format!("crowd-{at}"), &words);
        let said = process::run(&mut exec, LIMIT)?.success()?;
        ensure!(said.stdout.contains("ok"), "container {at}: {said}");
    }
    for (name, container) in &mut containers {
        process::run(&mut bundles.kill(world, name), LIMIT)?.success()?;
        container.wait(LIMIT)?;
    }
    let after = before.settles(&pids, PATIENCE)?;
    ensure_eq!(after.threads, before.threads, "threads");
    agent.end()
}
