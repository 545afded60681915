//! Handles on the threads that make calls, kept from one call to the next.
//!
//! Opening a pidfd and the thread's `/proc` directory anew for every call would cost
//! as much as the rest of the inspection. A kept handle can go stale but never wrong:
//! a pidfd stands for one thread for ever and says ESRCH when it is gone, even if the
//! number has been given to another since.

use netns_socket::{PidFd, epoll};

#[cfg(bypass_weaken)]
use crate::weaken::{Layer, is_off};

/// Programs with more threads than this in `connect` at a time pay for opening.
const SLOTS: usize = 16;

/// A few recently seen threads.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    slots: [Option<Target>; SLOTS],
    /// Grows with every epoll that the container makes.
    epolls_made: u64,
}

#[derive(Debug)]
struct Target {
    tid: i32,
    pidfd: PidFd,
    /// The numbers of its epolls, and how many the container had made when they were looked
    /// for.
    epolls: Option<(u64, Vec<i32>)>,
}

impl Targets {
    /// The handle of this thread, opened if need be. `None` if there is no such thread.
    pub(crate) fn get(&mut self, tid: i32) -> Option<&PidFd> {
        self.target(tid).map(|target| &target.pidfd)
    }

    /// Somebody in the container makes an epoll.
    pub(crate) fn note_epoll(&mut self) {
        self.epolls_made = self.epolls_made.wrapping_add(1);
    }

    /// The handle of this thread and the numbers of its epolls. They are looked for once
    /// after an epoll was made in the container, and not at all before.
    ///
    /// # Errors
    /// If they have to be looked for and cannot be.
    pub(crate) fn epolls(
        &mut self,
        tid: i32,
    ) -> Result<Option<(&PidFd, &[i32])>, epoll::EpollError> {
        let made = self.epolls_made;
        if made == 0 {
            return Ok(None);
        }
        let Some(target) = self.target(tid) else { return Ok(None) };
        if target.epolls.as_ref().is_none_or(|(at, _)| *at != made) {
            target.epolls = Some((made, epoll::numbers_in(tid)?));
        }
        let numbers = target.epolls.as_ref().map_or(&[][..], |(_, numbers)| numbers);
        Ok(Some((&target.pidfd, numbers)))
    }

    /// Has the thread's epolls looked for again the next time.
    pub(crate) fn forget_epolls(&mut self, tid: i32) {
        if let Some(Some(target)) = self.slot(tid) {
            target.epolls = None;
        }
    }

    fn target(&mut self, tid: i32) -> Option<&mut Target> {
        let slot = self.slot(tid)?;
        if !matches!(slot, Some(kept) if kept.tid == tid) {
            *slot = Some(Target { tid, pidfd: open(tid)?, epolls: None });
        }
        slot.as_mut()
    }

    /// Forgets a handle that turned out to be stale.
    pub(crate) fn forget(&mut self, tid: i32) {
        if let Some(slot) = self.slot(tid) {
            *slot = None;
        }
    }

    fn slot(&mut self, tid: i32) -> Option<&mut Option<Target>> {
        // 0 stands for a thread that our process namespace does not show.
        let index = usize::try_from(tid).ok().filter(|tid| *tid > 0)? % SLOTS;
        self.slots.get_mut(index)
    }
}

fn open(tid: i32) -> Option<PidFd> {
    #[cfg(bypass_weaken)]
    if is_off(Layer::Threads) {
        return PidFd::open_group(tid).ok();
    }
    PidFd::open(tid).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn a_thread_that_cannot_be_seen_has_no_handle() {
        let mut targets = Targets::default();
        assert!(targets.get(0).is_none());
        assert!(targets.get(-1).is_none());
        assert!(targets.get(i32::MAX).is_none());
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn a_forgotten_handle_is_opened_again() {
        let mut targets = Targets::default();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(targets.get(own).is_some());
        targets.forget(own);
        assert!(targets.get(own).is_some());
    }
}
