//! The grammar of patterns, and what is said to who missed it.
//!
//! A rule that is read otherwise than it was meant opens what its writer wanted closed, so nothing
//! is guessed: what is not clear is refused with what to write instead.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::{ANY, Pattern, PortRange, Target, is_unspecified, normalised};
use crate::policy::Preset;
use crate::publish::Protocol;

/// Why a pattern means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternParseError {
    /// Nothing was written.
    #[error("nothing is named: write a network like 10.0.0.0/8, or any")]
    Empty,
    /// Nothing stands in front of the port or the protocol.
    #[error("no address stands in front of {0:?}: write any for every address")]
    TargetMissing(Box<str>),
    /// A star.
    #[error("`*` is not a target, as shells have another use for it: write any")]
    Star,
    /// A word that is no target.
    #[error(
        "{0:?} is a name, and names are not looked up: write an address, a network like \
         10.0.0.0/8, any, metadata, private or host"
    )]
    Name(Box<str>),
    /// Something else where the address should be.
    #[error("{0:?} is not an address: write one like 10.1.2.3 or fd00::1")]
    Address(Box<str>),
    /// An address with a `%`.
    #[error("an address cannot have a zone: leave out the `%` and what follows it")]
    Zone,
    /// An address that means another one.
    #[error(
        "as a destination {0} means this machine's loopback: write 127.0.0.1 or ::1 for that, and \
         any, 0.0.0.0/0 or ::/0 for every address"
    )]
    Unspecified(IpAddr),
    /// A `/` with nothing behind it.
    #[error("nothing stands behind the last `/`: write a prefix length like /8, or /tcp or /udp")]
    SlashEnd,
    /// Text that is no prefix length, or one that is too long.
    #[error("{0:?} is not a prefix length: write one up to /32 for IPv4, up to /128 for IPv6")]
    Prefix(Box<str>),
    /// An address within the network that its prefix names.
    #[error("{written} has bits beyond its prefix: write {net}, or {} for one address", written.addr())]
    HostBits {
        /// What was written.
        written: IpNet,
        /// The network that it lies in.
        net: IpNet,
    },
    /// An IPv6 address whose colons run into that of the port.
    #[error("an IPv6 address that a port follows stands in brackets: write it like [fd00::/8]:443")]
    Unbracketed,
    /// A `[` without its `]`.
    #[error("a bracket is open: write it like [fd00::/8]:443")]
    BracketOpen,
    /// A prefix length behind the bracket.
    #[error("the prefix length stands inside the brackets: write it like [fd00::/8]:443")]
    BracketPrefix,
    /// Other text between `]` and the port.
    #[error("a colon and a port must follow the bracket: write it like [fd00::/8]:443")]
    BracketTail,
    /// Brackets around no IPv6 address.
    #[error("brackets are for IPv6 addresses: write {0} without them")]
    Bracketed(Box<str>),
    /// More colons than the grammar has.
    #[error("too many colons: write ADDRESS:PORT, and the protocol behind a `/`")]
    TooManyColons,
    /// Nothing behind the colon.
    #[error("no port stands behind the colon: leave it out for every port")]
    PortMissing,
    /// Port 0.
    #[error("0 is not a port: leave it and its colon out for every port")]
    PortZero,
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
    /// A protocol that is never bypassed.
    #[error("{0:?} is not a protocol of a rule: write /tcp or /udp, or neither for both")]
    Protocol(Box<str>),
    /// Two protocols.
    #[error("a rule is about one protocol, or about every one: write neither for both")]
    TwoProtocols,
    /// A prefix length behind a word.
    #[error("a prefix length follows an address: write {0} without it")]
    WordPrefix(Box<str>),
    /// A protocol that something follows.
    #[error("the protocol comes last: write it like 10.0.0.0/8:443/tcp")]
    ProtocolNotLast,
}

use PatternParseError as E;

impl FromStr for Pattern {
    type Err = PatternParseError;

    fn from_str(text: &str) -> Result<Self, E> {
        if text.is_empty() {
            return Err(E::Empty);
        }
        let (place, protocol) = split_protocol(text)?;
        let (target, ports) = split_ports(place)?;
        let Some(target) = target else { return Err(E::TargetMissing(text.into())) };
        let ports = ports.map(parse_ports).transpose()?;
        Ok(Self { ports: ports.unwrap_or(PortRange::ALL), protocol, ..Self::new(target) })
    }
}

