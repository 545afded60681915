//! The Landlock layer of `run`: connect and bind on TCP fail for everyone inside, so
//! that only the supervisor, who is outside, can make these calls.
//!
//! It holds where the traps do not reach (races between threads, entries that no filter
//! sees) and covers TCP connect and bind only, from Linux 6.7 on.

use bypass_core::weaken::{self, Layer};
use landlock::{
    ABI, Access as _, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetStatus,
};
use serde::{Deserialize, Serialize};

/// What the running kernel enforces of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Landlock {
    Enforced,
    NotSupported,
}

/// Restricts the calling thread, and with it all that it executes.
pub(super) fn restrict() -> Result<Landlock, landlock::RulesetError> {
    if weaken::is_off(Layer::Landlock) {
        return Ok(Landlock::NotSupported);
    }
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessNet::from_all(ABI::V4))?
        .create()?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Landlock::Enforced,
        RulesetStatus::PartiallyEnforced | RulesetStatus::NotEnforced => Landlock::NotSupported,
    })
}
