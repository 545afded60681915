//! What matters of a runtime's command line.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// `GLOBAL OPTIONS COMMAND OPTIONS ID`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// The configuration that the command makes a container of.
    pub(super) config: Option<PathBuf>,
    /// `--log`
    pub(super) log: Option<&'a OsString>,
}

/// Those of runc and crun with a value, before and after the command: it must not be taken for a
/// command or an option.
const WITH_VALUE: &[&str] = &[
    "--log",
    "--log-format",
    "--log-level",
    "--root",
    "--criu",
    "--rootless",
    "--cgroup-manager",
    "--console-socket",
    "--pid-file",
    "--preserve-fds",
    "--bundle",
    "-b",
    "--config",
    "-f",
];

impl<'a> Line<'a> {
    pub(super) fn parse(line: &'a [OsString]) -> Self {
        let mut words = line.iter();
        let (mut command, mut bundle, mut config, mut log) = (None, None, None, None);
        while let Some(word) = words.next() {
            let text = word.as_bytes();
            if !text.starts_with(b"-") {
                if command.is_none() {
                    command = Some(text);
                }
                continue;
            }
            let (option, joined) = match text.iter().position(|byte| *byte == b'=') {
                Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..)),
                None => (text, None),
            };
            let value = match joined {
                Some(value) => Some(OsString::from_vec(value.to_vec())),
                None if WITH_VALUE.iter().any(|one| one.as_bytes() == option) => {
                    let value = words.next();
                    if option == b"--log" {
                        log = value;
                    }
                    value.cloned()
                }
                None => None,
            };
            match option {
                b"--bundle" | b"-b" => bundle = value,
                b"--config" | b"-f" => config = value,
                _ => {}
            }
        }
        let makes = matches!(command, Some(b"create" | b"run"));
        let bundle = bundle.map_or_else(|| PathBuf::from("."), PathBuf::from);
        let config = config.unwrap_or_else(|| "config.json".into());
        Line { config: makes.then(|| bundle.join(Path::new(&config))), log }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(line: &str) -> Option<String> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        Line::parse(&words).config.map(|path| path.display().to_string())
    }

    #[test]
    fn the_bundle_is_found_in_every_way_of_saying_it() {
        for (line, found) in [
            ("create --bundle /b id", Some("/b/config.json")),
            ("create id", Some("./config.json")),
            ("run -b /b id", Some("/b/config.json")),
            ("run -b=/b id", Some("/b/config.json")),
            (
                "--root /r --log /l --log-format json create --bundle=/b --pid-file p id",
                Some("/b/config.json"),
            ),
            ("--root run create -b /b id", Some("/b/config.json")),
            ("--systemd-cgroup --rootless true run -d -b /b id", Some("/b/config.json")),
            ("run -f other.json -b /b id", Some("/b/other.json")),
            ("start id", None),
            ("--root create start id", None),
            ("exec --process p id create", None),
            ("delete --force run", None),
            ("--version", None),
            ("features", None),
        ] {
            assert_eq!(config(line).as_deref(), found, "{line}");
        }
    }

    #[test]
    fn the_log_is_where_engines_read_errors() {
        let words: Vec<OsString> =
            ["--log", "/l.json", "--debug", "create", "id"].map(OsString::from).into();
        assert_eq!(Line::parse(&words).log, Some(&OsString::from("/l.json")));
    }
}
