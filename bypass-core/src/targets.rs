//! Handles on the threads that make calls, kept from one call to the next.
//!
//! Opening a pidfd and the thread's `/proc` directory anew for every call would cost
//! as much as the rest of the inspection. A kept handle can go stale but never wrong:
//! a pidfd stands for one thread for ever and says ESRCH when it is gone, even if the
//! number has been given to another since.

use netns_socket::PidFd;

/// Programs with more threads than this in `connect` at a time pay for opening.
const SLOTS: usize = 16;

/// A few recently seen threads.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    slots: [Option<(i32, PidFd)>; SLOTS],
}

impl Targets {
    /// The handle of this thread, opened if need be. `None` if there is no such thread.
    pub(crate) fn get(&mut self, tid: i32) -> Option<&PidFd> {
        let slot = self.slot(tid)?;
        if !matches!(slot, Some((kept, _)) if *kept == tid) {
            *slot = Some((tid, PidFd::open(tid).ok()?));
        }
        slot.as_ref().map(|(_, pidfd)| pidfd)
    }

    /// Forgets a handle that turned out to be stale.
    pub(crate) fn forget(&mut self, tid: i32) {
        if let Some(slot) = self.slot(tid) {
            *slot = None;
        }
    }

    fn slot(&mut self, tid: i32) -> Option<&mut Option<(i32, PidFd)>> {
        // 0 stands for a thread that our process namespace does not show.
        let index = usize::try_from(tid).ok().filter(|tid| *tid > 0)? % SLOTS;
        self.slots.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_cannot_be_seen_has_no_handle() {
        let mut targets = Targets::default();
        assert!(targets.get(0).is_none());
        assert!(targets.get(-1).is_none());
        assert!(targets.get(i32::MAX).is_none());
    }

    #[test]
    fn a_forgotten_handle_is_opened_again() {
        let mut targets = Targets::default();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(targets.get(own).is_some());
        targets.forget(own);
        assert!(targets.get(own).is_some());
    }
}
