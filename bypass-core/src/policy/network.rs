//! Networks that are left to the container.

use std::net::IpAddr;

use ipnet::IpNet;

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkParseError {
    /// The word that bypass4netns has for the networks of the container.
    #[error("the word `auto` is not supported yet; name the networks")]
    Auto,
    /// Anything else.
    #[error("not a network; write it like 10.0.0.0/8 or fd00::/8")]
    Form,
}

/// Reads a network that is to be ignored, or a single address. Bits beyond the prefix do not count.
///
/// # Errors
/// [`NetworkParseError`]
pub fn parse_network(text: &str) -> Result<IpNet, NetworkParseError> {
    if text == "auto" {
        return Err(NetworkParseError::Auto);
    }
    text.parse::<IpNet>()
        .or_else(|_not_a_net| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_neither| NetworkParseError::Form)
}
