//! Whether a program can tell that it does not run natively: the same run twice, once in the host
//! namespace and once under `bypass-cli run`, and compared.
//!
//! - [`suites`]: other people's tests; [`catalog`] is the list
//! - [`expected`]: the differences that are known
//! - [`generate`]: sequences of socket calls, at random
//! - [`sequences`]: these, run on both sides; the first difference is made as short as it gets

pub mod catalog;
pub mod expected;
pub mod generate;
pub mod sequences;
pub mod suites;

/// Options of `run` with which both ends of a connection on loopback are the container's own.
pub const INSIDE: &[&str] = &["--udp", "all"];
/// Options with which both are the host's: each socket of a program is switched.
pub const HOST: &[&str] = &["--udp", "all", "--host-binds", "--allow-host-loopback"];
