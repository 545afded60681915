//! What a scenario needs from the machine, and whether it is there.

use std::env;
use std::path::{Path, PathBuf};

use nix::unistd::User;

use crate::world::USER;

/// Something that a machine may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// Running as root, to make namespaces that hold devices.
    Root,
    /// The ordinary user that `scripts/setup` adds.
    OrdinaryUser,
    /// A program in `PATH`.
    Program(&'static str),
    /// A program that is built beside ours where there are means for it: see scripts/go-clients and scripts/nerdctl.
    Built(&'static str),
    /// `/dev/net/tun` that an ordinary user may open.
    Tun,
}

impl Requirement {
    /// What is missing, in a few words; `None` when it is met.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        let (met, words) = match self {
            Self::Root => (nix::unistd::geteuid().is_root(), "root".to_owned()),
            Self::OrdinaryUser => {
                (matches!(User::from_name(USER), Ok(Some(_))), format!("user {USER}"))
            }
            Self::Program(name) => (find_program(name).is_some(), name.to_owned()),
            Self::Built(name) => (beside_this(name), name.to_owned()),
            Self::Tun => (writable_by_all(Path::new("/dev/net/tun")), "/dev/net/tun".to_owned()),
        };
        (!met).then_some(words)
    }
}

/// Whether the environment demands that `tier` is complete: `BYPASS_REQUIRE` is a
/// comma-separated list of tiers in which a skip is a failure.
#[must_use]
pub fn demanded(tier: &str) -> bool {
    env::var("BYPASS_REQUIRE").is_ok_and(|tiers| tiers.split(',').any(|each| each.trim() == tier))
}

/// Looks a program up in the `PATH` that commands of the world get.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    crate::world::PATH.split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}

/// Whether it is where `copy_programs` of [`crate::World`] finds it.
fn beside_this(name: &str) -> bool {
    let this = env::current_exe().unwrap_or_default();
    this.ancestors().skip(1).any(|dir| dir.join(name).is_file())
}

fn writable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o006 == 0o006)
}
