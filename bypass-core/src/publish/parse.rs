//! The grammar of `-p`, and what is said to who missed it.
//!
//! Whatever is refused is refused with what to write instead: the text stands on a
//! command line, and its writer is the one who reads the message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::{HostPort, PortMap, Protocol, Publish};

/// Why a `-p` means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishParseError {
    /// Nothing was written.
    #[error("nothing is named: write at least a container port, like 80")]
    Empty,
    /// A `/` with nothing behind it.
    #[error("no protocol stands behind the `/`: write /tcp or /udp, or nothing for tcp")]
    ProtocolMissing,
    /// SCTP, which Docker has.
    #[error("sctp cannot be published: write /tcp or /udp")]
    Sctp,
    /// Another protocol, or several.
    #[error("{0:?} is not a protocol: write /tcp or /udp, and for both two options")]
    Protocol(Box<str>),
    /// More colons than the grammar has.
    #[error("too many colons: write hostIP:hostPort:containerPort")]
    TooManyParts,
    /// An IPv6 address whose colons run into those of the grammar.
    #[error("an IPv6 address must stand in brackets: write it like [::1]:8080:80")]
    Unbracketed,
    /// A `[` without its `]`.
    #[error("a bracket is open: write an IPv6 address like [::1]:8080:80")]
    BracketOpen,
    /// Text between `]` and the next colon.
    #[error("a colon must follow the bracket: write it like [::1]:8080:80")]
    BracketTail,
    /// Brackets around an IPv4 address.
    #[error("brackets are for IPv6 addresses: write {0}:8080:80")]
    BracketedV4(Ipv4Addr),
    /// Brackets around no address.
    #[error("{0:?} is not an IPv6 address: write one like [::1] or [2001:db8::1]")]
    NotV6(Box<str>),
    /// An IPv6 address with a `%`.
    #[error("an address cannot have a zone: leave out the `%` and what follows it")]
    Zone,
    /// An address that means nothing without a zone.
    #[error("{0} is link-local and cannot be published: write another address of its device")]
    LinkLocal(Ipv6Addr),
    /// A colon in front of the address's place.
    #[error("the host address is empty: leave out its colon, or write 0.0.0.0 or [::]")]
    AddressMissing,
    /// A name in the address's place.
    #[error("{0:?} is a name, and names are not looked up: write the IP address")]
    HostName(Box<str>),
    /// Something else in the address's place.
    #[error("{0:?} is not an IP address: write one like 127.0.0.1 or [::1]")]
    Address(Box<str>),
    /// An address and one port.
    #[error("a host address needs two colons: write {0}:8080:80, or {0}::80 for any free port")]
    HostPortMissing(Box<str>),
    /// Nothing behind the last colon.
    #[error("the container port is missing: write it behind the last colon, like 8080:80")]
    ContainerPortMissing,
    /// Host port 0.
    #[error("0 is not a host port: for any free port leave it out, like :80")]
    HostPortZero,
    /// Container port 0.
    #[error("0 is not a container port: write the one that the application binds")]
    ContainerPortZero,
    /// A number above 65535.
    #[error("{0} is too high for a port: the highest is 65535")]
    PortTooHigh(Box<str>),
    /// No number at all.
    #[error("{0:?} is not a port: write a number from 1 to 65535, or a range like 8000-8010")]
    Port(Box<str>),
    /// A range without one of its ends.
    #[error("{0:?} lacks an end: write both, like 8000-8010")]
    RangeOpen(Box<str>),
    /// A range from high to low.
    #[error("the range runs backwards: write {last}-{first}")]
    RangeReversed {
        /// The end written first, which is the higher one.
        first: u16,
        /// The end written last.
        last: u16,
    },
    /// Ranges whose ports do not pair up.
    #[error(
        "{host} host ports and {container} container ports do not pair up: write ranges of one \
         length, or a single container port for the first free host port"
    )]
    RangesUnequal {
        /// The number of host ports.
        host: usize,
        /// The number of container ports.
        container: usize,
    },
}

impl FromStr for Publish {
    type Err = PublishParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self { maps: maps(text)?, text: text.into() })
    }
}

fn maps(text: &str) -> Result<Vec<PortMap>, PublishParseError> {
    if text.is_empty() {
        return Err(PublishParseError::Empty);
    }
    let (text, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((text, name)) => (text, parse_protocol(name)?),
    };
    let (address, ports) = split_address(text)?;
    let (host, container) = match ports.split_once(':') {
        // Without an address the only colon is the one between the ports.
        Some((host, _)) if address.is_none() && host.parse::<Ipv4Addr>().is_ok() => {
            return Err(PublishParseError::HostPortMissing(host.into()));
        }
        Some((host, container)) => (host, container),
        None => ("", ports),
    };
    let host_ip = address.map(|address| address.ip());
    let container = match container {
        "" => return Err(PublishParseError::ContainerPortMissing),
        written => Ports::parse(written, PublishParseError::ContainerPortZero)?,
    };
    let host = match host {
        "" => None,
        written => Some(Ports::parse(written, PublishParseError::HostPortZero)?),
    };
    let map = |host_port, container_port| PortMap { host_ip, host_port, container_port, protocol };
    Ok(match host {
        None => container.each().map(|port| map(HostPort::Ephemeral, port)).collect(),
        Some(host) if host.len() == container.len() => host
            .each()
            .zip(container.each())
            .map(|(host, container)| map(HostPort::Fixed(host), container))
            .collect(),
        Some(Ports { first, last }) if container.len() == 1 => {
            vec![map(HostPort::FirstFreeOf { first, last }, container.first)]
        }
        Some(host) => {
            return Err(PublishParseError::RangesUnequal {
                host: host.len(),
                container: container.len(),
            });
        }
    })
}

