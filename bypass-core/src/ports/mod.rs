//! Host ports that are published: reserved, handed to applications, and taken back.
//!
//! Every host address that was asked for has a slot with a socket of ours that keeps the
//! address from others, its *front*. What becomes of it when the application binds:
//!
//! ```text
//!         reserved ───── bind ─────▶ shared ───── listen ─────▶ in use
//!   TCP   front is bound             both are bound             front has given way
//!   UDP   front is bound             both are bound, and stay so
//!         reserved ◀──── the application's last socket has been closed ────
//! ```
//!
//! In UDP the application's socket is bound to a device, which is another address to the kernel
//! and the one it prefers; the front gets what comes by other devices, and it is relayed. So is
//! what comes to host addresses that the application's one socket cannot have as well. For the
//! moment of the bind, socket and front have an option by which they can share the address. Without
//! it the front keeps all others off, also those with `SO_REUSEADDR`, who could share the address
//! with a socket that does not listen yet.
//!
//! Where `listen` is not trapped, nothing tells that a TCP front is to give way: the kernel would
//! find it beside the socket that is to listen, and refuse with EADDRINUSE. There it gives way at
//! bind ([`giving_way_at_bind`](Ports::giving_way_at_bind)).

mod backend;
mod reserve;
mod slot;
mod table;
#[cfg(test)]
// All of them with sockets.
#[cfg(not(miri))]
mod tests;
mod warden;

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use netns_socket::{Namespace, Vigil};
use rustix::io::Errno;
use rustix::net::sockopt;
use serde::Serialize;

use self::backend::Reach;
pub(crate) use self::backend::{OUTSIDE_V4, OUTSIDE_V6};
pub use self::reserve::ReserveError;
use self::slot::{Given, Slot};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::table::Entry;
pub(crate) use self::table::{Choice, Families, Index, Table, Wanted, in_family};
use self::warden::Warden;
use crate::inside::Inside;
use crate::publish::{Protocol, PublishList};
use crate::relay::Relay;

/// How often addresses in use are looked at. A server that ends leaves its port free for others
/// for no longer than this.
const CHECK_EVERY: Duration = Duration::from_millis(200);
/// The same for addresses that their front never leaves: what the relay does is all that changes.
const CHECK_AT_LEISURE: Duration = Duration::from_secs(1);

/// Reserved host ports, for any number of containers.
///
/// They are free again when the last clone is dropped and no [container](crate::Container) that
/// uses them is left. The first container that binds a port gets it.
#[derive(Clone, Debug)]
pub struct Ports(Arc<Shared>, GiveWay);

/// When the reservation of a TCP port gives way to an application that has bound it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GiveWay {
    /// When it listens, which is trapped.
    AtListen,
    /// At once.
    AtBind,
}

/// One published host address, as `bypass-cli run --report` lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Published {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The host's address and the port, chosen by the kernel where none was named.
    pub host: SocketAddr,
    /// The port in the container.
    pub container_port: u16,
    /// How the application is reached, or was.
    pub way: Way,
    /// Whether an application has it now. That one has closed it is noticed within a second.
    pub in_use: bool,
}

/// How an application is reached by a published host address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Way {
    /// Nothing has bound the container's port.
    Unused,
    /// By its own socket.
    Direct,
    /// Through the relay in user space. (A UDP socket that is reached directly is reached through
    /// it as well, by what does not come by its device.)
    Relayed,
}

struct Shared {
    table: Arc<Table>,
    slots: Box<[Mutex<Slot>]>,
    /// The application's sockets; there is none without slots.
    vigil: Option<Vigil>,
    warden: Warden,
    /// Started for the first that is to be relayed.
    relay: Mutex<Option<Relay>>,
}

impl Ports {
    /// Nothing is published: no socket, no thread.
    #[must_use]
    pub fn none() -> Self {
        Self::of(Vec::new(), None)
    }

    /// Reserves every host port on the list, in the calling thread's network namespace: a socket for each is
    /// bound ([bind(2)](https://man7.org/linux/man-pages/man2/bind.2.html)), and for TCP does not listen, so
    /// that clients are refused until the container serves it.
    ///
    /// # Errors
    /// [`ReserveError`] names the map, the port, the reason and the remedy. Nothing stays reserved
    /// then.
    pub fn reserve(list: &PublishList) -> Result<Self, ReserveError> {
        if list.is_empty() {
            return Ok(Self::none());
        }
        let vigil = Vigil::new().map_err(|source| ReserveError::Vigil { source })?;
        Ok(Self::of(reserve::reserve(list)?, Some(vigil)))
    }

