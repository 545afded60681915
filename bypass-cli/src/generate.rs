//! `bypass-cli generate DIRECTORY`: man pages and completions for shells, made of what the program itself
//! reads its command line with. For `make install` and packages: nobody else is told of it.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::args::Cli;
use crate::drop_in;
use crate::exit::Failure;

/// Files could not be made.
#[derive(Debug, thiserror::Error)]
enum GenerateError {
    #[error("name a directory: bypass-cli generate DIRECTORY")]
    NoDirectory,
    #[error("{}: cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Makes them, if the command line says so.
pub(crate) fn run() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != "generate" {
        return None;
    }
    let made = match (words.next(), words.next()) {
        (Some(directory), None) => generate(Path::new(&directory)),
        _ => Err(GenerateError::NoDirectory),
    };
    Some(made.map_or_else(|error| Failure::new(error).report(), |()| ExitCode::SUCCESS))
}

/// Below the directory are `man1`, `bash`, `zsh` and `fish`, with the names that files have where they
/// are looked for.
fn generate(directory: &Path) -> Result<(), GenerateError> {
    let mut cli = Cli::command();
    let pages = pages(&mut cli);
    for (name, text) in pages {
        write(&directory.join("man1").join(format!("{name}.1")), &text)?;
    }
    for mut command in programs() {
        let name = command.get_name().to_owned();
        for (shell, file) in [
            (Shell::Bash, format!("bash/{name}")),
            (Shell::Zsh, format!("zsh/_{name}")),
            (Shell::Fish, format!("fish/{name}.fish")),
        ] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, &name, &mut script);
            write(&directory.join(file), &script)?;
        }
    }
    Ok(())
}

/// The programs that this one is, by their names.
fn programs() -> Vec<Command> {
    let mut programs = vec![Cli::command()];
    programs.extend(drop_in::commands());
    programs
}

/// Man pages with their names: one of each program, and one of each command.
fn pages(cli: &mut Command) -> Vec<(String, Vec<u8>)> {
    // Gives commands the names that they have with that of the program in front.
    cli.build();
    let mut commands: Vec<Command> = cli
        .get_subcommands()
        .filter(|command| command.get_name() != "help" && !command.is_hide_set())
        .cloned()
        .collect();
    commands.extend(programs());
    let names: Vec<String> = commands.iter().map(name_of).collect();
    let pages = commands.into_iter().map(|command| (name_of(&command), page(command, &names)));
    pages.collect()
}

/// One word: `bypass-cli-run`.
fn name_of(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

fn page(command: Command, all: &[String]) -> Vec<u8> {
    let name = name_of(&command);
    let below = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let has_commands = command.has_subcommands();
    let usage = command.clone().render_usage().to_string();
    let man = Man::new(command);
    let mut page = Vec::new();
    let written = title(&mut page, &name)
        .and_then(|()| man.render_name_section(&mut page))
        .and_then(|()| synopsis(&mut page, &usage))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| man.render_options_section(&mut page))
        .and_then(
            |()| {
                if has_commands { man.render_subcommands_section(&mut page) } else { Ok(()) }
            },
        )
        .and_then(|()| {
            let mut roff = Roff::new();
            sections(&mut roff, &below);
            see_also(&mut roff, &name, all);
            roff.to_writer(&mut page)
        });
    debug_assert!(written.is_ok(), "memory takes what is written to it");
    tidy(page)
}

/// The date is that of the source, if the environment tells it (reproducible-builds.org), or none: not
/// that of the build.
fn title(page: &mut Vec<u8>, name: &str) -> io::Result<()> {
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    let day = epoch
        .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        .map(|time| humantime::format_rfc3339_seconds(time).to_string())
        .and_then(|time| Some(time.split_once('T')?.0.to_owned()))
        .unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    writeln!(
        page,
        ".TH \"{}\" \"1\" \"{day}\" \"bypass {version}\" \"User Commands\"",
        name.to_uppercase()
    )
}

/// As `--help` has it: a list of all options would say nothing that does not follow.
fn synopsis(page: &mut Vec<u8>, usage: &str) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold(usage.strip_prefix("Usage: ").unwrap_or(usage))]);
    roff.to_writer(page)
}

/// Takes out breaks that are no more than one, which mandoc(1) warns of.
fn tidy(page: Vec<u8>) -> Vec<u8> {
    match String::from_utf8(page) {
        Ok(text) => text.replace("\n.br\n\n.br\n", "\n.sp\n").into_bytes(),
        Err(other) => other.into_bytes(),
    }
}

/// What help says below the options: see `args/help.rs`.
fn sections(roff: &mut Roff, text: &str) {
    let mut open = false;
    for line in text.lines() {
        match line.strip_suffix(':').filter(|heading| !heading.starts_with(' ')) {
            Some(heading) => {
                if open {
                    roff.control("fi", []);
                }
                roff.control("SH", [&*heading.to_uppercase()]);
                roff.control("nf", []);
                open = true;
            }
            None if line.is_empty() => {}
            None => {
                roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
            }
        }
    }
    if open {
        roff.control("fi", []);
    }
}

fn see_also(roff: &mut Roff, name: &str, all: &[String]) {
    let mut others: Vec<String> =
        all.iter().filter(|other| *other != name).map(|other| format!("{other}(1)")).collect();
    others.sort();
    others.extend(["seccomp_unotify(2)", "user_namespaces(7)"].map(str::to_owned));
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(others.join(", "))]);
}

fn write(path: &Path, text: &[u8]) -> Result<(), GenerateError> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(path, text))
        .map_err(|source| GenerateError::Write { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_with_all_its_options() {
        let pages = pages(&mut Cli::command());
        let text = |name: &str| {
            let found = pages.iter().find(|(page, _)| page == name);
            String::from_utf8(found.unwrap_or_else(|| panic!("{name}")).1.clone()).unwrap()
        };
        for command in Cli::command().get_subcommands() {
            let page = text(&format!("bypass-cli-{}", command.get_name()));
            for option in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                if let Some(long) = option.get_long() {
                    let long = long.replace('-', "\\-");
                    assert!(
                        page.contains(&format!("\\-\\-{long}")),
                        "{}: {long}",
                        command.get_name()
                    );
                }
            }
            assert!(page.contains(".SH EXAMPLES"), "{}", command.get_name());
        }
        assert!(text("bypass4netns").contains("ready\\-fd"));
        assert!(text("bypass4netnsd").contains("b4nn\\-executable"));
    }
}
