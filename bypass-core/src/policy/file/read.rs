//! From the text of a policy file to what it says.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::glob::Glob;
use super::mistake::{PolicyFileError, PolicyMistake};
use super::{PolicyFile, Section};
use crate::policy::{Action, DefaultAction, Ignored, Pattern, PolicyLayer, Rule, check_order};

/// `whole`: nothing but a policy is there. Otherwise other keys are somebody else's.
pub(super) fn file(name: &str, text: &str, whole: bool) -> Result<PolicyFile, PolicyFileError> {
    let reader = Reader { name, text };
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let at = error.span().unwrap_or_default().start;
            return Err(reader.error(at, PolicyMistake::Syntax(error.message().into())));
        }
    };
    let mut file = PolicyFile::default();
    for (key, at, value) in in_order(table.get_ref()) {
        if key == CONTAINER {
            let expected = "[[container]] above each section";
            let DeValue::Array(sections) = value.get_ref() else {
                return Err(reader.value(value, CONTAINER, expected));
            };
            for section in sections.iter() {
                let DeValue::Table(table) = section.get_ref() else {
                    return Err(reader.value(section, CONTAINER, expected));
                };
                file.sections.push(reader.section(section.span().start, table)?);
            }
        } else if !reader.setting(&mut file.general, key, value)? && whole {
            return Err(reader.unknown(at, key, GENERAL_KEYS));
        }
    }
    Ok(file)
}

struct Reader<'a> {
    name: &'a str,
    text: &'a str,
}

type Value<'i> = Spanned<DeValue<'i>>;
type Read<T> = Result<T, PolicyFileError>;

