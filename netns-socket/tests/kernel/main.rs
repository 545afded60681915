//! Tests that need a kernel: everything runs in fresh user and network namespaces, as their root,
//! so it needs no privilege outside.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests end at a surprise")]

mod deafen;
mod epoll;
mod fixtures;
mod foreign;
mod harness;
mod inside;
mod networks;
mod pin;
mod route;
mod state;
#[expect(unsafe_code, reason = "socket options of every form, for which there are no wrappers")]
mod sys;
mod table;

use std::env;
use std::process::ExitCode;

use libtest_mimic::{Arguments, run};

fn main() -> ExitCode {
    if let Ok(role) = env::var(harness::ROLE) {
        fixtures::play(&role);
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    // Some trials count the descriptors of the process.
    arguments.test_threads = Some(1);
    let trials = match harness::enter_sandbox() {
        Ok(()) => [
            deafen::trials(),
            epoll::trials(),
            foreign::trials(),
            inside::trials(),
            networks::trials(),
            pin::trials(),
            route::trials(),
            state::trials(),
            table::trials(),
        ]
        .into_iter()
        .flatten()
        .collect(),
        Err(requirement) => vec![harness::missing("sandbox".into(), &requirement, &["kernel"])],
    };
    run(&arguments, trials).exit_code()
}
