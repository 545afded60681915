//! What a profile tells `serve`, by way of the runtime, about the traps in it.

use std::fmt;

use crate::traps::Traps;

/// The `listenerMetadata` of our profiles: `bypass`, then a word for each kind of trap that not
/// every profile has, such as `bypass messages sends`.
///
/// Whoever writes the container's configuration writes it too, and is trusted with the filter
/// anyhow. The container has no say in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metadata(pub(crate) Traps);

impl Metadata {
    /// Of a profile that is not ours, which may trap anything: `None`. Words that we do not know
    /// are those of a later version.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        if words.next() != Some(MARK) {
            return None;
        }
        let mut traps = Traps::default();
        for word in words {
            match word {
                NAMES => traps.names = true,
                MESSAGES => traps.messages = true,
                SENDS => traps.sends = true,
                _ => {}
            }
        }
        Some(Self(traps))
    }
}

impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Traps { names, messages, sends } = self.0;
        f.write_str(MARK)?;
        for (on, word) in [(names, NAMES), (messages, MESSAGES), (sends, SENDS)] {
            if on {
                write!(f, " {word}")?;
            }
        }
        Ok(())
    }
}

const MARK: &str = "bypass";
const NAMES: &str = "names";
const MESSAGES: &str = "messages";
const SENDS: &str = "sends";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(traps: Traps) -> String {
        Metadata(traps).to_string()
    }

    #[test]
    fn what_is_written_is_read_again() {
        for bits in 0..8 {
            let traps =
                Traps { names: bits & 1 != 0, messages: bits & 2 != 0, sends: bits & 4 != 0 };
            assert_eq!(Metadata::parse(&words(traps)), Some(Metadata(traps)), "{traps:?}");
        }
        let all = Traps { names: true, messages: true, sends: true };
        assert_eq!(words(all), "bypass names messages sends");
        assert_eq!(words(Traps::default()), "bypass");
    }

    #[test]
    fn unknown_words_order_and_space_do_not_matter() {
        let traps = Traps { messages: true, sends: true, ..Traps::default() };
        for text in ["bypass sends later messages", "  bypass\tmessages\n sends sends "] {
            assert_eq!(Metadata::parse(text), Some(Metadata(traps)), "{text:?}");
        }
        assert_eq!(Metadata::parse("bypass Messages"), Some(Metadata(Traps::default())));
    }

    #[test]
    fn other_profiles_promise_nothing() {
        for text in ["", " ", "messages", "bypass4netns messages", "{\"bypass\":1}", "\u{0}bypass"]
        {
            assert_eq!(Metadata::parse(text), None, "{text:?}");
        }
    }
}
