//! What the engine asks of the outside world: one trait, so that every decision
//! can be tested against a world that fails at any step.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netns_socket::{Egress, Identity, TcpState};
use seccomp_notify::Errno;
use sockaddr_inspect::{ForeignAddr, RawSockAddr};

use crate::audit::AuditedProcess;
use crate::call::Message;
use crate::neighbours::Service;
use crate::ports::{Choice, Families, Index};

/// How a trapped call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The call returns 0.
    Success,
    /// The call returns this number.
    Value(u32),
    /// The call fails.
    Fail(Errno),
    /// The kernel carries on with the call as it stands. Never for IP sockets.
    Continue,
}

/// Why something of the target could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The target is gone, or its call was interrupted: nobody waits any more.
    Gone,
    /// The target may not be looked at.
    Denied,
    /// The call ends with this error, as it would have natively.
    Errno(Errno),
}

/// Where a new socket is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the host's namespace, bound to this device if there is one.
    Host { pin: Option<u32> },
    /// In the host's namespace as well, for a socket that is to be bound and perhaps to listen.
    Server { pin: Option<u32> },
    /// In the network namespace of the target.
    Container,
}

/// Why a socket could not be made like another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TwinError {
    /// A property that cannot be copied, by its name.
    Option(&'static str),
    /// Binding to the device failed.
    Pin,
    /// The socket could not be made.
    Make,
}

/// How far a connection got without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It stands.
    Done,
    /// It is on its way: the socket becomes writable when it ends.
    InProgress,
    /// The kernel refused.
    Failed(Errno),
}

/// What connect(2) says on a host socket whatever the address.
///
/// The kernel looks at the address only if the socket is unconnected, so it is asked with
/// an address of a family that does not exist. That gives the native answer in every other
/// state, and whatever another thread of the container does to the socket meanwhile, the
/// question cannot connect it to anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Nothing stands in the way of connecting: it is up to the address.
    Unconnected,
    /// The answer is this, with [`Step::InProgress`] for a connection that is on its way.
    Answer(Step),
}

/// What became of a descriptor that was to be put into the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Installed {
    /// It stands at its number.
    Done,
    /// Nobody waits any more.
    Gone,
    /// The target's table did not take it.
    Refused,
}

/// Who else has a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside<S> {
    /// Another process, which is going to keep it: a descriptor of it.
    Keeps(S),
    /// A process that closes it when it executes another program, and does nothing else until then.
    Passes,
    /// Nobody that can be found.
    Nobody,
}

/// Identifies a parked call between the engine and the event loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token(pub(crate) u32);

/// The world of one container. `take`, `fetch` and `fetch_args` give what the
/// target showed at that moment: it counts only once `is_alive` was true *after*.
pub(crate) trait Kernel {
    /// An unanswered notification.
    type Note;
    /// A descriptor of a socket that we hold.
    type Sock;

    fn take(&mut self, tid: i32, fd: i32) -> Result<Self::Sock, Lost>;
    fn fetch(&mut self, tid: i32, at: ForeignAddr, len: u64) -> Result<RawSockAddr, Lost>;
    fn fetch_args(&mut self, tid: i32, at: ForeignAddr) -> Result<[u32; 3], Lost>;
    /// Copies one message of a send: its data and control messages, and the destination, which is
    /// returned, if it names one. Not for [`Message::Headers`].
    fn gather(&mut self, tid: i32, message: &Message) -> Result<Option<RawSockAddr>, Lost>;
    fn is_alive(&mut self, note: &Self::Note) -> bool;

