//! Networks that are left to the container.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// What is to be left to the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// A network.
    Network(IpNet),
    /// Whatever networks the container's own interfaces are in at the time: the word `auto`.
    OwnNetworks,
}

impl FromStr for Ignored {
    type Err = NetworkParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == AUTO { Ok(Self::OwnNetworks) } else { parse_network(text).map(Self::Network) }
    }
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkParseError {
    /// It has not the form of one.
    #[error(
        "not a network; write it like 10.0.0.0/8 or fd00::/8, or `auto` for the container's own"
    )]
    Form,
}

/// Reads a network that is to be ignored, or a single address. Bits beyond the prefix do not count.
///
/// # Errors
/// [`NetworkParseError`]
pub fn parse_network(text: &str) -> Result<IpNet, NetworkParseError> {
    text.parse::<IpNet>()
        .or_else(|_not_a_net| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_neither| NetworkParseError::Form)
}

/// As bypass4netns has it.
const AUTO: &str = "auto";
