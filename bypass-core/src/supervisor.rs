//! What all containers of a process share, and the way in for a new one.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use netns_socket::{Arrival, PidFd, RouteError, Router};
use seccomp_notify::Listener;

use crate::audit::{AuditLimits, AuditSink, Auditor};
use crate::container::{Container, OnEnd};
use crate::engine::{Facts, Rules, Udp};
use crate::live::Live;
use crate::neighbours::Neighbours;
use crate::networks::OwnNamespace;
use crate::policy::Policy;
use crate::ports::Ports;
use crate::share::Pool;
use crate::stats::Snapshot;

/// Calls of one container that may wait at a time, where descriptors are plenty.
const MAX_WAITING: usize = 4096;
/// A call that waits holds two descriptors of ours. One container gets no more waiting calls than
/// this part of the descriptors that we may have, and all of them together no more than that beside
/// the few that each has for itself.
const PART_OF_CONTAINER: u64 = 16;
const PART_OF_ALL: u64 = 8;

/// Facts about the host, asked of the kernel once.
pub(crate) struct Host {
    pub(crate) router: Router,
    pub(crate) netns: u64,
    /// Calls that may wait, of all containers together.
    waiting: Arc<Pool>,
    neighbours: Arc<Neighbours>,
}

impl Host {
    /// Whether an address is the host's own: `None` where it cannot be told, or the address is that
    /// of others as well.
    pub(crate) fn is_address(&self, ip: IpAddr) -> Option<bool> {
        match self.router.arrival(ip) {
            Ok(Arrival::Here) => Some(true),
            Ok(Arrival::Elsewhere) => Some(false),
            Ok(Arrival::HereToo) => None,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "could not look up an address");
                None
            }
        }
    }
}

/// Serves any number of containers.
///
/// It must be made, and containers attached, by a thread in the host's network
/// namespace: that is where host sockets are made.
#[derive(Clone)]
pub struct Supervisor {
    host: Arc<Host>,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").field("netns", &self.host.netns).finish_non_exhaustive()
    }
}

/// Why no supervisor could be made. None of it depends on a container: what fails once fails again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The running kernel cannot tell which namespace a socket is in.
    #[error("this kernel has no SO_NETNS_COOKIE (Linux 5.14 or later is needed)")]
    NoNetnsCookie,
    /// The cookie of the own namespace could not be read.
    #[error("the network namespace of this process could not be identified")]
    Netns(#[source] netns_socket::SockOptError),
    /// The netlink sockets for routes could not be opened.
    #[error("the routes of the host cannot be followed")]
    Router(#[source] RouteError),
}

/// Why a container could not be attached: for lack of descriptors (EMFILE, ENFILE), memory or threads
/// (EAGAIN, see `RLIMIT_NPROC` in [getrlimit(2)]).
///
/// [getrlimit(2)]: https://man7.org/linux/man-pages/man2/getrlimit.2.html
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// No [eventfd(2)](https://man7.org/linux/man-pages/man2/eventfd.2.html), by which the container is woken.
    #[error("eventfd failed")]
    EventfdCall {
        /// What the kernel said.
        source: io::Error,
    },
    /// No [epoll(7)](https://man7.org/linux/man-pages/man7/epoll.7.html) for connections that calls wait for.
    #[error("epoll_create failed")]
    EpollCall {
        /// What the kernel said.
        source: io::Error,
    },
    /// No thread.
    #[error("the container's thread could not be started")]
    ThreadCall {
        /// What the kernel said.
        source: io::Error,
    },
}

/// How one container is treated.
///
/// By default host sockets are pinned to their device, UDP stays in the container, nothing is published,
/// no record is kept for audits, and `listen` counts as trapped. Each method changes one of these.
///
/// ```
/// use bypass_core::{Policy, Preset, Settings, Udp};
///
/// let policy = Policy::builder().deny([Preset::Metadata.into()]).build();
/// // The filter of this container traps sendmsg and sendmmsg.
/// let settings = Settings::new("web", policy).udp(Udp::Connected).host_datagrams(true);
/// # drop(settings);
/// ```
pub struct Settings {
    name: String,
    policy: Arc<Policy>,
    ports: Ports,
    udp: Udp,
    host_datagrams: bool,
    listen_trapped: bool,
    host_binds: bool,
    pin: bool,
    netns: Option<u64>,
    epolls_told: bool,
    first: Option<PidFd>,
    neighbour: bool,
    audit: Option<(Arc<dyn AuditSink>, AuditLimits)>,
    on_end: Option<OnEnd>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("name", &self.name)
            .field("policy", &self.policy)
            .field("ports", &self.ports)
            .field("udp", &self.udp)
            .field("host_datagrams", &self.host_datagrams)
            .field("listen_trapped", &self.listen_trapped)
            .field("host_binds", &self.host_binds)
            .field("pin", &self.pin)
            .field("netns", &self.netns)
            .field("first", &self.first)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// A container with this name (for logs) under this policy. Host sockets are pinned.
    pub fn new(name: impl Into<String>, policy: impl Into<Arc<Policy>>) -> Self {
        Self {
            name: name.into(),
            policy: policy.into(),
            ports: Ports::none(),
            udp: Udp::default(),
            host_datagrams: false,
            listen_trapped: true,
            host_binds: false,
            pin: true,
            netns: None,
            epolls_told: false,
            first: None,
            neighbour: false,
            audit: None,
            on_end: None,
        }
    }

