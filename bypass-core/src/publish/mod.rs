//! What is published: which host ports stand for which container ports. No I/O.
//!
//! A [`Publish`] is one `-p` as the user wrote it, in the grammar of `docker run -p`:
//!
//! ```text
//! [hostIP:][hostPort[-last]:]containerPort[-last][/tcp|/udp]
//! ```
//!
//! It stands for one or more [`PortMap`]s. A [`PublishList`] is all of them together,
//! checked for contradictions.

mod list;
mod parse;

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

pub use self::list::{PublishConflict, PublishList};
pub use self::parse::PublishParseError;

/// One `-p` as the user wrote it, and what it stands for.
///
/// ```
/// use bypass_core::Publish;
///
/// let publish: Publish = "127.0.0.1:8000-8001:80-81/UDP".parse()?;
/// let maps: Vec<String> = publish.maps().iter().map(ToString::to_string).collect();
/// assert_eq!(maps, ["127.0.0.1:8000:80/udp", "127.0.0.1:8001:81/udp"]);
/// # Ok::<(), bypass_core::PublishParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    text: String,
    /// At least one, at most 65535, no two with the same container port.
    maps: Vec<PortMap>,
}

impl Publish {
    /// What the user wrote, to be named in messages.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it stands for, in the order of the container ports.
    #[must_use]
    pub fn maps(&self) -> &[PortMap] {
        &self.maps
    }
}

/// One container port and where it shows on the host.
///
/// Its canonical form, which [`Display`](fmt::Display) writes and [`Publish`] parses,
/// always has a host port (empty for an ephemeral one) and a protocol:
/// `[::1]:8080:80/tcp`, `:53/udp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortMap {
    /// The address asked for, never IPv4-mapped. `0.0.0.0` is every IPv4 address and
    /// `::` every IPv6 address; `None` is every address of both families.
    pub host_ip: Option<IpAddr>,
    /// The port on the host.
    pub host_port: HostPort,
    /// The port in the container, never 0.
    pub container_port: u16,
    /// The protocol of both.
    pub protocol: Protocol,
}

impl PortMap {
    /// Whether the host port is certain to be the container port, so that an application
    /// that asks for its own address need not be told another than the kernel's.
    #[must_use]
    pub fn keeps_port(&self) -> bool {
        self.host_port == HostPort::Fixed(self.container_port)
    }

    /// Whether some host address belongs to both maps.
    fn shares_address(&self, other: &Self) -> bool {
        match (self.host_ip, other.host_ip) {
            (None, _) | (_, None) => true,
            (Some(a), Some(b)) => {
                a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
            }
        }
    }
}

impl fmt::Display for PortMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            None => {}
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
        }
        match self.host_port {
            HostPort::Ephemeral => {}
            HostPort::Fixed(port) => write!(f, "{port}")?,
            HostPort::FirstFreeOf { first, last } => write!(f, "{first}-{last}")?,
        }
        write!(f, ":{}/{}", self.container_port, self.protocol)
    }
}

/// How the port on the host is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostPort {
    /// The kernel chooses one, from `ip_local_port_range` (see `ip(7)`).
    Ephemeral,
    /// This one and no other; never 0.
    Fixed(u16),
    /// The lowest that is free of a range, both ends included; `first < last`.
    FirstFreeOf {
        /// The lowest of the range, never 0.
        first: u16,
        /// The highest of the range.
        last: u16,
    },
}

/// A protocol that can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// `tcp(7)`
    Tcp,
    /// `udp(7)`
    Udp,
}

impl Protocol {
    /// The name that the grammar, logs and reports use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
