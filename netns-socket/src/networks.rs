//! The addresses of another namespace's interfaces, and so the networks that it is in, as they
//! change.
//!
//! Two netlink sockets of that namespace: one hears that something changed, the other asks what
//! there is. Nothing is read until somebody wants to know, and then first of all whether there is
//! news: an address is known to whoever asks after the call that added it has returned, and a
//! namespace that nobody asks about costs nothing. See [rtnetlink(7)].
//!
//! [rtnetlink(7)]: https://man7.org/linux/man-pages/man7/rtnetlink.7.html

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SendFlags, bind, recvfrom, send};

use crate::identity::{Domain, Kind, netns_cookie_of};
use crate::inside::{InsideError, sockets_inside};
use crate::netlink::{self, Entry, Monitor};
use crate::{SocketSpec, Within};

/// Follows the addresses of a network namespace's interfaces.
#[derive(Debug)]
pub struct Networks {
    monitor: Monitor,
    query: OwnedFd,
    sequence: u32,
    known: Known,
    /// What is known is not what there is now.
    stale: bool,
    /// An answer was not read to its end, and the kernel gives no other before.
    unread: bool,
    changes: u64,
    netns_cookie: Option<u64>,
}

/// An address of an interface, as `RTM_GETADDR` of [rtnetlink(7)] lists it.
///
/// [rtnetlink(7)]: https://man7.org/linux/man-pages/man7/rtnetlink.7.html
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The index of the interface.
    pub ifindex: u32,
    /// The address itself.
    pub ip: IpAddr,
    /// An address in the network that is directly connected: for a point-to-point link the other
    /// end, else the address itself.
    pub peer: IpAddr,
    /// Length of the network's prefix.
    pub prefix_len: u8,
}

impl InterfaceAddress {
    /// Whether this address is in the connected network. An IPv4-mapped one is taken as IPv6.
    #[must_use]
    pub fn reaches(&self, ip: IpAddr) -> bool {
        match (self.peer, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let differing = u32::from(net) ^ u32::from(ip);
                differing.leading_zeros() >= u32::from(self.prefix_len)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let differing = u128::from(net) ^ u128::from(ip);
                differing.leading_zeros() >= u32::from(self.prefix_len)
            }
            _ => false,
        }
    }
}

