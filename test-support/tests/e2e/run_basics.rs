//! `bypass-cli run` as a program that runs another: statuses, signals, streams, and
//! that nothing outlives it.

use rustix::process::Signal;
use test_support::census::{marked, wait_unmarked};
use test_support::harness::{Group, Scenario};
use test_support::process::{self, Finished, PATIENCE};
use test_support::{Result, World, ensure, ensure_eq};

pub(crate) const SCENARIOS: Group = (
    "run",
    &[
        Scenario { name: "exit_status_is_the_commands", requires: &[], run: statuses },
        Scenario { name: "own_failures_have_their_own_status", requires: &[], run: own_failures },
        Scenario { name: "sigterm_reaches_the_command", requires: &[], run: sigterm },
        Scenario { name: "daemons_end_with_the_command", requires: &[], run: daemons },
        Scenario { name: "nothing_survives_a_killed_parent", requires: &[], run: killed },
        Scenario { name: "streams_pass_through", requires: &[], run: streams },
        Scenario {
            name: "environment_and_directory_pass_through",
            requires: &[],
            run: environment,
        },
        Scenario { name: "user_is_kept_or_mapped_to_root", requires: &[], run: identity },
        Scenario { name: "only_loopback_is_inside", requires: &[], run: devices },
        Scenario { name: "processes_inside_see_only_themselves", requires: &[], run: processes },
        Scenario { name: "options_after_the_command_are_its_own", requires: &[], run: options_end },
    ],
);

fn sh(world: &World, options: &[&str], script: &str) -> Result<Finished> {
    process::run(world.bypass(options)?.args(["sh", "-c", script]), PATIENCE)
}

fn statuses(world: &World) -> Result {
    for (script, code) in [
        ("exit 0", 0),
        ("exit 3", 3),
        ("exit 255", 255),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
    ] {
        sh(world, &[], script)?.expect_code(code)?;
    }
    Ok(())
}

fn own_failures(world: &World) -> Result {
    let finished = process::run(world.bypass(&[])?.arg("no-such-program"), PATIENCE)?;
    ensure!(finished.stderr.contains("no-such-program"), "the message does not name the program");
    finished.expect_code(127)?;
    process::run(world.bypass(&[])?.arg("/etc/passwd"), PATIENCE)?.expect_code(126)?;
    process::run(world.bypass(&["--deny", "nonsense"])?.arg("true"), PATIENCE)?.expect_code(125)?;
    Ok(())
}

fn sigterm(world: &World) -> Result {
    let script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let mut running = process::start(world.bypass(&[])?.args(["sh", "-c", script]))?;
    running.line("ready", PATIENCE)?;
    running.signal(Signal::TERM)?;
    let finished = running.finish(PATIENCE)?.expect_code(9)?;
    ensure!(finished.stdout.contains("caught"), "the command caught nothing: {finished}");
    Ok(())
}

fn daemons(world: &World) -> Result {
    let marker = "86400.0625";
    let script = format!("setsid sleep {marker} & echo started");
    let finished = sh(world, &[], &script)?.success()?;
    ensure!(finished.output_closed, "something still holds standard output: {finished}");
    wait_unmarked(marker, PATIENCE)
}

fn killed(world: &World) -> Result {
    let marker = "86400.125";
    let script = format!("setsid sleep {marker} & echo ready; exec sleep {marker}");
    // The shell carries the marker as well, so that it shows before either sleep has begun.
    let mut running = process::start(world.bypass(&[])?.args(["sh", "-c", &script, marker]))?;
    running.line("ready", PATIENCE)?;
    ensure!(!marked(marker)?.is_empty(), "no process carries the marker");
    running.signal(Signal::KILL)?;
    running.wait(PATIENCE)?;
    wait_unmarked(marker, PATIENCE)
}

fn streams(world: &World) -> Result {
    let input = "a line\n".repeat(20_000);
    let mut command = world.bypass(&[])?;
    command.args(["sh", "-c", "cat; echo to-stderr >&2"]);
    let finished = process::run_with_input(&mut command, input.as_bytes(), PATIENCE)?.success()?;
    ensure_eq!(finished.stdout.len(), input.len(), "bytes through cat");
    ensure_eq!(finished.stderr, "to-stderr\n", "standard error");
    Ok(())
}

fn environment(world: &World) -> Result {
    let mut command = world.bypass(&[])?;
    command.args(["sh", "-c", "echo $MARK; pwd"]).env("MARK", "kept").current_dir("/usr/bin");
    let finished = process::run(&mut command, PATIENCE)?.success()?;
    ensure_eq!(finished.stdout, "kept\n/usr/bin\n", "environment and directory");
    Ok(())
}

fn identity(world: &World) -> Result {
    let script = "id -u; id -g";
    let expected = format!("{}\n{}\n", world.uid(), world.gid());
    ensure_eq!(sh(world, &[], script)?.success()?.stdout, expected, "ids");
    ensure_eq!(sh(world, &["--map-root"], script)?.success()?.stdout, "0\n0\n", "mapped ids");
    Ok(())
}

fn devices(world: &World) -> Result {
    let finished = sh(world, &[], "cat /proc/net/dev; cat /proc/net/if_inet6")?.success()?;
    let devices: Vec<_> = finished
        .stdout
        .lines()
        .filter_map(|line| line.split_once(':').map(|(name, _)| name.trim()))
        .collect();
    ensure_eq!(devices, ["lo"], "devices");
    // Its IPv6 address is there only while it is up.
    ensure!(finished.stdout.contains("00000000000000000000000000000001"), "lo is down: {finished}");
    Ok(())
}

fn processes(world: &World) -> Result {
    let finished = sh(world, &[], "ls -d /proc/[0-9]* | wc -l; ls /proc/$$/exe")?.success()?;
    let count: usize = finished.stdout.split_whitespace().next().unwrap_or_default().parse()?;
    ensure!(count < 8, "{count} processes are to be seen");
    Ok(())
}

fn options_end(world: &World) -> Result {
    // Options of the command are the command's, with and without `--`.
    let mut command = world.as_user(world.program("bypass-cli")?);
    command.args(["run", "echo", "--report", "-", "--", "x"]);
    let finished = process::run(&mut command, PATIENCE)?.success()?;
    ensure_eq!(finished.stdout, "--report - -- x\n", "arguments");
    Ok(())
}