    fn of(reserved: Vec<reserve::Reserved>, vigil: Option<Vigil>) -> Self {
        let table = Table::new(reserved.iter().map(|(entry, _)| *entry).collect());
        let slots = reserved.into_iter().map(|(entry, front)| Mutex::new(Slot::new(entry, front)));
        let slots = slots.collect();
        let (warden, relay) = (Warden::default(), Mutex::default());
        let shared = Arc::new(Shared { table: Arc::new(table), slots, vigil, warden, relay });
        shared.relay_datagrams();
        Self(shared, GiveWay::AtListen)
    }

    /// The same ports, for a container whose `listen` is not trapped: their reservation gives way
    /// at bind. Until the application listens, a program with `SO_REUSEADDR` can have the port as
    /// well, and what is relayed to it is accepted and closed.
    pub(crate) fn giving_way_at_bind(self) -> Self {
        Self(self.0, GiveWay::AtBind)
    }

    /// Every host address; those whose port was named come first.
    pub fn published(&self) -> impl Iterator<Item = Published> {
        self.0.table.entries().map(|(index, entry)| {
            let slots = self.0.lock(&[index]);
            let (way, in_use) = slots
                .first()
                .map_or((Way::Unused, false), |slot| (slot.way(), slot.sockets().next().is_some()));
            Published {
                protocol: entry.protocol,
                host: entry.host,
                container_port: entry.container_port,
                way,
                in_use,
            }
        })
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.0.table)
    }

    /// Binds a host socket, which nobody else has yet, to the host address of its slots. `pinned`
    /// says whether it is bound to a device, `beside` is a socket with the same address that it is
    /// to replace.
    ///
    /// # Errors
    /// What bind(2) said: EADDRINUSE where an application has the port already. ENOBUFS where it has
    /// too many sockets there.
    pub(crate) fn bind(
        &self,
        socket: &OwnedFd,
        choice: &Choice,
        pinned: bool,
        beside: Option<&OwnedFd>,
    ) -> Result<(), Errno> {
        let asked_for = sockopt::socket_reuseport(socket)?;
        // Before the lock that others wait for: the program has this socket too, and can keep its own
        // lock for as long as it likes.
        let beside = beside.filter(|_| !asked_for);
        let shared = beside.map_or(Ok(()), |old| sockopt::set_socket_reuseport(old, true));
        let bound = shared
            .and_then(|()| self.bind_alone(socket, choice, pinned, asked_for || beside.is_some()));
        if let Some(old) = beside {
            sockopt::set_socket_reuseport(old, false).ok();
        }
        sockopt::set_socket_reuseport(socket, asked_for)?;
        if bound.is_ok() {
            Warden::wake(&self.0);
        }
        bound
    }

    /// [`bind`](Self::bind), as far as nothing is touched that a program has. `shares` says that the
    /// address has to be shared with other sockets than the fronts.
    fn bind_alone(
        &self,
        socket: &OwnedFd,
        choice: &Choice,
        pinned: bool,
        shares: bool,
    ) -> Result<(), Errno> {
        let mut slots = self.0.lock(&choice.own);
        if slots.iter().any(|slot| slot.is_full()) {
            return Err(Errno::NOBUFS);
        }
        if choice.bind.is_ipv6() && choice.bind.ip().to_canonical().is_ipv6() {
            sockopt::set_ipv6_v6only(socket, choice.v6_only)?;
        }
        // Connections of an earlier listener may linger on the host. The container started in a
        // namespace without them, and must not find its port in use.
        let reuses = sockopt::socket_reuseaddr(socket)?;
        let tcp = slots.iter().any(|slot| slot.entry().protocol == Protocol::Tcp);
        sockopt::set_socket_reuseaddr(socket, reuses || tcp)?;
        let reserved = !tcp && slots.iter().any(|slot| slot.has_front());
        sockopt::set_socket_reuseport(socket, shares || reserved)?;
        let shared = slots.iter().try_for_each(|slot| slot.share(true));
        let bound = shared.and_then(|()| rustix::net::bind(socket, &choice.bind));
        for slot in &mut slots {
            // One that is to listen has the address to itself only then.
            if bound.is_ok() && !tcp && !pinned {
                slot.give_way();
            }
            slot.share(false).ok();
        }
        // Where nothing tells us of its listen, it is needed from now on for the same reason.
        let keeps = tcp && self.1 == GiveWay::AtBind;
        sockopt::set_socket_reuseaddr(socket, reuses || keeps)?;
        bound
    }

    /// The socket that was bound is the application's from now on. `inside` is a container socket
    /// that nobody else has, bound to the container's port; it keeps the port from others there.
    pub(crate) fn serve(
        &self,
        choice: &Choice,
        pin: Option<u32>,
        socket: &OwnedFd,
        inside: Option<&OwnedFd>,
    ) {
        let shared = &self.0;
        let Some(primary) = choice.own.first().and_then(|index| shared.table.get(*index)) else {
            return;
        };
        let primary = *primary;
        let given = match primary.protocol {
            Protocol::Tcp => shared.watch(socket),
            Protocol::Udp => inode_of(socket).map(Given::Udp),
        };
        // A socket that is not followed would have its address taken back at once.
        let at_bind = self.1 == GiveWay::AtBind && primary.protocol == Protocol::Tcp;
        for mut slot in shared.lock(&choice.own) {
            let reach = Reach::Host { entry: *slot.entry(), pin };
            slot.serve(given, choice.families, reach);
            if at_bind && given.is_some() {
                slot.give_way();
            }
        }
        for mut slot in shared.lock(&choice.relayed) {
            slot.serve_by_relay(given, Reach::Host { entry: primary, pin });
        }
        let relay = (primary.protocol == Protocol::Udp).then(|| shared.relay()).flatten();
        match inside.map(OwnedFd::try_clone).transpose() {
            Ok(None) => {}
            Ok(Some(inside)) => {
                let mut first = shared.lock(choice.own.get(..1).unwrap_or_default());
                if let Some(slot) = first.first_mut() {
                    slot.hold_inside(inside, relay.as_ref());
                }
            }
            Err(error) => tracing::warn!(%error, "the port is not held inside"),
        }
        if at_bind {
            self.relay_to(primary.container_port);
        }
        Warden::wake(shared);
    }

    /// A socket that stays in the container, whose network namespace this is, serves these slots. It
    /// is bound to `addr`.
    pub(crate) fn serve_from_inside(
        &self,
        indices: &[Index],
        namespace: &Arc<Namespace>,
        addr: SocketAddr,
        socket: &OwnedFd,
    ) {
        let mut slots = self.0.lock(indices);
        if slots.iter().any(|slot| slot.is_full()) {
            return;
        }
        let watched = self.0.watch(socket);
        for slot in &mut slots {
            let (namespace, inside) = (Arc::clone(namespace), Inside::default());
            slot.serve_by_relay(watched, Reach::Inside { namespace, addr, inside });
        }
        drop(slots);
        Warden::wake(&self.0);
    }

    /// listen(2) on a published TCP socket that is bound to `local`.
    ///
    /// # Errors
    /// What it said.
    pub(crate) fn listen(
        &self,
        socket: &OwnedFd,
        backlog: i32,
        local: SocketAddr,
    ) -> Result<(), Errno> {
        let table = &self.0.table;
        let v6_only = sockopt::ipv6_v6only(socket).unwrap_or(false);
        let mut slots = self.0.lock(&table.covered(Protocol::Tcp, local, v6_only));
        // Its connections inherit this, and so do not keep the port from whoever comes next.
        sockopt::set_socket_reuseaddr(socket, true)?;
        for slot in &mut slots {
            slot.give_way();
        }
        rustix::net::listen(socket, backlog)?;
        drop(slots);
        if let Some(entry) = table.by_host(Protocol::Tcp, local) {
            self.relay_to(entry.container_port);
        }
        Ok(())
    }

    /// The application listens: what it is to be reached by through the relay, listens too.
    fn relay_to(&self, container_port: u16) {
        let indices: Vec<_> =
            self.0.table.of_port(Protocol::Tcp, container_port).map(|(index, _)| index).collect();
        for mut slot in self.0.lock(&indices) {
            if slot.needs_relay()
                && let Some(relay) = self.0.relay()
                && let Err(error) = slot.relay_connections(&relay)
            {
                tracing::warn!(%error, host = %slot.entry().host, "connections are not relayed");
            }
        }
    }

    /// Takes back at once what is in use no more.
    pub(crate) fn settle(&self) {
        self.0.settle();
    }

    /// The container's address of the application's socket.
    pub(crate) fn name_inside(&self, index: Index) -> Option<SocketAddr> {
        self.0.lock(&[index]).first()?.name_inside()
    }

    /// The socket that holds the application's port inside the container.
    pub(crate) fn inside(&self, index: Index) -> Option<OwnedFd> {
        self.0.lock(&[index]).first()?.inside()
    }

    /// The families of the application that has the address of this slot.
    pub(crate) fn serving(&self, index: Index) -> Option<Families> {
        self.0.lock(&[index]).first()?.serving()
    }

    /// Whether it is the application that gets the connections to `host`, the address of this slot,
    /// which come in by `device`. While its socket does not listen, another program may, with
    /// `SO_REUSEADDR`.
    pub(crate) fn is_applications(&self, index: Index, host: SocketAddr, device: u32) -> bool {
        let listener = netns_socket::listener_at(host, device)
            .inspect_err(|error| tracing::debug!(%error, "who listens cannot be told"));
        let Ok(Some(inode)) = listener else { return false };
        self.0.lock(&[index]).first().is_some_and(|slot| slot.has(inode))
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self::none()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ports").field(&self.table).finish()
    }
}

