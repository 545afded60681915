//! Threads under a filter, and waiting for what they do.

use std::os::fd::AsFd;
use std::os::unix::thread::{JoinHandleExt, RawPthread};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::sys::raw_call;
use rustix::event::{PollFd, PollFlags, Timespec};
use seccomp_notify::{Filter, Listener, Notification, Received};

/// Long enough for any machine; only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The call most tests trap: no arguments, no effect, and nothing else here uses it.
pub(crate) const GETPPID: i32 = libc::SYS_getppid as i32;

pub(crate) fn trap_getppid() -> Filter {
    Filter::allow_all().notify(GETPPID)
}

/// A thread under a filter.
pub(crate) struct Target<T> {
    thread: JoinHandle<()>,
    result: mpsc::Receiver<T>,
}

impl<T> Target<T> {
    /// What its body returned. An error if it panicked, or hangs in a call that nobody answers.
    pub(crate) fn join(self) -> Result<T, mpsc::RecvTimeoutError> {
        let result = self.result.recv_timeout(PATIENCE)?;
        self.thread.join().unwrap();
        Ok(result)
    }

    pub(crate) fn as_pthread_t(&self) -> RawPthread {
        self.thread.as_pthread_t()
    }
}

/// Runs `body` on a thread under `filter`.
pub(crate) fn spawn<T: Send + 'static>(
    filter: Filter,
    body: impl FnOnce() -> T + Send + 'static,
) -> (Listener, Target<T>) {
    let (sender, receiver) = mpsc::channel();
    let (tell, result) = mpsc::channel();
    let thread = thread::spawn(move || {
        sender.send(filter.install()).unwrap();
        tell.send(body()).ok();
    });
    (receiver.recv().unwrap().unwrap(), Target { thread, result })
}

/// A listener whose target has ended.
pub(crate) fn spare_listener() -> Listener {
    let (listener, thread) = spawn(trap_getppid(), || ());
    thread.join().unwrap();
    listener
}

/// Waits for one of `flags`, or for what poll always reports.
pub(crate) fn wait_for(fd: impl AsFd, flags: PollFlags) -> PollFlags {
    let mut polled = [PollFd::new(&fd, flags)];
    let timeout = Timespec::try_from(PATIENCE).unwrap();
    assert_eq!(rustix::event::poll(&mut polled, Some(&timeout)), Ok(1), "nothing happened");
    polled[0].revents()
}

/// The next notification, which must come.
pub(crate) fn next(listener: &Listener) -> Notification {
    assert!(wait_for(listener, PollFlags::IN).contains(PollFlags::IN), "target has gone");
    match listener.recv().unwrap() {
        Received::Notification(notification) => notification,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn getppid() -> Result<i64, i32> {
    raw_call(libc::SYS_getppid)
}
