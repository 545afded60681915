//! What is measured, as rows of the table.

use std::fmt;

use bypass_benches::untrapped::CALLS;

/// One row, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// TCP throughput as the receiver counts it.
    Throughput(Direction, u8),
    /// Connect, one byte, close: the median of one process's.
    Connect,
    /// The same, of the same process, beside connects that nobody answers.
    BesideParked,
    /// One of [`CALLS`].
    Untrapped(usize),
}

/// Seen from the one who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    Up,
    Down,
}

impl Figure {
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Throughput(..) => "Gbit/s",
            Self::Connect | Self::BesideParked => "µs",
            Self::Untrapped(_) => "ns",
        }
    }

    /// Digits behind the decimal point that mean something.
    pub(crate) fn digits(self) -> usize {
        match self {
            Self::Throughput(..) => 2,
            Self::Connect | Self::BesideParked | Self::Untrapped(_) => 0,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Throughput(direction, streams) => {
                let direction = if *direction == Direction::Up { "up" } else { "down" };
                let plural = if *streams == 1 { "" } else { "s" };
                write!(f, "TCP {direction}, {streams} stream{plural}")
            }
            Self::Connect => f.write_str("connect + 1 byte + close, p50"),
            Self::BesideParked => write!(f, "the same beside {PARKED} parked connects"),
            Self::Untrapped(call) => f.write_str(CALLS.get(*call).copied().unwrap_or_default()),
        }
    }
}

/// How many connects wait for a peer that never answers.
pub(crate) const PARKED: u32 = 200;
