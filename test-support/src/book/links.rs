//! Links from page to page, and to headings of pages.
//!
//! Links of the Web are not followed: tests reach no network.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::Page;

/// What is wrong with the links of these pages, a line for each. `exists`: whether the repository has
/// a path that is no page.
#[must_use]
pub fn broken(pages: &[Page], exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let anchors: BTreeMap<&Path, Vec<String>> =
        pages.iter().map(|page| (page.path.as_path(), anchors(&page.text))).collect();
    let mut wrong = Vec::new();
    for page in pages {
        for (line, link) in targets(&page.text) {
            let mut complain = |what: &str| {
                wrong.push(format!("{}:{line}: {link}: {what}", page.path.display()));
            };
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path =
                if file.is_empty() { Some(page.path.clone()) } else { joined(&page.path, file) };
            let Some(path) = path else {
                complain("leads out of the repository");
                continue;
            };
            match anchors.get(path.as_path()) {
                Some(known) if !anchor.is_empty() && !known.iter().any(|one| one == anchor) => {
                    complain("there is no such heading");
                }
                None if !exists(&path) => complain("there is no such file"),
                _ => {}
            }
        }
    }
    wrong
}

/// Where a link of `page` leads; `None` if above the top.
fn joined(page: &Path, link: &str) -> Option<PathBuf> {
    let mut path = page.parent()?.to_owned();
    for part in Path::new(link).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            part => path.push(part),
        }
    }
    Some(path)
}

/// Lines that are no code, each with its number from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fence && !fenced).then_some((at + 1, line))
    })
}

/// Relative links, each with its line: `[…](target)`, `[name]: target`, and `src` of pictures.
pub fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (at, line) in prose(text) {
        let code_free: Vec<&str> = line.split('`').step_by(2).collect();
        let in_code = code_free.len() == 1;
        // A link may have code as its text, so that its target stands in a part of its own.
        for part in code_free {
            let inline = part.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            let sources = part.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next());
            let sets = part.split("srcset=\"").skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(inline.chain(sources).chain(sets).map(|target| (at, target)));
        }
        if in_code
            && line.starts_with('[')
            && let Some((_, target)) = line.split_once("]: ")
        {
            found.push((at, target.trim()));
        }
    }
    found.retain(|(_, target)| !target.contains("://") && !target.starts_with("mailto:"));
    found
}

/// Names of the headings of a page, as code hosts and mdBook make them.
#[must_use]
pub fn anchors(text: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (_, line) in prose(text) {
        let level = line.bytes().take_while(|byte| *byte == b'#').count();
        let heading = line.get(level..).and_then(|rest| rest.strip_prefix(' '));
        let Some(heading) = heading.filter(|_| (1..=6).contains(&level)) else { continue };
        let name = anchor(heading);
        let again = (1..).map(|n| format!("{name}-{n}"));
        let mut candidates = std::iter::once(name.clone()).chain(again);
        names.extend(candidates.find(|one| !names.contains(one)));
    }
    names
}

fn anchor(heading: &str) -> String {
    // Of a link only its text counts.
    let mut text = String::new();
    let mut rest = heading;
    while let Some((before, link)) = rest.split_once("](") {
        text.push_str(before);
        rest = link.split_once(')').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    text.trim()
        .chars()
        .filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            _ if letter.is_alphanumeric() => Some(letter.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(path: &str, text: &str) -> Page {
        Page { path: path.into(), text: text.to_owned() }
    }

    #[test]
    fn headings_have_the_names_that_hosts_give_them() {
        let text =
            "# As if it were the host's\n## `oci-runtime`\n```\n# no\n```\n## Limits\n### Limits\n";
        let expected = ["as-if-it-were-the-hosts", "oci-runtime", "limits", "limits-1"];
        assert_eq!(anchors(text), expected);
    }

    #[test]
    fn what_leads_nowhere_is_found() {
        let pages = [
            page("README.md", "[a](docs/a.md#one) [`b`](docs/b.md) [c](https://example.org)\n"),
            page("docs/a.md", "# One\n[up](../README.md) [out](../../x) [no](#two) `[x](y)`\n"),
        ];
        let wrong = broken(&pages, |_| false);
        let expected = [
            "README.md:1: docs/b.md: there is no such file",
            "docs/a.md:2: ../../x: leads out of the repository",
            "docs/a.md:2: #two: there is no such heading",
        ];
        assert_eq!(wrong, expected);
        assert_eq!(broken(&pages, |path| path == Path::new("docs/b.md")), expected[1..]);
    }
}