/// Why the networks of a namespace cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworksError {
    /// No netlink socket could be made there.
    #[error("no netlink socket could be made in the network namespace")]
    Inside(#[from] InsideError),
    /// It could not be told to hear of changes.
    #[error("subscribing to changes failed")]
    BindCall {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
}

/// What is known of the addresses.
#[derive(Debug)]
enum Known {
    All(Vec<InterfaceAddress>),
    /// There are more than are held.
    TooMany,
    /// They could not be asked for.
    Nothing,
}

impl Networks {
    /// Follows the networks of `target`'s namespace. What is said of [`socket_inside`] holds here
    /// too: it takes a child process, about as long as that.
    ///
    /// [`socket_inside`]: crate::socket_inside
    ///
    /// # Errors
    /// [`NetworksError`]
    pub fn of<'a>(target: impl Into<Within<'a>>) -> Result<Self, NetworksError> {
        let [networks] = Self::several(target, 1)?
            .try_into()
            .map_err(|_fewer| InsideError::RecvmsgCall { source: Errno::MFILE })?;
        Ok(networks)
    }

    /// As [`of`](Self::of), for several that do not share what they know: up to four, for the price of
    /// one.
    ///
    /// # Errors
    /// [`NetworksError`]
    pub fn several<'a>(
        target: impl Into<Within<'a>>,
        count: usize,
    ) -> Result<Vec<Self>, NetworksError> {
        let count = count.clamp(1, crate::MAX_AT_ONCE / SOCKETS);
        let spec = SocketSpec {
            domain: Domain::Other(libc::AF_NETLINK),
            kind: Kind::Other(libc::SOCK_RAW),
            protocol: libc::NETLINK_ROUTE,
        };
        let mut sockets = sockets_inside(target, spec, true, count * SOCKETS)?.into_iter();
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            let (Some(monitor), Some(query)) = (sockets.next(), sockets.next()) else {
                return Err(InsideError::RecvmsgCall { source: Errno::MFILE }.into());
            };
            let bound = |socket, groups| {
                bind(socket, &SocketAddrNetlink::new(0, groups))
                    .map_err(|source| NetworksError::BindCall { source })
            };
            bound(&monitor, netlink::ADDRESS_GROUPS)?;
            bound(&query, 0)?;
            all.push(Self {
                netns_cookie: netns_cookie_of(&query).ok().flatten(),
                monitor: Monitor::over(monitor),
                query,
                sequence: 0,
                known: Known::Nothing,
                stale: true,
                unread: false,
                changes: 0,
            });
        }
        Ok(all)
    }

    /// The cookie of the namespace; `None` before Linux 5.14.
    #[must_use]
    pub fn netns_cookie(&self) -> Option<u64> {
        self.netns_cookie
    }

    /// Whether an address is in a network that an interface is connected to, as of now: of an address
    /// that was added or removed before this call, the answer knows. Interfaces count whether they
    /// are up or not.
    ///
    /// `None` where that cannot be told: the namespace has more than [`MAX_ADDRESSES`], changes
    /// them faster than they can be read, or the kernel refused to say.
    ///
    /// Without news it costs one call, well under a microsecond, and no allocation.
    pub fn contain(&mut self, ip: IpAddr) -> Option<bool> {
        Some(self.addresses()?.iter().any(|address| address.reaches(ip)))
    }

    /// Whether an address is an interface's own, as of now; `None` as in [`contain`](Self::contain).
    pub fn have_address(&mut self, ip: IpAddr) -> Option<bool> {
        Some(self.addresses()?.iter().any(|address| address.ip == ip))
    }

    /// All addresses, as of now; `None` as in [`contain`](Self::contain).
    pub fn addresses(&mut self) -> Option<&[InterfaceAddress]> {
        self.refresh();
        match &self.known {
            Known::All(addresses) if !self.stale => Some(addresses),
            _ => None,
        }
    }

    /// A number that has become another one if anything changed that was heard of. What changed since
    /// it was read last is only known after a call that looks.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    fn refresh(&mut self) {
        // Once more after an answer: what changed meanwhile may be in it or not.
        for _ in 0..=TRIES {
            match self.hear() {
                Ok(false) if !self.stale => return,
                Ok(false) => {}
                Ok(true) => self.stale = true,
                // Nothing that is heard from now on would be all.
                Err(_errno) => {
                    self.known = Known::Nothing;
                    self.stale = true;
                    return;
                }
            }
            if !self.ask() {
                return;
            }
        }
        // It changes as fast as we ask.
        self.stale = true;
    }

    /// Whether there is news. Reads as much of it as the socket can hold.
    fn hear(&self) -> Result<bool, Errno> {
        let mut news = false;
        for _ in 0..READS {
            if !self.monitor.changed()? {
                break;
            }
            news = true;
        }
        Ok(news)
    }

    /// False if there is no answer for now.
    fn ask(&mut self) -> bool {
        self.changes = self.changes.wrapping_add(1);
        if self.unread && !self.skip() {
            return false;
        }
        let mut addresses = match std::mem::replace(&mut self.known, Known::Nothing) {
            Known::All(addresses) => addresses,
            Known::TooMany | Known::Nothing => Vec::new(),
        };
        addresses.clear();
        self.sequence = self.sequence.wrapping_add(1);
        let request = netlink::address_request(self.sequence);
        if send(&self.query, &request, SendFlags::empty()).is_err() {
            return false;
        }
        self.unread = true;
        let mut whole = true;
        for _ in 0..MAX_MESSAGES {
            match self.receive(&mut addresses) {
                Part::More { whole: part } => whole &= part,
                Part::End { whole: part } => {
                    self.unread = false;
                    self.known = Known::All(addresses);
                    self.stale = !(whole && part);
                    return true;
                }
                Part::TooMany => {
                    self.known = Known::TooMany;
                    // This is what there is, until something changes.
                    self.stale = false;
                    return false;
                }
                Part::Nothing => {
                    self.unread = false;
                    return false;
                }
                Part::Failed => return false,
            }
        }
        self.known = Known::TooMany;
        self.stale = false;
        false
    }

    /// Reads on in an answer that nobody wants any more. The container decides how long that is, so
    /// it is done a piece at a time.
    fn skip(&mut self) -> bool {
        let part = self.receive(&mut Vec::new());
        self.unread = !matches!(part, Part::End { .. } | Part::Nothing);
        !self.unread
    }

    /// Reads one message of several entries.
    fn receive(&self, addresses: &mut Vec<InterfaceAddress>) -> Part {
        let mut buffer = [0_u8; MESSAGE];
        let (len, sender) = loop {
            match recvfrom(&self.query, &mut buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                // With MSG_TRUNC the length is the message's own.
                Ok((_, len, sender)) => break (len, sender),
                Err(Errno::INTR) => {}
                // The kernel writes on while it is read, so this is the end of whatever it was.
                Err(Errno::AGAIN) => return Part::Nothing,
                Err(_errno) => return Part::Failed,
            }
        };
        let kernels = sender
            .and_then(|sender| SocketAddrNetlink::try_from(sender).ok())
            .is_some_and(|sender| sender.pid() == 0);
        // Root of the container may send to any netlink socket of its namespace.
        if !kernels {
            return Part::More { whole: false };
        }
        let Some(bytes) = buffer.get(..len) else { return Part::Failed };
        let mut whole = true;
        for entry in netlink::entries(bytes, self.sequence) {
            match entry {
                Entry::Address(address) => {
                    if addresses.len() >= MAX_ADDRESSES {
                        return Part::TooMany;
                    }
                    addresses.push(address);
                }
                Entry::Interrupted(address) => {
                    whole = false;
                    addresses.extend(address.filter(|_| addresses.len() < MAX_ADDRESSES));
                }
                Entry::Foreign => {}
                Entry::Done => return Part::End { whole },
                Entry::Malformed => return Part::Failed,
            }
        }
        Part::More { whole }
    }
}

