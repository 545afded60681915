//! Which calls are trapped besides those of every container.

use serde::{Deserialize, Serialize};

/// Calls that are trapped only where somebody needs it, since they are frequent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Traps {
    /// `getsockname` and `getpeername`.
    pub(crate) names: bool,
    /// `sendmsg` and `sendmmsg`, of every socket.
    pub(crate) messages: bool,
    /// `sendto` with an address.
    pub(crate) sends: bool,
}

impl Traps {
    /// What either traps.
    pub(crate) fn and(self, others: Self) -> Self {
        Self {
            names: self.names || others.names,
            messages: self.messages || others.messages,
            sends: self.sends || others.sends,
        }
    }

    /// Whether all that the others trap is trapped.
    pub(crate) fn cover(self, others: Self) -> bool {
        self.names >= others.names && self.messages >= others.messages && self.sends >= others.sends
    }
}
