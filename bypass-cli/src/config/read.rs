//! From the text of the file to words of command lines.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use bypass_core::{PolicyFile, PolicyFileError};
use clap::builder::{Command, ValueParser};
use clap::{Arg, ArgAction, CommandFactory as _};
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::{CONFIG, ConfigError, option};
use crate::args::Cli;

/// What is wrong with it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mistake {
    #[error("not TOML: {0}")]
    Syntax(String),
    #[error("{key:?} is not known here: write one of {}", known.join(", "))]
    Key { key: String, known: Vec<String> },
    #[error(
        "{key}: write it in the table of a command, like [{command}], since it is another for each"
    )]
    OfOneCommand { key: String, command: String },
    #[error("{key}: the policy is one for all commands, so write it above the first table")]
    PolicyInTable { key: String },
    #[error("{key}: write rules = [{{ deny = \"…\" }}, {{ allow = \"…\" }}], whose order counts")]
    Rules { key: String },
    #[error("{key}: it belongs to one start of the program: give it on the command line")]
    OnlyOnTheLine { key: String },
    #[error("{key}: write {expected}")]
    Value { key: String, expected: &'static str },
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Policy(Box<bypass_core::PolicyMistake>),
}

/// A word of a command line, and the option that it gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) id: String,
    pub(super) text: OsString,
}

/// What a key says.
#[derive(Debug)]
struct Entry {
    key: String,
    words: Vec<OsString>,
}

/// What the file says of each command.
#[derive(Debug)]
pub(super) struct File {
    cli: Command,
    general: Vec<Entry>,
    tables: Vec<(String, Vec<Entry>)>,
}

impl File {
    /// Reads all of it, whichever command is to be carried out: a mistake is found at once.
    pub(super) fn read(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut cli = Cli::command();
        cli.build();
        let reader = Reader { path, text, cli: &cli };
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                let at = error.span().unwrap_or_default().start;
                return Err(reader.error(at, Mistake::Syntax(error.message().into())));
            }
        };
        let policy = PolicyFile::parse_among_others(&path.to_string_lossy(), text);
        policy.map_err(|PolicyFileError { line, mistake, .. }| ConfigError::Mistake {
            path: path.into(),
            line,
            mistake: Mistake::Policy(mistake),
        })?;
        let (mut general, mut tables) = (Vec::new(), Vec::new());
        for (key, at, value) in in_order(table.get_ref()) {
            if PolicyFile::KEYS.contains(&key) {
                continue;
            }
            if let (Some(command), DeValue::Table(table)) = (reader.command(key), value.get_ref()) {
                let mut entries = Vec::new();
                for (key, at, value) in in_order(table) {
                    entries.push(reader.of_command(command, key, at, value)?);
                }
                tables.push((key.to_owned(), entries));
            } else {
                general.push(reader.of_all(key, at, value)?);
            }
        }
        Ok(Self { cli, general, tables })
    }

    /// What it says of a command: its own table first, then what is said of all.
    pub(super) fn words_of(&self, command: &str) -> Vec<Word> {
        let own = self.tables.iter().find(|(name, _)| name == command);
        let own = own.map_or(&[][..], |(_, entries)| entries);
        let Some(command) = self.cli.find_subcommand(command) else { return Vec::new() };
        let of_all = self.general.iter().filter(|entry| own.iter().all(|one| one.key != entry.key));
        let mut words = Vec::new();
        for entry in own.iter().chain(of_all) {
            if let Some(arg) = option_of(command, &entry.key) {
                let id = arg.get_id().as_str();
                words.extend(
                    entry.words.iter().map(|text| Word { id: id.into(), text: text.clone() }),
                );
            }
        }
        words
    }
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    cli: &'a Command,
}

type Value<'i> = Spanned<DeValue<'i>>;

