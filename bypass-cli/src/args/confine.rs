//! What the supervisor does to itself.

use clap::Args;

use super::Switch;

#[derive(Args, Debug)]
#[command(next_help_heading = "Supervisor")]
pub(crate) struct ConfineArgs {
    /// Confine the supervisor itself: no debugger, no capabilities, and only the system calls that
    /// it needs. Switch it off only to debug it.
    #[arg(long, value_name = "WHEN", default_value = "on")]
    pub(crate) confine: Switch,
}
