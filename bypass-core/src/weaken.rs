//! Switches single layers off, so that the attack suite can show which of them stops what.
//!
//! Only in a build for tests, with `--cfg bypass_weaken`: there the environment variable
//! `BYPASS_WEAKEN` names layers, separated by commas. In every other build all of them are on,
//! which the compiler knows, and nothing of this is left in the program. It is a `cfg` and no
//! feature, since features are switched on for everybody by anybody who depends on the crate.

/// A layer of `docs/security.md`, or a rule within one, that no option switches off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// `connect` on a host socket is decided anew.
    Again,
    /// What is allowed is done by us, with our copy of the address, on our own descriptor.
    OwnCall,
    /// `bind` acts on no host socket.
    Bind,
    /// `listen` acts on a host socket only if it is bound to a published address, and is made by us
    /// on sockets of every family.
    Listen,
    /// A host socket without a pin, or with one to `lo`, is shut down rather than dissolved.
    Shutdown,
    /// A client inside is connected to a published port only while the container has it.
    Owner,
    /// Messages from UDP sockets of the host are judged and sent by us.
    Sends,
    /// Control messages of these are confined.
    Control,
    /// Host sockets are bound to their device.
    Pin,
    /// UDP sockets of the host do not hear its loopback.
    LockedFilter,
    /// The Landlock domain of `run`.
    Landlock,
    /// `MSG_FASTOPEN` is refused by the filter.
    FastOpen,
    /// `io_uring_setup` is.
    IoUring,
    /// MPTCP sockets are.
    Mptcp,
    /// IPv6 source routes are.
    SourceRoutes,
    /// Calls of foreign architectures are.
    Foreign,
    /// Descriptors are looked up in the table of the thread that calls, not of its process.
    Threads,
    /// Sockets of namespaces that the container has made are left alone.
    Nested,
    /// Pid 1 of `run` may not be traced.
    Init,
}

/// Whether this layer is switched off.
#[cfg(not(bypass_weaken))]
#[must_use]
pub const fn is_off(_layer: Layer) -> bool {
    false
}

#[cfg(bypass_weaken)]
pub use self::switches::is_off;

#[cfg(bypass_weaken)]
mod switches {
    use std::sync::OnceLock;

    use super::Layer;

    #[cfg(not(debug_assertions))]
    compile_error!("`--cfg bypass_weaken` is for tests, never for a release build");

    /// Whether this layer is switched off.
    #[must_use]
    pub fn is_off(layer: Layer) -> bool {
        static OFF: OnceLock<Vec<Layer>> = OnceLock::new();
        OFF.get_or_init(named).contains(&layer)
    }

    #[expect(clippy::panic, reason = "a misspelt layer would show an attack to be stopped")]
    fn named() -> Vec<Layer> {
        let names = std::env::var("BYPASS_WEAKEN").unwrap_or_default();
        let layer = |name: &str| {
            LAYERS.iter().find(|(known, _)| *known == name).map_or_else(
                || panic!("BYPASS_WEAKEN: there is no layer {name:?}"),
                |(_, layer)| *layer,
            )
        };
        names.split(',').filter(|name| !name.is_empty()).map(layer).collect()
    }

    /// The names that the attack suite has for them.
    const LAYERS: &[(&str, Layer)] = &[
        ("again", Layer::Again),
        ("own-call", Layer::OwnCall),
        ("bind", Layer::Bind),
        ("listen", Layer::Listen),
        ("shutdown", Layer::Shutdown),
        ("owner", Layer::Owner),
        ("sends", Layer::Sends),
        ("control", Layer::Control),
        ("pin", Layer::Pin),
        ("locked-filter", Layer::LockedFilter),
        ("landlock", Layer::Landlock),
        ("fast-open", Layer::FastOpen),
        ("io-uring", Layer::IoUring),
        ("mptcp", Layer::Mptcp),
        ("source-routes", Layer::SourceRoutes),
        ("foreign", Layer::Foreign),
        ("threads", Layer::Threads),
        ("nested", Layer::Nested),
        ("init", Layer::Init),
    ];
}
