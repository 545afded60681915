//! The epoll descriptor, and descriptors that leave it before they are closed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// Says whose event it is. Numbers are not reused soon, so that an event that was fetched
/// before its flow ended finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Which front, 0 for none.
    pub(super) route: u32,
    /// What of it: 0 for the front itself, else what the route makes of it.
    pub(super) slot: u32,
}

/// An epoll descriptor (epoll(7)), shared by whoever adds to it.
#[derive(Clone)]
pub(super) struct Poller(Arc<OwnedFd>);

/// A descriptor that is watched until it is dropped.
///
/// Closing is not enough: the kernel forgets a registration with the last duplicate of a
/// descriptor, and nobody could remove it then.
pub(super) struct Watched {
    fd: OwnedFd,
    token: Token,
    poller: Poller,
}

impl Token {
    pub(super) const WAKE: Self = Self { route: 0, slot: 0 };

    pub(super) fn front(route: u32) -> Self {
        Self { route, slot: 0 }
    }

    pub(super) fn of(event: &Event) -> Self {
        let [a, b, c, d, e, f, g, h] = event.data.u64().to_ne_bytes();
        let (route, slot) = ([a, b, c, d], [e, f, g, h]);
        Self { route: u32::from_ne_bytes(route), slot: u32::from_ne_bytes(slot) }
    }

    fn data(self) -> EventData {
        let [a, b, c, d] = self.route.to_ne_bytes();
        let [e, f, g, h] = self.slot.to_ne_bytes();
        EventData::new_u64(u64::from_ne_bytes([a, b, c, d, e, f, g, h]))
    }
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(epoll::create(CreateFlags::CLOEXEC)?)))
    }

    /// # Errors
    /// What epoll_ctl(2) said, such as ENOSPC for too many watches of this user. The
    /// descriptor is closed then.
    pub(super) fn watch(
        &self,
        fd: OwnedFd,
        token: Token,
        events: EventFlags,
    ) -> io::Result<Watched> {
        epoll::add(&self.0, &fd, token.data(), events)?;
        Ok(Watched { fd, token, poller: self.clone() })
    }

    /// Fills `events` up to its capacity.
    pub(super) fn wait(
        &self,
        events: &mut Vec<Event>,
        timeout: Option<&Timespec>,
    ) -> io::Result<()> {
        events.clear();
        match epoll::wait(&self.0, rustix::buffer::spare_capacity(events), timeout) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Watched {
    /// Asks again for what was reported once, or was an edge that is still true.
    pub(super) fn rearm(&self, events: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.poller.0, &self.fd, self.token.data(), events)?)
    }

    /// Has no more events, and stays open.
    pub(super) fn ignore(&self) {
        epoll::delete(&self.poller.0, &self.fd).ok();
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.ignore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_their_encoding() {
        for token in [Token::WAKE, Token::front(u32::MAX), Token { route: 7, slot: u32::MAX }] {
            let event = Event { flags: EventFlags::IN, data: token.data() };
            assert_eq!(Token::of(&event), token);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn a_dropped_descriptor_is_not_watched_through_its_duplicate() {
        let poller = Poller::new().unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let duplicate = ours.try_clone().unwrap();
        let watched = poller.watch(ours.into(), Token::front(1), EventFlags::IN).unwrap();
        let mut events = Vec::with_capacity(4);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        drop(theirs);
        poller.wait(&mut events, Some(&at_once)).unwrap();
        assert_eq!(events.iter().map(Token::of).collect::<Vec<_>>(), [Token::front(1)]);
        drop(watched);
        poller.wait(&mut events, Some(&at_once)).unwrap();
        assert!(events.is_empty());
        drop(duplicate);
    }
}
