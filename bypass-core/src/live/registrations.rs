//! Epolls that watch a socket, and are to watch the one that takes its place.

use std::os::fd::OwnedFd;

use netns_socket::epoll::{self, EpollError, Registration, Surgeon};
use netns_socket::{PidFd, Taken};
use seccomp_notify::Errno;

use crate::targets::Targets;

/// A socket that may be registered with epolls under a number, and the one that takes its place.
pub(super) struct Watched<'a> {
    pub(super) number: u32,
    pub(super) old: &'a OwnedFd,
    pub(super) new: &'a OwnedFd,
}

impl Watched<'_> {
    /// Has every epoll that is looked at watch the new one too, if it watches the old one. False if a
    /// number that was an epoll's of this thread is so no longer.
    pub(super) fn transplant(
        &self,
        tid: i32,
        targets: &mut Targets,
        surgeon: &mut Option<Surgeon>,
    ) -> Result<bool, EpollError> {
        if let Some((thread, numbers)) = targets.epolls(tid)? {
            for at in numbers {
                if !self.transplant_at(tid, Some(thread), *at, surgeon)? {
                    return Ok(false);
                }
            }
        }
        for (process, numbers) in targets.other_epolls(tid) {
            for at in numbers {
                // One that cannot be looked at is not known to watch it.
                if epoll::watches_in(process, *at, self.old, self.number).unwrap_or(false) {
                    self.transplant_at(process, None, *at, surgeon)?;
                }
            }
        }
        Ok(true)
    }

    /// The same for one epoll of this thread, of which there may be a handle. False if it is none.
    fn transplant_at(
        &self,
        tid: i32,
        handle: Option<&PidFd>,
        at: i32,
        surgeon: &mut Option<Surgeon>,
    ) -> Result<bool, EpollError> {
        match epoll::watches_in(tid, at, self.old, self.number) {
            Ok(false) => return Ok(true),
            Ok(true) => {}
            Err(EpollError::KcmpCall { source: Errno::INVAL | Errno::BADF }) => return Ok(false),
            // Built without kcmp: the list of all that it watches tells as well.
            Err(EpollError::KcmpCall { source: Errno::NOSYS }) => {}
            Err(error) => return Err(error),
        }
        let taken = match handle {
            Some(thread) => thread.take_fd(at).ok(),
            None => PidFd::open(tid).ok().and_then(|thread| thread.take_fd(at).ok()),
        };
        let Some(Taken::Fd(ep)) = taken else { return Ok(false) };
        let Some(registration) = epoll::registration(&ep, self.old, self.number)? else {
            return Ok(true);
        };
        match self.register(&ep, registration, surgeon) {
            // By another descriptor of the same epoll: programs duplicate them.
            Ok(()) | Err(EpollError::EpollCtlCall { source: Errno::EXIST }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// A number of a busy server is mostly one that we do not have, which saves the way to another thread
    /// and back.
    fn register(
        &self,
        ep: &OwnedFd,
        registration: Registration,
        surgeon: &mut Option<Surgeon>,
    ) -> Result<(), EpollError> {
        if epoll::register(ep, self.new, self.number, registration)? {
            return Ok(());
        }
        let surgeon = match surgeon {
            Some(surgeon) => surgeon,
            None => surgeon.insert(Surgeon::start()?),
        };
        surgeon.register(ep, self.new, self.number, registration)
    }
}
