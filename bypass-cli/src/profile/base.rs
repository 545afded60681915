//! Where a base profile comes from.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::Value;

use super::model::{Action, Arch, Entry, Filter, Profile};

/// What our rules are added to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// A profile without rules.
    Allow,
    /// Podman's default.
    Podman,
    /// Docker's default.
    Docker,
    File(PathBuf),
}

impl FromStr for Base {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "allow" => Self::Allow,
            "podman" => Self::Podman,
            "docker" => Self::Docker,
            path => Self::File(path.into()),
        })
    }
}

/// There is no base profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaseError {
    #[error(
        "--base {}: cannot be read; name a file that you can read, `podman`, `docker` or `allow`", path.display()
    )]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "--base {}: is no seccomp profile; name one in JSON, as Docker and Podman take it", path.display()
    )]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error(
        "--base podman: there is none of {}; it is in Debian's golang-github-containers-common and \
         Fedora's containers-common, or name the file with --base FILE",
        list(PODMAN)
    )]
    NoPodman,
    #[error(
        "--base docker: dockerd has its default profile compiled in, where it cannot be read, and no \
         daemon.json names another; take profiles/seccomp/default.json of the sources of your \
         dockerd's version (https://github.com/moby/moby) and name that with --base FILE, or \
         register `bypass-cli oci-runtime`, which adds to the profile that dockerd hands to runtimes"
    )]
    NoDocker,
    #[error(
        "{}: \"seccomp-profile\" is {what}, which is weaker than dockerd's own; name a profile \
         with --base FILE", path.display()
    )]
    DockerWeaker { path: PathBuf, what: String },
}

/// Where Podman looks for its default, the administrator's first; see containers.conf(5).
const PODMAN: &[&str] = &["/etc/containers/seccomp.json", "/usr/share/containers/seccomp.json"];

fn list(paths: &[&str]) -> String {
    paths.join(" and ")
}

impl Base {
    /// The profile, and the file that it comes from.
    pub(crate) fn load(&self) -> Result<(Profile, Option<PathBuf>), BaseError> {
        let path = match self {
            Self::Allow => return Ok((Profile::allow_all(vec![Arch::NATIVE]), None)),
            Self::File(path) => path.clone(),
            Self::Podman => PODMAN
                .iter()
                .map(PathBuf::from)
                .find(|path| path.exists())
                .ok_or(BaseError::NoPodman)?,
            Self::Docker => docker_file(&docker_configurations())?,
        };
        let text = read(&path)?;
        match serde_json::from_str(&text) {
            Ok(profile) => Ok((profile, Some(path))),
            Err(source) => Err(BaseError::Parse { path, source }),
        }
    }
}

fn read(path: &Path) -> Result<String, BaseError> {
    std::fs::read_to_string(path)
        .map_err(|source| BaseError::Read { path: path.to_owned(), source })
}

/// The rootless daemon's first, if this user has one.
fn docker_configurations() -> Vec<PathBuf> {
    let home = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".config")));
    let own = home.map(|dir| dir.join("docker/daemon.json"));
    own.into_iter().chain([PathBuf::from("/etc/docker/daemon.json")]).collect()
}

/// The profile that dockerd was told to take in place of its own.
fn docker_file(configurations: &[PathBuf]) -> Result<PathBuf, BaseError> {
    for path in configurations.iter().filter(|path| path.exists()) {
        let text = read(path)?;
        let value: Value = serde_json::from_str(&text)
            .map_err(|source| BaseError::Parse { path: path.clone(), source })?;
        match value.get("seccomp-profile").and_then(Value::as_str) {
            None | Some("" | "builtin" | "default") => {}
            Some("unconfined") => {
                let (path, what) = (path.clone(), "unconfined".to_owned());
                return Err(BaseError::DockerWeaker { path, what });
            }
            Some(file) => return Ok(file.into()),
        }
    }
    Err(BaseError::NoDocker)
}

/// What of a profile in Docker's format holds for a container with these capabilities, in the form
/// that runtimes read.
pub(crate) fn resolve(profile: &Profile, capabilities: &[String], kernel: (u32, u32)) -> Profile {
    let facts = |filter: &Filter| -> Vec<bool> {
        let caps = filter.caps().iter().map(|cap| capabilities.contains(cap));
        let arches = filter.arches();
        let arch =
            (!arches.is_empty()).then(|| arches.iter().any(|arch| arch == Arch::NATIVE_IN_FILTERS));
        let kernel =
            filter.min_kernel.as_deref().map(|min| version(min).is_some_and(|min| kernel >= min));
        caps.chain(arch).chain(kernel).collect()
    };
    let resolved = |entry: &Entry| {
        let included = !facts(&entry.includes).contains(&false);
        let excluded = facts(&entry.excludes).contains(&true);
        (included && !excluded).then(|| Entry {
            names: entry.all_names().map(str::to_owned).collect(),
            name: None,
            errno: None,
            errno_ret: entry.errno_ret.or_else(|| errno(entry.action)),
            comment: None,
            includes: Filter::default(),
            excludes: Filter::default(),
            ..entry.clone()
        })
    };
    Profile {
        architectures: Some(profile.arches()),
        arch_map: None,
        default_errno: None,
        syscalls: Some(profile.entries().iter().filter_map(resolved).collect()),
        ..profile.clone()
    }
}

/// What engines fill in.
fn errno(action: Action) -> Option<u32> {
    matches!(action, Action::Errno).then_some(libc::EPERM.unsigned_abs())
}

/// Major and minor of `5.14` or `6.1.0-13-amd64`.
pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_own_profile_is_not_guessed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        let ask = |text: &str| {
            std::fs::write(&path, text).unwrap();
            docker_file(&[dir.path().join("absent.json"), path.clone()])
        };
        let error = ask("{}").unwrap_err().to_string();
        assert!(error.contains("moby") && error.contains("oci-runtime"), "{error}");
        assert!(matches!(ask(r#"{"seccomp-profile":"builtin"}"#), Err(BaseError::NoDocker)));
        let weaker = ask(r#"{"seccomp-profile":"unconfined"}"#);
        assert!(matches!(weaker, Err(BaseError::DockerWeaker { .. })), "{weaker:?}");
        assert_eq!(
            ask(r#"{"seccomp-profile":"/etc/p.json"}"#).unwrap(),
            PathBuf::from("/etc/p.json")
        );
    }

    #[test]
    fn entries_depend_on_capabilities_architecture_and_kernel() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[
            {"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},
            {"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]}],"syscalls":[
            {"name":"old","action":"SCMP_ACT_ALLOW"},
            {"names":["a"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["b"],"action":"SCMP_ACT_ERRNO","excludes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["c"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390x"]}},
            {"names":["d"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
            {"names":["e"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"7.1"}}]}"#;
        let profile: Profile = serde_json::from_str(text).unwrap();
        let names = |caps: &[&str]| {
            let caps: Vec<String> = caps.iter().map(|cap| (*cap).to_owned()).collect();
            let profile = resolve(&profile, &caps, (6, 18));
            assert_eq!(profile.arches().len(), 2);
            profile.entries().iter().map(|e| e.names.concat()).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["old", "b", "d"]);
        assert_eq!(names(&["CAP_SYS_ADMIN"]), ["old", "a", "d"]);
        assert_eq!(version("6.1.0-13-amd64"), Some((6, 1)));
    }
}
