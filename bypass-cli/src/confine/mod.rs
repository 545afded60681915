//! The supervisor gives up what it does not need, before it hears the first word of a container.
//!
//! ```text
//! begin                 no thread, no child yet      not dumpable; in `run` a Landlock domain, which
//!                                                    the children inherit
//! give_up_capabilities  no thread yet                in every set that the kernel has
//! complete              every child is started, the  no_new_privs, and of system calls only those
//!                       first listener is at hand    of the list, for every thread
//! ```
//!
//! All of it is for the day on which a container has found a fault of ours. Not dumpable is for
//! every day: a container's root may be the user itself, as in `run`, and could take from us what
//! a debugger can.
//!
//! What cannot be given up is the right to look into other processes of the user, which is what a
//! supervisor does. `run` keeps it to its own children by the Landlock domain; the containers of
//! `serve` are no children of ours, and a process in a domain may trace none outside of it.

mod calls;
mod capabilities;

use bypass_core::weaken::{self, Layer};
use landlock::{
    ABI, Access as _, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetError,
    RulesetStatus, Scope,
};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;
use seccomp_notify::InstallError;
use serde::Serialize;

pub(crate) use self::calls::Needs;
use crate::args::Switch;
use crate::run::Landlock;

/// Why the supervisor could not confine itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
    #[error("prctl(PR_SET_DUMPABLE) failed (`--confine off` does without)")]
    Dumpable(#[source] Errno),
    #[error("capabilities cannot be given up (`--confine off` does without)")]
    Capabilities(#[source] Errno),
    #[error("the supervisor's Landlock domain cannot be entered (`--confine off` does without)")]
    Domain(#[from] RulesetError),
    #[error("the supervisor's seccomp filter cannot be installed (`--confine off` does without)")]
    Filter(#[from] InstallError),
}

/// Who is to be confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The container is a child of ours.
    Run,
    /// Containers are children of somebody else.
    Serve,
    /// It has to do with no container.
    Teller,
}

/// What the supervisor has given up, for reports and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Confined {
    /// Only system calls of a list.
    pub(crate) seccomp: bool,
    /// Tracing and signals reach no process but children.
    pub(crate) landlock: Landlock,
    /// No other process of the user can trace the supervisor or take its descriptors.
    pub(crate) not_dumpable: bool,
    /// It has no capability but perhaps that to bind low ports.
    pub(crate) no_capabilities: bool,
}

impl Confined {
    pub(crate) const NOTHING: Self = Self {
        seccomp: false,
        landlock: Landlock::NotSupported,
        not_dumpable: false,
        no_capabilities: false,
    };
}

/// A supervisor on its way.
#[derive(Debug)]
pub(crate) struct Confinement {
    switch: Switch,
    role: Role,
    confined: Confined,
}

impl Confinement {
    /// Gives up what neither the start nor a child needs. To be called before any thread or child
    /// is started: each thread has a domain of its own.
    pub(crate) fn begin(switch: Switch, role: Role) -> Result<Self, ConfineError> {
        if switch == Switch::Off {
            tracing::warn!("the supervisor is not confined, as `--confine off` wants it");
            return Ok(Self { switch, role, confined: Confined::NOTHING });
        }
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(ConfineError::Dumpable)?;
        let landlock = match role {
            Role::Run | Role::Teller => scope()?,
            Role::Serve => Landlock::NotSupported,
        };
        let confined = Confined { landlock, not_dumpable: true, ..Confined::NOTHING };
        Ok(Self { switch, role, confined })
    }

    /// Gives up all capabilities but, where it is needed, that to bind low ports. To be called
    /// before any thread is started: each has its own.
    pub(crate) fn give_up_capabilities(
        &mut self,
        binds_low_ports: bool,
    ) -> Result<(), ConfineError> {
        if self.switch == Switch::On {
            let had_some =
                capabilities::give_up(binds_low_ports).map_err(ConfineError::Capabilities)?;
            if had_some && self.role != Role::Teller {
                tracing::warn!(
                    "started with capabilities, which are given up: only containers in user \
                     namespaces of this user can be served (`--confine off` keeps them)"
                );
            }
            self.confined.no_capabilities = true;
        }
        Ok(())
    }

    /// Holds every thread to the system calls that it needs from now on.
    pub(crate) fn complete(&mut self, needs: &Needs) -> Result<(), ConfineError> {
        if self.switch == Switch::On {
            calls::list(needs).confine_process()?;
            self.confined.seccomp = true;
        }
        Ok(())
    }

    /// What has been given up by now.
    pub(crate) const fn so_far(&self) -> Confined {
        self.confined
    }
}

/// Keeps signals, tracing and connections to abstract UNIX sockets of the calling thread, and of
/// what it starts, to what it starts. From Linux 6.12 on.
pub(crate) fn scope() -> Result<Landlock, RulesetError> {
    if weaken::is_off(Layer::Landlock) {
        return Ok(Landlock::NotSupported);
    }
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Landlock::Enforced,
        RulesetStatus::PartiallyEnforced | RulesetStatus::NotEnforced => Landlock::NotSupported,
    })
}
