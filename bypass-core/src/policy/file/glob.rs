//! Patterns of names: `*` stands for any text, `?` for one character.

/// A pattern of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob(Box<str>);

/// Why a pattern of names means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GlobParseError {
    /// Nothing was written.
    #[error("no name is given: write one, or * for every name")]
    Empty,
    /// Something that means more to others than to us.
    #[error("`{0}` has no meaning here: only * and ? stand for other characters")]
    Character(char),
}

impl Glob {
    pub(super) fn parse(text: &str) -> Result<Self, GlobParseError> {
        if text.is_empty() {
            return Err(GlobParseError::Empty);
        }
        match text.chars().find(|c| "[]{}\\".contains(*c)) {
            Some(c) => Err(GlobParseError::Character(c)),
            None => Ok(Self(text.into())),
        }
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        // After a mismatch only the last star has to be tried again, with one character more: so the
        // time is bounded by the product of the lengths, whatever the pattern.
        let (mut pattern, mut rest) = (self.0.chars(), name.chars());
        let mut star = None;
        loop {
            let before = rest.clone();
            match (pattern.next(), rest.next()) {
                (None, None) => return true,
                (Some('*'), _) => {
                    star = Some((pattern.clone(), before.clone()));
                    rest = before;
                }
                (Some('?'), Some(_)) => {}
                (Some(expected), Some(found)) if expected == found => {}
                _ => {
                    let Some((behind, mut from)) = star.take() else { return false };
                    if from.next().is_none() {
                        return false;
                    }
                    star = Some((behind.clone(), from.clone()));
                    (pattern, rest) = (behind, from);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_and_question_marks() {
        for (glob, matching, others) in [
            ("web", &["web"][..], &["", "we", "web1", "aweb"][..]),
            ("web-*", &["web-", "web-1", "web-*"], &["web", "aweb-1"]),
            ("*", &["", "a", "äö"], &[]),
            ("*-web", &["-web", "a-web", "a-web-web"], &["web", "a-web-"]),
            ("a*b*c", &["abc", "aXbYc", "abbcbc"], &["ab", "acb", "abcX"]),
            ("w?b", &["web", "wäb"], &["wb", "weeb"]),
            ("?*", &["a", "ab"], &[""]),
            ("**", &["", "a"], &[]),
        ] {
            let parsed = Glob::parse(glob).unwrap();
            for name in matching {
                assert!(parsed.matches(name), "{glob} {name}");
            }
            for name in others {
                assert!(!parsed.matches(name), "{glob} {name}");
            }
        }
    }

    #[test]
    fn other_characters_that_usually_mean_something_are_refused() {
        assert_eq!(Glob::parse(""), Err(GlobParseError::Empty));
        for text in ["web-[12]", "{a,b}", "a\\*"] {
            assert!(matches!(Glob::parse(text), Err(GlobParseError::Character(_))), "{text}");
        }
    }

    /// As one would define it, in exponential time.
    fn defined(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', rest @ ..], _) => (0..=name.len()).any(|at| defined(rest, &name[at..])),
            (['?', rest @ ..], [_, name @ ..]) => defined(rest, name),
            ([c, rest @ ..], [d, name @ ..]) => c == d && defined(rest, name),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_its_definition(pattern in "[ab*?]{1,8}", name in "[ab]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = defined(&chars(&pattern), &chars(&name));
            prop_assert_eq!(Glob::parse(&pattern).unwrap().matches(&name), expected);
        }
    }
}
