//! The configuration of a bundle, of which `linux.seccomp` alone is written: every other value stays as it
//! is, byte by byte.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::value::{RawValue, to_raw_value};

use crate::annotations::{Annotated, AnnotationError};
use crate::filter::Traps;
use crate::metadata::Metadata;
use crate::profile::{Arch, MergeError, Profile, merge};

/// Nothing was added to a bundle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("{} cannot be read; is --bundle the directory of a bundle?", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no configuration of a bundle; `runc spec` writes one", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("{}: linux.seccomp", path.display())]
    Merge { path: PathBuf, source: MergeError },
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    #[error(
        "{} cannot be written; the profile is added to it, so it must belong to this user", path.display()
    )]
    Write { path: PathBuf, source: io::Error },
}

type Object = BTreeMap<String, Box<RawValue>>;

#[derive(Debug)]
pub(super) struct Bundle {
    path: PathBuf,
    config: Object,
    linux: Object,
}

impl Bundle {
    /// `None` if there is none, or it is for another system than Linux: which the runtime will tell.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, BundleError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(BundleError::Read { path: path.to_owned(), source }),
        };
        let parse = |source| BundleError::Parse { path: path.to_owned(), source };
        let config: Object = serde_json::from_str(&text).map_err(parse)?;
        let Some(linux) = config.get("linux") else { return Ok(None) };
        let linux = serde_json::from_str(linux.get()).map_err(parse)?;
        Ok(Some(Self { path: path.to_owned(), config, linux }))
    }

    /// What its annotations say.
    pub(super) fn annotated(&self) -> Result<Annotated, BundleError> {
        let annotations: BTreeMap<String, String> = match self.config.get("annotations") {
            Some(raw) => serde_json::from_str::<Option<_>>(raw.get())
                .map_err(|source| self.parse(source))?
                .unwrap_or_default(),
            None => BTreeMap::new(),
        };
        Ok(Annotated::parse(&annotations)?)
    }

    /// Adds the traps to its profile and names the socket.
    pub(super) fn add(mut self, traps: Traps, socket: &Path) -> Result<(), BundleError> {
        let socket = socket.to_string_lossy();
        let base: Option<Profile> = match self.linux.get("seccomp") {
            Some(raw) => serde_json::from_str(raw.get()).map_err(|source| self.parse(source))?,
            None => None,
        };
        let base = base.unwrap_or_else(|| Profile::allow_all(vec![Arch::NATIVE]));
        // By an engine that passes listenerPath on, or by another of us before.
        if is_merged(&base, traps, &socket) {
            return Ok(());
        }
        let merged = merge(&base, traps, &socket)
            .map_err(|source| BundleError::Merge { path: self.path.clone(), source })?;
        let raw = to_raw_value(&merged).map_err(|source| self.parse(source))?;
        self.linux.insert("seccomp".to_owned(), raw);
        let linux = to_raw_value(&self.linux).map_err(|source| self.parse(source))?;
        self.config.insert("linux".to_owned(), linux);
        let text = serde_json::to_vec(&self.config).map_err(|source| self.parse(source))?;
        self.replace(&text).map_err(|source| BundleError::Write { path: self.path.clone(), source })
    }

    /// Whoever reads it meanwhile finds the one or the other.
    fn replace(&self, text: &[u8]) -> io::Result<()> {
        let mode = fs::metadata(&self.path)?.permissions().mode();
        let mut new = self.path.clone().into_os_string();
        new.push(".bypass");
        let new = PathBuf::from(new);
        let written = fs::write(&new, text)
            .and_then(|()| fs::set_permissions(&new, Permissions::from_mode(mode)))
            .and_then(|()| fs::rename(&new, &self.path));
        if written.is_err() {
            fs::remove_file(&new).ok();
        }
        written
    }

    fn parse(&self, source: serde_json::Error) -> BundleError {
        BundleError::Parse { path: self.path.clone(), source }
    }
}

/// Whether the profile is what [`merge`] makes, for the agent at this socket.
fn is_merged(profile: &Profile, traps: Traps, socket: &str) -> bool {
    let of = profile.listener_metadata.as_deref().and_then(Metadata::parse);
    profile.listener_path.as_deref() == Some(socket)
        && of.is_some_and(|Metadata(of)| of.cover(traps))
}

