//! Host-speed networking for rootless containers: the engine.
//!
//! A process in a container calls `connect`. A seccomp filter traps the call, and this
//! crate receives it, decides by [`Policy`] whether the connection may be made from the
//! host's network namespace, makes it there, and puts the connected socket in the place
//! of the container's own. From then on the data path is the host's kernel.
//!
//! ```text
//!  container process            supervisor (this crate)                host
//!  connect(5, 192.0.2.1) ──▶ copy address, take socket 5
//!        (waits)             policy: bypass
//!                            socket(), copy options, pin, connect ──▶ 192.0.2.1
//!  5 is the host socket ◀─── ADDFD(5)
//!  connect returns 0    ◀─── answer
//!  send / recv / epoll  ───────────────────────────────────────────▶ no one between
//! ```
//!
//! Build a [`Policy`], make a [`Supervisor`], attach a listener; drop the [`Container`]
//! to detach:
//!
//! ```no_run
//! use bypass_core::{Policy, Settings, Supervisor};
//! # fn listener() -> seccomp_notify::Listener { unimplemented!() }
//!
//! let policy = Policy::builder().deny(["169.254.0.0/16".parse()?]).build();
//! let supervisor = Supervisor::new()?;
//! let container = supervisor.attach(listener(), Settings::new("web", policy))?;
//! println!("{:?}", container.stats().verdicts);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it promises
//! - Decisions and calls use the supervisor's own copy of the address and its own
//!   descriptor of the socket. For `connect`, `bind` and `listen` on an IP socket the
//!   kernel is never told to "continue".
//! - A host socket is only ever connected where the policy allows, and is pinned to the
//!   device that leads there.
//! - An internal failure leaves the socket in the container, and is counted with a
//!   [`Reason`].
//! - No container waits for another: each has a thread of its own, and within it a slow
//!   connection delays no other call.
//!
//! # What it does not do
//! It installs no filter in anybody (see `seccomp-notify`, or let an OCI runtime do it)
//! and starts no process. It needs Linux 5.14; `Supervisor::new` says so on older ones.

#![forbid(unsafe_code)]

mod audit;
mod bucket;
mod call;
mod container;
mod engine;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod inside;
mod live;
mod neighbours;
mod networks;
mod outbox;
mod policy;
mod ports;
mod publish;
mod reason;
#[cfg_attr(not(test), expect(dead_code, reason = "nothing publishes ports yet"))]
mod relay;
mod share;
mod stats;
mod supervisor;
mod targets;
mod thread;
#[doc(hidden)]
pub mod weaken;

pub use self::audit::{AuditLimits, AuditRecord, AuditSink, AuditedCall, AuditedProcess};
pub use self::bucket::TokenBucket;
pub use self::container::{Container, End};
pub use self::engine::Udp;
pub use self::policy::{
    Action, Decision, DefaultAction, Flow, GlobParseError, Ignored, NetworkParseError, Pattern,
    PatternParseError, Policy, PolicyBuilder, PolicyFile, PolicyFileError, PolicyLayer,
    PolicyMistake, PortRange, Preset, PresetParseError, Rule, RuleConflict, RuleIndex,
    RuleWithoutEffect, Target, Verdict, check_order, parse_network,
};
pub use self::ports::{Ports, Published, ReserveError, Way};
pub use self::publish::{
    HostPort, PortMap, Protocol, Publish, PublishConflict, PublishList, PublishParseError,
};
pub use self::reason::Reason;
pub use self::stats::{Distribution, Outcome, Snapshot, Stats, Times};
pub use self::supervisor::{AttachError, Settings, StartError, Supervisor};
pub use netns_socket::own_netns_cookie;

/// The embedding guide's code is compiled, and runs where it can.
#[cfg(doctest)]
#[doc = include_str!("../../docs/embedding.md")]
struct Embedding;
