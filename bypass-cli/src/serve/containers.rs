//! The containers that are being served, by their id.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bypass_core::{
    AuditLimits, AuditSink, Container, PolicyLayer, Ports, Published, Settings, Supervisor, Udp,
};
use netns_socket::PidFd;
use seccomp_notify::{ContainerProcessState, Handoff};

use crate::annotations::{self, Annotated};
use crate::args::UdpArgs;
use crate::exit;
use crate::filter::Traps;
use crate::metadata::Metadata;
use crate::policy::{Policies, devices_suffice};
use crate::visibility::{Entered, Ledger, Treated};

#[derive(Debug)]
pub(crate) struct Containers {
    supervisor: Supervisor,
    treatment: Treatment,
    policies: RwLock<Arc<Policies>>,
    served: Mutex<Registry>,
    /// Written to when a container has ended.
    ended: Arc<OwnedFd>,
    ledger: Arc<Ledger>,
    /// What is published, in the ledger.
    _ports: Entered,
}

#[derive(Debug, Default)]
struct Registry {
    by_id: HashMap<String, Served>,
    /// Those whose id another has, while their processes run.
    displaced: Vec<(String, Served)>,
    closed: bool,
}

impl Registry {
    fn iter(&self) -> impl Iterator<Item = &Served> {
        self.by_id.values().chain(self.displaced.iter().map(|(_, served)| served))
    }
}

#[derive(Debug)]
struct Served {
    container: Container,
    /// After the container: what it did is complete when it is struck off.
    entered: Entered,
    /// What its policy depends on.
    annotations: BTreeMap<String, String>,
    annotated: Annotated,
    ports: Ports,
    /// The ports in the ledger, where they are its own.
    _listed: Option<Entered>,
    metadata: String,
    /// It may hold UDP sockets of the host.
    host_datagrams: bool,
}

/// How containers are treated, but for their policy.
#[derive(Debug)]
pub(crate) struct Treatment {
    pub(crate) audit: Option<(Arc<dyn AuditSink>, AuditLimits)>,
    /// What holds for these containers before any other policy.
    pub(crate) first: PolicyLayer,
    pub(crate) ports: Ports,
    pub(crate) udp: Udp,
    pub(crate) confining: Confining,
    /// Where containers may publish what their annotations ask for: what must be trapped of one that asks
    /// for UDP ports.
    pub(crate) publish_annotated: Option<Confining>,
    /// They reach each other's published ports.
    pub(crate) neighbours: bool,
}