impl<'a> Reader<'a> {
    /// A command that takes this file.
    fn command(&self, name: &str) -> Option<&'a Command> {
        self.commands().find(|command| command.get_name() == name)
    }

    fn commands(&self) -> impl Iterator<Item = &'a Command> {
        self.cli.get_subcommands().filter(|command| option_of(command, CONFIG).is_some())
    }

    /// A key above all tables: an option that several commands have, and mean the same by.
    fn of_all(&self, key: &str, at: usize, value: &Value<'_>) -> Result<Entry, ConfigError> {
        self.check_kind(key, at)?;
        let mut having = self.commands().filter(|command| option_of(command, key).is_some());
        match (having.next(), having.next()) {
            (Some(command), None) => Err(self.of_one(key, at, command)),
            (Some(command), Some(_)) if ANOTHER_FOR_EACH.contains(&key) => {
                Err(self.of_one(key, at, command))
            }
            (Some(command), Some(_)) => self.entry(command, key, value),
            (None, _) => Err(self.unknown(at, key, self.keys_of_all())),
        }
    }

    fn of_command(
        &self,
        command: &Command,
        key: &str,
        at: usize,
        value: &Value<'_>,
    ) -> Result<Entry, ConfigError> {
        self.check_kind(key, at)?;
        if key == POLICY || PolicyFile::KEYS.contains(&key) {
            return Err(self.error(at, Mistake::PolicyInTable { key: key.into() }));
        }
        if option_of(command, key).is_none() {
            return Err(self.unknown(at, key, keys_of(command)));
        }
        self.entry(command, key, value)
    }

    fn check_kind(&self, key: &str, at: usize) -> Result<(), ConfigError> {
        let key_owned = || key.to_owned();
        if RULES.contains(&key) {
            return Err(self.error(at, Mistake::Rules { key: key_owned() }));
        }
        if ONLY_ON_THE_LINE.contains(&key) {
            return Err(self.error(at, Mistake::OnlyOnTheLine { key: key_owned() }));
        }
        Ok(())
    }

    fn of_one(&self, key: &str, at: usize, command: &Command) -> ConfigError {
        let command = command.get_name().to_owned();
        self.error(at, Mistake::OfOneCommand { key: key.into(), command })
    }

    /// The words that give the option its value, tried on a command that has it.
    fn entry(&self, command: &Command, key: &str, value: &Value<'_>) -> Result<Entry, ConfigError> {
        let at = value.span().start;
        let wrong = |expected| self.error(at, Mistake::Value { key: key.into(), expected });
        let Some(arg) = option_of(command, key) else { return Err(wrong("nothing")) };
        let words = if matches!(arg.get_action(), ArgAction::SetTrue) {
            match value.get_ref() {
                DeValue::Boolean(true) => vec![OsString::from(format!("--{key}"))],
                DeValue::Boolean(false) => Vec::new(),
                _ => return Err(wrong("true or false")),
            }
        } else {
            let many = matches!(arg.get_action(), ArgAction::Append);
            let values = match value.get_ref() {
                DeValue::Array(list) if many => list.iter().collect(),
                _ => vec![value],
            };
            let expected = if many { "a string, or a list of strings" } else { "a string" };
            let mut words = Vec::with_capacity(values.len());
            for value in values {
                let text = text_of(value.get_ref()).ok_or_else(|| wrong(expected))?;
                words.push(option(key, &self.resolved(arg, text)));
            }
            words
        };
        self.attempt(command, &words).map_err(|said| self.error(at, Mistake::Refused(said)))?;
        Ok(Entry { key: key.into(), words })
    }

    /// A path is looked for beside the file that names it.
    fn resolved(&self, arg: &Arg, text: String) -> OsString {
        let is_path = arg.get_value_parser().type_id() == ValueParser::path_buf().type_id();
        // Such as `PATH|none`.
        let names = arg.get_value_names().unwrap_or_default();
        let is_word = text == "-"
            || names.iter().any(|name| name.split('|').skip(1).any(|word| word == text));
        match self.path.parent() {
            Some(directory) if is_path && !is_word && !text.is_empty() => {
                directory.join(text).into_os_string()
            }
            _ => text.into(),
        }
    }

    /// Has the command read the words; what it says if it does not.
    fn attempt(&self, command: &Command, words: &[OsString]) -> Result<(), String> {
        let optional = |arg: Arg| if arg.is_positional() { arg.required(false) } else { arg };
        let command = command.clone().mut_args(optional);
        let line = [OsStr::new("x")].into_iter().chain(words.iter().map(OsString::as_os_str));
        command.try_get_matches_from(line).map(drop).map_err(|error| first_lines(&error))
    }

    fn keys_of_all(&self) -> Vec<String> {
        let mut known: Vec<String> = PolicyFile::KEYS.iter().map(|key| (*key).to_owned()).collect();
        let mut seen: Vec<String> = Vec::new();
        for command in self.commands() {
            for key in keys_of(command) {
                if ANOTHER_FOR_EACH.contains(&&*key) || known.contains(&key) {
                } else if seen.contains(&key) {
                    known.push(key);
                } else {
                    seen.push(key);
                }
            }
        }
        known.push(POLICY.into());
        known.extend(self.commands().map(|command| format!("[{}]", command.get_name())));
        known
    }

    fn unknown(&self, at: usize, key: &str, known: Vec<String>) -> ConfigError {
        self.error(at, Mistake::Key { key: key.into(), known })
    }

    fn error(&self, at: usize, mistake: Mistake) -> ConfigError {
        let before = self.text.as_bytes().iter().take(at);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        ConfigError::Mistake { path: PathBuf::from(self.path), line, mistake }
    }
}

/// The option of this name, unless it is one that nobody is told of.
fn option_of<'c>(command: &'c Command, key: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|arg| arg.get_long() == Some(key) && !arg.is_hide_set())
}

/// The keys that the table of a command may have.
fn keys_of(command: &Command) -> Vec<String> {
    let is_key = |key: &&str| {
        !RULES.contains(key)
            && !ONLY_ON_THE_LINE.contains(key)
            && !PolicyFile::KEYS.contains(key)
            && *key != POLICY
    };
    let visible = command.get_arguments().filter(|arg| !arg.is_hide_set());
    visible.filter_map(Arg::get_long).filter(is_key).map(str::to_owned).collect()
}

fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => decimal(number),
        _ => None,
    }
}

fn decimal(number: &DeInteger<'_>) -> Option<String> {
    i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
}

/// What clap says, without what follows from it, on one line.
fn first_lines(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let lines = text.lines().map(str::trim);
    let telling =
        lines.take_while(|line| !line.starts_with("For more") && !line.starts_with("Usage"));
    telling.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The entries of a table in the order of the text, so that the first mistake is told first.
fn in_order<'t>(table: &'t DeTable<'_>) -> Vec<(&'t str, usize, &'t Value<'t>)> {
    let mut entries: Vec<_> =
        table.iter().map(|(key, value)| (&**key.get_ref(), key.span().start, value)).collect();
    entries.sort_by_key(|(_, at, _)| *at);
    entries
}

const POLICY: &str = "policy";

/// Whose order among each other counts, which keys do not have.
const RULES: &[&str] = &["deny", "allow", "deny-preset", "allow-preset"];

/// Descriptors that one process was given, and what is about this file or one answer.
const ONLY_ON_THE_LINE: &[&str] = &[
    CONFIG,
    "no-config",
    "ready-fd",
    "exit-fd",
    "explain",
    "container",
    "annotation",
    "help",
    "version",
];

/// Options that several commands have, of which each has its own value.
const ANOTHER_FOR_EACH: &[&str] =
    &["socket", "pid-file", "log-file", "status-socket", "metrics-listen"];