fn parse_protocol(name: &str) -> Result<Protocol, PublishParseError> {
    match name.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Err(PublishParseError::Sctp),
        "" => Err(PublishParseError::ProtocolMissing),
        _ => Err(PublishParseError::Protocol(name.into())),
    }
}

/// An address as it stood in the text, brackets included.
struct Written<'a> {
    ip: IpAddr,
    text: &'a str,
}

impl Written<'_> {
    /// In the form in which it is bound: an IPv4-mapped address is an IPv4 address.
    fn ip(&self) -> IpAddr {
        self.ip.to_canonical()
    }
}

/// Cuts the host address off; what is left is `containerPort` or `hostPort:containerPort`.
fn split_address(text: &str) -> Result<(Option<Written<'_>>, &str), PublishParseError> {
    let (address, ports) = if let Some(inner) = text.strip_prefix('[') {
        let (ip, tail) = inner.split_once(']').ok_or(PublishParseError::BracketOpen)?;
        let ip = parse_v6(ip)?;
        let text = text.strip_suffix(tail).unwrap_or(text);
        let ports = match tail.strip_prefix(':') {
            Some(ports) => ports,
            None if tail.is_empty() => tail,
            None => return Err(PublishParseError::BracketTail),
        };
        (Written { ip: ip.into(), text }, ports)
    } else {
        match text.split(':').count() {
            0..3 => return Ok((None, text)),
            3 if text.parse::<Ipv6Addr>().is_err() || text.starts_with(':') => {}
            _ => return Err(too_many_colons(text)),
        }
        let (ip, ports) = text.split_once(':').unwrap_or((text, ""));
        (Written { ip: parse_v4(ip)?.into(), text: ip }, ports)
    };
    match ports.split(':').count() {
        1 => Err(PublishParseError::HostPortMissing(address.text.into())),
        2 => Ok((Some(address), ports)),
        _ => Err(PublishParseError::TooManyParts),
    }
}

fn parse_v6(text: &str) -> Result<Ipv6Addr, PublishParseError> {
    if text.contains('%') {
        return Err(PublishParseError::Zone);
    }
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) if ip.is_unicast_link_local() => Err(PublishParseError::LinkLocal(ip)),
        Ok(IpAddr::V6(ip)) => Ok(ip),
        Ok(IpAddr::V4(ip)) => Err(PublishParseError::BracketedV4(ip)),
        Err(_) => Err(PublishParseError::NotV6(text.into())),
    }
}

fn parse_v4(text: &str) -> Result<Ipv4Addr, PublishParseError> {
    if text.is_empty() {
        Err(PublishParseError::AddressMissing)
    } else if let Ok(ip) = text.parse() {
        Ok(ip)
    } else if text.contains('%') {
        Err(PublishParseError::Zone)
    } else if text.contains(char::is_alphabetic) {
        Err(PublishParseError::HostName(text.into()))
    } else {
        Err(PublishParseError::Address(text.into()))
    }
}

/// What was meant by a text with more colons than the grammar has.
fn too_many_colons(text: &str) -> PublishParseError {
    let ends = text.rmatch_indices(':').map(|(at, _)| at).take(2);
    let is_v6 = |end| text.get(..end).is_some_and(|head| head.parse::<Ipv6Addr>().is_ok());
    if text.contains('%') {
        PublishParseError::Zone
    } else if ends.chain([text.len()]).any(is_v6) {
        PublishParseError::Unbracketed
    } else {
        PublishParseError::TooManyParts
    }
}

/// One port or a range; `first <= last`, neither is 0.
struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    fn parse(text: &str, zero: PublishParseError) -> Result<Self, PublishParseError> {
        let (first, last) = match text.split_once('-') {
            None => (text, text),
            Some((first, last)) if first.is_empty() || last.is_empty() => {
                return Err(PublishParseError::RangeOpen(text.into()));
            }
            Some(ends) => ends,
        };
        let (first, last) = (parse_port(first)?, parse_port(last)?);
        if first == 0 || last == 0 {
            return Err(zero);
        }
        if first > last {
            return Err(PublishParseError::RangeReversed { first, last });
        }
        Ok(Self { first, last })
    }

    fn len(&self) -> usize {
        self.each().len()
    }

    fn each(&self) -> std::ops::RangeInclusive<u16> {
        self.first..=self.last
    }
}

fn parse_port(text: &str) -> Result<u16, PublishParseError> {
    // `str::parse` would also take a sign.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PublishParseError::Port(text.into()));
    }
    text.parse().map_err(|_digits_only| PublishParseError::PortTooHigh(text.into()))
}

#[cfg(test)]
mod tests;
