//! One published host address: who has it, and what is relayed from it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use netns_socket::{Vigil, Watched};
use rustix::io::Errno;
use rustix::net::sockopt;

use super::backend::{Application, Reach};
use super::table::{Entry, Families};
use super::{Way, reserve};
use crate::publish::Protocol;
use crate::relay::{Relay, Route};

/// A host address, with the socket that keeps it and those that use it.
pub(super) struct Slot {
    entry: Entry,
    /// Keeps the address from others. It gives way to a socket of the application that is not
    /// bound to a device.
    front: Option<OwnedFd>,
    /// The application's sockets.
    sockets: Vec<Given>,
    /// The families that the last of them serves, if it is bound to this very address.
    serving: Option<Families>,
    application: Application,
    way: Way,
    /// Relays what comes to the front: datagrams always, connections while it listens.
    route: Option<Route>,
    /// Keeps the port inside the container from others, as the application's socket would.
    inside: Option<Inside>,
    /// What the application has asked to be bound to, there.
    name_inside: Option<SocketAddr>,
}

/// A socket that the application has, and how its end is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Given {
    /// With its inode.
    Watched(Watched, u64),
    /// A UDP socket of the host, by its inode.
    Udp(u64),
}

impl Given {
    /// Those of these that nobody has open any more; none if that cannot be told.
    pub(super) fn closed(mut sockets: HashSet<Self>, vigil: &Vigil) -> HashSet<Self> {
        let watched = if sockets.iter().any(|socket| matches!(socket, Self::Watched(..))) {
            vigil.open().map(HashSet::from_iter)
        } else {
            Ok(HashSet::new())
        };
        let udp =
            netns_socket::open_udp_sockets(sockets.iter().filter_map(|socket| match socket {
                Self::Udp(inode) => Some(*inode),
                Self::Watched(..) => None,
            }));
        let (Ok(watched), Ok(udp)) = (watched, udp) else { return HashSet::new() };
        sockets.retain(|socket| match socket {
            Self::Watched(socket, _) => !watched.contains(socket),
            Self::Udp(inode) => !udp.contains(inode),
        });
        sockets
    }
}

/// A container socket that is bound as the application's would have been.
enum Inside {
    /// What comes to it is relayed: nobody is connected to a UDP port, so nothing tells whom to
    /// lead to the host.
    Relayed(#[expect(dead_code, reason = "held for what its end brings about")] Route),
    Held(OwnedFd),
}

/// Sockets that an application may have at one address, by `SO_REUSEPORT`: more than servers have
/// workers. How many there are decides what it costs to see which are open.
pub(super) const MAX_SOCKETS: usize = if cfg!(test) { 8 } else { 512 };

/// Connections that may wait to be relayed.
const BACKLOG: i32 = 128;

impl Slot {
    pub(super) fn new(entry: Entry, front: OwnedFd) -> Self {
        Self {
            entry,
            front: Some(front),
            sockets: Vec::new(),
            serving: None,
            application: Application::default(),
            way: Way::Unused,
            route: None,
            inside: None,
            name_inside: None,
        }
    }

    /// How the last application was reached.
    pub(super) fn way(&self) -> Way {
        self.way
    }

    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Whether the front and another socket of ours may have the same address for now. For TCP
    /// by `SO_REUSEADDR`: a bind with `SO_REUSEPORT` would open the port to others with that option
    /// for good (`tb->fastreuseport` in `inet_csk_get_port()`).
    pub(super) fn share(&self, share: bool) -> Result<(), Errno> {
        match (&self.front, self.entry.protocol) {
            (Some(front), Protocol::Tcp) => sockopt::set_socket_reuseaddr(front, share),
            (Some(front), Protocol::Udp) => sockopt::set_socket_reuseport(front, share),
            (None, _) => Ok(()),
        }
    }

    pub(super) fn has_front(&self) -> bool {
        self.front.is_some()
    }

    pub(super) fn give_way(&mut self) {
        self.route = None;
        self.front = None;
    }

    /// A socket of the application has this address from now on.
    pub(super) fn serve(&mut self, socket: Option<Given>, families: Families, reach: Reach) {
        self.sockets.extend(socket);
        self.serving = Some(families);
        self.way = Way::Direct;
        self.application.set(Some(reach));
    }

    /// A socket of the application that has another address, or is inside, is to be reached by
    /// this one as well.
    pub(super) fn serve_by_relay(&mut self, socket: Option<Given>, reach: Reach) {
        self.way = Way::Relayed;
        self.sockets.extend(socket);
        self.application.set(Some(reach));
    }

    /// Whether the application may have no further socket.
    pub(super) fn is_full(&self) -> bool {
        self.sockets.len() >= MAX_SOCKETS
    }

