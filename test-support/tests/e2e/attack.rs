//! The attacks end as `docs/attacks.md` says, as far as that is shown by one run of each. Which
//! layer stops them, and the races, are for `make attack`.

use test_support::attack::{EXPECTED, Environment, Field, SECTIONS, environment, table};
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::{Result, World, ensure};

pub(crate) const SCENARIOS: Group = (
    "attack",
    &[
        Scenario {
            name: "run_stops_what_it_should",
            requires: Environment::Run.requires(),
            run: |world| stops(world, Environment::Run),
        },
        Scenario {
            name: "run_with_published_ports_stops_what_it_should",
            requires: Environment::Published.requires(),
            run: |world| stops(world, Environment::Published),
        },
        Scenario {
            name: "our_profile_stops_what_it_should",
            requires: Environment::Crun.requires(),
            run: |world| stops(world, Environment::Crun),
        },
        Scenario {
            name: "another_profile_stops_what_it_should",
            requires: Environment::Eight.requires(),
            run: |world| stops(world, Environment::Eight),
        },
        Scenario {
            name: "nobody_can_weaken_the_program",
            requires: &[],
            run: environment::without_switches,
        },
    ],
);

fn stops(world: &World, environment: Environment) -> Result {
    let field = Field::new(world)?;
    let all = SECTIONS
        .iter()
        .flat_map(|(section, attacks)| attacks.iter().map(move |attack| (section, attack)));
    for (section, attack) in all.filter(|(_, attack)| !attack.races) {
        if attack.publishes && !environment.publishes() {
            continue;
        }
        let program = attack.program;
        let expected = table::expected(EXPECTED, section, attack, environment);
        let expected = expected.context(format!("docs/attacks.md does not know {program}"))?;
        attack.build(world)?;
        let run = field.run(attack, environment, &[])?;
        ensure!(
            run.reach.is_some() == table::reaches(expected),
            "{program}, expected {expected}: {}",
            run.json()
        );
    }
    Ok(())
}
