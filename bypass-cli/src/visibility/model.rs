//! What is told of a server: the same types on both sides of each wire.
//!
//! Whoever reads it takes members that are missing for nothing, and does not mind others: server and client
//! may be of different versions.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bypass_core::{Distribution, Protocol, Published, Snapshot, Way};
use serde::{Deserialize, Serialize};

use crate::confine::Confined;

/// The answer to `GET /v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    #[serde(flatten)]
    pub(crate) server: Server,
    pub(crate) containers: Vec<ContainerStatus>,
}

/// The process that serves containers, and what they did together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Server {
    pub(crate) version: String,
    /// The command: `serve` or `daemon`.
    pub(crate) role: String,
    pub(crate) pid: u32,
    /// Unix time.
    pub(crate) started: f64,
    pub(crate) up_seconds: f64,
    /// As uname(2) has it.
    pub(crate) kernel: String,
    pub(crate) enforced: Enforced,
    pub(crate) process: Process,
    pub(crate) containers_admitted: u64,
    pub(crate) sessions_joined: u64,
    pub(crate) handovers_refused: u64,
    /// Of all containers, those that have ended included.
    pub(crate) calls: Calls,
    pub(crate) connect: ConnectTimes,
    pub(crate) published: Vec<PublishedPort>,
}

/// What holds the supervisor itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Enforced {
    /// Only system calls of a list.
    pub(crate) seccomp: bool,
    /// No other process of the user can trace it or take its descriptors.
    pub(crate) not_dumpable: bool,
    /// It has no capability but perhaps that to bind low ports.
    pub(crate) no_capabilities: bool,
}

impl From<Confined> for Enforced {
    fn from(confined: Confined) -> Self {
        let Confined { seccomp, not_dumpable, no_capabilities, .. } = confined;
        Self { seccomp, not_dumpable, no_capabilities }
    }
}

impl Enforced {
    /// The layers by the names that are used for them everywhere.
    pub(crate) const fn layers(self) -> [(&'static str, bool); 3] {
        [
            ("seccomp", self.seccomp),
            ("not_dumpable", self.not_dumpable),
            ("no_capabilities", self.no_capabilities),
        ]
    }
}

/// What the process costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Process {
    pub(crate) cpu_seconds: f64,
    pub(crate) open_fds: u64,
    pub(crate) max_fds: u64,
    pub(crate) resident_bytes: u64,
    pub(crate) threads: u64,
}

/// Counters, as the report of `run` has them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Calls {
    /// By outcome.
    pub(crate) verdicts: BTreeMap<String, u64>,
    /// By outcome and reason; zeros are left out.
    pub(crate) reasons: BTreeMap<String, BTreeMap<String, u64>>,
    pub(crate) continued: u64,
    pub(crate) parted: u64,
    pub(crate) connect_us: Quantiles,
}

/// How long connects took to be handled, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Quantiles {
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl From<Snapshot> for Calls {
    fn from(snapshot: Snapshot) -> Self {
        let owned = |(name, count): (&str, u64)| (name.to_owned(), count);
        let times = snapshot.connect_us;
        Self {
            verdicts: snapshot.verdicts.into_iter().map(owned).collect(),
            reasons: snapshot
                .reasons
                .into_iter()
                .map(|(name, row)| (name.to_owned(), row.into_iter().map(owned).collect()))
                .collect(),
            continued: snapshot.continued,
            parted: snapshot.parted,
            connect_us: Quantiles {
                count: times.count,
                p50: times.p50,
                p99: times.p99,
                max: times.max,
            },
        }
    }
}

impl Calls {
    pub(crate) fn verdict(&self, outcome: &str) -> u64 {
        self.verdicts.get(outcome).copied().unwrap_or(0)
    }

    /// All that ended with a verdict.
    pub(crate) fn total(&self) -> u64 {
        self.verdicts.values().sum()
    }

    /// Adds those of another container of the same id. Quantiles cannot be added.
    pub(crate) fn add(&mut self, other: &Self) {
        for (outcome, count) in &other.verdicts {
            *self.verdicts.entry(outcome.clone()).or_default() += count;
        }
        for (outcome, row) in &other.reasons {
            let ours = self.reasons.entry(outcome.clone()).or_default();
            for (reason, count) in row {
                *ours.entry(reason.clone()).or_default() += count;
            }
        }
        self.continued += other.continued;
        self.parted += other.parted;
        self.connect_us = Quantiles::default();
    }
}

/// How long connects took to be handled, as a histogram that can be added to others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ConnectTimes {
    pub(crate) count: u64,
    pub(crate) sum_ns: u64,
    /// For each bound in nanoseconds, how many were shorter.
    pub(crate) shorter: Vec<(u64, u64)>,
}

impl From<Distribution> for ConnectTimes {
    fn from(times: Distribution) -> Self {
        let shorter = Distribution::BOUNDS.into_iter().zip(times.shorter).collect();
        Self { count: times.count, sum_ns: times.sum, shorter }
    }
}

/// A host port that is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublishedPort {
    /// The container that was announced with it. Those of `serve` are for whichever binds it first.
    #[serde(default)]
    pub(crate) container: Option<String>,
    pub(crate) protocol: String,
    pub(crate) host: SocketAddr,
    pub(crate) container_port: u16,
    pub(crate) state: PortState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PortState {
    /// Kept for an application that has not bound it yet, or has closed it.
    Reserved,
    /// An application has it by its own socket.
    Direct,
    /// An application is reached through our relay.
    Relayed,
}

impl PortState {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Direct => "direct",
            Self::Relayed => "relayed",
        }
    }
}

impl PublishedPort {
    pub(crate) fn of(container: Option<&str>, port: &Published) -> Self {
        let state = match port.way {
            Way::Direct if port.in_use => PortState::Direct,
            Way::Relayed if port.in_use => PortState::Relayed,
            _ => PortState::Reserved,
        };
        Self {
            container: container.map(str::to_owned),
            protocol: match port.protocol {
                Protocol::Tcp => "tcp".into(),
                Protocol::Udp => "udp".into(),
            },
            host: port.host,
            container_port: port.container_port,
            state,
        }
    }
}

/// A container that is served.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerStatus {
    pub(crate) id: String,
    pub(crate) up_seconds: f64,
    /// Calls that wait for the network at the moment.
    pub(crate) waiting: u64,
    pub(crate) enforced: Treated,
    #[serde(flatten)]
    pub(crate) calls: Calls,
}

/// What holds a container, beside the traps without which there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Treated {
    /// Host sockets are bound to their device.
    pub(crate) pin: bool,
    /// Its profile is one of ours, so it is known what it traps.
    pub(crate) own_profile: bool,
    /// It may be given UDP sockets of the host.
    pub(crate) host_udp: bool,
}
