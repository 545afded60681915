//! The command line as people meet it: the configuration file, colours, completions, man pages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE};
use test_support::requirement::Requirement;
use test_support::{Result, World, ensure, ensure_eq};

use crate::daemon_fixture::named;

pub(crate) const SCENARIOS: Group = (
    "command_line",
    &[
        Scenario { name: "options_come_from_a_file", requires: &[], run: file },
        Scenario {
            name: "mistakes_of_the_file_are_told_with_their_line",
            requires: &[],
            run: mistakes,
        },
        Scenario { name: "sighup_reads_the_policy_of_the_file", requires: &[], run: anew },
        Scenario { name: "drop_in_names_read_no_file", requires: &[], run: drop_in },
        Scenario {
            name: "colours_are_for_terminals",
            requires: &[Requirement::Program("script")],
            run: colours,
        },
        Scenario {
            name: "man_pages_are_in_order",
            requires: &[Requirement::Program("mandoc"), Requirement::Program("man")],
            run: pages,
        },
        Scenario { name: "bash_completes", requires: &[Requirement::Program("bash")], run: bash },
        Scenario { name: "zsh_completes", requires: &[Requirement::Program("zsh")], run: zsh },
        Scenario { name: "fish_completes", requires: &[Requirement::Program("fish")], run: fish },
    ],
);

/// A directory for `XDG_CONFIG_HOME`, and the configuration file in it.
fn configured(world: &World, name: &str, text: &str) -> Result<(PathBuf, PathBuf)> {
    let home = world.directory(name)?;
    let path = home.join("bypass/config.toml");
    fs::create_dir_all(home.join("bypass"))?;
    fs::write(&path, text)?;
    Ok((home, path))
}

/// `bypass-cli COMMAND` with that directory.
fn with_config(world: &World, home: &Path, command: &str) -> Result<Command> {
    let mut line = world.as_user(world.program("bypass-cli")?);
    line.env("XDG_CONFIG_HOME", home).arg(command);
    Ok(line)
}

fn file(world: &World) -> Result {
    let text = "rules = [{ deny = '192.0.2.0/24' }]\n[run]\nmap-root = true\n";
    let (home, path) = configured(world, "config-taken", text)?;
    let id = |options: &[&str]| -> Result<String> {
        let mut line = with_config(world, &home, "run")?;
        let finished = process::run(line.args(options).args(["--", "id", "-u"]), PATIENCE)?;
        Ok(finished.success()?.stdout.trim().to_owned())
    };
    ensure_eq!(id(&[])?, "0", "with the file");
    ensure_eq!(id(&["--no-config"])?, world.uid().to_string(), "without it");

    let mut line = with_config(world, &home, "explain")?;
    let told = process::run(line.arg("tcp://192.0.2.7:443"), PATIENCE)?.success()?.stdout;
    let place = format!("deny 192.0.2.0/24 ({}:1)", path.display());
    ensure!(told.contains(&place), "no {place} in {told}");
    Ok(())
}

fn mistakes(world: &World) -> Result {
    let (home, path) = configured(world, "config-mistaken", "\nudq = 'all'\n")?;
    let mut line = with_config(world, &home, "run")?;
    let finished = process::run(line.args(["--", "true"]), PATIENCE)?.expect_code(125)?;
    let place = format!("{}:2: \"udq\" is not known here", path.display());
    ensure!(finished.stderr.contains(&place), "no {place}: {finished}");

    // What the line and the file say together may be wrong as well: then it is told that there is a file.
    fs::write(&path, "[run]\nhost-binds = true\n")?;
    let mut line = with_config(world, &home, "run")?;
    let finished =
        process::run(line.args(["-p", "80", "--", "true"]), PATIENCE)?.expect_code(125)?;
    for part in ["--host-binds", "--publish", "--no-config"] {
        ensure!(finished.stderr.contains(part), "no {part}: {finished}");
    }
    Ok(())
}

