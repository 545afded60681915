//! What the benchmarks share: figures from several rounds, and the time of calls that a
//! supervisor is never asked about.

pub mod samples;
pub mod untrapped;
