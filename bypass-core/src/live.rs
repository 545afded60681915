//! The real [`Kernel`]: one system call, or a few, behind each step of the engine.

mod registrations;
mod sight;
mod status;
mod steps;
mod waits;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use netns_socket::epoll::{EpollError, Surgeon};
use netns_socket::{
    Captured, Domain, Egress, FileFlags, Identity, Kind, Namespace, Part, SockOptError, SocketSpec,
    SocketState, Taken, TcpState,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use seccomp_notify::{AddFd, AddFdOutcome, Errno, Notification, Reply, ReplyOutcome};
use sockaddr_inspect::msghdr::PayloadError;
use sockaddr_inspect::{
    FetchError, ForeignAddr, MemoryFile, ProcessMemory, RawSockAddr, ReadError, StoreError,
    WriteError, WriteMemory as _,
};

use self::registrations::Watched;
use self::sight::Sight;
use self::steps::{NOWHERE, connect_at_once, step, without_waiting};
pub(crate) use self::waits::Event;
use self::waits::Waits;
use crate::audit::AuditedProcess;
use crate::call::Message;
use crate::engine::{
    Answer, Beside, Installed, Kernel, LOOPBACK_DEVICE, Lost, Place, Probe, Step, Token, TwinError,
};
use crate::inside::Inside;
use crate::neighbours::Service;
use crate::networks::OwnNamespace;
use crate::outbox::Outbox;
use crate::ports::{Choice, Families, Index, OUTSIDE_V4, OUTSIDE_V6, Ports};
use crate::supervisor::Host;
use crate::targets::Targets;
use crate::weaken::{Layer, is_off};

/// Bit of `CAP_NET_BIND_SERVICE` in the capability sets.
const CAP_NET_BIND_SERVICE: u32 = 10;

const NO_TIME: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };

/// RFC 9293
const IPPROTO_TCP: i32 = 6;

/// The world as the kernel shows it to one container's thread.
///
/// What goes wrong here is counted with a reason and logged at debug only: the container can
/// make most of it happen as often as it likes.
pub(crate) struct Live {
    host: Arc<Host>,
    ports: Ports,
    inside: Inside,
    own: OwnNamespace,
    outbox: Outbox,
    targets: Targets,
    /// Started for the first program that registers sockets before it connects them. Not shared with
    /// other containers: this one can make it wait, by a program that holds the lock of an epoll.
    surgeon: Option<Surgeon>,
    /// The socket that is being replaced.
    sight: Sight,
    waits: Waits,
}

impl Live {
    /// `epolls_told`: the container's filter traps what makes an epoll.
    pub(crate) fn new(
        host: Arc<Host>,
        ports: Ports,
        own: OwnNamespace,
        epolls_told: bool,
    ) -> io::Result<Self> {
        Ok(Self {
            host,
            ports,
            inside: Inside::default(),
            own,
            outbox: Outbox::default(),
            targets: Targets::new(epolls_told),
            surgeon: None,
            sight: Sight::default(),
            waits: Waits::new()?,
        })
    }

    /// Readable when [`events`](Self::events) has something to tell.
    pub(crate) fn epoll(&self) -> &OwnedFd {
        self.waits.epoll()
    }

    /// What happened to parked calls.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.waits.events()
    }
}

impl Live {
    /// Gives the twin what was captured of its model.
    fn copy(twin: &OwnedFd, captured: Result<Captured, SockOptError>) -> Result<(), TwinError> {
        let state = match captured {
            Ok(Captured::State(state)) => state,
            Ok(Captured::NotCopyable { option, .. }) => return Err(TwinError::Option(option)),
            Err(_unreadable) => return Err(TwinError::Make),
        };
        let applied = state.apply(twin).map_err(|_unwritable| TwinError::Make)?;
        match applied.refused.first() {
            Some(refusal) => Err(TwinError::Option(refusal.option)),
            None => Ok(()),
        }
    }

    /// False if a number that was an epoll's is so no longer.
    fn try_transplant(
        &mut self,
        tid: i32,
        number: u32,
        old: &OwnedFd,
        new: &OwnedFd,
    ) -> Result<bool, EpollError> {
        // Where nobody tells of epolls, one has to look, which a program that waits in connect(2)
        // need not pay for: it will hardly wait for the same in an epoll.
        if !self.targets.are_told() && self.is_blocking(old) {
            return Ok(true);
        }
        Watched { number, old, new }.transplant(tid, &mut self.targets, &mut self.surgeon)
    }

