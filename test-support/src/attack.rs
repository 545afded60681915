//! Attacks on confinement, and which layer stops each of them where.
//!
//! An attack is a small program in `attacks/` that has a goal, such as to reach a service on the
//! host's loopback. It is run in a container, and what it achieves is seen from outside: by a
//! [`canary`] where it is not to get, by the sockets that listen on the host. Then it is run again
//! with layers switched off ([`Layer`]): with all that are in its way, where it must get through,
//! and with all but one.
//!
//! - [`catalog`]: the attacks
//! - [`environment`]: what they are run in
//! - [`field`]: what watches them: [`canary`], [`sniffer`], [`squatter`] and [`ports`]
//! - [`suite`]: which runs it takes, and what they show
//! - [`table`]: the result, and what is expected

pub mod canary;
pub mod catalog;
pub mod environment;
pub mod field;
pub mod layer;
pub mod ports;
pub mod sniffer;
pub mod squatter;
pub mod suite;
pub mod table;

pub use self::catalog::{Attack, Goal, SECTIONS};
pub use self::environment::Environment;
pub use self::field::{Field, Reach};
pub use self::layer::Layer;

/// The page that says what is expected.
pub const EXPECTED: &str = include_str!("../../docs/attacks.md");
