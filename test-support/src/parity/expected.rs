//! Differences that are known, and why they are there: `test-support/parity/expected`.
//!
//! A line for each: the suite, what differs, what it gives natively and under `run`, separated by
//! tabs. Which reason it is for is said by the comment above. In what differs and what it gives,
//! `*` stands for anything and `?` for one character. A `~` before the suite says that it differs
//! at times only: it need not be met.

use std::fmt;

use crate::failure::{Context, Result};

/// The list.
pub const EXPECTED: &str = include_str!("../../parity/expected");

/// Those of one suite.
#[derive(Debug, Default)]
pub struct Expected(Vec<Line>);

#[derive(Debug)]
struct Line {
    words: [String; 3],
    seen: bool,
}

impl Expected {
    /// The lines of `list` that are about `suite`.
    ///
    /// # Errors
    /// When a line is not made of four parts.
    pub fn of(suite: &str, list: &str) -> Result<Self> {
        let lines = list.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let mut all = Vec::new();
        for line in lines {
            let parts: Vec<&str> = line.split('\t').collect();
            let [of, what, native, bypassed] =
                parts.try_into().ok().context(format!("four parts, not `{line}`"))?;
            let (of, at_times) = of.strip_prefix('~').map_or((of, false), |of| (of, true));
            if matches(of, suite) {
                let words = [what, native, bypassed].map(ToOwned::to_owned);
                all.push(Line { words, seen: at_times });
            }
        }
        Ok(Self(all))
    }

    /// Whether this is expected: what differs, what it gives natively, and under `run`.
    pub fn covers(&mut self, difference: &[&str; 3]) -> bool {
        let mut covered = false;
        for line in &mut self.0 {
            let same = |(pattern, text): (&String, &&str)| matches(pattern, text);
            if line.words.iter().zip(difference).all(same) {
                line.seen = true;
                covered = true;
            }
        }
        covered
    }

    /// Those that nothing showed.
    pub fn unseen(&self) -> impl Iterator<Item = impl fmt::Display + '_> {
        self.0.iter().filter(|line| !line.seen).map(|line| line.words.join("\t"))
    }
}

/// As in the names of files, with `*` and `?`.
fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    match (pattern.next(), text.clone().next()) {
        (None, first) => first.is_none(),
        (Some('*'), None) => matches(pattern.as_str(), ""),
        (Some('*'), Some(_)) => {
            let rest = pattern.as_str();
            let here = text.as_str();
            here.char_indices().any(|(at, _)| matches(rest, here.get(at..).unwrap_or_default()))
                || matches(rest, "")
        }
        (Some(wanted), Some(first)) => {
            text.next();
            (wanted == '?' || wanted == first) && matches(pattern.as_str(), text.as_str())
        }
        (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_well_formed() {
        Expected::of("", EXPECTED).unwrap();
    }

    #[test]
    fn what_was_not_seen_is_told() {
        let list = "# why\n~go\tTestD\tPASS\tFAIL\ngo\tTestA\tPASS\tFAIL\ngo\tTestB/*\t*\t*\nuv\tx\ty\tz\n";
        let mut expected = Expected::of("go", list).unwrap();
        assert!(!expected.covers(&["TestC", "PASS", "FAIL"]));
        assert!(!expected.covers(&["TestA", "FAIL", "PASS"]));
        assert!(expected.covers(&["TestB/one", "PASS", "SKIP"]));
        let unseen: Vec<String> = expected.unseen().map(|line| line.to_string()).collect();
        assert_eq!(unseen, ["TestA\tPASS\tFAIL"]);
    }

    #[test]
    fn a_star_stands_for_anything_and_a_question_mark_for_one_character() {
        for (pattern, text, same) in [
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "acb", false),
            ("*", "", true),
            ("a", "ab", false),
            ("*b*", "abc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("ab*", "ab", true),
        ] {
            assert_eq!(matches(pattern, text), same, "{pattern} {text}");
        }
    }
}
