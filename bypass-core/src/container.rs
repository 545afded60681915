//! One container: its thread, and the handle that others hold on it.
//!
//! Each container has a thread of its own that sleeps in poll(2) on the container's
//! notify descriptors. Two things that a shared loop could not give follow from it: a
//! container that makes us wait (a memory page that never arrives, a target that gets
//! no CPU to take its descriptor) makes nobody else wait, and the kernel can hand the
//! CPU straight from the target to its supervisor (`SYNC_WAKE_UP` reaches a thread in
//! poll(2), not one behind an epoll descriptor). What a thread costs is its stack, of
//! which it touches a few pages.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use seccomp_notify::{Listener, Received};

use crate::audit::Auditor;
use crate::call::Call;
use crate::engine::{Engine, Facts, Rules};
use crate::live::{Event, Live};
use crate::stats::{Snapshot, Stats};
use crate::supervisor::{AttachError, Settings};
use crate::thread;

/// The engine needs little, and every page it touches counts once per container.
const STACK: usize = 128 * 1024;

/// How long a dropped handle waits for its thread.
const DETACH_WITHIN: Duration = Duration::from_secs(1);

/// A container under supervision. Dropping it detaches: the notify descriptors are
/// closed, and trapped calls of processes that still run fail with ENOSYS.
#[derive(Debug)]
pub struct Container {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    stats: Arc<Stats>,
    wake: OwnedFd,
    stop: AtomicBool,
    ended: Mutex<Option<End>>,
    end: Condvar,
    /// Readable for ever once the container has ended.
    over: OwnedFd,
}

/// How a container's thread ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The last process under the container's filters has gone, or the handle was dropped.
    Over,
    /// The thread panicked or could not go on: a fault of ours. Processes that still run get
    /// ENOSYS for every trapped call.
    Failed,
}

#[derive(Debug)]
enum Command {
    Join(Listener),
    Change(Rules),
}

/// Called on the container's thread when its supervision has ended.
pub(crate) type OnEnd = Box<dyn FnOnce(&Snapshot) + Send>;

impl Container {
    pub(crate) fn start(
        name: String,
        listener: Listener,
        live: Live,
        facts: Facts,
        auditor: Option<Auditor>,
        on_end: Option<OnEnd>,
    ) -> Result<Self, AttachError> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| AttachError::EventfdCall { source: errno.into() })?;
        let over = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| AttachError::EventfdCall { source: errno.into() })?;
        let stats = Arc::new(Stats::default());
        let shared = Arc::new(Shared {
            name,
            stats: Arc::clone(&stats),
            wake,
            stop: AtomicBool::new(false),
            ended: Mutex::new(None),
            end: Condvar::new(),
            over,
        });
        let (commands, inbox) = mpsc::channel();
        let mut engine = Engine::new(facts, stats);
        if let Some(auditor) = auditor {
            engine.set_auditor(auditor);
        }
        let mut served =
            Served { listeners: vec![listener], inbox, shared: Arc::clone(&shared), engine, live };
        // Without it every wake-up may cross to another CPU; with it they stay on one.
        for listener in &served.listeners {
            listener.set_sync_wake_up(true).ok();
        }
        thread::spawn("bypass", STACK, move || {
            // Declared first, dropped last: the end is announced after the notify
            // descriptors are closed.
            let mut announce = Announce(Arc::clone(&served.shared), End::Failed);
            // Nothing of what it leaves behind is used but to be closed.
            announce.1 = catch_unwind(AssertUnwindSafe(|| served.run())).unwrap_or(End::Failed);
            drop(served);
            let shared = Arc::clone(&announce.0);
            if announce.1 == End::Failed {
                tracing::error!(
                    container = shared.name,
                    "its supervision has failed, which is a bug, please report it: its connect, \
                     bind and listen fail with ENOSYS from now on"
                );
            }
            drop(announce);
            if let Some(on_end) = on_end {
                on_end(&shared.stats.snapshot());
            }
        })
        .map_err(|source| AttachError::ThreadCall { source })?;
        Ok(Self { shared, commands })
    }

    /// The name it was attached with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Adds the listener of a further process tree in the same container, such as that
    /// of an `exec`. False if the container has ended already.
    #[must_use]
    pub fn join(&self, listener: Listener) -> bool {
        listener.set_sync_wake_up(true).ok();
        self.end().is_none() && self.commands.send(Command::Join(listener)).is_ok() && {
            self.shared.wake();
            true
        }
    }

    /// Holds the container to policy, pin and UDP of these settings from the next call on. What else
    /// they say is for [`attach`](crate::Supervisor::attach) alone, and is not looked at.
    ///
    /// Calls that wait are finished as they were decided, and connections that stand are not cut. Sent
    /// datagrams are judged anew, but those of sockets whose sends are not trapped.
    pub fn change(&self, settings: Settings) {
        // Whoever has ended is held to nothing.
        if self.commands.send(Command::Change(settings.into_rules())).is_ok() {
            self.shared.wake();
        }
    }

    /// Begins what dropping does, without waiting for it: of many containers, all let go at once.
    pub fn let_go(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
    }

    /// What has been counted up to now. Counters are read one after another while the container goes on,
    /// so that their sum may be between two calls.
    #[must_use]
    pub fn stats(&self) -> Snapshot {
        self.shared.stats.snapshot()
    }

    /// The counters themselves, for who reads them more often, or after the end.
    #[must_use]
    pub fn counters(&self) -> Arc<Stats> {
        Arc::clone(&self.shared.stats)
    }

    /// Whether and how the container has ended.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        *self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the container has ended, or until the time is over; `None` for the latter. Returns at
    /// once for one that has ended.
    pub fn wait(&self, limit: Duration) -> Option<End> {
        let ended = self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let (ended, _) = self
            .shared
            .end
            .wait_timeout_while(ended, limit, |ended| ended.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        *ended
    }
}

