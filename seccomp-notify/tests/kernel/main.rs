//! Against the running kernel, without privilege: in a user namespace whose only user is not root.
//!
//! Targets are fresh threads, each with a filter of its own, or this program run again as a fixture
//! (see [`fixture`]) where a target must be killed or needs limits of its own.

#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::panic, reason = "tests")]
#![expect(clippy::indexing_slicing, reason = "tests")]
#![expect(clippy::cast_possible_truncation, reason = "call numbers and opcodes fit")]
#![expect(clippy::exit, reason = "a fixture's result is its exit status")]

mod addfd;
mod filter;
mod fixture;
mod foreign;
mod handoff;
mod notify;
#[expect(unsafe_code, reason = "calls and handlers for which there are no safe wrappers")]
mod sys;
mod target;

use std::process::ExitCode;
use std::{env, fs};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sched::{CloneFlags, unshare};
use seccomp_notify::Features;

/// What a trial needs from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Notify,
    AddFd,
    AddFdSend,
    KillableWait,
    SetFlags,
    Ia32,
}

impl Need {
    const fn name(self) -> &'static str {
        match self {
            Self::Notify => "linux-5.0-user-notification",
            Self::AddFd => "linux-5.9-addfd",
            Self::AddFdSend => "linux-5.14-addfd-send",
            Self::KillableWait => "linux-5.19-wait-killable-recv",
            Self::SetFlags => "linux-6.6-set-flags",
            Self::Ia32 => "ia32-emulation",
        }
    }
}

fn main() -> ExitCode {
    if let Some(name) = fixture::requested() {
        fixture::run(&name);
    }
    let namespace = enter_user_namespace();
    let mut args = Arguments::from_args();
    // Trials count this process's descriptors, and add some to them.
    args.test_threads = Some(1);

    // The first requirement that is not met, if any.
    let missing = |need: Need| match (&namespace, met(need)) {
        (Err(_), _) => Some("unprivileged-user-namespace"),
        (Ok(()), false) => Some(need.name()),
        (Ok(()), true) => None,
    };
    let required =
        env::var("BYPASS_REQUIRE").is_ok_and(|all| all.split(',').any(|r| r == "kernel"));

    let mut trials = Vec::new();
    for (name, need, body) in notify::TRIALS
        .iter()
        .chain(addfd::TRIALS)
        .chain(filter::TRIALS)
        .chain(foreign::TRIALS)
        .chain(handoff::TRIALS)
        .copied()
    {
        let trial = match (missing(need), required) {
            (None, _) => Trial::test(name, move || {
                body();
                Ok(())
            })
            .with_kind(need.name()),
            (Some(what), true) => {
                Trial::test(name, move || Err(Failed::from(format!("requirement not met: {what}"))))
                    .with_kind(what)
            }
            (Some(what), false) => {
                Trial::test(name, || Ok(())).with_ignored_flag(true).with_kind(what)
            }
        };
        trials.push(trial);
    }
    libtest_mimic::run(&args, trials).exit_code()
}

fn met(need: Need) -> bool {
    let probed = Features::probe();
    let listener = || target::spare_listener().features();
    match need {
        Need::Notify => probed.user_notif,
        Need::AddFd => probed.user_notif && listener().add_fd == Some(true),
        Need::AddFdSend => probed.user_notif && listener().add_fd_and_reply == Some(true),
        Need::KillableWait => probed.wait_killable_recv,
        Need::SetFlags => probed.user_notif && listener().sync_wake_up == Some(true),
        Need::Ia32 => probed.user_notif && fixture::ia32_works(),
    }
}

type Case = (&'static str, Need, fn());

/// Must come before the first thread: the kernel gives user namespaces to single threads only.
fn enter_user_namespace() -> Result<(), Box<dyn std::error::Error>> {
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("1000 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("1000 {gid} 1"))?;
    Ok(())
}