#[cfg(test)]
// All of them with files.
#[cfg(not(miri))]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::annotations::Mode;

    fn bundle(config: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, config).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        (dir, path)
    }

    fn added(config: &str) -> (Value, String) {
        let (_dir, path) = bundle(config);
        Bundle::read(&path).unwrap().unwrap().add(Traps::default(), Path::new("/s")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left");
        (serde_json::from_str(&text).unwrap(), text)
    }

    const CONFIG: &str = r#"{"ociVersion":"1.0.2","process":{"rlimits":[{"hard":18446744073709551615}],
        "oom":1.50,  "args":["\u0041"]},"linux":{"resources":{"devices":[ ]},"seccomp":
        {"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"syscalls":[
        {"names":["read","connect"],"action":"SCMP_ACT_ALLOW"}]}}}"#;

    #[test]
    fn nothing_but_the_profile_is_changed() {
        let (value, text) = added(CONFIG);
        let mut wanted: Value = serde_json::from_str(CONFIG).unwrap();
        wanted["linux"]["seccomp"] = value["linux"]["seccomp"].clone();
        assert_eq!(value, wanted);
        for verbatim in
            ["18446744073709551615", "1.50,  \"args\":[\"\\u0041\"]", "{\"devices\":[ ]}"]
        {
            assert!(text.contains(verbatim), "{text}");
        }
        let seccomp = &value["linux"]["seccomp"];
        assert_eq!(seccomp["listenerPath"], "/s");
        assert_eq!(seccomp["defaultAction"], "SCMP_ACT_ERRNO");
        let of = |name: &str| {
            let entries = seccomp["syscalls"].as_array().unwrap().iter();
            entries
                .filter(|e| e["names"] == json!([name]))
                .map(|e| e["action"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(of("connect"), ["SCMP_ACT_NOTIFY"]);
        assert_eq!(of("read"), ["SCMP_ACT_ALLOW"]);
        assert!(of("bind").is_empty(), "it is refused by the profile");
    }

    #[test]
    fn a_second_time_changes_nothing() {
        let (_, once) = added(CONFIG);
        let (_, twice) = added(&once);
        assert_eq!(once, twice);
    }

    #[test]
    fn an_unconfined_container_is_trapped_as_well() {
        for config in [r#"{"linux":{}}"#, r#"{"linux":{"seccomp":null}}"#] {
            let (value, _) = added(config);
            assert_eq!(value["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ALLOW");
        }
    }

    #[test]
    fn what_cannot_be_added_to_is_left_as_it_is() {
        let other =
            r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/o"}}}"#;
        let wrong = r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_YES"}}}"#;
        for (config, part) in [(other, "/o"), (wrong, "SCMP_ACT_YES")] {
            let (_dir, path) = bundle(config);
            let bundle = Bundle::read(&path).unwrap().unwrap();
            let error = bundle.add(Traps::default(), Path::new("/s")).unwrap_err();
            assert!(crate::exit::chain(&error).contains(part), "{error:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), config);
        }
        assert!(Bundle::read(Path::new("/nowhere/config.json")).unwrap().is_none());
    }

    #[test]
    fn annotations_are_those_of_the_configuration() {
        let annotated = |annotations: &str| {
            let (_dir, path) = bundle(&format!(r#"{{"linux":{{}},"annotations":{annotations}}}"#));
            Bundle::read(&path).unwrap().unwrap().annotated()
        };
        assert_eq!(annotated("null").unwrap().mode, Mode::On);
        assert_eq!(annotated(r#"{"a":"b","bypass.mode":"off"}"#).unwrap().mode, Mode::Off);
        assert_eq!(annotated(r#"{"bypass.mode":"optional"}"#).unwrap().mode, Mode::Optional);
        let wrong = annotated(r#"{"bypass.mode":"no"}"#);
        assert!(matches!(wrong, Err(BundleError::Annotation(AnnotationError::Mode(_)))));
    }
}
