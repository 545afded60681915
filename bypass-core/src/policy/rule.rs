//! What the user says about destinations, in order.

use std::fmt;

use super::Pattern;

/// Whether a destination is permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It may be reached, by the way that the rest of the policy says.
    Allow,
    /// The call fails.
    Deny,
}

impl Action {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What becomes of a destination that no rule names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DefaultAction {
    /// It is permitted.
    #[default]
    Allow,
    /// It is not bypassed, but left to the container's own network: the rules say what is bypassed.
    Leave,
    /// It is refused if it would have been bypassed. What is left to the container for another
    /// reason (ignored networks, its own loopback) still is.
    Deny,
}

impl DefaultAction {
    /// Every one of them.
    pub const ALL: &'static [Self] = &[Self::Allow, Self::Leave, Self::Deny];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Leave => "leave",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for DefaultAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One line of a policy: what is done about the destinations of a pattern, and where that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    action: Action,
    pattern: Pattern,
    origin: Option<Box<str>>,
}

impl Rule {
    /// What is done about the destinations of a pattern.
    #[must_use]
    pub fn new(action: Action, pattern: impl Into<Pattern>) -> Self {
        Self { action, pattern: pattern.into(), origin: None }
    }

    /// Where the rule was written, to be named in messages: `--deny`, `policy.toml:12`.
    #[must_use]
    pub fn written_at(mut self, origin: impl Into<Box<str>>) -> Self {
        self.origin = Some(origin.into());
        self
    }

    /// What is done.
    #[must_use]
    pub fn action(&self) -> Action {
        self.action
    }

    /// About which destinations.
    #[must_use]
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Where it was written, if that was said.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action, self.pattern)
    }
}

/// A rule that never decides anything, since one in front of it says the opposite about all that it
/// matches.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{later}` never decides, since `{earlier}` stands in front of it and the first rule that \
     matches counts: write it in front, or leave it out"
)]
pub struct RuleConflict {
    /// The position of the later rule.
    pub index: usize,
    /// The rule in front.
    pub earlier: Box<Rule>,
    /// The one that never decides.
    pub later: Box<Rule>,
}

/// Checks a list that was written as a whole for rules that cannot mean anything where they stand.
/// (Of lists that are put together from several, one may well override another.)
///
/// # Errors
/// The first of them.
pub fn check_order(rules: &[Rule]) -> Result<(), RuleConflict> {
    for (index, later) in rules.iter().enumerate() {
        let covers = |earlier: &&Rule| {
            earlier.action != later.action && earlier.pattern.covers(&later.pattern)
        };
        if let Some(earlier) = rules.iter().take(index).find(covers) {
            let (earlier, later) = (earlier.clone().into(), later.clone().into());
            return Err(RuleConflict { index, earlier, later });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(list: &[&str]) -> Vec<Rule> {
        let rule = |text: &&str| {
            let (action, pattern) = text.split_once(' ').unwrap();
            let action = if action == "deny" { Action::Deny } else { Action::Allow };
            Rule::new(action, pattern.parse::<Pattern>().unwrap())
        };
        list.iter().map(rule).collect()
    }

    #[test]
    fn a_rule_that_never_decides_is_found() {
        for list in [
            ["allow 10.0.0.0/8", "deny 10.1.0.0/16"],
            ["deny any", "allow 10.0.0.0/8:443/tcp"],
            ["deny any/tcp", "allow host:22/tcp"],
            ["allow any:1-1024", "deny any:22"],
            ["deny private", "allow 192.168.1.0/24"],
            ["deny metadata:80", "allow metadata:80/tcp"],
            ["allow ::/0", "deny fd00::/8"],
        ] {
            let conflict = check_order(&rules(&list)).unwrap_err();
            assert_eq!(conflict.index, 1);
            let message = conflict.to_string();
            for rule in list {
                assert!(message.contains(&format!("`{rule}`")), "{message}");
            }
        }
    }

    #[test]
    fn exceptions_and_repetitions_are_no_conflict() {
        for list in [
            ["deny 10.1.0.0/16", "allow 10.0.0.0/8"],
            ["deny 10.0.0.0/8", "deny 10.1.0.0/16"],
            ["deny any/tcp", "allow any/udp"],
            ["deny any/tcp", "allow any"],
            ["allow any:1-1024", "deny any:1000-2000"],
            ["deny 0.0.0.0/0", "allow private"],
            ["deny 0.0.0.0/0", "allow ::/0"],
            ["deny private", "allow metadata"],
            ["deny metadata", "allow host"],
        ] {
            assert_eq!(check_order(&rules(&list)), Ok(()), "{list:?}");
        }
    }
}
