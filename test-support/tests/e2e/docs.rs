//! Commands that README.md and docs/ show, as written: what stands behind `<!-- run -->`. The test of
//! documents (`tests/docs.rs`) holds that every other block says who executes it, or why nobody does.

use serde_json::Value;
use test_support::book::{self, blocks, run};
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE};
use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, REMOTE_V4};
use test_support::{Result, World, bundle, ensure, ensure_eq};

use crate::client::LIMIT;

pub(crate) const SCENARIOS: Group = (
    "docs",
    &[
        Scenario { name: "commands_do_what_is_shown", requires: INTERNET, run: commands },
        Scenario { name: "the_embedding_program_serves", requires: CRUN, run: embed },
    ],
);

const INTERNET: &[Requirement] = &[
    Requirement::Program("curl"),
    Requirement::Program("iperf3"),
    Requirement::Program("python3"),
    Requirement::Program("crun"),
    Requirement::Program("slirp4netns"),
    Requirement::Tun,
];
const CRUN: &[Requirement] = &[Requirement::Program("crun")];

fn commands(world: &World) -> Result {
    let _internet = run::internet(world)?;
    let wanted = |block: &blocks::Block| block.fate == blocks::Fate::Run;
    let mut count = 0;
    for page in book::pages()? {
        if blocks::of(&page).iter().any(wanted) {
            count += run::page(world, &page.path.to_string_lossy(), wanted)?;
        }
    }
    ensure!(count >= 20, "{count} commands");
    Ok(())
}

/// examples/embed.rs, which docs/embedding.md walks through, with a container of crun.
fn embed(world: &World) -> Result {
    let socket = world.runtime_dir().join("embed.sock");
    let mut command = world.as_user(world.program("bypass-cli")?);
    command.args(["profile", "--base", "allow", "--socket"]).arg(&socket);
    let profile = process::run(&mut command, PATIENCE)?.success()?.stdout;
    let profile: Value = serde_json::from_str(&profile)?;
    let mut server = world.serve_remote(&["0.0.0.0:0"])?;
    let client = world.program("fx-client")?.to_string_lossy().into_owned();
    let connect = format!("connect={}", server.at(REMOTE_V4));
    let arguments = [client.as_str(), "sequence", "inet", &connect, "send=hello", "recv"];
    let bundle = bundle::write(world, "embed", &profile, &world.programs(), &arguments)?;
    let mut embedded = process::start(world.as_user(world.program("embed")?).arg(&socket))?;
    embedded.line("waiting for a runtime", PATIENCE)?;
    let mut crun = world.as_user("crun");
    crun.arg("--root").arg(world.runtime_dir().join("embed-crun"));
    crun.args(["run", "--bundle"]).arg(&bundle).arg("embedded");
    let ran = process::run(&mut crun, LIMIT)?.success()?;
    ensure!(ran.stdout.contains("hello"), "{ran}");
    ensure_eq!(server.next_peer()?.ip(), std::net::IpAddr::from(HOST_V4), "peer");
    embedded.line("serving container embedded", PATIENCE)?;
    let last = embedded.line("in the end", PATIENCE)?;
    ensure!(last.contains("\"switched\": 1"), "{last}");
    Ok(())
}
