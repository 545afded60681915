//! Lists of addresses that many policies name.

use std::fmt;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A list of addresses with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Preset {
    /// Where clouds serve the metadata of a machine, and with it credentials, to whoever asks from
    /// that machine. Some serve names at the same address: GCP at 169.254.169.254, Azure at
    /// 168.63.129.16.
    Metadata,
    /// Networks that are not of the Internet: private use (RFC 1918, RFC 4193), carrier-grade NAT
    /// (RFC 6598) and link-local (RFC 3927, RFC 4291).
    Private,
    /// The host's own addresses, whichever they are at the moment, but for its loopback: that is
    /// the container's own, unless a policy gives it the host's.
    Host,
}

impl Preset {
    /// Every preset.
    pub const ALL: &'static [Self] = &[Self::Metadata, Self::Private, Self::Host];

    /// The word for it in a rule.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Private => "private",
            Self::Host => "host",
        }
    }

    /// The networks in it. [`Host`](Self::Host) has none: only the kernel knows them.
    #[must_use]
    pub const fn networks(self) -> &'static [IpNet] {
        match self {
            Self::Metadata => METADATA,
            Self::Private => PRIVATE,
            Self::Host => &[],
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No preset has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a preset: write metadata, private or host")]
pub struct PresetParseError(Box<str>);

impl FromStr for Preset {
    type Err = PresetParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.iter().find(|preset| preset.name() == text);
        named.copied().ok_or_else(|| PresetParseError(text.into()))
    }
}

const METADATA: &[IpNet] = &[
    // Amazon EC2 ("Access instance metadata"), and after it Azure, Google Cloud, Oracle Cloud,
    // OpenStack Nova, DigitalOcean, Hetzner, IBM, Vultr and others.
    v4([169, 254, 169, 254], 32),
    // Amazon EC2 over IPv6.
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128),
    // Amazon ECS: task metadata and the credentials of a task's role.
    v4([169, 254, 170, 2], 32),
    // Amazon EKS Pod Identity: the agent's credentials endpoint.
    v4([169, 254, 170, 23], 32),
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23], 128),
    // Google Compute Engine, instances with IPv6 only ("View and query VM metadata").
    v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128),
    // Azure: the virtual public address of the platform, with the wire server and names
    // ("What is IP address 168.63.129.16?").
    v4([168, 63, 129, 16], 32),
    // Oracle Cloud Infrastructure over IPv6, and its Classic generation.
    v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128),
    v4([192, 0, 0, 192], 32),
    // Alibaba Cloud ECS ("Instance metadata").
    v4([100, 100, 100, 200], 32),
    v6([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200], 128),
    // Tencent Cloud: what metadata.tencentyun.com resolves to.
    v4([169, 254, 0, 23], 32),
    v4([169, 254, 10, 10], 32),
    // Scaleway (cloud-init's data source for it names both).
    v4([169, 254, 42, 42], 32),
    v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128),
    // Akamai, formerly Linode ("Metadata service API"); the second is OpenStack Nova's too.
    v6([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1], 128),
    v6([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128),
];

const PRIVATE: &[IpNet] = &[
    // RFC 1918
    v4([10, 0, 0, 0], 8),
    v4([172, 16, 0, 0], 12),
    v4([192, 168, 0, 0], 16),
    // RFC 6598
    v4([100, 64, 0, 0], 10),
    // RFC 3927
    v4([169, 254, 0, 0], 16),
    // RFC 4193
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
    // RFC 4291
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for preset in Preset::ALL {
            assert_eq!(preset.name().parse(), Ok(*preset));
        }
        let error = "Host".parse::<Preset>().unwrap_err().to_string();
        assert!(error.contains("write metadata, private or host"), "{error}");
    }

    #[test]
    fn networks_have_no_bits_beyond_their_prefix_and_no_mapped_addresses() {
        for preset in Preset::ALL {
            for net in preset.networks() {
                assert_eq!(net.addr(), net.network(), "{net}");
                assert_eq!(net.addr().to_canonical(), net.addr(), "{net}");
            }
        }
    }

    #[test]
    fn what_is_where() {
        let holds = |preset: Preset, ip: &str| {
            preset
                .networks()
                .iter()
                .any(|net| net.contains(&ip.parse::<std::net::IpAddr>().unwrap()))
        };
        for ip in ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16"] {
            assert!(holds(Preset::Metadata, ip), "{ip}");
        }
        for ip in ["169.254.169.253", "192.0.0.191", "8.8.8.8", "fd00:ec2::253"] {
            assert!(!holds(Preset::Metadata, ip), "{ip}");
        }
        for ip in ["10.0.0.0", "172.31.255.255", "192.168.1.1", "100.127.0.1", "fd12::1", "febf::1"]
        {
            assert!(holds(Preset::Private, ip), "{ip}");
        }
        for ip in ["11.0.0.0", "172.32.0.0", "192.169.0.0", "100.128.0.0", "127.0.0.1", "::1"] {
            assert!(!holds(Preset::Private, ip), "{ip}");
        }
    }
}
