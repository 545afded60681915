//! Capabilities that whoever started us has, and we need not.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
};

/// Gives up all capabilities of the calling thread: effective, permitted, inheritable, ambient and
/// bounding; see capabilities(7). Only `CAP_NET_BIND_SERVICE` stays where low ports are bound, as far as
/// it was there.
///
/// An ordinary user has none, in the user namespace that we are in. In those of its rootless
/// containers it needs none: whoever made a user namespace has all there.
///
/// Returns whether there were any.
pub(super) fn give_up(binds_low_ports: bool) -> Result<bool, Errno> {
    let kept =
        if binds_low_ports { CapabilitySet::NET_BIND_SERVICE } else { CapabilitySet::empty() };
    let had = capabilities(None)?;
    clear_ambient_capability_set()?;
    if had.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(kept).iter() {
            // EINVAL for one that this kernel does not know.
            if capability_is_in_bounding_set(capability).unwrap_or(false) {
                remove_capability_from_bounding_set(capability)?;
            }
        }
    }
    set_capabilities(
        None,
        CapabilitySets {
            effective: had.effective & kept,
            permitted: had.permitted & kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(!had.permitted.is_empty())
}
