//! What the benchmarks share: figures that were taken in turns, and the time of calls
//! that a supervisor is never asked about.

pub mod samples;
pub mod untrapped;