/// Cuts a protocol off. What follows the last slash is one if it is a word; of a prefix length it
/// is a number, and perhaps a port.
fn split_protocol(text: &str) -> Result<(&str, Option<Protocol>), E> {
    let Some((place, tail)) = text.rsplit_once('/') else { return Ok((text, None)) };
    if tail.is_empty() {
        return Err(E::SlashEnd);
    }
    if !tail.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Ok((text, None));
    }
    let protocol = match protocol_named(tail) {
        Some(protocol) => protocol,
        None if tail.contains(':') => return Err(E::ProtocolNotLast),
        None => return Err(E::Protocol(tail.into())),
    };
    match place.rsplit_once('/').and_then(|(_, word)| protocol_named(word)) {
        Some(_) => Err(E::TwoProtocols),
        None => Ok((place, Some(protocol))),
    }
}

fn protocol_named(word: &str) -> Option<Protocol> {
    let named = |protocol: &Protocol| word.eq_ignore_ascii_case(protocol.name());
    [Protocol::Tcp, Protocol::Udp].into_iter().find(named)
}

/// The target, unless it is empty, and the text of the ports if there is any.
fn split_ports(text: &str) -> Result<(Option<Target>, Option<&str>), E> {
    if let Some(inner) = text.strip_prefix('[') {
        let (inner, tail) = inner.split_once(']').ok_or(E::BracketOpen)?;
        let ports = match tail.strip_prefix(':') {
            Some(ports) => Some(ports),
            None if tail.is_empty() => None,
            None if tail.starts_with('/') => return Err(E::BracketPrefix),
            None => return Err(E::BracketTail),
        };
        return match parse_target(inner)? {
            target @ Target::Net(_) if inner.contains(':') => Ok((Some(target), ports)),
            _ => Err(E::Bracketed(inner.into())),
        };
    }
    match text.split_once(':') {
        None if text.is_empty() => Ok((None, None)),
        None => Ok((Some(parse_target(text)?), None)),
        Some(("", ports)) if !ports.contains(':') => Ok((None, Some(ports))),
        Some((target, ports)) if !ports.contains(':') => {
            Ok((Some(parse_target(target)?), Some(ports)))
        }
        Some(_) => match parse_target(text) {
            Ok(target) => Ok((Some(target), None)),
            Err(error) => Err(too_many_colons(text, error)),
        },
    }
}

/// What was meant by a text with several colons that is no IPv6 network.
fn too_many_colons(text: &str, error: E) -> E {
    let is_target = |ends: Option<(&str, &str)>| ends.is_some_and(|(t, _)| parse_target(t).is_ok());
    if matches!(error, E::Zone | E::Unspecified(_) | E::HostBits { .. }) {
        error
    } else if is_target(text.split_once(':')) {
        E::TooManyColons
    } else if is_target(text.rsplit_once(':')) {
        E::Unbracketed
    } else {
        error
    }
}

fn parse_target(text: &str) -> Result<Target, E> {
    match text {
        "" => return Err(E::Empty),
        ANY => return Ok(Target::Any),
        "*" => return Err(E::Star),
        _ => {}
    }
    if let Ok(preset) = text.parse::<Preset>() {
        return Ok(Target::Preset(preset));
    }
    if text.contains('%') {
        return Err(E::Zone);
    }
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let ip = address.parse::<IpAddr>().map_err(|_no_address| {
        if address == ANY || address.parse::<Preset>().is_ok() {
            E::WordPrefix(address.into())
        } else if address.contains(char::is_alphabetic) && !address.contains(':') {
            E::Name(address.into())
        } else {
            E::Address(address.into())
        }
    })?;
    let net = match prefix {
        None => IpNet::from(ip),
        Some(digits) => {
            let digits_only = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let len = digits.parse().ok().filter(|_| digits_only);
            len.and_then(|len| IpNet::new(ip, len).ok()).ok_or_else(|| E::Prefix(digits.into()))?
        }
    };
    if net.trunc() != net {
        return Err(E::HostBits { written: net, net: net.trunc() });
    }
    if is_unspecified(normalised(net)) {
        return Err(E::Unspecified(ip));
    }
    Ok(Target::Net(net))
}

fn parse_ports(text: &str) -> Result<PortRange, E> {
    let (first, last) = match text.split_once('-') {
        _ if text.is_empty() => return Err(E::PortMissing),
        None => (text, text),
        Some((first, last)) if first.is_empty() || last.is_empty() => {
            return Err(E::RangeOpen(text.into()));
        }
        Some(ends) => ends,
    };
    let (first, last) = (parse_port(first)?, parse_port(last)?);
    PortRange::new(first, last).ok_or(E::RangeReversed { first, last })
}

fn parse_port(text: &str) -> Result<u16, E> {
    // `str::parse` would also take a sign.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(E::Port(text.into()));
    }
    match text.parse() {
        Ok(0) => Err(E::PortZero),
        Ok(port) => Ok(port),
        Err(_digits_only) => Err(E::PortTooHigh(text.into())),
    }
}

#[cfg(test)]
pub(super) mod tests;
