//! The layers that stop attacks, by the names that the table has for them.

/// Something that stands between an attack and its goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// A first connect is held to the policy.
    Policy,
    /// `connect` on a host socket is decided anew.
    Again,
    /// What is allowed is done by the supervisor, with its copy of the address and on its own
    /// descriptor.
    OwnCall,
    /// `bind` acts on no host socket.
    Bind,
    /// `listen` acts on a host socket only if it is bound to a published address, and is made by
    /// the supervisor on sockets of every family.
    Listen,
    /// A host socket without a pin is shut down rather than dissolved.
    Shutdown,
    /// A client inside is connected to a published port only while the container has it.
    Owner,
    /// Messages from UDP sockets of the host are judged and sent by the supervisor.
    Sends,
    /// Control messages of these are confined.
    Control,
    /// Host sockets are bound to their device.
    Pin,
    /// UDP sockets of the host do not hear its loopback.
    LockedFilter,
    /// The Landlock domain of `run`.
    Landlock,
    /// The filter's rule on `MSG_FASTOPEN`.
    FastOpen,
    /// The filter's rule on `io_uring_setup`.
    IoUring,
    /// The filter's rule on MPTCP sockets.
    Mptcp,
    /// The filter's rules on IPv6 source routes.
    SourceRoutes,
    /// The filter's rule on foreign architectures.
    Foreign,
    /// UDP sockets of the host are given out only with `--udp` or a published UDP port.
    Udp,
    /// And only to containers whose profile is known to trap their sends.
    Profile,
    /// Descriptors are looked up in the table of the thread that calls, not of its process.
    Threads,
    /// Sockets of namespaces that the container has made are left alone.
    Nested,
    /// Pid 1 of `run` may not be traced.
    Init,
    /// The supervisor may not be traced either, and has confined itself.
    Confine,
}

/// How a layer is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Off {
    /// By its name, in a build that was made for it: see `bypass_core::weaken`.
    Weakened,
    /// By an option that anybody may give to `run` and `serve`.
    Options(&'static [&'static str]),
}

impl Layer {
    /// How the table and `BYPASS_WEAKEN` name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Again => "again",
            Self::OwnCall => "own-call",
            Self::Bind => "bind",
            Self::Listen => "listen",
            Self::Shutdown => "shutdown",
            Self::Owner => "owner",
            Self::Sends => "sends",
            Self::Control => "control",
            Self::Pin => "pin",
            Self::LockedFilter => "locked-filter",
            Self::Landlock => "landlock",
            Self::FastOpen => "fast-open",
            Self::IoUring => "io-uring",
            Self::Mptcp => "mptcp",
            Self::SourceRoutes => "source-routes",
            Self::Foreign => "foreign",
            Self::Udp => "udp",
            Self::Profile => "profile",
            Self::Threads => "threads",
            Self::Nested => "nested",
            Self::Init => "init",
            Self::Confine => "confine",
        }
    }

    /// How it is switched off.
    #[must_use]
    pub const fn off(self) -> Off {
        match self {
            // The denied networks are left out as well.
            Self::Policy => Off::Options(&["--allow-host-loopback"]),
            Self::Udp => Off::Options(&["--udp", "connected"]),
            Self::Profile => Off::Options(&["--udp-sends", "free"]),
            Self::Confine => Off::Options(&["--confine", "off"]),
            _ => Off::Weakened,
        }
    }
}
