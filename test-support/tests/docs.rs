//! The documentation holds together: links lead somewhere, every page is in the book, and every command
//! says who executes it. What executes them is the group `docs` of the end-to-end tests.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use test_support::book::blocks::{self, Fate};
use test_support::book::{self, links};

#[test]
fn links_lead_somewhere() {
    let top = book::repository();
    let pages = book::pages().unwrap();
    assert!(pages.len() > 20, "{} pages", pages.len());
    let count: usize = pages.iter().map(|page| links::targets(&page.text).len()).sum();
    assert!(count > 100, "{count} links");
    let wrong = links::broken(&pages, |path| top.join(path).exists());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_page_is_in_the_book() {
    let summary = fs::read_to_string(book::repository().join("docs/SUMMARY.md")).unwrap();
    let listed: BTreeSet<PathBuf> = links::targets(&summary)
        .into_iter()
        .map(|(_, path)| Path::new("docs").join(path))
        .collect();
    let pages = book::pages().unwrap();
    let missing: Vec<_> = pages
        .iter()
        .map(|page| &page.path)
        .filter(|path| path.starts_with("docs") && !path.ends_with("SUMMARY.md"))
        .filter(|path| !listed.contains(*path))
        .collect();
    assert!(missing.is_empty(), "not in docs/SUMMARY.md: {missing:?}");
}

#[test]
fn every_command_says_who_executes_it() {
    let tests = Tests::read().unwrap();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for page in book::pages().unwrap() {
        for block in blocks::of(&page) {
            count += 1;
            let place = format!("{}:{}", page.path.display(), block.line);
            match &block.fate {
                Fate::Run => {}
                Fate::RunBy { target, name } if tests.have(target, name) => {}
                Fate::RunBy { target, name } => {
                    wrong.push(format!("{place}: there is no test {name} of {target}"));
                }
                Fate::NotRun { reason } if reason.split(' ').count() >= 3 => {}
                Fate::NotRun { reason } => wrong.push(format!("{place}: is {reason:?} a reason?")),
                Fate::Unsaid => wrong.push(format!(
                    "{place}: nobody executes this; see test-support/src/book/mod.rs for what to write \
                     in the line before it"
                )),
            }
            if block.commands.is_empty() {
                wrong.push(format!("{place}: there is no command in it"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(count > 20, "{count} blocks");
}

/// Sources of the tests that a block may name.
struct Tests {
    scenarios: Vec<(&'static str, String)>,
    sources: String,
}

impl Tests {
    fn read() -> io::Result<Self> {
        let top = book::repository();
        let mut scenarios = Vec::new();
        for target in ["e2e", "stacks", "programs"] {
            scenarios.push((target, text(&top.join("test-support/tests").join(target))?));
        }
        let crates = ["bypass-cli/src", "bypass-core/src", "test-support/src"];
        let mut sources = String::new();
        for path in crates {
            sources.push_str(&text(&top.join(path))?);
        }
        Ok(Self { scenarios, sources })
    }

    fn have(&self, target: &str, name: &str) -> bool {
        if target == "unit" {
            return self.sources.contains(&format!("fn {name}()"));
        }
        let source = self.scenarios.iter().find(|(known, _)| *known == target);
        let (Some((_, source)), Some((group, name))) = (source, name.split_once("::")) else {
            return false;
        };
        source.contains(&format!("\"{group}\"")) && source.contains(&format!("name: \"{name}\""))
    }
}

/// All Rust files below a directory.
fn text(directory: &Path) -> io::Result<String> {
    let mut all = String::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            all.push_str(&text(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(all)
}
