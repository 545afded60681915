//! The thread that takes addresses back. It exists only while there are any to take back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{CHECK_EVERY, Shared};
use crate::thread;

const STACK: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Warden {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Away,
    /// The thread runs, and will have seen all that there is.
    Watching,
    /// The thread runs, and something was given away that it may not have seen.
    Woken,
}

impl Warden {
    /// Looks after the slots from now until all are reserved.
    pub(super) fn wake(shared: &Arc<Shared>) {
        let mut state = shared.warden.lock();
        if *state != State::Away {
            *state = State::Woken;
            return;
        }
        let watched = Arc::downgrade(shared);
        match thread::spawn("ports", STACK, move || watch(&watched)) {
            Ok(_) => *state = State::Woken,
            Err(error) => tracing::warn!(%error, "published ports will not be reserved again"),
        }
    }

    /// Nobody waits for this lock for longer than it takes to read what is in it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets another thread begin where this one ends by a panic.
struct Succession<'a>(&'a Weak<Shared>);

impl Drop for Succession<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(shared) = self.0.upgrade()
        {
            *shared.warden.lock() = State::Away;
        }
    }
}

fn watch(watched: &Weak<Shared>) {
    let _succession = Succession(watched);
    let mut wait = CHECK_EVERY;
    loop {
        std::thread::sleep(wait);
        // With the last handle there is nobody to take anything back for.
        let Some(shared) = watched.upgrade() else { return };
        *shared.warden.lock() = State::Watching;
        let next = shared.settle();
        let mut state = shared.warden.lock();
        // Whoever gives a port away later starts another thread.
        if next.is_none() && *state == State::Watching {
            *state = State::Away;
            return;
        }
        wait = next.unwrap_or(CHECK_EVERY);
    }
}
