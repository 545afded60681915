//! The commands in docs/runtimes.md, as written: a section is a shell of the ordinary user.

use std::fmt::Write as _;

use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process;
use test_support::requirement::Requirement;
use test_support::world::HOST_V4;
use test_support::{Result, World, ensure, ensure_eq};

use crate::image::Image;
use crate::table::LIMIT;

const PODMAN: &[Requirement] = &[
    Requirement::Program("podman"),
    Requirement::Program("crun"),
    Requirement::Program("slirp4netns"),
    Requirement::Tun,
];

pub(crate) const SCENARIOS: Group = (
    "guide",
    &[
        Scenario { name: "rootless_podman", requires: PODMAN, run: podman },
        Scenario { name: "what_is_not_run_says_why", requires: &[], run: reasons },
    ],
);

const GUIDE: &str = include_str!("../../../docs/runtimes.md");

/// Blocks of commands under a heading: what follows `console` there, and the commands.
fn blocks(section: &str) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut blocks = Vec::new();
    let mut here = false;
    let mut lines = GUIDE.lines();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("## ") {
            here = heading == section || section.is_empty();
        } else if let Some(kind) = line.strip_prefix("```console").filter(|_| here) {
            let commands = lines.by_ref().take_while(|line| *line != "```");
            blocks
                .push((kind.trim(), commands.filter_map(|line| line.strip_prefix("$ ")).collect()));
        }
    }
    blocks
}

fn podman(world: &World) -> Result {
    let image = Image::make(world)?;
    let home = world.directory("guide")?;
    // What the machine's owner would have set up.
    let settings = home.join(".config/containers");
    process::run(world.as_user("mkdir").arg("-p").arg(&settings), LIMIT)?.success()?;
    std::fs::write(settings.join("storage.conf"), "[storage]\ndriver = \"vfs\"\n")?;
    std::fs::write(settings.join("containers.conf"), "[engine]\nevents_logger = \"file\"\n")?;
    let server = world.serve_remote(&["--mode", "peer", "0.0.0.0:7000"])?;
    let mut script = format!("set -e; cd; podman load -q -i {}\n", image.archive.display());
    let mut commands = 0;
    for (kind, block) in blocks("Rootless Podman") {
        ensure_eq!(kind, "", "every block of this section is run");
        for command in block {
            commands += 1;
            writeln!(script, "{command}")?;
            if command.ends_with('&') {
                // A person takes longer to type the next line.
                script.push_str("until [ -S $XDG_RUNTIME_DIR/bypass4netns.sock ]; do :; done\n");
            }
        }
    }
    ensure!(commands >= 6, "{commands} commands");
    script.push_str("kill %1 2>/dev/null || kill $!\n");
    let mut shell = world.as_user("sh");
    shell.env("HOME", &home);
    shell.env("PATH", format!("{}:{}", world.programs().display(), test_support::world::PATH));
    let said = process::run(shell.args(["-c", &script]), LIMIT)?.success()?;
    ensure_eq!(server.peers().len(), 2, "connections that the remote has seen");
    let seen = said.stdout.matches(&format!("{HOST_V4}:")).count();
    ensure_eq!(seen, 2, "answers: {said}");
    let switched = said.stderr.matches("\"switched\": 1").count();
    ensure!(switched >= 1, "they were bypassed: {said}");
    Ok(())
}

fn reasons(_world: &World) -> Result {
    let all = blocks("");
    ensure!(all.len() >= 4, "{} blocks", all.len());
    for (kind, commands) in all {
        let reason = kind.strip_prefix("not run: ");
        ensure!(
            kind.is_empty() || reason.is_some_and(|why| why.len() > 10),
            "{kind}: {commands:?}"
        );
        commands.first().context("a block has commands")?;
    }
    Ok(())
}
