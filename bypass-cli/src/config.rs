//! The configuration file: options that a command has when its line does not give them.
//!
//! What it says becomes words of the command line, so that a key is read as the option is, with the
//! same values, defaults and contradictions. Only what it says of the policy is read where policies
//! are: there the order counts, and SIGHUP reads it anew.

mod read;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _};

use self::read::File;
pub(crate) use self::read::Mistake;
use crate::args::Cli;

/// The file is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{}: cannot be read; another one is named by --config, and --no-config reads none",
            path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}: {mistake}", path.display())]
    Mistake { path: PathBuf, line: usize, mistake: Mistake },
}

/// A command line, and whether a file said more of it.
#[derive(Debug)]
pub(crate) struct Line {
    /// All words, the name of the program first.
    pub(crate) words: Vec<OsString>,
    /// The file that some of them are from.
    pub(crate) from: Option<PathBuf>,
}

/// Adds to a command line what the file says of the options that the line does not give.
///
/// A line that makes no sense is left as it is, for whoever reads it next to say so.
pub(crate) fn complete(words: Vec<OsString>) -> Result<Line, ConfigError> {
    let unchanged = |words| Line { words, from: None };
    let mut cli = Cli::command();
    let Ok(matches) = cli.try_get_matches_from_mut(&words) else { return Ok(unchanged(words)) };
    let Some((command, given)) = matches.subcommand() else { return Ok(unchanged(words)) };
    if !takes_file(cli.find_subcommand(command)) {
        return Ok(unchanged(words));
    }
    let Some((path, text)) = file_for(given)? else { return Ok(unchanged(words)) };
    let file = File::read(&path, &text)?;

    // A command follows the name of the program: there are no options in between.
    let (before, after) = words.split_at(words.len().min(2));
    let mut all = before.to_vec();
    if !on_the_line(given, CONFIG) {
        all.push(option(CONFIG, path.as_os_str()));
    }
    let said = file.words_of(command).into_iter();
    all.extend(said.filter(|word| !on_the_line(given, &word.id)).map(|word| word.text));
    all.extend_from_slice(after);
    Ok(Line { words: all, from: Some(path) })
}

/// The word that gives an option a value.
fn option(name: &str, value: &OsStr) -> OsString {
    let mut word = OsString::from(format!("--{name}="));
    word.push(value);
    word
}

/// Not every command has options that are worth a file. (In a release build, what clap finds on a line cannot
/// be asked whether there is such an option.)
fn takes_file(command: Option<&clap::Command>) -> bool {
    command.is_some_and(|command| command.get_arguments().any(|arg| arg.get_id() == CONFIG))
}

fn on_the_line(given: &ArgMatches, id: &str) -> bool {
    matches!(given.value_source(id), Some(ValueSource::CommandLine))
}

const CONFIG: &str = "config";
const NO_CONFIG: &str = "no_config";

/// The file that a command takes, and its text.
fn file_for(given: &ArgMatches) -> Result<Option<(PathBuf, String)>, ConfigError> {
    if given.get_flag(NO_CONFIG) {
        return Ok(None);
    }
    let (path, must_exist) = match given.get_one::<PathBuf>(CONFIG) {
        Some(path) => (path.clone(), true),
        None => match default_path(env::var_os("XDG_CONFIG_HOME"), env::var_os("HOME")) {
            Some(path) => (path, false),
            None => return Ok(None),
        },
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if !must_exist && is_absent(&error) => Ok(None),
        Err(source) => Err(ConfigError::Read { path, source }),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// As the XDG base directory specification has it: paths that are not absolute do not count.
fn default_path(config_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let config_home = config_home
        .and_then(absolute)
        .or_else(|| Some(home.and_then(absolute)?.join(".config")))?;
    Some(config_home.join(Path::new("bypass/config.toml")))
}

#[cfg(test)]
mod tests;
