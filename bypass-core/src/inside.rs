//! A container's own network namespace, used from outside.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use netns_socket::{Domain, Kind, PidFd, SocketSpec, Within};

/// A container's network namespace. Everything is asked anew; what is kept are sockets, since
/// making one takes a process.
#[derive(Debug, Default)]
pub(crate) struct Inside {
    v4: Option<OwnedFd>,
    v6: Option<OwnedFd>,
    /// Fresh sockets of the kinds that were needed before: programs that go back and forth
    /// between host and container (name look-ups do) need many.
    spare: HashMap<SocketSpec, Vec<OwnedFd>>,
}

impl Inside {
    /// A fresh socket in the container; it does not block.
    pub(crate) fn socket<'a>(
        &mut self,
        target: impl Into<Within<'a>>,
        spec: SocketSpec,
    ) -> Option<OwnedFd> {
        // The first time may be the only one.
        let count = if self.spare.contains_key(&spec) { netns_socket::MAX_AT_ONCE } else { 1 };
        let spare = self.spare.entry(spec).or_default();
        if spare.is_empty() {
            match netns_socket::sockets_inside(target, spec, true, count) {
                Ok(sockets) => *spare = sockets,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "no socket could be made in the container");
                }
            }
        }
        spare.pop()
    }

    /// Whether the container has this address. False where that cannot be found out.
    pub(crate) fn has_address(&mut self, target: &PidFd, ip: IpAddr) -> bool {
        let (asker, domain) = match ip {
            IpAddr::V4(_) => (&mut self.v4, Domain::Inet),
            IpAddr::V6(_) => (&mut self.v6, Domain::Inet6),
        };
        let asker = match asker {
            Some(asker) => asker,
            None => {
                let spec = SocketSpec { domain, kind: Kind::Datagram, protocol: 0 };
                match netns_socket::socket_inside(target, spec, true) {
                    Ok(socket) => asker.insert(socket),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::debug!(error, "the container's addresses cannot be asked for");
                        return false;
                    }
                }
            }
        };
        // A packet to an address of one's own comes from that address. Connecting a datagram
        // socket sends nothing.
        let source = rustix::net::connect(&*asker, &SocketAddr::new(ip, DISCARD))
            .and_then(|()| rustix::net::getsockname(&*asker));
        rustix::net::connect_unspec(&*asker).ok();
        source
            .is_ok_and(|source| SocketAddr::try_from(source).is_ok_and(|source| source.ip() == ip))
    }
}

/// Any port but 0 will do.
const DISCARD: u16 = 9;
