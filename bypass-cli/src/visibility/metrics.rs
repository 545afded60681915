//! The text that Prometheus reads: its exposition format, version 0.0.4.
//!
//! `docs/metrics.md` has all that is in it; a test holds one against the other.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::model::{Calls, ContainerStatus, PortState, Status};

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One metric, of any number of series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! families {
    ($($ident:ident = $kind:ident $name:literal $labels:tt $help:literal;)+) => {
        $(const $ident: Family = Family {
            name: $name, kind: Kind::$kind, labels: &$labels, help: $help,
        };)+
        /// Every metric, in the order in which they are told.
        #[cfg(test)]
        pub(super) const ALL: &[Family] = &[$($ident),+];
    };
}

families! {
    BUILD = Gauge "bypass_build_info" ["version", "command", "kernel"]
        "What runs, and on which kernel; always 1.";
    CONFINED = Gauge "bypass_supervisor_confined" ["layer"]
        "Whether this layer holds the process that serves containers.";
    CONTAINERS = Gauge "bypass_containers" []
        "Containers that are served.";
    ADMITTED = Counter "bypass_containers_admitted_total" []
        "Containers that were ever served.";
    JOINED = Counter "bypass_sessions_joined_total" []
        "Further sessions in containers (exec).";
    REFUSED = Counter "bypass_handovers_refused_total" []
        "Hand-overs of runtimes that were refused; the log says why.";
    CALLS = Counter "bypass_calls_total" ["outcome", "reason"]
        "Trapped calls that ended, of all containers, those that are gone included.";
    CONTINUED = Counter "bypass_calls_continued_total" []
        "Trapped calls that were let through untouched, of all containers.";
    PARTED = Counter "bypass_sockets_parted_total" []
        "Sockets that were one and became two, of all containers.";
    WAITING = Gauge "bypass_waiting_calls" []
        "Calls that wait for the network.";
    CONNECT = Histogram "bypass_connect_handling_seconds" []
        "Time from receiving a connect to answering it, without those that had to wait for the network.";
    PORT_IN_USE = Gauge "bypass_published_port_in_use" ["protocol", "host", "container_port", "container"]
        "Whether an application has this published host address.";
    PORT_RELAYED = Gauge "bypass_published_port_relayed" ["protocol", "host", "container_port", "container"]
        "Whether that application is reached through the relay.";
    CONTAINER_CALLS = Counter "bypass_container_calls_total" ["container", "outcome", "reason"]
        "Trapped calls of a container that ended.";
    CONTAINER_CONTINUED = Counter "bypass_container_calls_continued_total" ["container"]
        "Trapped calls of a container that were let through untouched.";
    CONTAINER_PARTED = Counter "bypass_container_sockets_parted_total" ["container"]
        "Sockets of a container that were one and became two.";
    CONTAINER_WAITING = Gauge "bypass_container_waiting_calls" ["container"]
        "Calls of a container that wait for the network.";
    CONTAINER_UP = Gauge "bypass_container_up_seconds" ["container"]
        "How long a container has been served.";
    CONTAINER_PINNED = Gauge "bypass_container_pinned" ["container"]
        "Whether host sockets of a container are bound to their device.";
    CPU = Counter "process_cpu_seconds_total" []
        "CPU time of the process that serves containers.";
    OPEN_FDS = Gauge "process_open_fds" []
        "Descriptors that it has open.";
    MAX_FDS = Gauge "process_max_fds" []
        "Descriptors that it may have open.";
    RESIDENT = Gauge "process_resident_memory_bytes" []
        "Its resident memory, what it shares with others included.";
    THREADS = Gauge "process_threads" []
        "Its threads: one for each container, and a few.";
    STARTED = Gauge "process_start_time_seconds" []
        "When it was started, in Unix time.";
}

