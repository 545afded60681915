//! Scenarios, and the `main` that runs them as trials.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::failure::Result;
use crate::requirement::{Requirement, demanded};
use crate::stage;
use crate::world::World;

/// One test: what it shows, what it needs, and how it goes.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Says what holds, as a sentence with underscores.
    pub name: &'static str,
    /// What the machine must have, beside what every scenario needs.
    pub requires: &'static [Requirement],
    /// Returns an error when it does not hold.
    pub run: fn(&World) -> Result,
}

/// Scenarios about one thing, with its name.
pub type Group = (&'static str, &'static [Scenario]);

/// Runs every scenario of `groups` in one world.
///
/// One at a time unless the command line says otherwise: many of them measure.
///
/// # Errors
/// When the world cannot be made.
pub fn main(groups: &'static [Group]) -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(1));
    let able = ALWAYS.iter().all(|requirement| requirement.missing().is_none());
    if arguments.list || !able {
        return Ok(libtest_mimic::run(&arguments, trials(groups, None)).exit_code());
    }
    stage::enter(|| {
        // Trials run on threads that live as long as the process.
        let world: &'static World = Box::leak(Box::new(World::new()?));
        Ok(libtest_mimic::run(&arguments, trials(groups, Some(world))).exit_code())
    })
}

fn trials(groups: &'static [Group], world: Option<&'static World>) -> Vec<Trial> {
    let scenarios =
        groups.iter().flat_map(|(group, list)| list.iter().map(move |one| (group, one)));
    scenarios.map(|(group, scenario)| trial(group, scenario, world)).collect()
}

fn trial(group: &str, scenario: &'static Scenario, world: Option<&'static World>) -> Trial {
    let name = format!("{group}::{}", scenario.name);
    let missing: Vec<_> =
        ALWAYS.iter().chain(scenario.requires).filter_map(|need| need.missing()).collect();
    if missing.is_empty() {
        let run = scenario.run;
        return Trial::test(name, move || {
            let world = world.ok_or("no world was made")?;
            run(world).map_err(Failed::from)
        });
    }
    let kind = format!("needs {}", missing.join(", "));
    if demanded(TIER) {
        let message = format!("{kind}, and BYPASS_REQUIRE demands the tier {TIER}");
        Trial::test(name, move || Err(Failed::from(message)))
    } else {
        Trial::test(name, || Ok(())).with_kind(kind).with_ignored_flag(true)
    }
}

/// What no scenario can do without.
const ALWAYS: &[Requirement] = &[
    Requirement::Root,
    Requirement::OrdinaryUser,
    Requirement::Program("ip"),
    Requirement::Program("unshare"),
    Requirement::Program("nsenter"),
    Requirement::Program("setpriv"),
];

const TIER: &str = "e2e";