impl Shared {
    /// In the order of their positions, so that two threads never wait for each other.
    fn lock(&self, indices: &[Index]) -> Vec<MutexGuard<'_, Slot>> {
        let mut indices = indices.to_vec();
        indices.sort_unstable();
        let slots = indices.iter().filter_map(|index| self.slots.get(*index));
        slots.map(|slot| slot.lock().unwrap_or_else(PoisonError::into_inner)).collect()
    }

    /// Takes back what is in use no more, and says when to look again; `None` if everything is
    /// reserved.
    fn settle(&self) -> Option<Duration> {
        let vigil = self.vigil.as_ref()?;
        let locked =
            || self.slots.iter().map(|slot| slot.lock().unwrap_or_else(PoisonError::into_inner));
        // Looked for without a lock: the lists are as long as applications make them. What is added
        // meanwhile was not looked for, and so is not taken for closed.
        let sockets = locked().flat_map(|slot| slot.sockets().collect::<Vec<_>>()).collect();
        let closed = Given::closed(sockets, vigil);
        let mut next = None;
        for mut slot in locked() {
            if !slot.settle(&closed) {
                let wait = if slot.can_wait() { CHECK_AT_LEISURE } else { CHECK_EVERY };
                next = next.into_iter().chain([wait]).min();
            }
        }
        // A front that has come back has to be relayed from again.
        self.relay_datagrams();
        next
    }

    fn relay_datagrams(&self) {
        for slot in &self.slots {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            if slot.entry().protocol == Protocol::Udp
                && slot.has_front()
                && let Some(relay) = self.relay()
                && let Err(error) = slot.relay_datagrams(&relay)
            {
                tracing::warn!(%error, host = %slot.entry().host, "datagrams are not relayed");
            }
        }
    }

    fn relay(&self) -> Option<Relay> {
        let mut relay = self.relay.lock().unwrap_or_else(PoisonError::into_inner);
        if relay.is_none() {
            *relay = Relay::start()
                .inspect_err(|error| tracing::warn!(%error, "nothing can be relayed"))
                .ok();
        }
        relay.clone()
    }

    fn watch(&self, socket: &OwnedFd) -> Option<Given> {
        let vigil = self.vigil.as_ref()?;
        vigil
            .watch(socket)
            .inspect_err(|error| tracing::warn!(%error, "a published socket is not watched"))
            .ok()
            .zip(inode_of(socket))
            .map(|(watched, inode)| Given::Watched(watched, inode))
    }
}

fn inode_of(socket: &OwnedFd) -> Option<u64> {
    rustix::fs::fstat(socket).ok().map(|stat| stat.st_ino)
}
