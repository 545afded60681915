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
    /// TCP throughput of one stream to a published server, or from it.
    PublishedThroughput(Direction),
    /// Connections that a published server takes, answers and closes.
    Accepts,
    /// UDP throughput as the receiver counts it, at a fixed rate of the sender.
    Datagrams(Direction),
    /// What did not arrive of it.
    DatagramsLost(Direction),
    /// One datagram and its echo: the median of one process's.
    Echo(Side),
    /// The calls with which a published TCP server begins and ends.
    Listen,
    /// The calls with which a published UDP server serves.
    Exchange,
}

/// Who of the two that exchange datagrams is in the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// The server, whose port is published.
    Server,
    /// The client, which connects its socket.
    Client,
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
            Self::Throughput(..) | Self::PublishedThroughput(_) | Self::Datagrams(_) => "Gbit/s",
            Self::Connect | Self::BesideParked | Self::Echo(_) | Self::Listen => "µs",
            Self::Untrapped(_) | Self::Exchange => "ns",
            Self::Accepts => "1/s",
            Self::DatagramsLost(_) => "%",
        }
    }

    /// Digits behind the decimal point that mean something.
    pub(crate) fn digits(self) -> usize {
        match self {
            Self::Throughput(..) | Self::PublishedThroughput(_) => 2,
            Self::Datagrams(_) | Self::DatagramsLost(_) => 3,
            Self::Echo(_) | Self::Listen => 1,
            Self::Connect
            | Self::BesideParked
            | Self::Untrapped(_)
            | Self::Exchange
            | Self::Accepts => 0,
        }
    }

    /// Whether a ratio of two of these means anything: not where the host's may be 0.
    pub(crate) fn has_ratio(self) -> bool {
        !matches!(self, Self::DatagramsLost(_))
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
            Self::PublishedThroughput(direction) => {
                write!(f, "published TCP, {direction} the server")
            }
            Self::Accepts => f.write_str("published nginx, a connection per request"),
            Self::Datagrams(direction) => write!(f, "published UDP, {direction} the server"),
            Self::DatagramsLost(direction) => write!(f, "of that, lost {direction} the server"),
            Self::Echo(Side::Server) => f.write_str("UDP echo on one CPU, published server, p50"),
            Self::Echo(Side::Client) => f.write_str("UDP echo on one CPU, connected client, p50"),
            Self::Listen => f.write_str("bind() + listen() + close(), published TCP port"),
            Self::Exchange => f.write_str("sendto() + recv() of nothing, published UDP port"),
        }
    }
}

/// As seen from the server.
impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Up { "to" } else { "from" })
    }
}

/// How many connects wait for a peer that never answers.
pub(crate) const PARKED: u32 = 200;