impl Reader<'_> {
    fn section(&self, start: usize, table: &DeTable<'_>) -> Read<Section> {
        let (mut id, mut annotations) = (None, Vec::new());
        let mut layer = PolicyLayer::default();
        for (key, at, value) in in_order(table) {
            match key {
                ID => id = Some(self.glob(value, ID)?),
                ANNOTATIONS => annotations = self.annotations(value)?,
                _ if self.setting(&mut layer, key, value)? => {}
                _ => return Err(self.unknown(at, key, SECTION_KEYS)),
            }
        }
        if id.is_none() && annotations.is_empty() {
            return Err(self.error(start, PolicyMistake::NoContainer));
        }
        Ok(Section { id, annotations, layer })
    }

    fn annotations(&self, value: &Value<'_>) -> Read<Vec<(Box<str>, Glob)>> {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(self.value(
                value,
                ANNOTATIONS,
                "a table, like { \"org/name\" = \"web-*\" }",
            ));
        };
        in_order(table)
            .into_iter()
            .map(|(key, _, value)| Ok((key.into(), self.glob(value, ANNOTATIONS)?)))
            .collect()
    }

    /// False for a key that is none of a layer's.
    fn setting(&self, layer: &mut PolicyLayer, key: &str, value: &Value<'_>) -> Read<bool> {
        match key {
            DEFAULT => {
                let word = value.get_ref().as_str();
                let named = DefaultAction::ALL.iter().find(|action| word == Some(action.name()));
                let expected = "\"allow\", \"leave\" or \"deny\"";
                layer.default = Some(*named.ok_or_else(|| self.value(value, DEFAULT, expected))?);
            }
            RULES => layer.rules = self.rules(value)?,
            IGNORE => {
                let network = |(text, at): (&str, usize)| {
                    text.parse::<Ignored>().map_err(|why| {
                        self.error(at, PolicyMistake::Network { text: text.into(), why })
                    })
                };
                let all = self.strings(value, IGNORE)?.into_iter().map(network);
                layer.ignore_also(all.collect::<Read<Vec<_>>>()?);
            }
            ALLOW_HOST_LOOPBACK => match value.get_ref() {
                DeValue::Boolean(allow) => layer.allow_host_loopback = Some(*allow),
                _ => return Err(self.value(value, ALLOW_HOST_LOOPBACK, "true or false")),
            },
            PIN => match value.get_ref().as_str() {
                Some("on") => layer.pin = Some(true),
                Some("off") => layer.pin = Some(false),
                _ => return Err(self.value(value, PIN, "\"on\" or \"off\"")),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn rules(&self, value: &Value<'_>) -> Read<Vec<Rule>> {
        let DeValue::Array(entries) = value.get_ref() else {
            return Err(self.value(value, RULES, "a list, like [{ deny = \"metadata\" }]"));
        };
        let (mut rules, mut places) = (Vec::new(), Vec::new());
        for entry in entries.iter() {
            let wrong = || self.error(entry.span().start, PolicyMistake::Rule);
            let DeValue::Table(table) = entry.get_ref() else { return Err(wrong()) };
            let [(key, at, value)] = &in_order(table)[..] else { return Err(wrong()) };
            let (action, key) = match *key {
                "allow" => (Action::Allow, "allow"),
                "deny" => (Action::Deny, "deny"),
                _ => return Err(self.unknown(at.clone(), key, &["allow", "deny"])),
            };
            for (text, at) in self.strings(value, key)? {
                let pattern = text.parse::<Pattern>().map_err(|why| {
                    self.error(at, PolicyMistake::Pattern { text: text.into(), why })
                })?;
                let origin = format!("{}:{}", self.name, self.line(at));
                rules.push(Rule::new(action, pattern).written_at(origin));
                places.push(at);
            }
        }
        check_order(&rules).map_err(|conflict| {
            let at = places.get(conflict.index).copied().unwrap_or_default();
            self.error(at, PolicyMistake::Conflict(conflict))
        })?;
        Ok(rules)
    }

    /// One string or a list of them, with their places.
    fn strings<'v>(&self, value: &'v Value<'_>, key: &'static str) -> Read<Vec<(&'v str, usize)>> {
        let one = |value: &'v Value<'_>| match value.get_ref() {
            DeValue::String(text) => Ok((&**text, value.span().start)),
            _ => Err(self.value(value, key, "a string, or a list of strings")),
        };
        match value.get_ref() {
            DeValue::Array(list) if list.is_empty() => {
                Err(self.error(value.span().start, PolicyMistake::EmptyList { key }))
            }
            DeValue::Array(list) => list.iter().map(one).collect(),
            _ => Ok(vec![one(value)?]),
        }
    }

    fn glob(&self, value: &Value<'_>, key: &'static str) -> Read<Glob> {
        let DeValue::String(text) = value.get_ref() else {
            return Err(self.value(value, key, "a string"));
        };
        Glob::parse(text).map_err(|why| {
            self.error(value.span().start, PolicyMistake::Name { text: (&**text).into(), why })
        })
    }

    fn unknown(
        &self,
        at: Range<usize>,
        key: &str,
        known: &'static [&'static str],
    ) -> PolicyFileError {
        self.error(at.start, PolicyMistake::Key { key: key.into(), known })
    }

    fn value(
        &self,
        value: &Value<'_>,
        key: &'static str,
        expected: &'static str,
    ) -> PolicyFileError {
        self.error(value.span().start, PolicyMistake::Value { key, expected })
    }

    fn error(&self, at: usize, mistake: PolicyMistake) -> PolicyFileError {
        PolicyFileError { file: self.name.into(), line: self.line(at), mistake: mistake.into() }
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().iter().take(at);
        1 + before.filter(|byte| **byte == b'\n').count()
    }
}

/// The entries of a table in the order of the text, so that the first mistake is told first.
fn in_order<'t>(table: &'t DeTable<'_>) -> Vec<(&'t str, Range<usize>, &'t Value<'t>)> {
    let mut entries: Vec<_> =
        table.iter().map(|(key, value)| (&**key.get_ref(), key.span(), value)).collect();
    entries.sort_by_key(|(_, at, _)| at.start);
    entries
}

const CONTAINER: &str = "container";
const ID: &str = "id";
const ANNOTATIONS: &str = "annotations";
const DEFAULT: &str = "default";
const RULES: &str = "rules";
const IGNORE: &str = "ignore";
const ALLOW_HOST_LOOPBACK: &str = "allow-host-loopback";
const PIN: &str = "pin";

pub(super) const GENERAL_KEYS: &[&str] =
    &[DEFAULT, RULES, IGNORE, ALLOW_HOST_LOOPBACK, PIN, CONTAINER];
const SECTION_KEYS: &[&str] = &[ID, ANNOTATIONS, DEFAULT, RULES, IGNORE, ALLOW_HOST_LOOPBACK, PIN];
