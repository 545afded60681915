//! What the benchmarks share: figures that were taken in turns, the time of calls that a
//! supervisor is never asked about, and that of calls on published ports.

pub mod published;
pub mod samples;
pub mod untrapped;
