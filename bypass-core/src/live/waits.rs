//! What parked calls wait for: their connection, and the end of their thread.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;

use netns_socket::PidFd;
use rustix::event::epoll;

use super::NO_TIME;
use crate::engine::Token;

/// Events taken from the kernel at a time.
const EVENTS: usize = 64;

/// What happened to a parked call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Its connection has ended, one way or the other.
    Ready(Token),
    /// Its thread has.
    Exited(Token),
}

/// All of them.
#[derive(Debug)]
pub(super) struct Waits {
    epoll: OwnedFd,
    /// The threads of parked calls, to notice their end.
    threads: HashMap<Token, PidFd>,
}

impl Waits {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, threads: HashMap::new() })
    }

    /// Readable when [`events`](Self::events) has something to tell.
    pub(super) fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    pub(super) fn events(&self) -> Vec<Event> {
        let mut events = Vec::with_capacity(EVENTS);
        let spare = rustix::buffer::spare_capacity(&mut events);
        if epoll::wait(&self.epoll, spare, Some(&NO_TIME)).is_err() {
            return Vec::new();
        }
        events.iter().map(|event| Event::of(event.data.u64())).collect()
    }

    pub(super) fn watch(&mut self, token: Token, tid: i32, sock: &OwnedFd) -> bool {
        let Ok(pidfd) = PidFd::open(tid) else { return false };
        // By edges: a socket that the target keeps ready does not keep us busy.
        let edge = epoll::EventFlags::OUT | epoll::EventFlags::ET;
        let exit = epoll::EventFlags::IN | epoll::EventFlags::ET;
        if epoll::add(&self.epoll, sock, Event::Ready(token).data(), edge).is_err() {
            return false;
        }
        if epoll::add(&self.epoll, &pidfd, Event::Exited(token).data(), exit).is_err() {
            epoll::delete(&self.epoll, sock).ok();
            return false;
        }
        self.threads.insert(token, pidfd);
        true
    }

    pub(super) fn unwatch(&mut self, token: Token, sock: &OwnedFd) {
        // The target holds the socket too, so closing our descriptor would not end it.
        epoll::delete(&self.epoll, sock).ok();
        if let Some(pidfd) = self.threads.remove(&token) {
            epoll::delete(&self.epoll, &pidfd).ok();
        }
    }
}

impl Event {
    fn data(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Self::Ready(Token(token)) => u64::from(token) << 1,
            Self::Exited(Token(token)) => (u64::from(token) << 1) | 1,
        })
    }

    fn of(data: u64) -> Self {
        let token = Token(u32::try_from(data >> 1).unwrap_or(u32::MAX));
        if data & 1 == 0 { Self::Ready(token) } else { Self::Exited(token) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_their_encoding() {
        for event in
            [Event::Ready(Token(0)), Event::Exited(Token(7)), Event::Ready(Token(u32::MAX))]
        {
            assert_eq!(Event::of(event.data().u64()), event);
        }
    }
}
