//! Programs that people run, in containers of `bypass-cli run`, with peers on the remote that
//! were not written by us either. `make programs` builds what they need and runs them.

#![expect(
    clippy::indexing_slicing,
    reason = "JSON is indexed, which answers null for what is not there"
)]

mod apt;
mod container;
mod fetch;
mod git;
mod haproxy;
mod load;
mod mariadb;
mod memcached;
mod names;
mod nginx;
mod place;
mod postgres;
mod program;
mod rabbitmq;
mod rate;
mod redis;
mod soak;
mod ssh;
mod web;

use std::process::ExitCode;

use test_support::Result;
use test_support::harness::{self, Group, Scenario};

use crate::program::Program;

/// Each program by itself, and all of them at once.
macro_rules! programs {
    ($($module:ident :: $program:ident,)+) => {
        const ALONE: Group = (
            "programs",
            &[$(Scenario {
                name: $module::$program.name,
                requires: $module::$program.requires,
                run: |world| program::alone(world, &$module::$program),
            },)+],
        );
        /// For the soak.
        const ALL: &[&Program] = &[$(&$module::$program,)+];
    };
}

programs! {
    nginx::SERVER,
    nginx::PROXY,
    haproxy::PROXY,
    redis::REDIS,
    memcached::MEMCACHED,
    postgres::POSTGRES,
    mariadb::MARIADB,
    rabbitmq::RABBITMQ,
    web::PYTHON,
    web::NODE,
    web::GO,
    web::JAVA,
    web::ERLANG,
    fetch::CURL,
    fetch::CURL_INTERFACE,
    fetch::WGET,
    git::GIT,
    ssh::SSH,
    ssh::RSYNC,
    apt::APT,
    load::IPERF3,
    load::WRK,
}

fn main() -> Result<ExitCode> {
    harness::main(&[ALONE, names::SCENARIOS, rate::SCENARIOS, soak::SCENARIOS])
}
