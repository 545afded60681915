//! A small world to test in: a *host* and a *remote* network namespace joined by
//! a veth pair, an ordinary user, and the programs that talk to each other there.
//!
//! ```text
//!   harness (root)                              remote servers
//!   as_user(bypass-cli run …)                   fx-server, iperf3, fx-dns
//!   ┌──────────── host netns ───────────┐       ┌────── remote netns ──────┐
//!   │ lo 127.0.0.1 ::1                  │ veth  │                          │
//!   │ up0 198.18.0.1/24 fd00:18::1/64   ├───────┤ up0 198.18.0.2 fd00:18::2│
//!   │ default via the remote            │       │ forwards nothing         │
//!   └───────────────────────────────────┘       └──────────────────────────┘
//! ```
//!
//! Everything lives in namespaces of the harness's own ([`stage`]): network,
//! mounts and processes. When the harness ends, however it ends, the kernel ends
//! every process in them and nothing is left on the machine. No packet leaves it.
//!
//! - [`world`]: the namespaces, and commands that run in one of them
//! - [`process`]: children with captured output and a time limit on every wait
//! - [`census`]: what a process holds, and who is still alive, read from `/proc`
//! - [`book`]: pages of the documentation, the commands and links in them
//! - [`bundle`]: OCI bundles for rootless runtimes
//! - [`harness`] and [`requirement`]: scenarios as trials; a missing requirement
//!   shows as an ignored trial, or fails where the environment demands it
//! - [`terminal`]: a terminal that programs run in, and what is to be seen on it
//! - [`sockopt`]: socket options by name, for the fixtures

pub mod attack;
pub mod book;
pub mod bundle;
pub mod bypass4netns;
pub mod census;
pub mod failure;
pub mod harness;
pub mod parity;
pub mod process;
pub mod requirement;
pub mod shell;
pub mod sockopt;
pub mod stacks;
pub mod stage;
#[expect(unsafe_code, reason = "fork(2) and untyped socket options have no safe wrapper")]
pub mod sys;
pub mod terminal;
pub mod world;

pub use failure::{Failure, Result};
pub use world::World;

/// The README's example is compiled with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
