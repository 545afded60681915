//! Sessions (`exec`) in containers of `bypass-cli serve`, containers with equal ids, and other
//! policies for containers that run.

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use test_support::census::Census;
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE};
use test_support::world::{HOST_V4, REMOTE_V4};
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::LIMIT;
use crate::leaks::{CACHED_TARGETS, soak};
use crate::repl::Repl;
use crate::serve::{Agent, CRUN, runtime_command};

pub(crate) const SCENARIOS: Group = (
    "serve",
    &[
        Scenario { name: "crun_sessions_join_their_container", requires: CRUN, run: sessions },
        Scenario { name: "crun_sessions_leave_nothing", requires: CRUN, run: many },
        Scenario { name: "equal_ids_are_two_containers", requires: CRUN, run: equal_ids },
        Scenario { name: "policy_is_read_anew", requires: CRUN, run: reload },
    ],
);

/// A container of crun that runs `fx-client repl`, and ends with it.
fn start(world: &World, agent: &Agent, name: &str) -> Result<Repl> {
    Repl::by(&mut agent.container(world, "crun", name, "fx-client", &["repl"])?)
}

/// `crun exec NAME fx-client WORDS`
pub(crate) fn exec(world: &World, name: &str, words: &[&str]) -> Result<Command> {
    let mut command = runtime_command(world, "crun");
    command.args(["exec", name]).arg(world.program("fx-client")?).args(words);
    Ok(command)
}

fn sessions(world: &World) -> Result {
    let mut server = world.serve_remote(&["[::]:0"])?;
    let agent = Agent::start(world, &["--deny", "192.0.2.0/24"], &["-p", "8064:8080"])?;
    let connect = format!("connect={}", server.at(REMOTE_V4));
    let mut container = start(world, &agent, "sessions")?;
    container.succeed(&format!("sequence inet {connect}"))?;
    server.next_peer()?;
    let pids = [agent.running.pid()];
    let before = Census::of_all(&pids)?.with_cache(CACHED_TARGETS);

    // The same policy, the same ports.
    let words = ["sequence", "inet", &connect, "new", "connect=192.0.2.1:80"];
    let session = process::run(&mut exec(world, "sessions", &words)?, LIMIT)?.success()?;
    agent.running.told("a session joined", PATIENCE)?;
    ensure_eq!(server.next_peer()?.ip(), HOST_V4, "whom the remote saw: {session}");
    let steps: serde_json::Value = serde_json::from_str(session.stdout.trim())?;
    ensure_eq!(steps[2]["result"], "ENETUNREACH", "the denied network: {session}");
    let mut serving = Repl::by(&mut exec(world, "sessions", &["repl"])?)?;
    serving.succeed("open listener inet bind=0.0.0.0:8080 listen=1")?;
    let mut remote = Repl::remote(world)?;
    remote.succeed(&format!("sequence inet connect={HOST_V4}:8064"))?;

    // They end, and the container goes on.
    drop(serving);
    before.settles(&pids, PATIENCE)?;
    container.succeed(&format!("sequence inet {connect}"))?;
    server.next_peer()?;
    let mut left = Repl::by(&mut exec(world, "sessions", &["repl"])?)?;
    // What runs in a container ends with it.
    drop(container);
    left.running.wait(PATIENCE)?;
    agent.running.told("ended", PATIENCE)
}

fn many(world: &World) -> Result {
    let server = world.serve_remote(&["--mode", "byte", "--quiet", "[::]:0"])?;
    let agent = Agent::start(world, &[], &[])?;
    let pids = [agent.running.pid()];
    let mut container = start(world, &agent, "many-sessions")?;
    let address = server.at(REMOTE_V4);
    container.expect(&format!("cycles {address} 10"), "done", 10)?;
    let mut before = None;
    for round in 0..15 * soak() {
        let mut session = exec(world, "many-sessions", &["cycles", &address, "2"])?;
        let finished = process::run(&mut session, LIMIT)?.success()?;
        ensure!(finished.stdout.contains(r#""done":2"#), "session {round}: {finished}");
        if round == 4 {
            before = Some(Census::of_all(&pids)?.with_cache(CACHED_TARGETS));
        }
    }
    let before = before.context("there was a fifth round")?;
    let after = before.settles(&pids, PATIENCE)?;
    ensure!(after.rss_kib <= before.rss_kib + 512, "memory grew: {before:?}, then {after:?}");
    Ok(())
}

/// Two roots of one runtime know nothing of each other's ids.
fn equal_ids(world: &World) -> Result {
    let mut server = world.serve_remote(&["[::]:0"])?;
    let agent = Agent::start(world, &[], &[])?;
    let connect = format!("sequence inet connect={}", server.at(REMOTE_V4));
    let mut first = start(world, &agent, "equal")?;
    first.succeed(&connect)?;
    ensure_eq!(server.next_peer()?.ip(), HOST_V4, "the first");
    let bundle = world.runtime_dir().parent().context("a parent")?.join("home/equal");
    let mut second = world.as_user("crun");
    second.arg("--root").arg(world.runtime_dir().join("crun-of-another"));
    let mut second = Repl::by(second.args(["run", "--bundle"]).arg(bundle).arg("equal"))?;
    for (who, container) in [("second", &mut second), ("first", &mut first)] {
        container.succeed(&connect).context(who)?;
        ensure_eq!(server.next_peer()?.ip(), HOST_V4, "{who}");
    }
    drop(second);
    first.succeed(&connect)?;
    Ok(())
}

fn reload(world: &World) -> Result {
    let mut server = world.serve_remote(&["[::]:0"])?;
    let file = world.directory("reload-policy")?.join("policy.toml");
    let write = |text: &str| fs::write(&file, text).context("the policy");
    write("")?;
    let option = file.to_str().context("a path in UTF-8")?;
    let agent = Agent::start(world, &["--policy", option], &[])?;
    let mut container = start(world, &agent, "reload")?;
    let connect = format!("connect={}", server.at(REMOTE_V4));
    container.succeed(&format!("open kept inet {connect}"))?;
    server.next_peer()?;
    let result = |container: &mut Repl| -> Result<String> {
        let steps = container.results(&format!("sequence inet {connect}"))?;
        Ok(steps[0]["result"].as_str().unwrap_or_default().to_owned())
    };

    write("rules = [{ deny = '198.18.0.0/15' }]")?;
    agent.running.signal(Signal::HUP)?;
    agent.running.told("read anew", PATIENCE)?;
    ensure_eq!(result(&mut container)?, "ENETUNREACH", "under the new policy");
    let said = container.succeed("on kept send=hello recv")?;
    ensure_eq!(said, "hello", "a connection that stands");

    write("rules = [{ dney = 'any' }]")?;
    agent.running.signal(Signal::HUP)?;
    agent.running.told("stays as it is", PATIENCE)?;
    ensure_eq!(result(&mut container)?, "ENETUNREACH", "after a bad file");

    write("[[container]]\nid = 'reload'\nrules = [{ deny = '198.18.0.9' }]")?;
    agent.running.signal(Signal::HUP)?;
    let mut next = start(world, &agent, "reload-next")?;
    ensure_eq!(result(&mut next)?, "ok", "a container that came later");
    ensure_eq!(result(&mut container)?, "ok", "under the third policy");
    Ok(())
}
