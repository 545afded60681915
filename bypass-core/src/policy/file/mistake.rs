//! What can be wrong with a policy file.

use super::GlobParseError;
use crate::policy::{NetworkParseError, PatternParseError, RuleConflict};

/// A mistake in a policy file, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {mistake}")]
pub struct PolicyFileError {
    /// The name of the file.
    pub file: Box<str>,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub mistake: Box<PolicyMistake>,
}

/// What is wrong with a policy file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyMistake {
    /// It is no TOML.
    #[error("not TOML: {0}")]
    Syntax(Box<str>),
    /// A key that is none of this place's.
    #[error("{key:?} is not known here: write one of {}", known.join(", "))]
    Key {
        /// The key.
        key: Box<str>,
        /// Those that are.
        known: &'static [&'static str],
    },
    /// A value of another kind, or none of those that there are.
    #[error("{key}: write {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What should stand there.
        expected: &'static str,
    },
    /// A rule that is not one action with its patterns.
    #[error(
        "a rule is one action with what it is about: write {{ deny = \"…\" }} or {{ allow = \"…\" }}"
    )]
    Rule,
    /// A list with nothing in it.
    #[error("{key}: the list is empty: name something, or leave the key out")]
    EmptyList {
        /// The key of the list.
        key: &'static str,
    },
    /// A pattern that means nothing.
    #[error("{text:?}: {why}")]
    Pattern {
        /// What was written.
        text: Box<str>,
        /// What is wrong with it.
        why: PatternParseError,
    },
    /// No network.
    #[error("{text:?}: {why}")]
    Network {
        /// What was written.
        text: Box<str>,
        /// What is wrong with it.
        why: NetworkParseError,
    },
    /// A pattern of names that means nothing.
    #[error("{text:?}: {why}")]
    Name {
        /// What was written.
        text: Box<str>,
        /// What is wrong with it.
        why: GlobParseError,
    },
    /// A section about nobody.
    #[error(
        "the section does not say which containers it is about: write id = \"…\" or annotations = {{ … }}"
    )]
    NoContainer,
    /// A rule that never decides.
    #[error(transparent)]
    Conflict(RuleConflict),
}
