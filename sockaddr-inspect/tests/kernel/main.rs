//! The crate against the running kernel, which is the authority on every rule.
//!
//! Runs in network and user namespaces of its own, so that it needs no privilege
//! and its sockets meet nobody else's.

#![expect(clippy::unwrap_used, reason = "a failed step fails its trial")]
#![expect(clippy::indexing_slicing, reason = "the indices are those of the tests' own tables")]

mod facts;
mod memory;
mod message;
mod store;
mod strictness;
#[expect(unsafe_code, reason = "passes malformed addresses, which no safe wrapper does")]
mod sys;

use std::fs;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sched::{CloneFlags, unshare};

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let missing = enter_sandbox().err();
    let required = std::env::var("BYPASS_REQUIRE")
        .is_ok_and(|kinds| kinds.split(',').any(|kind| kind == "kernel"));

    let trials = [
        memory::trials(),
        strictness::trials(),
        store::trials(),
        message::trials(),
        facts::trials(),
    ]
    .concat();
    let trials = trials.into_iter().map(|(name, check)| match &missing {
        None => Trial::test(name, move || {
            check();
            Ok(())
        }),
        Some(why) if required => {
            let why = why.clone();
            Trial::test(name, move || Err(Failed::from(why)))
        }
        Some(why) => Trial::test(name, || Ok(())).with_kind(why.as_str()).with_ignored_flag(true),
    });
    libtest_mimic::run(&args, trials.collect()).exit_code()
}

/// A trial's name and what it checks; it fails by panicking.
type Check = (&'static str, fn());

/// Namespaces of our own, with `lo` up. Must run before any thread exists: a process
/// with threads cannot change its user namespace.
fn enter_sandbox() -> Result<(), String> {
    let (uid, gid) = sys::ids();
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .map_err(|errno| format!("user+net namespace: {errno}"))?;
    for (file, line) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), line)
            .map_err(|error| format!("{file}: {error}"))?;
    }
    sys::raise_loopback().map_err(|error| format!("lo: {error}"))
}
