//! The relay's own sources, so that it does not relay to itself.
//!
//! An application's socket can have the address and still not take what is sent there: one that is
//! connected takes datagrams of its peer only. What a flow sends then comes back to a front, by way
//! of a flow of its own back again, and so on for as long as the application likes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The addresses that flows send from, of all fronts of a relay.
///
/// A front in a container might know another socket by the same address: that one's datagrams are
/// lost while the flow lasts.
#[derive(Clone, Default)]
pub(super) struct Sources(Arc<Mutex<HashMap<SocketAddr, usize>>>);

/// One of them, until it is dropped.
pub(super) struct Source {
    address: SocketAddr,
    all: Sources,
}

impl Sources {
    /// Takes in what the socket of a flow is bound to; None where that cannot be told.
    pub(super) fn add(&self, socket: impl AsFd) -> Option<Source> {
        let address = SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok()?;
        let address = plain(address);
        *self.lock().entry(address).or_default() += 1;
        Some(Source { address, all: self.clone() })
    }

    /// Whether a flow sends from this address.
    pub(super) fn has(&self, address: SocketAddr) -> bool {
        self.lock().contains_key(&plain(address))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(count) = all.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
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
    fn a_source_is_known_until_its_last_flow_ends() {
        let sources = Sources::default();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let mapped = SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), address.port());
        assert!(!sources.has(address));
        let [first, second] = [(); 2].map(|()| sources.add(&socket).unwrap());
        assert!(sources.has(address) && sources.has(mapped));
        drop(first);
        assert!(sources.has(address));
        drop(second);
        assert!(!sources.has(address));
    }
}