/// All there is.
pub(super) fn exposition(status: &Status) -> String {
    let Status { server, containers } = status;
    // An id may be that of two: of one that is being replaced and still runs, for a moment.
    let mut by_id: BTreeMap<&str, ContainerStatus> = BTreeMap::new();
    for container in containers {
        match by_id.get_mut(container.id.as_str()) {
            None => {
                by_id.insert(&container.id, container.clone());
            }
            Some(of_id) => {
                of_id.calls.add(&container.calls);
                of_id.waiting += container.waiting;
                of_id.up_seconds = of_id.up_seconds.max(container.up_seconds);
                of_id.enforced.pin &= container.enforced.pin;
            }
        }
    }
    let mut text = Text(String::with_capacity(8 * 1024));
    let version = [server.version.as_str(), &server.role, &server.kernel];
    text.family(BUILD, |f| f.sample(&version, 1.0));
    text.family(CONFINED, |f| {
        for (layer, enforced) in server.enforced.layers() {
            f.sample(&[layer], truth(enforced));
        }
    });
    text.single(CONTAINERS, containers.len() as f64);
    text.single(ADMITTED, count(server.containers_admitted));
    text.single(JOINED, count(server.sessions_joined));
    text.single(REFUSED, count(server.handovers_refused));
    text.family(CALLS, |f| calls(f, None, &server.calls));
    text.single(CONTINUED, count(server.calls.continued));
    text.single(PARTED, count(server.calls.parted));
    text.single(WAITING, containers.iter().map(|container| count(container.waiting)).sum());
    text.family(CONNECT, |f| {
        let connect = &server.connect;
        for (bound, shorter) in &connect.shorter {
            f.raw("_bucket", &[("le", &seconds(*bound).to_string())], count(*shorter));
        }
        f.raw("_bucket", &[("le", "+Inf")], count(connect.count));
        f.raw("_sum", &[], seconds(connect.sum_ns));
        f.raw("_count", &[], count(connect.count));
    });
    for (family, holds) in [
        (PORT_IN_USE, (|state| state != PortState::Reserved) as fn(PortState) -> bool),
        (PORT_RELAYED, |state| state == PortState::Relayed),
    ] {
        text.family(family, |f| {
            for port in &server.published {
                let (host, inside) = (port.host.to_string(), port.container_port.to_string());
                let container = port.container.as_deref().unwrap_or_default();
                f.sample(&[&port.protocol, &host, &inside, container], truth(holds(port.state)));
            }
        });
    }
    text.family(CONTAINER_CALLS, |f| {
        by_id.iter().for_each(|(id, container)| calls(f, Some(id), &container.calls));
    });
    for (family, value) in [
        (CONTAINER_CONTINUED, (|c| count(c.calls.continued)) as fn(&ContainerStatus) -> f64),
        (CONTAINER_PARTED, |c| count(c.calls.parted)),
        (CONTAINER_WAITING, |c| count(c.waiting)),
        (CONTAINER_UP, |c| c.up_seconds),
        (CONTAINER_PINNED, |c| truth(c.enforced.pin)),
    ] {
        text.family(family, |f| {
            by_id.iter().for_each(|(id, container)| f.sample(&[id], value(container)));
        });
    }
    let process = server.process;
    text.single(CPU, process.cpu_seconds);
    text.single(OPEN_FDS, count(process.open_fds));
    text.single(MAX_FDS, count(process.max_fds));
    text.single(RESIDENT, count(process.resident_bytes));
    text.single(THREADS, count(process.threads));
    text.single(STARTED, server.started);
    text.0
}

fn calls(f: &mut Samples<'_>, container: Option<&str>, calls: &Calls) {
    for (outcome, row) in &calls.reasons {
        for (reason, n) in row {
            match container {
                Some(id) => f.sample(&[id, outcome, reason], count(*n)),
                None => f.sample(&[outcome, reason], count(*n)),
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "values are floating-point numbers in this format")]
fn count(n: u64) -> f64 {
    n as f64
}

fn seconds(nanos: u64) -> f64 {
    count(nanos) / 1e9
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// What is written so far.
struct Text(String);

impl Text {
    fn single(&mut self, family: Family, value: f64) {
        self.family(family, |f| f.sample(&[], value));
    }

    /// A family is in one piece, and told of even where there is nothing of it.
    fn family(&mut self, family: Family, fill: impl FnOnce(&mut Samples<'_>)) {
        let Family { name, kind, help, .. } = family;
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
        fill(&mut Samples { text: &mut self.0, family });
    }
}

/// The series of one family.
struct Samples<'a> {
    text: &'a mut String,
    family: Family,
}

impl Samples<'_> {
    /// The values are those of the family's labels, in their order.
    fn sample(&mut self, values: &[&str], value: f64) {
        let labels: Vec<_> =
            self.family.labels.iter().copied().zip(values.iter().copied()).collect();
        self.raw("", &labels, value);
    }

    fn raw(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(self.family.name);
        self.text.push_str(suffix);
        for (index, (label, of)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            // Ids are what runtimes make of them.
            of.chars().for_each(|c| match c {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                c => self.text.push(c),
            });
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

#[cfg(test)]
mod tests;