/// Readable once the container has [ended](Container::end), for programs with a loop of their
/// own.
impl AsFd for Container {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.over.as_fd()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.let_go();
        // A target can hold the thread up for a while. It then ends by itself later, and
        // whoever drops the handle is not made to wait for it.
        self.wait(DETACH_WITHIN);
    }
}

impl Shared {
    fn wake(&self) {
        // A full counter has woken the thread already.
        rustix::io::write(&self.wake, &1u64.to_ne_bytes()).ok();
    }
}

/// Tells the end, also when closing panics.
struct Announce(Arc<Shared>, End);

impl Drop for Announce {
    fn drop(&mut self) {
        *self.0.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.1);
        self.0.end.notify_all();
        rustix::io::write(&self.0.over, &1u64.to_ne_bytes()).ok();
    }
}

/// What the thread owns.
struct Served {
    listeners: Vec<Listener>,
    inbox: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    engine: Engine<Live>,
    live: Live,
}

impl Served {
    fn run(&mut self) -> End {
        let mut ready = Ready::default();
        while !self.listeners.is_empty() && !self.shared.stop.load(Ordering::Acquire) {
            if let Err(error) = self.wait(&mut ready) {
                tracing::error!(container = self.shared.name, %error, "poll failed, detaching");
                return End::Failed;
            }
            if ready.woken {
                self.obey();
            }
            if ready.parked {
                self.settle();
            }
            for index in ready.notified.drain(..) {
                if let Some(listener) = self.listeners.get(index) {
                    Self::receive(listener, &mut self.engine, &mut self.live, &self.shared.name);
                }
            }
            // From the back, so that the positions of the others stay.
            for index in ready.hung_up.drain(..).rev() {
                drop(self.listeners.remove(index));
            }
            self.engine.handle_timeout(&mut self.live, Instant::now());
        }
        End::Over
    }

    fn wait(&self, ready: &mut Ready) -> io::Result<()> {
        let now = Instant::now();
        let timeout = self.engine.poll_timeout().map(|at| {
            let left = at.saturating_duration_since(now);
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        let wake = PollFd::new(&self.shared.wake, PollFlags::IN);
        let parked = PollFd::new(self.live.epoll(), PollFlags::IN);
        match self.listeners.as_slice() {
            // Nearly every container has one listener: this needs no allocation.
            [only] => {
                let only = PollFd::new(only, PollFlags::IN);
                ready.fill(&mut [wake, parked, only], timeout.as_ref())
            }
            many => {
                let many = many.iter().map(|one| PollFd::new(one, PollFlags::IN));
                let mut fds: Vec<_> = [wake, parked].into_iter().chain(many).collect();
                ready.fill(&mut fds, timeout.as_ref())
            }
        }
    }

    /// Takes one notification. One at a time from each listener, so that a session that
    /// floods its own does not shut out the others.
    fn receive(listener: &Listener, engine: &mut Engine<Live>, live: &mut Live, name: &str) {
        match listener.recv() {
            Ok(Received::Notification(note)) => {
                let now = Instant::now();
                let call = Call::parse(note.arch(), note.syscall_nr(), note.args());
                let tid = note.tid();
                engine.handle(live, note, tid, call, now);
            }
            Ok(Received::TargetGone | Received::Interrupted) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(container = name, error, "could not receive");
            }
        }
    }

    /// Looks after the calls that wait for the network.
    fn settle(&mut self) {
        for event in self.live.events() {
            match event {
                Event::Ready(token) => self.engine.handle_ready(&mut self.live, token),
                Event::Exited(token) => self.engine.handle_exit(&mut self.live, token),
            }
        }
    }

    fn obey(&mut self) {
        let mut counter = [0; 8];
        rustix::io::read(&self.shared.wake, &mut counter).ok();
        for command in self.inbox.try_iter() {
            match command {
                Command::Join(listener) => self.listeners.push(listener),
                Command::Change(rules) => self.engine.set_rules(rules),
            }
        }
    }
}

/// What poll(2) found, kept from one turn to the next for its memory.
#[derive(Default)]
struct Ready {
    woken: bool,
    parked: bool,
    notified: Vec<usize>,
    hung_up: Vec<usize>,
}

impl Ready {
    fn fill(&mut self, fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> io::Result<()> {
        match poll(fds, timeout) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut revents = fds.iter().map(PollFd::revents);
        self.woken = revents.next().is_some_and(|revents| !revents.is_empty());
        self.parked = revents.next().is_some_and(|revents| !revents.is_empty());
        for (index, revents) in revents.enumerate() {
            if revents.contains(PollFlags::IN) {
                self.notified.push(index);
            } else if revents.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
                self.hung_up.push(index);
            }
        }
        Ok(())
    }
}
