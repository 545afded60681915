//! What the supervisor has given up, and what its containers can do to it.

use std::fs;

use serde_json::Value;
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE};
use test_support::world::REMOTE_V4;
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::reported;
use crate::repl::Repl;
use crate::serve::{Agent, CRUN};

pub(crate) const SCENARIOS: Group = (
    "confine",
    &[
        Scenario { name: "run_gives_up_what_it_can", requires: &[], run: of_run },
        Scenario { name: "serve_gives_up_what_it_can", requires: CRUN, run: of_serve },
        Scenario { name: "root_gives_up_its_capabilities", requires: &[], run: of_root },
        Scenario { name: "no_signal_from_inside_reaches_it", requires: &[], run: signals },
        Scenario { name: "root_inside_cannot_touch_it", requires: &[], run: touches },
        Scenario { name: "report_is_whole_and_replaces_an_old_one", requires: &[], run: report },
    ],
);

/// `KEY` of a thread's status, by thread.
fn of_threads(pid: u32, key: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let value = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
        found.push(value.context(format!("no {key}"))?.to_owned());
    }
    Ok(found)
}

const NO_CAPABILITIES: &str = "0000000000000000";
const SETS: [&str; 4] = ["CapInh", "CapPrm", "CapEff", "CapAmb"];

fn expect_threads(pid: u32, key: &str, expected: &str, at_least: usize) -> Result {
    let found = of_threads(pid, key)?;
    ensure!(
        found.len() >= at_least && found.iter().all(|value| value == expected),
        "{key} of the threads of the supervisor: {found:?}, not {at_least} times {expected}"
    );
    Ok(())
}

/// Every thread of the supervisor, the container's and the relay's among them.
pub(crate) fn expect_confined(pid: u32, threads: usize) -> Result {
    for (key, value) in [("Seccomp", "2"), ("Seccomp_filters", "1"), ("NoNewPrivs", "1")] {
        expect_threads(pid, key, value, threads)?;
    }
    SETS.iter().try_for_each(|set| expect_threads(pid, set, NO_CAPABILITIES, threads))?;
    // Files of a process that is not dumpable belong to root.
    ensure_eq!(owner(pid)?, 0, "owner of the supervisor's files in /proc");
    Ok(())
}

fn owner(pid: u32) -> Result<u32> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata(format!("/proc/{pid}/environ"))?.uid())
}

/// A program under `run` of which a call has been answered: the supervisor is as it stays. A command
/// may run before that.
fn answered(world: &World, options: &[&str]) -> Result<Repl> {
    let mut inside = Repl::bypassed(world, options)?;
    inside.ask(&format!("sequence inet connect={REMOTE_V4}:1"))?;
    Ok(inside)
}

fn of_run(world: &World) -> Result {
    for (options, threads) in [(&[][..], 2), (&["-p", "127.0.0.1:8071:53/udp"], 3)] {
        expect_confined(answered(world, options)?.running.pid(), threads)?;
    }
    let inside = answered(world, &["--confine", "off"])?;
    let running = &inside.running;
    expect_threads(running.pid(), "Seccomp", "0", 2)?;
    ensure_eq!(owner(running.pid())?, world.uid(), "owner without confinement");
    let (_, report) = reported(world, &[], &["sequence", "inet"])?;
    let enforced = &report["enforced"];
    for (what, expected) in [
        ("seccomp", Value::from(true)),
        ("not_dumpable", true.into()),
        ("no_capabilities", true.into()),
        ("landlock", enforced["signals"].clone()),
    ] {
        ensure_eq!(enforced["supervisor"][what], expected, "{what} in {report}");
    }
    Ok(())
}

fn of_serve(world: &World) -> Result {
    let agent = Agent::start(world, &[], &[])?;
    expect_confined(agent.running.pid(), 1)?;
    let mut container = agent.container(world, "crun", "confined", "fx-client", &["repl"])?;
    let mut container = process::start_interactive(&mut container)?;
    container.line("ready", PATIENCE)?;
    expect_confined(agent.running.pid(), 2)
}