impl Treatment {
    fn of(
        &self,
        id: &str,
        ports: &Ports,
        policy: &PolicyLayer,
        datagrams: Datagrams,
        metadata: &str,
    ) -> Settings {
        // What another's profile traps is not known. nerdctl's has neither of these.
        let ours = Metadata::parse(metadata).is_some();
        let settings = Settings::new(id, policy.policy())
            .publish(ports.clone())
            .udp(self.udp)
            .host_datagrams(datagrams == Datagrams::OfHost)
            .listen_trapped(ours)
            .epolls_told(ours)
            .neighbour(self.neighbours)
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
pub(crate) struct Confining {
    /// Under a policy that their devices keep them to.
    pub(crate) devices_suffice: Option<Traps>,
    /// Under any other.
    pub(crate) devices_do_not: Option<Traps>,
}

impl Confining {
    /// For a container that publishes UDP ports.
    pub(crate) fn published(udp: &UdpArgs) -> Self {
        Self {
            devices_suffice: Some(udp.confining_published(true)),
            devices_do_not: Some(udp.confining_published(false)),
        }
    }

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

/// What is told of how a container is held.
fn treated(policy: &PolicyLayer, metadata: &str, host_udp: bool) -> Treated {
    Treated { pin: policy.pins(), own_profile: Metadata::parse(metadata).is_some(), host_udp }
}

/// The process that a runtime hands over: it has just loaded its filter, or is about to execute the
/// container's program. `None` if there is no such process here: some runtimes say 0.
fn first_process(state: &ContainerProcessState) -> Option<PidFd> {
    let pid = [state.pid, state.state.pid].into_iter().find(|pid| *pid > 0)?;
    PidFd::open(pid)
        .inspect_err(|error| tracing::debug!(pid, %error, "the container's process is not here"))
        .ok()
}

impl Containers {
    /// `ended` is an eventfd that is written to when
    /// [`forget_ended`](Self::forget_ended) has something to do. `only` is the id of the one container
    /// that these are, if there is one.
    pub(crate) fn new(
        supervisor: Supervisor,
        treatment: Treatment,
        policies: Arc<Policies>,
        ended: Arc<OwnedFd>,
        ledger: Arc<Ledger>,
        only: Option<&str>,
    ) -> Self {
        let policies = RwLock::new(policies);
        let ports = ledger.publish(only, &treatment.ports);
        let served = Mutex::default();
        Self { _ports: ports, supervisor, treatment, policies, served, ended, ledger }
    }

    pub(crate) fn running(&self) -> usize {
        self.lock().iter().filter(|served| served.container.end().is_none()).count()
    }

    /// Serves what a runtime handed over: a container, or a further session in one.
    pub(crate) fn admit(&self, handoff: Handoff) {
        let Handoff { listener, state, .. } = handoff;
        let first = first_process(&state);
        let id = state.state.id;
        if id.is_empty() || id.len() > MAX_ID {
            tracing::warn!(bytes = id.len(), "refused a hand-over: the container has no usable id");
            self.ledger.count_refused();
            return;
        }
        let annotations = state.state.annotations;
        let annotated = match Annotated::parse(&annotations) {
            Ok(annotated) => annotated,
            Err(error) => {
                tracing::warn!(
                    container = id,
                    "refused a hand-over: {error}; connect, bind and listen fail with ENOSYS there"
                );
                self.ledger.count_refused();
                return;
            }
        };
        // Held until the container is entered, so that it misses no reload.
        let mut registry = self.lock();
        if registry.closed {
            tracing::warn!(container = id, "refused a hand-over: it is served no longer");
            self.ledger.count_refused();
            return;
        }
        let policy = self.policy(&id, &annotations, &annotated);
        let datagrams = self.datagrams(&policy, &annotated, &state.metadata);
        let host_datagrams = datagrams == Datagrams::OfHost;
        // An id is free again when its container has ended, which we may learn later than the
        // runtime does: who is being created joins nobody.
        if state.state.status != CREATING
            && let Some(served) = registry.by_id.get(&id)
        {
            // Its processes can be passed the sockets that the others hold.
            if served.host_datagrams && !host_datagrams && served.container.end().is_none() {
                tracing::warn!(
                    container = id,
                    "refused a session: its profile has fewer traps than the container's; its \
                     connect, bind and listen fail with ENOSYS"
                );
                self.ledger.count_refused();
                return;
            }
            if served.container.join(listener.clone()) {
                tracing::info!(container = id, "a session joined");
                self.ledger.count_joined();
                return;
            }
        }
        let ended = Arc::clone(&self.ended);
        let name = id.clone();
        let (ports, listed) = self.ports(&id, &annotated);
        let settings = self.treatment.of(&id, &ports, &policy, datagrams, &state.metadata);
        let settings = match first {
            Some(process) => settings.first_process(process),
            None => settings,
        };
        let settings = settings.on_end(move |stats| {
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
                let metadata = state.metadata;
                let treated = treated(&policy, &metadata, host_datagrams);
                let entered = self.ledger.admit(&id, container.counters(), treated);
                let served = Served {
                    container,
                    entered,
                    annotations,
                    annotated,
                    ports,
                    _listed: listed,
                    metadata,
                    host_datagrams,
                };
                if let Some(before) = registry.by_id.insert(id.clone(), served) {
                    registry.displaced.push((id, before));
                }
            }
            Err(error) => {
                tracing::error!(container = id, "{}", exit::chain(&error));
                self.ledger.count_refused();
            }
        }
    }

    /// A hand-over did not come to its end.
    pub(crate) fn note_refused(&self) {
        self.ledger.count_refused();
    }

    /// Holds those that run, and those that come, to other policies.
    pub(crate) fn set_policies(&self, policies: Arc<Policies>) {
        let mut registry = self.lock();
        *self.policies.write().unwrap_or_else(PoisonError::into_inner) = policies;
        let Registry { by_id, displaced, .. } = &mut *registry;
        let displaced = displaced.iter_mut().map(|(id, served)| (&*id, served));
        for (id, served) in by_id.iter_mut().chain(displaced) {
            let policy = self.policy(id, &served.annotations, &served.annotated);
            let datagrams = self.datagrams(&policy, &served.annotated, &served.metadata);
            if served.host_datagrams && datagrams != Datagrams::OfHost {
                tracing::warn!(
                    container = id,
                    "its profile does not trap what the new policy needs to hold UDP sockets to \
                     it: it is given no more of them, and keeps those it has"
                );
            }
            served.host_datagrams |= datagrams == Datagrams::OfHost;
            served.entered.change(treated(&policy, &served.metadata, served.host_datagrams));
            let Served { ports, metadata, .. } = &*served;
            let settings = self.treatment.of(id, ports, &policy, datagrams, metadata);
            served.container.change(settings);
        }
    }

    /// Lets go of all containers, and takes no others: connect, bind and listen of processes that
    /// still run fail with ENOSYS from now on.
    pub(crate) fn close(&self) {
        let mut registry = self.lock();
        registry.closed = true;
        registry.iter().for_each(|served| served.container.let_go());
        registry.by_id.clear();
        registry.displaced.clear();
    }

    /// Drops containers that have ended.
    pub(crate) fn forget_ended(&self) {
        let mut registry = self.lock();
        registry.by_id.retain(|_, served| served.container.end().is_none());
        registry.displaced.retain(|(_, served)| served.container.end().is_none());
    }

    fn policy(
        &self,
        id: &str,
        annotations: &BTreeMap<String, String>,
        annotated: &Annotated,
    ) -> PolicyLayer {
        let policies = self.policies.read().unwrap_or_else(PoisonError::into_inner);
        let theirs = policies.of(id, annotations);
        PolicyLayer::stacked([&annotated.layer, &self.treatment.first, &theirs])
    }

    /// What a container publishes: its annotation's ports in place of those of all, where that may be.
    /// Those of its own are in the ledger.
    fn ports(&self, id: &str, annotated: &Annotated) -> (Ports, Option<Entered>) {
        let ports = match &annotated.publish {
            None => self.treatment.ports.clone(),
            Some(list) if list.is_empty() => Ports::none(),
            Some(_) if self.treatment.publish_annotated.is_none() => {
                tracing::warn!(
                    container = id,
                    "the annotation {} counts with --publish-annotated only",
                    annotations::PUBLISH
                );
                self.treatment.ports.clone()
            }
            Some(list) => match Ports::reserve(list) {
                Ok(ports) => {
                    for Published { protocol, host, container_port, .. } in ports.published() {
                        tracing::info!(
                            container = id,
                            "published {host}/{protocol} -> {container_port}"
                        );
                    }
                    let listed = self.ledger.publish(Some(id), &ports);
                    return (ports, Some(listed));
                }
                Err(error) => {
                    tracing::error!(
                        container = id,
                        "the annotation {}: {}; nothing is published",
                        annotations::PUBLISH,
                        exit::chain(&error)
                    );
                    Ports::none()
                }
            },
        };
        (ports, None)
    }

    fn datagrams(&self, policy: &PolicyLayer, annotated: &Annotated, metadata: &str) -> Datagrams {
        let Treatment { confining, publish_annotated: asked, .. } = &self.treatment;
        let confining = asked.as_ref().filter(|_| annotated.publishes_udp()).unwrap_or(confining);
        Datagrams::under(metadata, confining.under(policy))
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The status of a container whose first process hands over its listener.
const CREATING: &str = "creating";
/// The longest id that is taken, in bytes: it is in every line of the log. Engines use 64.
const MAX_ID: usize = 1024;

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
