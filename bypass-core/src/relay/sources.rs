//! The relay's own sources, so that it does not relay to itself.
//!
//! An application's socket can have the address and still not take what is sent there: one that is
//! connected takes datagrams of its peer only. What a flow sends then comes back to a front, by way
//! of a flow of its own back again, and so on for as long as the application likes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netns_socket::Identity;

/// The addresses that flows send from, of all fronts of a relay. Those of another network namespace
/// mean others: with many flows into a container, many clients would have the same there.
#[derive(Clone, Default)]
pub(super) struct Sources(Arc<Mutex<HashMap<Place, usize>>>);

/// One of them, until it is dropped.
pub(super) struct Source {
    place: Place,
    all: Sources,
}

/// A network namespace, by its cookie, and an address there.
type Place = (Option<u64>, SocketAddr);

impl Sources {
    /// Takes in what the socket of a flow is bound to; None where that cannot be told.
    pub(super) fn add(&self, socket: impl AsFd) -> Option<Source> {
        let address = SocketAddr::try_from(rustix::net::getsockname(&socket).ok()?).ok()?;
        let place = (netns_of(socket), plain(address));
        *self.lock().entry(place).or_default() += 1;
        Some(Source { place, all: self.clone() })
    }

    /// Whether a flow sends from this address, as a socket of the namespace `netns` sees it.
    pub(super) fn has(&self, netns: Option<u64>, address: SocketAddr) -> bool {
        self.lock().contains_key(&(netns, plain(address)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(count) = all.get_mut(&self.place) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                all.remove(&self.place);
            }
        }
    }
}

/// The cookie of the network namespace that a socket is in.
pub(super) fn netns_of(socket: impl AsFd) -> Option<u64> {
    Identity::of(socket).ok().flatten()?.netns_cookie
}

/// Neither IPv4-mapped, nor with a scope or a flow label.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn a_source_is_known_until_its_last_flow_ends() {
        let sources = Sources::default();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (netns, address) = (netns_of(&socket), socket.local_addr().unwrap());
        let mapped = SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), address.port());
        assert!(!sources.has(netns, address));
        let [first, second] = [(); 2].map(|()| sources.add(&socket).unwrap());
        assert!(sources.has(netns, address) && sources.has(netns, mapped));
        let elsewhere = netns.map(|cookie| cookie + 1);
        assert!(elsewhere.is_some() && !sources.has(elsewhere, address));
        drop(first);
        assert!(sources.has(netns, address));
        drop(second);
        assert!(!sources.has(netns, address));
    }
}
