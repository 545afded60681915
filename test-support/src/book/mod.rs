//! What the documentation says, read as data: its pages, the commands that it shows, its links.
//!
//! Each block of commands says what becomes of it, by a comment in the line before it, which readers
//! do not see:
//!
//! | comment | meaning |
//! |---|---|
//! | `<!-- run -->` | executed as written by the end-to-end test `docs::commands_do_what_is_shown` |
//! | `<!-- run by: TARGET NAME -->` | executed by another test; TARGET is `unit`, `e2e`, `stacks` or `programs` |
//! | `<!-- not run: REASON -->` | tried by hand, and why |
//!
//! `console not run: REASON` as the kind of a block says the last as well. A block without any of
//! these is a failure.

pub mod blocks;
pub mod links;
pub mod run;

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Context, Result};

/// A Markdown file.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its path from the top of the repository.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// The top of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    let this = Path::new(env!("CARGO_MANIFEST_DIR"));
    this.parent().unwrap_or(this).to_owned()
}

/// Every Markdown file of the repository, in order of their paths.
///
/// # Errors
/// When a directory or a file cannot be read.
pub fn pages() -> Result<Vec<Page>> {
    let top = repository();
    let mut pages = Vec::new();
    collect(&top, &top, &mut pages)?;
    pages.sort_by(|one: &Page, other| one.path.cmp(&other.path));
    Ok(pages)
}

fn collect(top: &Path, directory: &Path, pages: &mut Vec<Page>) -> Result {
    for entry in fs::read_dir(directory).context(directory.display())? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        // What is built, fetched or hidden is not ours.
        if name.starts_with('.') || ["target", "corpus", "artifacts"].contains(&&*name) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            collect(top, &path, pages)?;
        } else if name.ends_with(".md") {
            let text = fs::read_to_string(&path).context(path.display())?;
            pages.push(Page { path: path.strip_prefix(top)?.to_owned(), text });
        }
    }
    Ok(())
}