fn anew(world: &World) -> Result {
    let (home, path) = configured(world, "config-anew", "rules = [{ deny = '192.0.2.0/24' }]\n")?;
    let mut line = with_config(world, &home, "serve")?;
    line.arg("--socket").arg(world.runtime_dir().join("config-anew.sock"));
    let running = process::start(&mut line)?;
    running.told("serving", PATIENCE)?;
    fs::write(&path, "rules = [{ deny = 'nonsense' }]\n")?;
    running.signal(Signal::HUP)?;
    running.told(&format!("{}:1: ", path.display()), PATIENCE)?;
    fs::write(&path, "rules = [{ deny = '198.51.100.0/24' }]\n")?;
    running.signal(Signal::HUP)?;
    running.told("the policy was read anew", PATIENCE)?;
    running.signal(Signal::TERM)?;
    running.finish(PATIENCE)?.success()?;
    Ok(())
}

fn drop_in(world: &World) -> Result {
    let (home, _) = configured(world, "config-of-ours", "no such key")?;
    let socket = world.runtime_dir().join("config-none.sock");
    let mut line = world.as_user(named(world, "bypass4netns")?);
    line.env("XDG_CONFIG_HOME", &home).arg("--socket").arg(&socket);
    let running = process::start(&mut line)?;
    running.told("serving", PATIENCE)?;
    running.signal(Signal::TERM)?;
    running.finish(PATIENCE)?;
    let mut line = with_config(world, &home, "serve")?;
    process::run(line.arg("--socket").arg(&socket), PATIENCE)?.expect_code(125)?;
    Ok(())
}

fn colours(world: &World) -> Result {
    const ESCAPE: char = '\u{1b}';
    let program = world.program("bypass-cli")?;
    let program = program.display();
    let on_terminal = |line: &str, no_color: Option<&str>| -> Result<String> {
        let mut command = world.as_user("script");
        command.args(["--quiet", "--return", "--command", line, "/dev/null"]);
        command.env("TERM", "xterm").envs(no_color.map(|value| ("NO_COLOR", value)));
        Ok(process::run(&mut command, PATIENCE)?.success()?.stdout)
    };
    let help = format!("{program} run --help");
    let log = format!("{program} run --publish 80 -- true");
    for line in [&help, &log] {
        ensure!(on_terminal(line, None)?.contains(ESCAPE), "no colours on a terminal: {line}");
        ensure!(on_terminal(line, Some(""))?.contains(ESCAPE), "an empty NO_COLOR counts: {line}");
        let plain = on_terminal(line, Some("1"))?;
        ensure!(!plain.contains(ESCAPE) && plain.contains("ublish"), "colours in spite: {plain}");
        let finished = process::run(world.as_user("sh").args(["-c", line]), PATIENCE)?.success()?;
        let text = format!("{}{}", finished.stdout, finished.stderr);
        ensure!(!text.contains(ESCAPE) && text.contains("ublish"), "colours in a pipe: {text}");
    }
    Ok(())
}

/// Man pages and completions, in a directory of this name.
fn generated(world: &World, name: &str) -> Result<PathBuf> {
    let directory = world.directory(name)?;
    let mut command = world.as_user(world.program("bypass-cli")?);
    command.arg("generate").arg(&directory).env("SOURCE_DATE_EPOCH", "1000000000");
    process::run(&mut command, PATIENCE)?.success()?;
    Ok(directory)
}

fn pages(world: &World) -> Result {
    let directory = generated(world, "generated-pages")?.join("man1");
    let mut seen = 0;
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        let lint = process::run(
            world.as_user("mandoc").arg("-Tlint").arg("-Wwarning").arg(&path),
            PATIENCE,
        )?;
        ensure!(lint.code() == 0 && lint.stdout.is_empty(), "{lint}");
        let shown = process::run(world.as_user("man").arg("--local-file").arg(&path), PATIENCE)?
            .success()?;
        ensure!(shown.stdout.contains("OPTIONS") && shown.stdout.contains("2001-09-09"), "{shown}");
        ensure!(shown.stderr.is_empty(), "{shown}");
        seen += 1;
    }
    ensure!(seen >= 10, "{seen} pages");
    Ok(())
}