    /// The host ports that the container serves. Several containers may be given the same.
    #[must_use]
    pub fn publish(mut self, ports: Ports) -> Self {
        self.ports = ports;
        self
    }

    /// Which UDP sockets are switched, if the container may have
    /// [any of the host](Self::host_datagrams).
    #[must_use]
    pub fn udp(mut self, udp: Udp) -> Self {
        self.udp = udp;
        self
    }

    /// Whether the container may be given UDP sockets of the host. Without it, UDP stays in the
    /// container, and published UDP ports are relayed to it in user space.
    ///
    /// # Warning
    /// Say yes only if the container's filter traps `sendmsg` and `sendmmsg`. Their control messages
    /// can lead IPv4 datagrams past the device that a socket is bound to, to the host's loopback
    /// for one (`IP_PKTINFO`); no filter sees them, so such calls have to be carried out here.
    #[must_use]
    pub fn host_datagrams(mut self, may: bool) -> Self {
        self.host_datagrams = may;
        self
    }

    /// Whether the container's filter traps `listen`, as ours does. Where it does not, the reservation
    /// of a published TCP port gives way as soon as the container has bound it.
    #[must_use]
    pub fn listen_trapped(mut self, trapped: bool) -> Self {
        self.listen_trapped = trapped;
        self
    }

    /// Whether what the container binds is bound on the host, at the same address and port: TCP, and
    /// UDP with [`Udp::All`]. It takes effect only under a policy that allows the host's loopback:
    /// a server and its clients in the container would else be in different networks.
    ///
    /// # Warning
    /// The container can then open any port of the host that the caller could.
    #[must_use]
    pub fn host_binds(mut self, host_binds: bool) -> Self {
        self.host_binds = host_binds;
        self
    }

    /// Whether host sockets are bound to their egress device (`SO_BINDTOIFINDEX`).
    ///
    /// # Warning
    /// The pin is what keeps a host socket away from the host's loopback even if the
    /// container finds a call that is not trapped. Turn it off only where routing moves
    /// live connections between devices, or where replies come in by another device.
    #[must_use]
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// The cookie of the container's network namespace (`SO_NETNS_COOKIE` of any socket
    /// in it). Sockets of other namespaces, which the container may make for itself, are
    /// then left alone. Without it, and without [`first_process`](Self::first_process), the first
    /// namespace that is seen counts.
    #[must_use]
    pub fn netns_cookie(mut self, cookie: u64) -> Self {
        self.netns = Some(cookie);
        self
    }

    /// Whether the container's filter traps `epoll_create` and `epoll_create1`, which are answered
    /// with "continue". Then nothing has to be done about epolls until there are some.
    ///
    /// Without it the descriptors of a process are looked through, about 1 µs each, when it connects
    /// a socket that does not block: every time of up to 128 descriptors, and of more whenever their
    /// number has changed. Registrations of sockets that block are not transferred then.
    #[must_use]
    pub fn epolls_told(mut self, told: bool) -> Self {
        self.epolls_told = told;
        self
    }

    /// The container's first process, whose network namespace is the container's. Where a policy
    /// ignores the container's own networks, they are followed in it.
    ///
    /// # Races
    /// It is looked at when the container is attached, if it can be, and else when the first socket
    /// is seen. A process that has gone into a namespace of its own making by then has that one
    /// taken for the container's.
    #[must_use]
    pub fn first_process(mut self, process: PidFd) -> Self {
        self.first = Some(process);
        self
    }

