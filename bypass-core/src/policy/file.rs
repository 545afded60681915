//! A policy in a file: the same language as on the command line, and sections for containers.
//!
//! Only the text is handled here; whoever has it says what the file is called.

mod glob;
mod mistake;
mod read;

use std::collections::BTreeMap;

use self::glob::Glob;
pub use self::glob::GlobParseError;
pub use self::mistake::{PolicyFileError, PolicyMistake};
use super::PolicyLayer;

/// What a policy file says.
///
/// ```
/// use bypass_core::PolicyFile;
///
/// let file = PolicyFile::parse(
///     "policy.toml",
///     r#"
///     rules = [{ deny = ["metadata", "any:25/tcp"] }]
///
///     [[container]]
///     id = "web-*"
///     default = "deny"
///     rules = [{ allow = "192.0.2.0/24:443/tcp" }]
///     "#,
/// )?;
/// assert_eq!(file.layers_for("db", &Default::default()).count(), 1);
/// assert_eq!(file.layers_for("web-1", &Default::default()).count(), 2);
///
/// let error = PolicyFile::parse("policy.toml", "default = 'dney'").unwrap_err();
/// assert!(error.to_string().starts_with("policy.toml:1: "));
/// # Ok::<(), bypass_core::PolicyFileError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyFile {
    general: PolicyLayer,
    sections: Vec<Section>,
}

/// A part that is about some containers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Section {
    id: Option<Glob>,
    annotations: Vec<(Box<str>, Glob)>,
    layer: PolicyLayer,
}

impl PolicyFile {
    /// The keys of a policy at the top of a file.
    pub const KEYS: &[&str] = read::GENERAL_KEYS;

    /// Reads the text of the file called `name`.
    ///
    /// # Errors
    /// The first mistake, with its line. Nothing is ignored: a file is read as it was meant, or not.
    pub fn parse(name: &str, text: &str) -> Result<Self, PolicyFileError> {
        read::file(name, text, true)
    }

    /// Reads what the text of a file that is about other things too says of a policy: of the keys at
    /// its top those in [`KEYS`](Self::KEYS). The others are left to the caller.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), but for keys at the top that are not known.
    pub fn parse_among_others(name: &str, text: &str) -> Result<Self, PolicyFileError> {
        read::file(name, text, false)
    }

    /// What is said about every container.
    #[must_use]
    pub fn general(&self) -> &PolicyLayer {
        &self.general
    }

    /// What is said about a container with this id and these annotations: every section that is
    /// about it, in the order of the file, and what is said about every container.
    pub fn layers_for<'a>(
        &'a self,
        id: &'a str,
        annotations: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a PolicyLayer> {
        self.sections
            .iter()
            .filter(|section| section.is_about(id, annotations))
            .map(|section| &section.layer)
            .chain([&self.general])
    }

    /// What each section says, whichever containers it is about.
    pub fn sections(&self) -> impl Iterator<Item = &PolicyLayer> {
        self.sections.iter().map(|section| &section.layer)
    }
}

impl Section {
    fn is_about(&self, id: &str, annotations: &BTreeMap<String, String>) -> bool {
        let annotated = |(key, value): &(Box<str>, Glob)| {
            annotations.get(&**key).is_some_and(|given| value.matches(given))
        };
        self.id.as_ref().is_none_or(|glob| glob.matches(id))
            && self.annotations.iter().all(annotated)
    }
}

#[cfg(test)]
mod tests;
