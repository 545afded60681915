//! Threads of our own, in other people's processes.

use std::io;
use std::thread::{Builder, JoinHandle};

use nix::sys::signal::{SigSet, SigmaskHow};

/// Starts a thread in which every signal is blocked.
///
/// The kernel gives a signal that is meant for the process to any thread that does not block it. A
/// program that waits for its signals in one place (signalfd(2), sigwait(3)) blocks them in its
/// threads, but has no say in those that a library started before.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    stack: usize,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    // A thread inherits the mask of the one that starts it.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let started = Builder::new().name(name.into()).stack_size(stack).spawn(run);
    before.thread_set_mask()?;
    started
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn signals_are_blocked_in_the_thread_and_not_in_its_parent() {
        let before = SigSet::thread_get_mask().unwrap();
        let mask = spawn("quiet", 64 * 1024, || SigSet::thread_get_mask().unwrap());
        let mask = mask.unwrap().join().unwrap();
        for signal in [nix::sys::signal::SIGTERM, nix::sys::signal::SIGINT] {
            assert!(mask.contains(signal));
        }
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }
}
