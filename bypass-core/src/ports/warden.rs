//! The thread that takes addresses back. It exists only while there are any to take back.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{CHECK_EVERY, Shared};

#[derive(Debug, Default)]
pub(super) struct Warden {
    runs: Mutex<bool>,
}

impl Warden {
    /// Looks after the slots from now until all are reserved.
    pub(super) fn wake(shared: &Arc<Shared>) {
        let mut runs = shared.warden.lock();
        if *runs {
            return;
        }
        let watched = Arc::downgrade(shared);
        let started = std::thread::Builder::new()
            .name("ports".into())
            .stack_size(64 * 1024)
            .spawn(move || watch(&watched));
        match started {
            Ok(_) => *runs = true,
            Err(error) => tracing::warn!(%error, "published ports will not be reserved again"),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, bool> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn watch(watched: &Weak<Shared>) {
    let mut wait = CHECK_EVERY;
    loop {
        std::thread::sleep(wait);
        // With the last handle there is nobody to take anything back for.
        let Some(shared) = watched.upgrade() else { return };
        // Held while looking, so that whoever gives a port away meanwhile starts another thread.
        let mut runs = shared.warden.lock();
        match shared.settle() {
            Some(next) => wait = next,
            None => {
                *runs = false;
                return;
            }
        }
    }
}