    /// Whether the container and others of this supervisor for which this was said reach the TCP ports
    /// that they [publish](Self::publish) by each other's own addresses, over the host. Only where the
    /// networks of both would have led there, which is tried.
    #[must_use]
    pub fn neighbour(mut self, neighbour: bool) -> Self {
        self.neighbour = neighbour;
        self
    }

    /// Tells this sink what the container tries to reach, within limits. The sink is called on the
    /// container's thread, so one that waits makes the container's calls wait.
    #[must_use]
    pub fn audit(mut self, sink: Arc<dyn AuditSink>, limits: AuditLimits) -> Self {
        self.audit = Some((sink, limits));
        self
    }

    /// Called on the container's thread once its last process has gone, or its supervision has
    /// [failed](crate::End::Failed).
    #[must_use]
    pub fn on_end(mut self, call: impl FnOnce(&Snapshot) + Send + 'static) -> Self {
        self.on_end = Some(Box::new(call));
        self
    }

    pub(crate) fn into_rules(self) -> Rules {
        Rules::new(self.policy, self.udp, self.host_datagrams, self.pin)
    }
}

impl Supervisor {
    /// Looks at the host: at the network namespace of the calling thread, in which host sockets will be
    /// made. Takes two netlink sockets ([rtnetlink(7)]), which are shared by all containers.
    ///
    /// [rtnetlink(7)]: https://man7.org/linux/man-pages/man7/rtnetlink.7.html
    ///
    /// # Errors
    /// Where the kernel is too old, or a netlink socket cannot be opened.
    pub fn new() -> Result<Self, StartError> {
        let netns = netns_socket::own_netns_cookie()
            .map_err(StartError::Netns)?
            .ok_or(StartError::NoNetnsCookie)?;
        let router = Router::new().map_err(StartError::Router)?;
        let waiting = Pool::new(part_of_descriptors(PART_OF_ALL));
        Ok(Self { host: Arc::new(Host { router, netns, waiting, neighbours: Arc::default() }) })
    }

    /// Whether an address is the host's own at the moment, for [`Flow::of_host`](crate::Flow::of_host):
    /// `None` where it cannot be told, or the address is that of others as well (broadcast, anycast).
    #[must_use]
    pub fn is_host_address(&self, ip: IpAddr) -> Option<bool> {
        self.host.is_address(ip)
    }

    /// Begins to answer the calls that this listener traps, on a thread of its own. Takes six descriptors
    /// for as long as the container lives, and more while calls of it wait for the network.
    ///
    /// # Errors
    /// Where the descriptors or the thread for it cannot be had. The listener is closed
    /// then, and the calls it traps fail with ENOSYS.
    pub fn attach(&self, listener: Listener, settings: Settings) -> Result<Container, AttachError> {
        let Settings { name, policy, ports, udp, host_datagrams, listen_trapped, pin, .. } =
            settings;
        let Settings { netns, first, neighbour, epolls_told, audit, on_end, .. } = settings;
        let ports = if listen_trapped { ports } else { ports.giving_way_at_bind() };
        let Rules { policy, udp, host_datagrams, pin } =
            Rules::new(policy, udp, host_datagrams, pin);
        let follow = policy.ignores_own_networks();
        let mut own = OwnNamespace::new(first, follow);
        // Nothing is to be found out where the cookie is known and nothing else wanted.
        if neighbour {
            own = own.among(Arc::clone(&self.host.neighbours), ports.clone());
        }
        let wanted = follow || neighbour || netns.is_none();
        let entered = if wanted { own.enter(self.host.netns) } else { None };
        let netns = netns.or(entered);
        let facts = Facts {
            host_binds: settings.host_binds && policy.allows_host_loopback(),
            policy,
            ports: ports.table(),
            udp,
            host_datagrams,
            pin,
            neighbours: neighbour,
            host_netns: self.host.netns,
            container_netns: netns,
            min_waiting: FEWEST,
            max_waiting: max_waiting(),
            waiting: Arc::clone(&self.host.waiting),
        };
        let auditor = audit.map(|(sink, limits)| Auditor::new(name.clone(), sink, limits));
        let live = Live::new(Arc::clone(&self.host), ports, own, epolls_told)
            .map_err(|source| AttachError::EpollCall { source })?;
        Container::start(name, listener, live, facts, auditor, on_end)
    }
}

fn max_waiting() -> usize {
    part_of_descriptors(PART_OF_CONTAINER).clamp(FEWEST, MAX_WAITING)
}

/// Of those that this process may have open.
fn part_of_descriptors(part: u64) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit / part).unwrap_or(usize::MAX))
}

/// Calls of each container that may wait however few descriptors there are.
const FEWEST: usize = 8;
