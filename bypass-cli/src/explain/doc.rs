//! Every example of the reference is what it says.

use bypass_core::PolicyFile;
use clap::Parser as _;

use super::tests::answers;
use crate::args::{Cli, Command};
use crate::policy::Policies;

const REFERENCE: &str = include_str!("../../../docs/policy.md");
const NAME: &str = "policy.toml";

/// A fenced block: what stands behind the fence, and the lines.
pub(crate) struct Block {
    pub(crate) kind: &'static str,
    pub(crate) text: String,
}

pub(crate) fn blocks(page: &'static str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(kind) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block { kind, text: body.join("\n") + "\n" });
        }
    }
    blocks
}

/// The commands of a console block, each with what it prints.
pub(crate) fn commands(text: &str) -> Vec<(Vec<String>, Vec<String>)> {
    let mut commands: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    for line in text.replace("\\\n", " ").lines() {
        match line.strip_prefix("$ ") {
            Some(command) => {
                let words = command.split_whitespace().map(str::to_owned).collect();
                commands.push((words, Vec::new()));
            }
            None => commands.last_mut().expect("a command").1.push(line.to_owned()),
        }
    }
    commands
}

#[test]
fn every_example_of_the_reference_is_what_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(NAME);
    let (mut files, mut explained) = (0, 0);
    let mut refused = None;
    for Block { kind, text } in blocks(REFERENCE) {
        match kind {
            "" => {}
            "toml" => {
                files += 1;
                PolicyFile::parse(NAME, &text).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            "toml refused" => refused = Some(PolicyFile::parse(NAME, &text).unwrap_err()),
            "text" => {
                let error = refused.take().expect("a file that is refused");
                assert_eq!(format!("{error}\n"), text);
            }
            "console" => {
                for (words, printed) in commands(&text) {
                    let words: Vec<String> = words
                        .into_iter()
                        .map(|word| if word == NAME { path.to_str().unwrap().into() } else { word })
                        .collect();
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    let policy = match Cli::try_parse_from(&words).unwrap().command {
                        Command::Explain(args) => {
                            explained += printed.len();
                            let shown = path.to_str().unwrap();
                            let said: Vec<String> = answers(&words)
                                .into_iter()
                                .map(|answer| answer.replace(shown, NAME))
                                .collect();
                            assert_eq!(said, printed, "{words:?}");
                            args.policy
                        }
                        Command::Run(args) => args.policy,
                        Command::Serve(args) => args.policy,
                        Command::Daemon(args) => args.policy,
                        Command::Profile(args) => args.policy,
                        Command::OciRuntime(args) => args.policy,
                        Command::Doctor(_) | Command::Status(_) | Command::Top(_) => continue,
                    };
                    Policies::read(&policy).unwrap();
                }
            }
            kind => panic!("a block of kind {kind:?}"),
        }
    }
    assert!(files >= 2 && explained >= 20, "{files} files, {explained} answers");
}
