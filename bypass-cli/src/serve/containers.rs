//! The containers that are being served, by their id.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bypass_core::{
    AuditLimits, AuditSink, Container, PolicyLayer, Ports, Settings, Supervisor, Udp,
};
use seccomp_notify::Handoff;

use crate::exit;
use crate::filter::Traps;
use crate::metadata::Metadata;
use crate::policy::{Policies, devices_suffice};

#[derive(Debug)]
pub(super) struct Containers {
    supervisor: Supervisor,
    treatment: Treatment,
    by_id: Mutex<HashMap<String, Served>>,
    /// Written to when a container has ended.
    ended: Arc<OwnedFd>,
}

#[derive(Debug)]
struct Served {
    container: Container,
    /// It may hold UDP sockets of the host.
    host_datagrams: bool,
}

/// How containers are treated.
#[derive(Debug)]
pub(super) struct Treatment {
    pub(super) audit: Option<(Arc<dyn AuditSink>, AuditLimits)>,
    pub(super) policies: Policies,
    pub(super) ports: Ports,
    pub(super) udp: Udp,
    pub(super) confining: Confining,
}

impl Treatment {
    fn of(&self, id: &str, policy: &PolicyLayer, datagrams: Datagrams, ours: bool) -> Settings {
        let settings = Settings::new(id, policy.policy())
            .publish(self.ports.clone())
            .udp(self.udp)
            .host_datagrams(datagrams == Datagrams::OfHost)
            // What another's profile traps is not known. nerdctl's has neither of these.
            .listen_trapped(ours)
            .epolls_told(ours)
            .pin(policy.pins());
        match &self.audit {
            Some((sink, limits)) => settings.audit(Arc::clone(sink), *limits),
            None => settings,
        }
    }
}

/// What a profile must trap before its container is given UDP sockets of the host; none is given any
/// without this.
#[derive(Clone, Copy, Debug)]
pub(super) struct Confining {
    /// Under a policy that their devices keep them to.
    pub(super) devices_suffice: Option<Traps>,
    /// Under any other.
    pub(super) devices_do_not: Option<Traps>,
}

impl Confining {
    fn under(self, policy: &PolicyLayer) -> Option<Traps> {
        if devices_suffice(policy) { self.devices_suffice } else { self.devices_do_not }
    }
}

/// What becomes of the UDP sockets of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Datagrams {
    /// They may be sockets of the host.
    OfHost,
    /// They stay in the container, as the options want it.
    OfContainer,
    /// They stay in the container, since its profile does not trap this call.
    Unconfined { call: &'static str },
}

impl Datagrams {
    /// Under a profile with this `listenerMetadata`.
    fn under(metadata: &str, confining: Option<Traps>) -> Self {
        let Some(needed) = confining else { return Self::OfContainer };
        // What another's profile traps is not known.
        let traps = Metadata::parse(metadata).map(|Metadata(traps)| traps).unwrap_or_default();
        match traps {
            traps if traps.cover(needed) => Self::OfHost,
            Traps { messages: true, .. } => Self::Unconfined { call: "sendto" },
            _ => Self::Unconfined { call: "sendmsg" },
        }
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
        self.lock().values().filter(|served| served.container.end().is_none()).count()
    }

    /// Serves what a runtime handed over: a container, or a further session in one.
    pub(super) fn admit(&self, handoff: Handoff) {
        let Handoff { listener, state, .. } = handoff;
        let id = state.state.id;
        let policy = self.treatment.policies.of(&id, &state.state.annotations);
        let confining = self.treatment.confining.under(&policy);
        let datagrams = Datagrams::under(&state.metadata, confining);
        let host_datagrams = datagrams == Datagrams::OfHost;
        let mut by_id = self.lock();
        if let Some(served) = by_id.get(&id) {
            // Its processes can be passed the sockets that the others hold.
            if served.host_datagrams && !host_datagrams && served.container.end().is_none() {
                tracing::warn!(
                    container = id,
                    "refused a session: its profile has fewer traps than the container's; its \
                     connect, bind and listen fail with ENOSYS"
                );
                return;
            }
            if served.container.join(listener.clone()) {
                tracing::info!(container = id, "a session joined");
                return;
            }
            by_id.remove(&id);
        }
        let ended = Arc::clone(&self.ended);
        let name = id.clone();
        let ours = Metadata::parse(&state.metadata).is_some();
        let settings = self.treatment.of(&id, &policy, datagrams, ours).on_end(move |stats| {
            tracing::info!(container = name, verdicts = ?stats.verdicts, "ended");
            // A full counter has been noticed already.
            rustix::io::write(&*ended, &1u64.to_ne_bytes()).ok();
        });
        match self.supervisor.attach(listener, settings) {
            Ok(container) => {
                tracing::info!(container = id, pid = state.pid, "attached");
                if let Datagrams::Unconfined { call } = datagrams {
                    tracing::info!(
                        container = id,
                        "UDP stays in the container and published UDP ports are relayed: its \
                         profile is not known to trap {call}; take the one that `bypass-cli \
                         profile` prints with the options of `serve`, or serve with `--udp-sends \
                         free`"
                    );
                }
                by_id.insert(id, Served { container, host_datagrams });
            }
            Err(error) => tracing::error!(container = id, "{}", exit::chain(&error)),
        }
    }

    /// Drops containers that have ended.
    pub(super) fn forget_ended(&self) {
        let mut counter = [0; 8];
        rustix::io::read(&*self.ended, &mut counter).ok();
        self.lock().retain(|_, served| served.container.end().is_none());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Served>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bypass_core::DefaultAction;

    use super::*;

    #[test]
    fn what_confines_a_container_is_a_matter_of_its_own_policy() {
        let messages = Traps { messages: true, ..Traps::default() };
        let sends = Traps { sends: true, ..messages };
        let confining = Confining { devices_suffice: Some(messages), devices_do_not: Some(sends) };
        let plain = PolicyLayer::default();
        assert_eq!(confining.under(&plain), Some(messages));
        for restricting in [
            PolicyLayer { default: Some(DefaultAction::Leave), ..PolicyLayer::default() },
            PolicyLayer { pin: Some(false), ..PolicyLayer::default() },
        ] {
            assert_eq!(confining.under(&restricting), Some(sends));
        }
    }

    #[test]
    fn a_container_gets_udp_sockets_of_the_host_where_its_profile_confines_them() {
        const SENDMSG: Datagrams = Datagrams::Unconfined { call: "sendmsg" };
        const SENDTO: Datagrams = Datagrams::Unconfined { call: "sendto" };
        let messages = Traps { messages: true, ..Traps::default() };
        let sends = Traps { sends: true, ..messages };

        // Without options that ask for UDP, with them, and with denied networks as well.
        for (metadata, usual, denying) in [
            ("", SENDMSG, SENDMSG),
            ("of another program", SENDMSG, SENDMSG),
            ("bypass", SENDMSG, SENDMSG),
            ("bypass names sends", SENDMSG, SENDMSG),
            ("bypass messages", Datagrams::OfHost, SENDTO),
            ("bypass names messages sends", Datagrams::OfHost, Datagrams::OfHost),
        ] {
            assert_eq!(Datagrams::under(metadata, None), Datagrams::OfContainer);
            assert_eq!(Datagrams::under(metadata, Some(messages)), usual, "{metadata}");
            assert_eq!(Datagrams::under(metadata, Some(sends)), denying, "{metadata}");
            // As `--udp-sends free` wants it.
            let free = Datagrams::under(metadata, Some(Traps::default()));
            assert_eq!(free, Datagrams::OfHost, "{metadata}");
        }
    }
}
