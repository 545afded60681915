//! Runtimes and engines that are installed, and whether a supervisor serves their containers.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{Finding, probe};
use crate::oci;
use crate::serve::socket_path;

pub(super) fn findings() -> Vec<Finding> {
    let mut findings: Vec<Finding> = KNOWN.iter().filter_map(Known::finding).collect();
    if findings.is_empty() {
        let remedy =
            "install runc or crun to have containers bypassed; `bypass-cli run` needs none";
        findings.push(Finding::warning("runtimes", "none in PATH", remedy));
    }
    findings.push(supervisor());
    findings
}

/// A program that makes containers.
struct Known {
    name: &'static str,
    /// The first version that passes `listenerPath` on, or what to do instead.
    listener: Result<(u32, u32), &'static str>,
    /// It is tried: an engine would take an image, and a store to keep it in.
    tried: bool,
}

const KNOWN: &[Known] = &[
    Known { name: "runc", listener: Ok((1, 1)), tried: true },
    Known { name: "crun", listener: Ok((1, 0)), tried: true },
    Known { name: "podman", listener: Ok((4, 0)), tried: false },
    Known {
        name: "docker",
        listener: Err(
            "register `bypass-cli oci-runtime` as a runtime, since 20.10 drops listenerPath; \
                       see docs/runtimes.md",
        ),
        tried: false,
    },
];

impl Known {
    /// `None` where it is not installed.
    fn finding(&self) -> Option<Finding> {
        let program = find(self.name)?;
        let asked = Command::new(self.name).arg("--version").stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&asked.stdout);
        let line = text.lines().next().unwrap_or_default().to_owned();
        let version = version(&line);
        let tried = self.tried.then(|| probe::hands_over(&program));
        let why = match tried {
            Some(Ok(())) => {
                let found = format!("{line}: hands its listener over, which was tried");
                return Some(Finding::ok(self.name, found));
            }
            Some(Err(said)) => format!(" (it could not be tried: {said})"),
            None => String::new(),
        };
        Some(match (self.listener, version) {
            (Ok(first), Some(version)) if version >= first => Finding::ok(
                self.name,
                format!("{line}: passes listenerPath on, by its version{why}"),
            ),
            (Ok((major, minor)), _) => Finding::warning(
                self.name,
                format!("{line}: may not pass listenerPath on, by its version{why}"),
                format!("use {major}.{minor} or later"),
            ),
            (Err(remedy), _) => Finding::warning(self.name, line, remedy),
        })
    }
}

fn version(line: &str) -> Option<(u32, u32)> {
    let word =
        line.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut numbers = word.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// A program in PATH.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    oci::in_path(name.as_ref())
}

fn supervisor() -> Finding {
    let about = "supervisor";
    let path = match socket_path(None) {
        Ok(path) => path,
        Err(error) => {
            return Finding::warning(about, error.to_string(), "set it, as a login does");
        }
    };
    match oci::listens(&path) {
        Ok(()) => Finding::ok(about, format!("listens on {}", path.display())),
        Err(errno) => Finding::warning(
            about,
            format!("none listens on {}: {errno}", path.display()),
            "start `bypass-cli serve` for containers of a runtime; `bypass-cli run` needs none",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (line, expected) in [
            ("runc version 1.1.5+ds1", Some((1, 1))),
            ("crun version 1.8.1", Some((1, 8))),
            ("podman version 4.3.1", Some((4, 3))),
            ("Docker version 20.10.24+dfsg1, build 297e128", Some((20, 10))),
            ("unknown", None),
        ] {
            assert_eq!(version(line), expected, "{line}");
        }
    }
}
