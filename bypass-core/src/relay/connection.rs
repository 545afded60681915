//! One relayed TCP connection: two sockets, and two directions between them.
//!
//! A direction has no buffer. It looks at what has come (`MSG_PEEK`), sends it on, and removes
//! from the receive queue what the other socket has taken (`MSG_TRUNC` of tcp(7)). So a slow
//! reader fills the queues of the kernel, and the sender's window closes, as without a relay.
//!
//! Both sockets are watched by edges, once for all events. A socket that cannot take more is
//! therefore tried again only when it says that it can, and one that has been shut down in both
//! directions, which level-triggered epoll reports for ever, is heard of once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{
    set_socket_keepalive, set_socket_linger, set_socket_oobinline, set_tcp_nodelay, socket_error,
};
use rustix::net::{RecvFlags, SendFlags, Shutdown, getpeername, recv, send, shutdown};

use super::limits::{Permit, TCP};
use super::poller::{Poller, Token, Watched};

/// Buffers-full of one direction before others get their turn.
const BATCH: usize = 16;

/// Times [`BATCH`] that a closed connection may still move: as much as a receive queue can hold,
/// but not what an application sends for ever.
const LAST_BATCHES: usize = 8;

const EVENTS: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::ET);
const BROKEN: EventFlags = EventFlags::ERR.union(EventFlags::HUP);

/// Which of the two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Application,
}

/// What has become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum State {
    Open,
    Over,
}

pub(super) struct Connection {
    client: Watched,
    application: Watched,
    connecting: bool,
    up: Direction,
    down: Direction,
    _permit: Permit<TCP>,
}

/// What is known of a direction; its sockets are given with each call.
#[derive(Clone, Copy, Debug, Default)]
struct Direction {
    /// The end of the stream has been passed on.
    done: bool,
    /// The receiver could not take more, and has not said yet that it can.
    full: bool,
}

impl Connection {
    /// Between a client that was accepted and a socket that is connected or connecting.
    pub(super) fn new(
        poller: &Poller,
        (client, client_token): (OwnedFd, Token),
        (application, application_token): (OwnedFd, Token),
        permit: Permit<TCP>,
    ) -> io::Result<Self> {
        // A client that has vanished would otherwise count for ever. How soon it is noticed is
        // the host's choice (net.ipv4.tcp_keepalive_*).
        set_socket_keepalive(&client, true).ok();
        for socket in [&client, &application] {
            // The sender's kernel has decided already what to send together.
            set_tcp_nodelay(socket, true).ok();
            // So that an urgent byte is a byte like any other, and is not skipped.
            set_socket_oobinline(socket, true).ok();
        }
        Ok(Self {
            client: poller.watch(client, client_token, EVENTS)?,
            application: poller.watch(application, application_token, EVENTS)?,
            connecting: true,
            up: Direction::default(),
            down: Direction::default(),
            _permit: permit,
        })
    }

    /// Does what has become possible.
    pub(super) fn ready(&mut self, side: Side, events: EventFlags, buffer: &mut [u8]) -> State {
        if events.intersects(EventFlags::OUT | BROKEN) {
            match side {
                Side::Client => self.down.full = false,
                Side::Application => self.up.full = false,
            }
        }
        self.advance(side, events, buffer).unwrap_or_else(|_| {
            // One side has failed: so does the other.
            reset(&self.client);
            reset(&self.application);
            State::Over
        })
    }

    fn advance(
        &mut self,
        side: Side,
        events: EventFlags,
        buffer: &mut [u8],
    ) -> Result<State, Errno> {
        if self.connecting {
            // Shutting down while it is connecting would undo that, so nothing passes before.
            socket_error(&self.application)??;
            match getpeername(&self.application) {
                Ok(_) => self.connecting = false,
                Err(errno) if side == Side::Application && events.intersects(BROKEN) => {
                    return Err(errno);
                }
                Err(_) => return Ok(State::Open),
            }
        }
        let more = self.pump(buffer)?;
        // A reset that nobody reads any more: its direction is done, or the other side full.
        if events.intersects(BROKEN) {
            socket_error(self.socket(side))??;
        }
        if more {
            // Edges that are still true come once more, after those of others.
            self.client.rearm(EVENTS).map_err(errno_of)?;
            self.application.rearm(EVENTS).map_err(errno_of)?;
        }
        Ok(if self.up.done && self.down.done { State::Over } else { State::Open })
    }

    /// Moves what can be moved. True if there may be more.
    fn pump(&mut self, buffer: &mut [u8]) -> Result<bool, Errno> {
        // The one direction has its turn even if the other has failed: an application may have
        // answered and closed without having read all of the question.
        let up = self.up.pump(&self.client, &self.application, buffer);
        let down = self.down.pump(&self.application, &self.client, buffer);
        Ok(up? | down?)
    }