    /// `None` if it is no socket.
    fn identity(&mut self, sock: &Self::Sock) -> Option<Identity>;
    fn tcp_state(&mut self, sock: &Self::Sock) -> Option<TcpState>;
    /// The local address; `None` where it cannot be told.
    fn local(&mut self, sock: &Self::Sock) -> Option<SocketAddr>;
    /// The address it is connected to; `None` for one that is not.
    fn peer(&mut self, sock: &Self::Sock) -> Option<SocketAddr>;
    /// Sends the message that was copied last, from a UDP socket, by no other device than the one
    /// that it is bound to; the length.
    fn send(&mut self, sock: &Self::Sock, flags: i32) -> Result<u32, Lost>;
    /// Writes a number where the target wants it.
    fn store_len(
        &mut self,
        note: &Self::Note,
        tid: i32,
        at: ForeignAddr,
        len: u32,
    ) -> Result<(), Lost>;
    /// Whether datagrams wait to be received.
    fn has_waiting(&mut self, sock: &Self::Sock) -> bool;
    /// `IPV6_V6ONLY`
    fn is_v6_only(&mut self, sock: &Self::Sock) -> bool;
    /// The device that the socket is bound to.
    fn pin_of(&mut self, sock: &Self::Sock) -> Option<u32>;
    fn is_blocking(&mut self, sock: &Self::Sock) -> bool;
    /// `SO_SNDTIMEO`; `None` waits for ever.
    fn send_timeout(&mut self, sock: &Self::Sock) -> Option<Duration>;
    /// Whether the target may bind to this port, which is below 1024.
    fn may_bind_privileged(&mut self, tid: i32, port: u16) -> bool;

    fn egress(&mut self, ip: IpAddr, scope_id: u32) -> Egress;
    /// Whether the address is the host's own; `None` where that is not known, or only half true.
    fn is_of_host(&mut self, ip: IpAddr) -> Option<bool>;
    /// The cookie of the namespace that the container was started in; `None` where that cannot be
    /// told.
    fn container_netns(&mut self) -> Option<u64>;
    /// Whether the address is in a network that an interface of the container's namespace, with this
    /// cookie, is connected to. `None` where it cannot be told.
    fn is_in_own_network(&mut self, tid: i32, netns: Option<u64>, ip: IpAddr) -> Option<bool>;
    /// The service of another container that this address means, if the networks of the container's
    /// namespace, with this cookie, lead there.
    fn neighbour(&mut self, tid: i32, netns: Option<u64>, to: SocketAddr) -> Option<Service>;
    /// Whether connections to this host address of it, which come in by this device, are the other
    /// container's application's.
    fn is_neighbours(&mut self, service: &Service, host: SocketAddr, device: u32) -> bool;
    /// The device by which a host address is reached from outside: the one that carries it, or
    /// for a wildcard that of the way out.
    fn egress_of_server(&mut self, host: IpAddr) -> Egress;
    /// Whether the address is one of the target's own namespace.
    fn is_own_address(&mut self, tid: i32, ip: IpAddr) -> bool;
    /// A new socket with as much of the state of `model` as a connection depends on, and
    /// with every property checked that could keep it from being a twin. `tid` made the
    /// call. Until [`finish`](Self::finish) it is ours alone and never blocks.
    fn twin(
        &mut self,
        tid: i32,
        model: &Self::Sock,
        id: &Identity,
        place: Place,
    ) -> Result<Self::Sock, TwinError>;
    /// connect(2) on a socket that is ours alone. With `blocking` its later owner would
    /// wait, so a connection that can be completed at once is.
    fn connect_twin(&mut self, twin: &Self::Sock, addr: &RawSockAddr, blocking: bool) -> Step;
    /// Gives the twin the rest of the state. This comes after the connection was begun,
    /// since the network works meanwhile.
    fn finish(
        &mut self,
        twin: &Self::Sock,
        model: &Self::Sock,
        id: &Identity,
        place: Place,
    ) -> Result<(), TwinError>;

    /// Binds a twin to the host address that is published, in place of the reservation, and beside
    /// a socket that it is to replace.
    fn bind_published(
        &mut self,
        twin: &Self::Sock,
        choice: &Choice,
        pin: Option<u32>,
        beside: Option<&Self::Sock>,
    ) -> Result<(), Errno>;
    /// The target has the bound twin now. `inside` is a container socket that is bound as the one in
    /// whose place the twin is would have been, and that the target does not have; `None` if that
    /// one was of the host already.
    fn serve(
        &mut self,
        twin: &Self::Sock,
        choice: &Choice,
        pin: Option<u32>,
        inside: Option<&Self::Sock>,
    );
    /// A datagram socket of the target that stays in the container is to be reached by these host
    /// addresses. It is bound to `addr`.
    fn serve_from_inside(
        &mut self,
        note: &Self::Note,
        tid: i32,
        sock: &Self::Sock,
        indices: &[Index],
        addr: SocketAddr,
    );
    /// listen(2) on a host socket that is bound to the published address `local`.
    fn listen_published(
        &mut self,
        sock: &Self::Sock,
        backlog: i32,
        local: SocketAddr,
    ) -> Result<(), Errno>;
    /// Ports whose applications have gone are free again.
    fn settle_ports(&mut self);
    /// What the application's socket with the published address is bound to in the container.
    fn name_inside(&mut self, index: Index) -> Option<SocketAddr>;
    /// The families in which an application serves the published address, if one does.
    fn serving(&mut self, index: Index) -> Option<Families>;
    /// Whether connections to this address of a published one, which come in by this device, are the
    /// application's and not another program's.
    fn is_applications(&mut self, index: Index, host: SocketAddr, device: u32) -> bool;

