//! Container engines as they are packaged, each with the same table of scenarios. `make stacks`
//! builds what they need and runs them.

#![expect(
    clippy::indexing_slicing,
    reason = "JSON is indexed, which answers null for what is not there"
)]

mod bundles;
mod containerd;
mod crowd;
mod docker;
mod docs;
mod doctor;
mod engine;
mod guides;
mod image;
mod nerdctl;
mod podman;
mod table;
mod wrapper;

use std::process::ExitCode;

use test_support::{Result, harness};

fn main() -> Result<ExitCode> {
    harness::main(&[
        bundles::SCENARIOS,
        wrapper::SCENARIOS,
        crowd::SCENARIOS,
        podman::SCENARIOS,
        docker::SCENARIOS,
        containerd::SCENARIOS,
        nerdctl::SCENARIOS,
        docs::SCENARIOS,
        doctor::SCENARIOS,
        guides::SCENARIOS,
    ])
}