/// What one message was.
enum Part {
    /// Others follow. It is not the whole truth if something changed while it was written.
    More {
        whole: bool,
    },
    End {
        whole: bool,
    },
    TooMany,
    /// There is none.
    Nothing,
    Failed,
}

/// Addresses held of one namespace, which decides how many it has.
pub const MAX_ADDRESSES: usize = 1024;
/// Sockets that each needs.
const SOCKETS: usize = 2;
/// Answers in a row that are out of date when they have been read.
const TRIES: usize = 3;
/// Reads of some dozens of messages, of which a socket's buffer (`net.core.rmem_default`) holds a few
/// hundred.
const READS: usize = 8;
/// The kernel fills no more than this where nobody has shown a longer buffer (`netlink_dump()`).
const MESSAGE: usize = 8192;
/// Each holds some dozens of addresses.
const MAX_MESSAGES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, prefix_len: u8) -> InterfaceAddress {
        let peer = peer.parse().unwrap();
        InterfaceAddress { ifindex: 2, ip: peer, peer, prefix_len }
    }

    #[test]
    fn a_network_has_the_addresses_with_its_prefix() {
        for (net, prefix_len, ip, inside) in [
            ("10.4.1.2", 24, "10.4.1.255", true),
            ("10.4.1.2", 24, "10.4.2.0", false),
            ("10.4.1.2", 32, "10.4.1.2", true),
            ("10.4.1.2", 32, "10.4.1.3", false),
            ("10.4.1.2", 0, "192.0.2.1", true),
            ("10.4.1.2", 24, "::ffff:10.4.1.3", false),
            ("10.4.1.2", 0, "fd00::1", false),
            ("fd00::1", 64, "fd00::ffff:ffff:ffff:ffff", true),
            ("fd00::1", 64, "fd00:0:0:1::1", false),
            ("fd00::1", 128, "fd00::2", false),
            // What no kernel says.
            ("10.4.1.2", 255, "10.4.1.3", false),
            ("fd00::1", 255, "fd00::2", false),
        ] {
            let reaches = address(net, prefix_len).reaches(ip.parse().unwrap());
            assert_eq!(reaches, inside, "{ip} in {net}/{prefix_len}");
        }
    }
}