    /// connect(2) on a socket that the target holds too, without waiting: a container socket, or
    /// a UDP socket.
    fn connect(&mut self, sock: &Self::Sock, addr: &RawSockAddr, blocking: bool) -> Step;
    /// What connect(2) says on a TCP socket that has been connected, or tried to, without
    /// an address that it could be connected to: see [`Probe`].
    fn probe(&mut self, sock: &Self::Sock, blocking: bool) -> Probe;
    fn bind(&mut self, sock: &Self::Sock, addr: &RawSockAddr) -> Result<(), Errno>;
    fn listen(&mut self, sock: &Self::Sock, backlog: i32) -> Result<(), Errno>;

    /// Who this thread is, for those who read about it.
    fn process(&mut self, tid: i32) -> Option<AuditedProcess>;

    /// Whether the effective ids of this thread are ours, so that a socket's peer cannot tell from
    /// them which of us made a call.
    fn has_our_ids(&mut self, tid: i32) -> bool;
    /// Ends a connection in both directions, after which the socket cannot have another.
    fn shut_down(&mut self, sock: &Self::Sock);
    /// Dissolves a connection as `connect(AF_UNSPEC)` does. Not for UDP sockets of the host, which
    /// would be bound to no device any more.
    fn dissolve(&mut self, sock: &Self::Sock) -> Result<(), Errno>;

    /// This thread of the container makes an epoll.
    fn note_epoll(&mut self, tid: i32);
    /// Has every epoll of the target that watches `old` under `fd` watch `new` under it as
    /// well. The registration of `old` ends with its file. False if that failed.
    fn transplant(&mut self, tid: i32, fd: i32, old: &Self::Sock, new: &Self::Sock) -> bool;
    /// Keeps watch over the file of a socket that is to be replaced, for the next three. False if
    /// that failed: then nobody would know who else has it.
    #[must_use]
    fn keep_in_sight(&mut self, old: &Self::Sock) -> bool;
    /// Closes our descriptor of it. True if it is open all the same: somebody else has it.
    fn let_go(&mut self, old: Self::Sock) -> bool;
    /// Whether somebody else still has it.
    fn is_in_sight(&mut self) -> bool;
    /// The numbers under which the target may have it. To be [taken](Self::take) and looked at.
    fn numbers_in_sight(&mut self, tid: i32) -> Vec<i32>;
    /// Takes it out of another process of the container. What it is has been compared.
    fn take_beside(&mut self, tid: i32, id: &Identity) -> Beside<Self::Sock>;
    /// Writes a name and its length where the caller of getsockname(2) wants them.
    fn store_name(
        &mut self,
        note: &Self::Note,
        tid: i32,
        name: &RawSockAddr,
        at: ForeignAddr,
        len_at: ForeignAddr,
    ) -> Result<(), Lost>;
    /// Puts the socket at `fd` of the target, in place of what is there.
    fn install(&mut self, note: &Self::Note, tid: i32, fd: i32, sock: &Self::Sock) -> Installed;
    /// False if nobody waited any more.
    fn answer(&mut self, note: Self::Note, answer: Answer) -> bool;

    /// Watches the socket for the end of its connection, and the target for its own.
    /// False if a limit was reached.
    fn watch(&mut self, token: Token, tid: i32, sock: &Self::Sock) -> bool;
    fn unwatch(&mut self, token: Token, sock: &Self::Sock);
}
