//! Limits of this process.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit on open descriptors to what the user may have: a call that waits
/// holds two of ours, and every container a few more.
pub(crate) fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(errno) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%errno, "RLIMIT_NOFILE could not be raised");
    }
}