fn of_root(world: &World) -> Result {
    let server = world.serve_remote(&["--mode", "byte", "--quiet", "[::]:0"])?;
    for (options, kept) in
        [(&[][..], NO_CAPABILITIES), (&["-p", "127.0.0.1:8072:53/udp"], NET_BIND_SERVICE)]
    {
        let mut command = world.on_host(world.program("bypass-cli")?);
        command.arg("run").args(options).arg("--").arg(world.program("fx-client")?).arg("repl");
        let mut running = process::start_interactive(&mut command)?;
        running.line("ready", PATIENCE)?;
        running.write(format!("cycles {} 20\n", server.at(REMOTE_V4)).as_bytes())?;
        let answer = running.line("done", PATIENCE)?;
        ensure!(answer.contains("\"done\":20"), "as root: {answer}");
        for (set, expected) in [
            ("CapInh", NO_CAPABILITIES),
            ("CapAmb", NO_CAPABILITIES),
            ("CapPrm", kept),
            ("CapEff", kept),
            ("CapBnd", kept),
        ] {
            expect_threads(running.pid(), set, expected, 2)?;
        }
        ensure!(running.stderr().contains("capabilities"), "root was told nothing");
    }
    Ok(())
}

const NET_BIND_SERVICE: &str = "0000000000000400";

/// kill(0) means the whole process group, namespaces or not.
fn signals(world: &World) -> Result {
    let program = world.program("bypass-cli")?;
    let script = r#""$0" run -- sh -c 'kill -s KILL 0'; echo "the script goes on after $?""#;
    let mut command = world.as_user("sh");
    let finished = process::run(command.args(["-c", script]).arg(program), PATIENCE)?;
    // The shell inside is of its own group too, so the signal was sent.
    ensure!(finished.stdout.contains("goes on after 137"), "{finished}");
    Ok(())
}

/// Root inside can take its `/proc` away and see the host's below it.
fn touches(world: &World) -> Result {
    const ATTEMPTS: &str = r#"
        umount /proc && cd "/proc/$(cat)" || exit 1
        for way in "echo 500 > oom_score_adj" "head -c 1 mem" "readlink fd/0" "cat environ"             "readlink exe" "echo 0 > timerslack_ns" "ls map_files"
        do (eval "$way") > /dev/null 2>&1 && echo "can: $way"
        done
        echo tried"#;
    let tried = |options: &[&str]| -> Result<String> {
        let mut command = world.bypass(&[&["--map-root"], options].concat())?;
        let mut running = process::start_interactive(command.args(["sh", "-c", ATTEMPTS]))?;
        running.write(running.pid().to_string().as_bytes())?;
        running.close_input();
        let finished = running.finish(PATIENCE)?.success()?;
        ensure!(finished.stdout.contains("tried"), "{finished}");
        Ok(finished.stdout)
    };
    ensure_eq!(tried(&[])?, "tried\n", "what root inside can do to the supervisor");
    // Landlock keeps the memory from it, but the owner of a file may write it.
    let without = tried(&["--confine", "off"])?;
    ensure!(without.contains("can: echo 500 > oom_score_adj"), "without confinement: {without}");
    Ok(())
}

fn report(world: &World) -> Result {
    let path = world.directory("confine-report")?.join("report.json");
    let option = path.to_str().context("a path in UTF-8")?;
    for words in [&["sh", "-c", "exit 3"][..], &["true"]] {
        let mut command = world.bypass(&["--report", option])?;
        let finished = process::run(command.args(words), PATIENCE)?;
        let report: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        ensure_eq!(report["exit_status"], finished.code(), "status in the report");
        // Longer than any of ours.
        fs::write(&path, " ".repeat(1 << 20))?;
    }
    let missing = path.with_file_name("missing").join("report.json");
    let mut command = world.bypass(&["--report", missing.to_str().context("UTF-8")?])?;
    let finished = process::run(command.args(["echo", "started"]), PATIENCE)?.expect_code(125)?;
    ensure!(finished.stdout.is_empty(), "it was started without a report: {finished}");
    Ok(())
}
