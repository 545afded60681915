//! Sees packets to some addresses, whether or not anybody there takes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use rustix::net::{RecvFlags, recv};

use super::canary::within;
use crate::failure::{Context, Result};

/// A packet socket. See [packet(7)](https://man7.org/linux/man-pages/man7/packet.7.html).
#[derive(Debug)]
pub struct Sniffer {
    socket: OwnedFd,
    addresses: Vec<IpAddr>,
}

impl Sniffer {
    /// Watches for packets to these addresses in the namespace that the file names.
    ///
    /// # Errors
    /// When the socket cannot be had.
    pub fn open(namespace: &Path, addresses: &[IpAddr]) -> Result<Self> {
        let socket = within(namespace, || {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let (family, kind) = (AddressFamily::Packet, SockType::Datagram);
            socket(family, kind, flags, SockProtocol::EthAll).context("socket(AF_PACKET)")
        })?;
        Ok(Self { socket, addresses: addresses.to_vec() })
    }

    /// How many packets with this text have come since the last time.
    #[must_use]
    pub fn packets(&self, with: &str) -> usize {
        let mut packet = [0; 512];
        let mut count = 0;
        while let Ok((read, _whole)) = recv(&self.socket, packet.as_mut_slice(), RecvFlags::empty())
        {
            let packet = packet.get(..read.min(packet.len())).unwrap_or_default();
            let there = destination(packet).is_some_and(|to| self.addresses.contains(&to));
            let said = packet.windows(with.len().max(1)).any(|part| part == with.as_bytes());
            count += usize::from(there && said);
        }
        count
    }
}

/// Where an IP packet goes.
fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => {
            let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            Some(Ipv4Addr::from(to).into())
        }
        6 => {
            let to: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            Some(Ipv6Addr::from(to).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_goes_where_its_header_says() {
        let mut v4 = [0; 20];
        v4[0] = 0x45;
        v4[16..].copy_from_slice(&[198, 18, 0, 3]);
        assert_eq!(destination(&v4), Some(Ipv4Addr::new(198, 18, 0, 3).into()));
        let mut v6 = [0; 40];
        v6[0] = 0x60;
        v6[39] = 1;
        assert_eq!(destination(&v6), Some(Ipv6Addr::LOCALHOST.into()));
        for len in 0..20 {
            assert_eq!(destination(&v4[..len]), None);
        }
        assert_eq!(destination(&[0; 40]), None);
    }
}
