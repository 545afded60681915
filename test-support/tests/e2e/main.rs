//! End-to-end tests: the real program, run by an ordinary user, in a world of
//! namespaces. `make e2e` builds what they need and runs them.

#![expect(
    clippy::indexing_slicing,
    reason = "JSON is indexed, which answers null for what is not there"
)]

mod annotations;
mod attack;
mod audit;
mod broken;
mod client;
mod command_line;
mod confine;
mod daemon;
mod daemon_fixture;
mod daemon_life;
mod dns;
mod docs;
mod egress;
mod fairness;
mod inside;
mod leaks;
mod leaks_published;
mod leaks_udp;
mod names;
mod neighbours;
mod net;
mod networks;
mod parking;
mod policy;
mod publish;
mod publish_table;
mod repl;
mod reserve;
mod rules;
mod run_basics;
mod serve;
mod serve_peers;
mod serve_ports;
mod serve_sessions;
mod servers;
mod transparency;
mod udp;
mod visibility;
mod world_selftest;

use std::process::ExitCode;

use test_support::Result;
use test_support::harness::{self, Group};

fn main() -> Result<ExitCode> {
    harness::main(GROUPS)
}

const GROUPS: &[Group] = &[
    world_selftest::SCENARIOS,
    run_basics::SCENARIOS,
    command_line::SCENARIOS,
    egress::SCENARIOS,
    policy::SCENARIOS,
    audit::SCENARIOS,
    rules::SCENARIOS,
    attack::SCENARIOS,
    publish::SCENARIOS,
    reserve::SCENARIOS,
    publish_table::SCENARIOS,
    names::SCENARIOS,
    udp::SCENARIOS,
    transparency::SCENARIOS,
    servers::SCENARIOS,
    dns::SCENARIOS,
    broken::SCENARIOS,
    docs::SCENARIOS,
    parking::SCENARIOS,
    confine::SCENARIOS,
    leaks::SCENARIOS,
    leaks_published::SCENARIOS,
    leaks_udp::SCENARIOS,
    net::SCENARIOS,
    networks::SCENARIOS,
    neighbours::SCENARIOS,
    serve::SCENARIOS,
    annotations::SCENARIOS,
    serve_ports::SCENARIOS,
    serve_peers::SCENARIOS,
    serve_sessions::SCENARIOS,
    daemon::SCENARIOS,
    daemon_life::SCENARIOS,
    fairness::SCENARIOS,
    visibility::SCENARIOS,
];
