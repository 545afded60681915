//! Fenced blocks of commands.

use super::Page;

/// What becomes of the commands of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// They are executed as written.
    Run,
    /// Another test executes them.
    RunBy {
        /// The kind of test.
        target: String,
        /// Its name.
        name: String,
    },
    /// Somebody tried them.
    NotRun {
        /// Why no test does.
        reason: String,
    },
    /// Nobody says.
    Unsaid,
}

/// One command, with what is shown of its output.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Command {
    /// As written, lines that go on included.
    pub text: String,
    /// Lines of output; `…` stands for anything.
    pub shown: Vec<String>,
}

/// A fenced block of a page.
#[derive(Debug, Clone)]
pub struct Block {
    /// Where it begins, from 1.
    pub line: usize,
    /// What becomes of it.
    pub fate: Fate,
    /// Its commands, in order.
    pub commands: Vec<Command>,
}

/// The blocks of commands of a page: those of the kinds `console`, `sh` and `bash`.
#[must_use]
pub fn of(page: &Page) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut comment = None;
    let mut lines = page.text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let trimmed = line.trim_start();
        if let Some(fence) = trimmed.strip_prefix("```") {
            let body: Vec<&str> = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| line.trim_start() != "```")
                .collect();
            let (kind, rest) = fence.split_once(' ').unwrap_or((fence, ""));
            let said = comment.take().unwrap_or(rest);
            match kind {
                "console" => {
                    blocks.push(Block { line: at + 1, fate: fate(said), commands: console(&body) });
                }
                "sh" | "bash" => {
                    blocks.push(Block { line: at + 1, fate: fate(said), commands: script(&body) });
                }
                _ => {}
            }
        } else {
            comment = trimmed
                .strip_prefix("<!--")
                .and_then(|rest| rest.strip_suffix("-->"))
                .map(str::trim);
        }
    }
    blocks
}

fn fate(said: &str) -> Fate {
    if said == "run" {
        return Fate::Run;
    }
    if let Some(reason) = said.strip_prefix("not run: ") {
        return Fate::NotRun { reason: reason.to_owned() };
    }
    let named = said.strip_prefix("run by: ").and_then(|test| test.split_once(' '));
    named.map_or(Fate::Unsaid, |(target, name)| Fate::RunBy {
        target: target.to_owned(),
        name: name.to_owned(),
    })
}

/// Commands behind a prompt, `$` of a user or `#` of root; the other lines are output.
fn console(body: &[&str]) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    let mut goes_on = false;
    for line in body {
        let prompted = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# "));
        match (prompted, commands.last_mut()) {
            (None, Some(last)) if goes_on => last.text.push_str(&format!("\n{line}")),
            (None, Some(last)) => {
                last.shown.push((*line).to_owned());
                continue;
            }
            (Some(text), _) => commands.push(Command { text: text.to_owned(), shown: Vec::new() }),
            (None, None) => commands.push(Command { text: (*line).to_owned(), shown: Vec::new() }),
        }
        goes_on = line.ends_with('\\');
    }
    commands
}

fn script(body: &[&str]) -> Vec<Command> {
    let lines = body.iter().filter(|line| !line.trim().is_empty());
    lines.map(|line| Command { text: (*line).to_owned(), shown: Vec::new() }).collect()
}

impl Command {
    /// Whether this is the output that is shown. `…` within a line stands for anything in it, and as
    /// a line of its own for any lines.
    #[must_use]
    pub fn shows(&self, output: &str) -> bool {
        let lines: Vec<&str> = output.lines().collect();
        let shown: Vec<&str> = self.shown.iter().map(String::as_str).collect();
        shown.is_empty() || matches(&shown, &lines)
    }
}

fn matches(shown: &[&str], lines: &[&str]) -> bool {
    match (shown, lines) {
        ([], []) => true,
        (["…", rest @ ..], _) => (0..=lines.len())
            .any(|skipped| lines.get(skipped..).is_some_and(|lines| matches(rest, lines))),
        ([first, rest @ ..], [line, lines @ ..]) => {
            line_matches(first, line) && matches(rest, lines)
        }
        _ => false,
    }
}

fn line_matches(shown: &str, line: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    for part in between {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(text: &str) -> Vec<Block> {
        of(&Page { path: "x.md".into(), text: text.to_owned() })
    }

    #[test]
    fn commands_are_told_from_their_output() {
        let text = "<!-- run -->\n```console\n$ one \\\n    more\nsaid\n# two\n```\n";
        let block = blocks(text).remove(0);
        assert_eq!((block.line, block.fate), (2, Fate::Run));
        let expected = [("one \\\n    more", vec!["said".to_owned()]), ("two", vec![])];
        let expected = expected.map(|(text, shown)| Command { text: text.into(), shown });
        assert_eq!(block.commands, expected);
    }

    #[test]
    fn a_block_without_a_word_is_found() {
        let text = "<!-- run -->\n\n```console\n$ a\n```\n```sh\nb\n```\n```rust\nc\n```\n";
        let fates: Vec<Fate> = blocks(text).into_iter().map(|block| block.fate).collect();
        assert_eq!(fates, [Fate::Unsaid, Fate::Unsaid]);
        let text =
            "```console not run: no such thing\n$ a\n```\n<!-- run by: e2e a::b -->\n```sh\nb\n```";
        let fates: Vec<Fate> = blocks(text).into_iter().map(|block| block.fate).collect();
        let by = Fate::RunBy { target: "e2e".into(), name: "a::b".into() };
        assert_eq!(fates, [Fate::NotRun { reason: "no such thing".into() }, by]);
    }

    #[test]
    fn what_is_shown_is_compared() {
        let command = |shown: &[&str]| Command {
            text: String::new(),
            shown: shown.iter().map(|line| (*line).to_owned()).collect(),
        };
        for (shown, output, same) in [
            (&["a"][..], "a\n", true),
            (&["a"], "b\n", false),
            (&["a"], "a\nb\n", false),
            (&["a", "…"], "a\nb\nc\n", true),
            (&["…", "c"], "a\nb\nc\n", true),
            (&["…", "d"], "a\nb\nc\n", false),
            (&["up … in … s"], "up 3 in 4 s\n", true),
            (&["up … in … s"], "up 3 in 4 m\n", false),
            (&[], "anything\n", true),
        ] {
            assert_eq!(command(shown).shows(output), same, "{shown:?} {output:?}");
        }
    }
}
