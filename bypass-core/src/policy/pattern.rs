//! Which destinations a rule is about.
//!
//! ```text
//! TARGET[:PORT[-PORT]][/PROTOCOL]
//!
//! TARGET    any | metadata | private | host | ADDRESS | NETWORK/PREFIX
//! PROTOCOL  tcp | udp
//! ```
//!
//! An IPv6 target that is followed by a port stands in brackets, its prefix with it:
//! `[fd00::/8]:443`.

mod parse;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

pub use self::parse::PatternParseError;
#[cfg(test)]
pub(super) use self::parse::tests::any_pattern;
use super::{Flow, Preset, normalised};
use crate::publish::Protocol;

/// Which destinations a rule is about.
///
/// ```
/// use bypass_core::Pattern;
///
/// let pattern: Pattern = "[fd00::/8]:8000-8010/TCP".parse()?;
/// assert_eq!(pattern.to_string(), "[fd00::/8]:8000-8010/tcp");
/// assert!("fd00::/8:443".parse::<Pattern>().is_err());
/// # Ok::<(), bypass_core::PatternParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    target: Target,
    ports: PortRange,
    protocol: Option<Protocol>,
}

impl Pattern {
    /// Every port of a target, by every protocol.
    #[must_use]
    pub fn new(target: Target) -> Self {
        let target = match target {
            // Destinations are normalised before they are looked up, so a rule that names
            // IPv4-mapped addresses would never match.
            Target::Net(net) => Target::Net(normalised(net)),
            target => target,
        };
        Self { target, ports: PortRange::ALL, protocol: None }
    }

    /// These ports only.
    #[must_use]
    pub fn ports(mut self, ports: PortRange) -> Self {
        self.ports = ports;
        self
    }

    /// This protocol only.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    pub(super) fn parts(&self) -> (Target, PortRange, Option<Protocol>) {
        (self.target, self.ports, self.protocol)
    }

    /// Whether the pattern is about this destination. Where it is not known whether that is of the
    /// host, `perhaps` is the answer.
    pub(super) fn matches(&self, flow: &Flow, perhaps: bool) -> bool {
        (self.protocol.is_none() || self.protocol == flow.protocol)
            && self.ports.contains(flow.to.port)
            && match self.target {
                Target::Any => true,
                Target::Net(net) => net.contains(&flow.to.ip),
                Target::Preset(Preset::Host) => flow.is_of_host().unwrap_or(perhaps),
                Target::Preset(preset) => {
                    preset.networks().iter().any(|net| net.contains(&flow.to.ip))
                }
            }
    }

    /// Whether this one matches every destination that the other matches.
    pub(super) fn covers(&self, other: &Self) -> bool {
        (self.protocol.is_none() || self.protocol == other.protocol)
            && self.ports.first <= other.ports.first
            && other.ports.last <= self.ports.last
            && self.target.covers(other.target)
    }
}

impl From<IpNet> for Pattern {
    fn from(net: IpNet) -> Self {
        Self::new(Target::Net(net))
    }
}

impl From<Preset> for Pattern {
    fn from(preset: Preset) -> Self {
        Self::new(Target::Preset(preset))
    }
}

/// The form that is parsed again to the same.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all_ports = self.ports == PortRange::ALL;
        match self.target {
            Target::Net(net) if net.addr().is_ipv6() && !all_ports => {
                write!(f, "[{}]", Short(net))?;
            }
            target => write!(f, "{target}")?,
        }
        if !all_ports {
            write!(f, ":{}", self.ports)?;
        }
        match self.protocol {
            Some(protocol) => write!(f, "/{protocol}"),
            None => Ok(()),
        }
    }
}

/// The addresses of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// Every address of both families.
    Any,
    /// Those in a network. `::/0` is every IPv6 address, and IPv4-mapped ones are IPv4 addresses.
    Net(IpNet),
    /// Those in a list that has a name.
    Preset(Preset),
}

impl Target {
    fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Net(net), Self::Net(other)) => net.contains(&other),
            (Self::Preset(preset), Self::Net(other)) => {
                preset.networks().iter().any(|net| net.contains(&other))
            }
            (Self::Preset(preset), Self::Preset(other)) => preset == other,
            // Lists have networks of both families.
            (Self::Net(_), Self::Preset(_)) | (_, Self::Any) => false,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str(ANY),
            Self::Net(net) => write!(f, "{}", Short(*net)),
            Self::Preset(preset) => write!(f, "{preset}"),
        }
    }
}

/// A network of one address is written as the address.
struct Short(IpNet);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            write!(f, "{}", self.0.addr())
        } else {
            write!(f, "{}", self.0)
        }
    }
}

/// Ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Every port, 0 among them.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// The ports from `first` to `last`; `None` if these run backwards.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first <= last { Some(Self { first, last }) } else { None }
    }

    /// The first and the last.
    #[must_use]
    pub const fn ends(self) -> (u16, u16) {
        (self.first, self.last)
    }

    /// Whether the port is one of them.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// The word for every address.
const ANY: &str = "any";

/// Whether a rule about this address alone would be about another one: `0.0.0.0` and `::` lead to
/// loopback.
fn is_unspecified(net: IpNet) -> bool {
    let single = net.prefix_len() == net.max_prefix_len();
    single && IpAddr::is_unspecified(&net.addr())
}