    /// The families that are served by a socket with this address.
    pub(super) fn serving(&self) -> Option<Families> {
        self.serving.filter(|_| !self.sockets.is_empty())
    }

    /// Whether this is one of the application's sockets.
    pub(super) fn has(&self, inode: u64) -> bool {
        self.sockets.iter().any(|socket| match socket {
            Given::Watched(_, of) | Given::Udp(of) => *of == inode,
        })
    }

    /// Relays datagrams from the front to whatever application there is.
    pub(super) fn relay_datagrams(&mut self, relay: &Relay) -> std::io::Result<()> {
        if let (Some(front), None, Protocol::Udp) = (&self.front, &self.route, self.entry.protocol)
        {
            let backend = Box::new(self.application.clone());
            self.route = Some(relay.udp(front.try_clone()?, backend)?);
        }
        Ok(())
    }

    /// How many clients are relayed from the front; `None` where it is not served.
    #[cfg(test)]
    pub(super) fn flows(&self) -> Option<usize> {
        self.route.as_ref().map(Route::flows)
    }

    /// Whether an application is to be reached by the front, and is not yet.
    pub(super) fn needs_relay(&self) -> bool {
        self.front.is_some()
            && self.route.is_none()
            && self.serving.is_none()
            && self.application.is_known()
    }

    /// Relays connections from the front, if the application is to be reached by it.
    pub(super) fn relay_connections(&mut self, relay: &Relay) -> std::io::Result<()> {
        if let (Some(front), None, true) = (&self.front, &self.route, self.application.is_known()) {
            // Connections that have not quite ended do not keep it from listening again.
            sockopt::set_socket_reuseaddr(front, true)?;
            rustix::net::listen(front, BACKLOG)?;
            let backend = Box::new(self.application.clone());
            self.route = Some(relay.tcp(front.try_clone()?, backend)?);
        }
        Ok(())
    }

    /// Keeps this socket, which is bound in the container to the port that the application has on
    /// the host.
    pub(super) fn hold_inside(&mut self, socket: OwnedFd, relay: Option<&Relay>) {
        let name = rustix::net::getsockname(&socket).ok();
        self.name_inside = name.and_then(|name| SocketAddr::try_from(name).ok());
        self.inside = match (self.entry.protocol, relay) {
            (Protocol::Udp, Some(relay)) => relay
                .udp(socket, Box::new(self.application.clone()))
                .inspect_err(|error| tracing::warn!(%error, "the port is not served inside"))
                .map(Inside::Relayed)
                .ok(),
            _ => Some(Inside::Held(socket)),
        };
    }

    /// The container's address of the application's socket.
    pub(super) fn name_inside(&self) -> Option<SocketAddr> {
        self.name_inside
    }

    /// The container socket that is bound as the application's would have been, if nothing comes to it.
    pub(super) fn inside(&self) -> Option<OwnedFd> {
        match &self.inside {
            Some(Inside::Held(socket)) => socket.try_clone().ok(),
            Some(Inside::Relayed(_)) | None => None,
        }
    }

    /// The application's sockets.
    pub(super) fn sockets(&self) -> impl Iterator<Item = Given> {
        self.sockets.iter().copied()
    }

    /// Forgets sockets that were found to be closed, and takes the address back after the last of
    /// them. False if that is still to come.
    pub(super) fn settle(&mut self, closed: &HashSet<Given>) -> bool {
        let had = self.sockets.len();
        self.sockets.retain(|socket| !closed.contains(socket));
        if self.sockets.is_empty() && had > 0 {
            self.withdraw();
        }
        if self.sockets.is_empty() && self.front.is_none() {
            // Refused as long as the socket is on its way to the application, or somebody else
            // was faster.
            self.front = reserve::front(&self.entry).ok();
        }
        self.sockets.is_empty() && self.front.is_some()
    }

    /// Whether nobody but the front needs the address while an application has it, so that there is
    /// no hurry to take it back.
    pub(super) fn can_wait(&self) -> bool {
        self.front.is_some()
    }

    fn withdraw(&mut self) {
        self.serving = None;
        self.inside = None;
        self.application.set(None);
        // Flows lead to a socket that is closed, perhaps in a namespace that only they keep.
        let relayed = self.route.take().is_some();
        if self.entry.protocol == Protocol::Tcp
            && relayed
            && let Some(front) = &self.front
        {
            // First this: one that does not listen must not be joined for a moment, either.
            // Whoever is then, with SO_REUSEPORT, can be for good (`tb->fastreuseport` in
            // `inet_csk_get_port()`).
            sockopt::set_socket_reuseaddr(front, false).ok();
            // It listens no more and keeps its address.
            rustix::net::shutdown(front, rustix::net::Shutdown::Read).ok();
        }
    }
}
