//! The containers that are being served, by their id.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bypass_core::{Container, Policy, Ports, Settings, Supervisor, Udp};
use seccomp_notify::Handoff;

use crate::exit;

#[derive(Debug)]
pub(super) struct Containers {
    supervisor: Supervisor,
    treatment: Treatment,
    by_id: Mutex<HashMap<String, Container>>,
    /// Written to when a container has ended.
    ended: Arc<OwnedFd>,
}

/// How every container is treated.
#[derive(Debug)]
pub(super) struct Treatment {
    pub(super) policy: Arc<Policy>,
    pub(super) ports: Ports,
    pub(super) udp: Udp,
    pub(super) pin: bool,
}

impl Treatment {
    fn of(&self, id: &str) -> Settings {
        Settings::new(id, Arc::clone(&self.policy))
            .publish(self.ports.clone())
            .udp(self.udp)
            .pin(self.pin)
    }
}

impl Containers {
    pub(super) fn new(supervisor: Supervisor, treatment: Treatment, ended: OwnedFd) -> Self {
        Self { supervisor, treatment, by_id: Mutex::default(), ended: Arc::new(ended) }
    }

    /// Readable when [`forget_ended`](Self::forget_ended) has something to do.
    pub(super) fn ended(&self) -> &OwnedFd {
        &self.ended
    }

    pub(super) fn running(&self) -> usize {
        self.lock().values().filter(|container| container.end().is_none()).count()
    }

    /// Serves what a runtime handed over: a container, or a further session in one.
    pub(super) fn admit(&self, handoff: Handoff) {
        let Handoff { listener, state, .. } = handoff;
        let id = state.state.id;
        let mut by_id = self.lock();
        if let Some(container) = by_id.get(&id) {
            if container.join(listener.clone()) {
                tracing::info!(container = id, "a session joined");
                return;
            }
            by_id.remove(&id);
        }
        let ended = Arc::clone(&self.ended);
        let name = id.clone();
        let settings = self.treatment.of(&id).on_end(move |stats| {
            tracing::info!(container = name, verdicts = ?stats.verdicts, "ended");
            // A full counter has been noticed already.
            rustix::io::write(&*ended, &1u64.to_ne_bytes()).ok();
        });
        match self.supervisor.attach(listener, settings) {
            Ok(container) => {
                tracing::info!(container = id, pid = state.pid, "attached");
                by_id.insert(id, container);
            }
            Err(error) => tracing::error!(container = id, "{}", exit::chain(&error)),
        }
    }

    /// Drops containers that have ended.
    pub(super) fn forget_ended(&self) {
        let mut counter = [0; 8];
        rustix::io::read(&*self.ended, &mut counter).ok();
        self.lock().retain(|_, container| container.end().is_none());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Container>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