    /// The route is closed: passes on what has come, and resets what is not over.
    pub(super) fn close(mut self, buffer: &mut [u8]) {
        let mut more = Ok(!self.connecting);
        for _ in 0..LAST_BATCHES {
            if more == Ok(true) {
                more = self.pump(buffer);
            }
        }
        if more.is_err() {
            reset(&self.client);
            reset(&self.application);
        }
        // After the end of a stream a reset would take back what the kernel still has to send.
        if !self.down.done {
            reset(&self.client);
        }
        if !self.up.done {
            reset(&self.application);
        }
    }

    fn socket(&self, side: Side) -> &Watched {
        match side {
            Side::Client => &self.client,
            Side::Application => &self.application,
        }
    }
}

impl Direction {
    /// Moves what can be moved, up to [`BATCH`] times the buffer. True if there may be more.
    fn pump(&mut self, from: &Watched, to: &Watched, buffer: &mut [u8]) -> Result<bool, Errno> {
        for _ in 0..BATCH {
            if self.done || self.full {
                return Ok(false);
            }
            let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            let data = match recv(from, &mut *buffer, peek) {
                Ok((0, _)) => {
                    shutdown(to, Shutdown::Write)?;
                    self.done = true;
                    return Ok(false);
                }
                Ok((len, _)) => buffer.get(..len).unwrap_or_default(),
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            match send(to, data, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => discard(from, buffer, sent)?,
                Err(Errno::AGAIN) => self.full = true,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(true)
    }
}

/// Removes that much from a receive queue that holds it, without copying.
fn discard(from: &Watched, buffer: &mut [u8], mut len: usize) -> Result<(), Errno> {
    while len > 0 {
        let part = buffer.get_mut(..len).unwrap_or_default();
        match recv(from, part, RecvFlags::TRUNC | RecvFlags::DONTWAIT) {
            // It was there a moment ago.
            Ok((_, 0)) => return Err(Errno::CONNRESET),
            Ok((_, removed)) => len = len.saturating_sub(removed),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Makes the coming close(2) a reset (`SO_LINGER` of socket(7)).
pub(super) fn reset(socket: impl AsFd) {
    set_socket_linger(socket, Some(Duration::ZERO)).ok();
}

fn errno_of(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;
    use crate::relay::limits::{Allowance, Limits};

    const SIDES: [Side; 2] = [Side::Client, Side::Application];

    /// A connection with what its peers hold, and a duplicate of its application's side.
    struct Joined {
        client: TcpStream,
        application: TcpStream,
        arrived: TcpStream,
        poller: Poller,
        connection: Connection,
    }

    impl Joined {
        fn new() -> Self {
            let ((client, client_side), (application, side)) = (ends(), ends());
            let arrived = side.try_clone().unwrap();
            let limits = Limits { udp_flows: 1, tcp_connections: 1, descriptors: 2 };
            let permit = Allowance::new(limits).take(&Arc::default()).unwrap();
            let poller = Poller::new().unwrap();
            let [ours, theirs] = [0, 1].map(|slot| Token { route: 1, slot });
            let (ours, theirs) = ((client_side.into(), ours), (side.into(), theirs));
            let connection = Connection::new(&poller, ours, theirs, permit).unwrap();
            let mut joined = Self { client, application, arrived, poller, connection };
            joined.settle();
            joined
        }

        /// Hands over events, with a small buffer, until there are none.
        fn settle(&mut self) {
            let mut events = Vec::with_capacity(4);
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            loop {
                self.poller.wait(&mut events, Some(&at_once)).unwrap();
                if events.is_empty() {
                    return;
                }
                for event in &events {
                    let side = SIDES[usize::try_from(Token::of(event).slot).unwrap()];
                    assert_eq!(self.connection.ready(side, event.flags, &mut [0; 64]), State::Open);
                }
            }
        }

        /// The application says this and nothing more, and all of it has come.
        fn says(&mut self, bytes: &[u8]) {
            self.application.write_all(bytes).unwrap();
            self.application.shutdown(std::net::Shutdown::Write).unwrap();
            let mut fds = [PollFd::new(&self.arrived, PollFlags::RDHUP)];
            poll(&mut fds, None).unwrap();
        }
    }

    fn ends() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (theirs, listener.accept().unwrap().0)
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn what_does_not_fit_into_one_turn_needs_no_further_event() {
        let mut joined = Joined::new();
        joined.says(&[1; 10_000]);
        joined.settle();
        let mut all = Vec::new();
        joined.client.read_to_end(&mut all).unwrap();
        assert_eq!(all, [1; 10_000]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn closing_passes_on_what_has_come_and_resets_what_is_not_over() {
        let mut joined = Joined::new();
        joined.says(&[1; 1024]);
        drop(joined.arrived);
        joined.connection.close(&mut [0; 64]);
        let mut all = Vec::new();
        joined.client.read_to_end(&mut all).unwrap();
        assert_eq!(all, [1; 1024], "no reset has taken it back");
        let error = joined.application.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
