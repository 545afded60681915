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

/// Processes beside the caller's whose epolls are looked at, and how many of these.
const MAX_MAKERS: usize = 16;
const MAX_OTHER_EPOLLS: usize = 16;

/// A few recently seen threads.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    slots: [Option<Target>; SLOTS],
    /// Whether we hear of every epoll that the container makes, and how many that were.
    epolls_told: bool,
    epolls_made: u64,
    /// The processes that made some, the last ones at the end.
    makers: Vec<Maker>,
}

#[derive(Debug)]
struct Target {
    tid: i32,
    pidfd: PidFd,
    /// Its thread group, once that was asked for.
    group: Option<i32>,
    epolls: Option<Epolls>,
}

#[derive(Debug)]
struct Maker {
    process: i32,
    epolls: Option<Epolls>,
}

/// The numbers of a process's epolls, and what was known when they were looked for: how many the
/// container had made, or else how many descriptors the process had.
#[derive(Debug)]
struct Epolls {
    at: Option<u64>,
    numbers: Vec<i32>,
}

impl Targets {
    pub(crate) fn new(epolls_told: bool) -> Self {
        Self { epolls_told, ..Self::default() }
    }

    /// The handle of this thread, opened if need be. `None` if there is no such thread.
    pub(crate) fn get(&mut self, tid: i32) -> Option<&PidFd> {
        self.target(tid).map(|target| &target.pidfd)
    }

    /// Whether we hear of epolls when they are made.
    pub(crate) fn are_told(&self) -> bool {
        self.epolls_told
    }

    /// This thread makes an epoll.
    pub(crate) fn note_epoll(&mut self, tid: i32) {
        self.epolls_made = self.epolls_made.wrapping_add(1);
        let known = |makers: &[Maker], id: i32| makers.iter().any(|maker| maker.process == id);
        if known(&self.makers, tid) {
            return;
        }
        let Ok(process) = netns_socket::group_of(tid) else { return };
        if !known(&self.makers, process) {
            if self.makers.len() >= MAX_MAKERS {
                self.makers.remove(0);
            }
            self.makers.push(Maker { process, epolls: None });
        }
    }

    /// This thread, and the numbers of its epolls. They are looked for once after an epoll was made in the
    /// container, and not at all before; where nobody tells, whenever they may have changed.
    ///
    /// # Errors
    /// If they have to be looked for and cannot be.
    pub(crate) fn epolls(
        &mut self,
        tid: i32,
    ) -> Result<Option<(&PidFd, &[i32])>, epoll::EpollError> {
        let (made, told) = (self.epolls_made, self.epolls_told);
        if made == 0 && told {
            return Ok(None);
        }
        let Some(target) = self.target(tid) else { return Ok(None) };
        let at = if told {
            Some(made)
        } else {
            // As many as before need not be the same, so of few each is looked at.
            epoll::open_descriptors(tid).filter(|count| *count > FEW)
        };
        let numbers = look_for(tid, &mut target.epolls, at)?;
        Ok(Some((&target.pidfd, numbers)))
    }

    /// The epolls of the other processes that have made some, which may have got sockets of this one.
    pub(crate) fn other_epolls(&mut self, tid: i32) -> impl Iterator<Item = (i32, &[i32])> {
        let alone = match self.makers.as_slice() {
            [] => true,
            [only] => only.process == tid,
            _ => false,
        };
        let own = if alone { None } else { self.group(tid) };
        let (made, mut left) = (self.epolls_made, MAX_OTHER_EPOLLS);
        if own.is_some() {
            self.makers.retain_mut(|maker| {
                Some(maker.process) == own
                    || look_for(maker.process, &mut maker.epolls, Some(made)).is_ok()
            });
        }
        self.makers
            .iter()
            .filter(move |maker| own.is_some_and(|own| own != maker.process))
            .filter_map(|maker| Some((maker.process, maker.epolls.as_ref()?.numbers.as_slice())))
            .map_while(move |(process, numbers)| {
                let numbers = numbers.get(..numbers.len().min(left))?;
                left -= numbers.len();
                (left > 0 || !numbers.is_empty()).then_some((process, numbers))
            })
    }

    fn group(&mut self, tid: i32) -> Option<i32> {
        let target = self.target(tid)?;
        if target.group.is_none() {
            target.group = netns_socket::group_of(tid).ok();
        }
        target.group
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
            *slot = Some(Target { tid, pidfd: open(tid)?, group: None, epolls: None });
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

/// Looks for the epolls of a thread, unless what is known of them holds.
fn look_for(
    tid: i32,
    known: &mut Option<Epolls>,
    at: Option<u64>,
) -> Result<&[i32], epoll::EpollError> {
    if at.is_none() || known.as_ref().is_none_or(|known| known.at != at) {
        *known = Some(Epolls { at, numbers: epoll::numbers_in(tid)? });
    }
    Ok(known.as_ref().map_or(&[], |known| known.numbers.as_slice()))
}

/// So many descriptors are looked through in some 100 µs.
const FEW: u64 = 128;

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