    /// The pin of a host socket is ours and no part of what the application made of it.
    fn is_pinned(&self, id: &Identity) -> bool {
        id.netns_cookie == Some(self.host.netns)
    }
}

impl Kernel for Live {
    type Note = Notification;
    type Sock = OwnedFd;

    fn take(&mut self, tid: i32, fd: i32) -> Result<OwnedFd, Lost> {
        // The second try is for a kept handle of a thread that has gone and whose number
        // another thread has now.
        for _ in 0..2 {
            let Some(pidfd) = self.targets.get(tid) else {
                return Err(if tid == 0 { Lost::Denied } else { Lost::Gone });
            };
            match pidfd.take_fd(fd) {
                Ok(Taken::Fd(fd)) => return Ok(fd),
                Ok(Taken::Closed) => return Err(Lost::Errno(Errno::BADF)),
                Ok(Taken::Denied) => return Err(Lost::Denied),
                Ok(Taken::Gone) => self.targets.forget(tid),
                Err(error) => {
                    // Our own table is full: nothing is known of the socket, so nothing
                    // may be done with it.
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "could not take a descriptor");
                    return Err(Lost::Errno(Errno::NOBUFS));
                }
            }
        }
        Err(Lost::Gone)
    }

    fn fetch(&mut self, tid: i32, at: ForeignAddr, len: u64) -> Result<RawSockAddr, Lost> {
        sockaddr_inspect::fetch(&ProcessMemory::of(tid), at, len).map_err(|error| lost(&error))
    }

    fn fetch_args(&mut self, tid: i32, at: ForeignAddr) -> Result<[u32; 3], Lost> {
        sockaddr_inspect::fetch_u32_array(&ProcessMemory::of(tid), at).map_err(|error| lost(&error))
    }

    fn gather(&mut self, tid: i32, message: &Message) -> Result<Option<RawSockAddr>, Lost> {
        self.outbox.gather(ProcessMemory::of(tid), message).map_err(|error| match &error {
            PayloadError::Fetch(error) => lost(error),
            error => Lost::Errno(error.errno().map_or(Errno::MSGSIZE, Errno::from_raw_os_error)),
        })
    }

    fn is_alive(&mut self, note: &Notification) -> bool {
        note.is_alive().unwrap_or(false)
    }

    fn identity(&mut self, sock: &OwnedFd) -> Option<Identity> {
        Identity::of(sock).ok().flatten()
    }

    fn tcp_state(&mut self, sock: &OwnedFd) -> Option<TcpState> {
        netns_socket::tcp_state(sock).ok()
    }

    fn local(&mut self, sock: &OwnedFd) -> Option<SocketAddr> {
        rustix::net::getsockname(sock).ok().and_then(|addr| SocketAddr::try_from(addr).ok())
    }

    fn peer(&mut self, sock: &OwnedFd) -> Option<SocketAddr> {
        rustix::net::getpeername(sock).ok().flatten().and_then(|a| SocketAddr::try_from(a).ok())
    }

    fn send(&mut self, sock: &OwnedFd, flags: i32) -> Result<u32, Lost> {
        let pin = self.pin_of(sock);
        self.outbox.send(sock, pin, flags).map_err(Lost::Errno)
    }

    fn store_len(
        &mut self,
        note: &Notification,
        tid: i32,
        at: ForeignAddr,
        len: u32,
    ) -> Result<(), Lost> {
        let memory = held_memory(note, tid)?;
        match memory.write(at, &len.to_ne_bytes()) {
            Ok(4) => Ok(()),
            Ok(_) | Err(WriteError::Fault) => Err(Lost::Errno(Errno::FAULT)),
            Err(WriteError::Gone) => Err(Lost::Gone),
            Err(_) => Err(Lost::Denied),
        }
    }

    fn has_waiting(&mut self, sock: &OwnedFd) -> bool {
        let mut watched = [PollFd::new(sock, PollFlags::IN | PollFlags::RDHUP)];
        poll(&mut watched, Some(&NO_TIME)).is_ok_and(|ready| ready > 0)
            // After shutdown(SHUT_RD) it is readable for ever.
            && !watched.iter().any(|fd| fd.revents().contains(PollFlags::RDHUP))
    }

    fn is_v6_only(&mut self, sock: &OwnedFd) -> bool {
        rustix::net::sockopt::ipv6_v6only(sock).unwrap_or(false)
    }

    fn pin_of(&mut self, sock: &OwnedFd) -> Option<u32> {
        netns_socket::pinned_to(sock).ok().filter(|device| *device != 0)
    }

    fn is_blocking(&mut self, sock: &OwnedFd) -> bool {
        rustix::fs::fcntl_getfl(sock).is_ok_and(|flags| !flags.contains(OFlags::NONBLOCK))
    }

    fn send_timeout(&mut self, sock: &OwnedFd) -> Option<Duration> {
        rustix::net::sockopt::socket_timeout(sock, rustix::net::sockopt::Timeout::Send)
            .ok()
            .flatten()
    }

    fn may_bind_privileged(&mut self, tid: i32, port: u16) -> bool {
        status::has_capability(tid, CAP_NET_BIND_SERVICE)
            || self
                .targets
                .get(tid)
                .and_then(|target| netns_socket::unprivileged_port_start(target).ok())
                .is_some_and(|start| port >= start)
    }

    fn egress(&mut self, ip: IpAddr, scope_id: u32) -> Egress {
        self.host.router.egress(ip, scope_id).unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "could not look up a route");
            Egress::Unroutable(Errno::NETUNREACH)
        })
    }

    fn is_of_host(&mut self, ip: IpAddr) -> Option<bool> {
        self.host.is_address(ip)
    }

    fn container_netns(&mut self) -> Option<u64> {
        self.own.enter(self.host.netns)
    }

    fn is_in_own_network(&mut self, tid: i32, netns: Option<u64>, ip: IpAddr) -> Option<bool> {
        let targets = &mut self.targets;
        self.own.contains(|| targets.get(tid), netns, ip)
    }

    fn neighbour(&mut self, tid: i32, netns: Option<u64>, to: SocketAddr) -> Option<Service> {
        let (own, inside) = (&mut self.own, &mut self.inside);
        let thread = self.targets.get(tid)?;
        let domain = if to.is_ipv4() { Domain::Inet } else { Domain::Inet6 };
        let spec = SocketSpec { domain, kind: Kind::Stream, protocol: IPPROTO_TCP };
        // A thread that is in a namespace of its own is no help.
        let here = |socket: &OwnedFd| netns_socket::netns_cookie_of(socket).ok().flatten() == netns;
        let socket = || inside.socket(thread, spec).filter(here);
        own.neighbour(|| Some(thread), netns, to, socket)
    }

    fn is_neighbours(&mut self, service: &Service, host: SocketAddr, device: u32) -> bool {
        self.own.is_neighbours(service, host, device)
    }

    fn egress_of_server(&mut self, host: IpAddr) -> Egress {
        let toward = match host {
            IpAddr::V4(ip) if ip.is_unspecified() => OUTSIDE_V4.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => OUTSIDE_V6.into(),
            ip => ip,
        };
        self.egress(toward, 0)
    }

    fn is_own_address(&mut self, tid: i32, ip: IpAddr) -> bool {
        self.targets.get(tid).is_some_and(|target| self.inside.has_address(target, ip))
    }

    fn twin(
        &mut self,
        tid: i32,
        model: &OwnedFd,
        id: &Identity,
        place: Place,
    ) -> Result<OwnedFd, TwinError> {
        let twin = match place {
            Place::Host { .. } | Place::Server { .. } => netns_socket::create_twin(id, true).ok(),
            Place::Container => {
                self.targets.get(tid).and_then(|target| self.inside.socket(target, (*id).into()))
            }
        };
        let twin = twin.ok_or(TwinError::Make)?;
        let captured = if self.is_pinned(id) {
            SocketState::capture_pinned(model, id)
        } else {
            let part = match place {
                Place::Server { .. } => Part::Whole,
                _ => Part::BeforeConnect,
            };
            SocketState::capture_part(model, id, part)
        };
        Self::copy(&twin, captured)?;
        if let Place::Host { pin: Some(ifindex) } | Place::Server { pin: Some(ifindex) } = place {
            if !is_off(Layer::Pin) {
                let _pinned =
                    netns_socket::pin(&twin, ifindex).map_err(|_unpinned| TwinError::Pin)?;
            }
            // What the device of a UDP socket keeps off, this does after `connect(AF_UNSPEC)` too.
            if id.is_udp() && ifindex != LOOPBACK_DEVICE && !is_off(Layer::LockedFilter) {
                netns_socket::deafen_to_loopback(&twin).map_err(|_hearing| TwinError::Pin)?;
            }
        }
        Ok(twin)
    }

    fn connect_twin(&mut self, twin: &OwnedFd, addr: &RawSockAddr, blocking: bool) -> Step {
        step(connect_at_once(twin, addr, blocking), blocking)
    }

    fn finish(
        &mut self,
        twin: &OwnedFd,
        model: &OwnedFd,
        id: &Identity,
        place: Place,
    ) -> Result<(), TwinError> {
        let whole = self.is_pinned(id) || matches!(place, Place::Server { .. });
        if !whole {
            Self::copy(twin, SocketState::capture_part(model, id, Part::AfterConnect))?;
        }
        // Last, since until now the twin was not to block.
        let flags = FileFlags::capture(model).map_err(|_unreadable| TwinError::Make)?;
        flags.apply(twin).map_err(|_unwritable| TwinError::Make)
    }

    fn bind_published(
        &mut self,
        twin: &OwnedFd,
        choice: &Choice,
        pin: Option<u32>,
        beside: Option<&OwnedFd>,
    ) -> Result<(), Errno> {
        self.ports.bind(twin, choice, pin.is_some(), beside)
    }

    fn serve(
        &mut self,
        twin: &OwnedFd,
        choice: &Choice,
        pin: Option<u32>,
        inside: Option<&OwnedFd>,
    ) {
        self.ports.serve(choice, pin, twin, inside);
    }

    fn serve_from_inside(
        &mut self,
        note: &Notification,
        tid: i32,
        sock: &OwnedFd,
        indices: &[Index],
        addr: SocketAddr,
    ) {
        match Namespace::of(tid) {
            // Only now is it sure that it is that of the thread that waits for us.
            Ok(namespace) if self.is_alive(note) => {
                self.ports.serve_from_inside(indices, &Arc::new(namespace), addr, sock);
            }
            Ok(_gone) => {}
            Err(error) => tracing::debug!(%error, "the container cannot be entered"),
        }
    }

    fn listen_published(
        &mut self,
        sock: &OwnedFd,
        backlog: i32,
        local: SocketAddr,
    ) -> Result<(), Errno> {
        self.ports.listen(sock, backlog, local)
    }

    fn settle_ports(&mut self) {
        self.ports.settle();
    }

    fn name_inside(&mut self, index: Index) -> Option<SocketAddr> {
        self.ports.name_inside(index)
    }

    fn serving(&mut self, index: Index) -> Option<Families> {
        self.ports.serving(index)
    }

    fn is_applications(&mut self, index: Index, host: SocketAddr, device: u32) -> bool {
        self.ports.is_applications(index, host, device)
    }

    fn connect(&mut self, sock: &OwnedFd, addr: &RawSockAddr, blocking: bool) -> Step {
        step(without_waiting(sock, || connect_at_once(sock, addr, blocking)), blocking)
    }

    fn probe(&mut self, sock: &OwnedFd, blocking: bool) -> Probe {
        match without_waiting(sock, || netns_socket::connect(sock, &NOWHERE)) {
            Err(Errno::AFNOSUPPORT) => Probe::Unconnected,
            result => Probe::Answer(match step(result, blocking) {
                Step::Failed(Errno::ALREADY) => Step::InProgress,
                step => step,
            }),
        }
    }

    fn bind(&mut self, sock: &OwnedFd, addr: &RawSockAddr) -> Result<(), Errno> {
        netns_socket::bind(sock, addr.as_bytes())
    }

    fn listen(&mut self, sock: &OwnedFd, backlog: i32) -> Result<(), Errno> {
        rustix::net::listen(sock, backlog)
    }

    fn process(&mut self, tid: i32) -> Option<AuditedProcess> {
        status::process(tid)
    }

    fn has_our_ids(&mut self, tid: i32) -> bool {
        let ours = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        status::effective_ids(tid) == Some(ours)
    }

    fn shut_down(&mut self, sock: &OwnedFd) {
        rustix::net::shutdown(sock, rustix::net::Shutdown::Both).ok();
    }

    fn dissolve(&mut self, sock: &OwnedFd) -> Result<(), Errno> {
        without_waiting(sock, || rustix::net::connect_unspec(sock))
    }

    fn note_epoll(&mut self, tid: i32) {
        self.targets.note_epoll(tid);
    }

    fn transplant(&mut self, tid: i32, fd: i32, old: &OwnedFd, new: &OwnedFd) -> bool {
        let Ok(number) = u32::try_from(fd) else { return true };
        // The second try is for numbers that are no epolls any more.
        for _ in 0..2 {
            match self.try_transplant(tid, number, old, new) {
                Ok(true) => return true,
                Ok(false) => self.targets.forget_epolls(tid),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "could not transfer epoll registrations");
                    return false;
                }
            }
        }
        false
    }

    fn keep_in_sight(&mut self, old: &OwnedFd) -> bool {
        self.sight.keep(old)
    }

    fn let_go(&mut self, old: OwnedFd) -> bool {
        self.sight.let_go(old)
    }

    fn is_in_sight(&mut self) -> bool {
        self.sight.is_open()
    }

    fn numbers_in_sight(&mut self, tid: i32) -> Vec<i32> {
        self.sight.numbers(tid)
    }

    fn take_beside(&mut self, tid: i32, id: &Identity) -> Beside<OwnedFd> {
        self.sight.take_beside(tid, id)
    }

    fn store_name(
        &mut self,
        note: &Notification,
        tid: i32,
        name: &RawSockAddr,
        at: ForeignAddr,
        len_at: ForeignAddr,
    ) -> Result<(), Lost> {
        let memory = held_memory(note, tid)?;
        sockaddr_inspect::store_name(&memory, name, at, len_at).map_err(|error| match error {
            StoreError::Gone => Lost::Gone,
            StoreError::Denied => Lost::Denied,
            error => Lost::Errno(error.errno().map_or(Errno::FAULT, Errno::from_raw_os_error)),
        })
    }

    fn install(&mut self, note: &Notification, tid: i32, fd: i32, sock: &OwnedFd) -> Installed {
        let Ok(number) = u32::try_from(fd) else { return Installed::Refused };
        let cloexec = match netns_socket::read_cloexec(tid, fd) {
            Ok(Some(cloexec)) => cloexec,
            // Closed meanwhile by another thread: what it then means, the program knows
            // as little as we do. The safe flag is the one that leaks nothing.
            Ok(None) => true,
            Err(_unreadable) => return Installed::Refused,
        };
        match note.add_fd(&AddFd::new(sock.as_fd()).at(number).cloexec(cloexec)) {
            Ok(AddFdOutcome::Installed(_)) => Installed::Done,
            Ok(AddFdOutcome::TargetGone | AddFdOutcome::Interrupted) => Installed::Gone,
            Ok(_) | Err(_) => Installed::Refused,
        }
    }

    fn answer(&mut self, note: Notification, answer: Answer) -> bool {
        let reply = match answer {
            Answer::Success => Reply::value(0),
            Answer::Value(value) => Reply::value(i64::from(value)),
            Answer::Fail(errno) => Reply::errno(errno),
            Answer::Continue => Reply::continue_call(),
        };
        matches!(note.reply(reply), Ok(ReplyOutcome::Delivered))
    }

    fn watch(&mut self, token: Token, tid: i32, sock: &OwnedFd) -> bool {
        self.waits.watch(token, tid, sock)
    }

    fn unwatch(&mut self, token: Token, sock: &OwnedFd) {
        self.waits.unwatch(token, sock);
    }
}

/// The memory of the thread that waits for us, and of no other.
fn held_memory(note: &Notification, tid: i32) -> Result<MemoryFile, Lost> {
    let memory = MemoryFile::open(tid).map_err(|error| match error {
        ReadError::Gone => Lost::Gone,
        _ => Lost::Denied,
    })?;
    // Held open first, it stays that of whoever had this id then; if the call still waits now, that
    // was its thread.
    if note.is_alive().unwrap_or(false) { Ok(memory) } else { Err(Lost::Gone) }
}

fn lost(error: &FetchError) -> Lost {
    match error {
        FetchError::Gone => Lost::Gone,
        FetchError::Denied => Lost::Denied,
        error => Lost::Errno(error.errno().map_or(Errno::FAULT, Errno::from_raw_os_error)),
    }
}
