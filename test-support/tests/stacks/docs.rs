//! Pages whose commands take what engines bring along.

use test_support::book::blocks::Fate;
use test_support::book::run;
use test_support::harness::{Group, Scenario};
use test_support::requirement::Requirement;
use test_support::{Result, World, ensure};

pub(crate) const SCENARIOS: Group = (
    "docs",
    // Podman's default profile comes with it.
    &[Scenario { name: "profiles", requires: &[Requirement::Program("podman")], run: profiles }],
);

fn profiles(world: &World) -> Result {
    let ours = Fate::RunBy { target: "stacks".into(), name: "docs::profiles".into() };
    let count = run::page(world, "docs/profiles.md", |block| block.fate == ours)?;
    ensure!(count >= 3, "{count} commands");
    Ok(())
}