fn bash(world: &World) -> Result {
    let directory = generated(world, "generated-bash")?.join("bash");
    // As bash does it when TAB is pressed: the function that is registered, with the line.
    const SCRIPT: &str = r#"
        set -e
        for file in "$0"/*; do bash -n "$file"; . "$file"; done
        ask() {
            line=$1; shift
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE=$line; COMP_POINT=${#line}; COMPREPLY=()
            function=$(complete -p "$1"); function=${function##*-F }; function=${function%% *}
            "$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" || :
            echo "$line|${COMPREPLY[*]}|"
        }
        ask 'bypass-cli pro' bypass-cli pro
        ask 'bypass-cli run --net ' bypass-cli run --net ''
        ask 'bypass-cli oci-runtime --udp-s' bypass-cli oci-runtime --udp-s
        ask 'bypass4netnsd --b4' bypass4netnsd --b4
    "#;
    let finished =
        process::run(world.as_user("bash").args(["-c", SCRIPT]).arg(&directory), PATIENCE)?;
    let told = finished.success()?.stdout;
    for line in [
        "bypass-cli pro|profile|",
        "bypass-cli run --net |none slirp4netns pasta|",
        "bypass-cli oci-runtime --udp-s|--udp-sends|",
        "bypass4netnsd --b4|--b4nn-executable|",
    ] {
        ensure!(told.lines().any(|one| one == line), "no {line} in {told}");
    }
    Ok(())
}

fn zsh(world: &World) -> Result {
    let directory = generated(world, "generated-zsh")?.join("zsh");
    // zsh completes on terminals only: another zsh on one is typed to, until it shows what is looked for.
    const SCRIPT: &str = r#"
        for file in $1/*; do zsh -n $file || exit; done
        zmodload zsh/zpty
        zpty -b shell "TERM=dumb zsh -f -i"
        zpty -w shell "PS1='> '; fpath=($1 \$fpath); autoload -U compinit; compinit -u -D; print rea''dy"
        zpty -r shell said '*ready*' || exit
        zpty -w -n shell $'bypass-cli run --net \t\t'
        zpty -r shell said '*slirp4netns*' || exit
        zpty -w -n shell $'\x15bypass4netnsd --b4\t'
        zpty -r shell said '*--b4nn-executable*' || exit
        print completed
        zpty -d shell
    "#;
    let mut command = world.as_user("zsh");
    let finished =
        process::run(command.args(["-f", "-c", SCRIPT, "zsh"]).arg(&directory), PATIENCE)?;
    ensure!(finished.success()?.stdout.contains("completed"), "zsh did not complete");
    Ok(())
}

fn fish(world: &World) -> Result {
    let directory = generated(world, "generated-fish")?.join("fish");
    const SCRIPT: &str = r#"
        for file in $argv[1]/*; fish -n $file; or exit 1; source $file; end
        for line in 'bypass-cli pro' 'bypass-cli run --net ' 'bypass4netnsd --b4'
            echo "$line|"(complete -C $line | cut -f 1 | sort | string join ' ')
        end
    "#;
    let mut command = world.as_user("fish");
    let finished =
        process::run(command.args(["--private", "-c", SCRIPT]).arg(&directory), PATIENCE)?;
    let told = finished.success()?.stdout;
    for line in [
        "bypass-cli pro|profile",
        "bypass-cli run --net |none pasta slirp4netns",
        "bypass4netnsd --b4|--b4nn-executable",
    ] {
        ensure!(told.lines().any(|one| one == line), "no {line} in {told}");
    }
    Ok(())
}
