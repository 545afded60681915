//! Runs the attacks and prints which layer stops which of them where.

#![expect(clippy::print_stdout, reason = "it prints a table")]

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use test_support::attack::environment::WEAKENED;
use test_support::attack::{ATTACKS, Environment, Field, suite, table};
use test_support::failure::{Context, Result};
use test_support::{World, ensure, stage};

fn main() -> Result<ExitCode> {
    ensure!(nix::unistd::geteuid().is_root(), "root is needed to make network namespaces");
    stage::enter(|| {
        let world = World::new()?;
        let exe = std::env::current_exe()?;
        let weakened = exe.parent().and_then(Path::parent).context("target")?;
        let weakened = weakened.join("weakened/debug/bypass-cli");
        std::fs::copy(&weakened, world.programs().join(WEAKENED)).context(weakened.display())?;
        let field = Field::new(&world)?;
        let mut rows = Vec::new();
        let only = std::env::args().nth(1).unwrap_or_default();
        for attack in ATTACKS.iter().filter(|attack| only.is_empty() || attack.program == only) {
            attack.build(&world)?;
            let mut cells = Vec::new();
            for environment in Environment::ALL {
                let started = Instant::now();
                let verdict = suite::judge(&field, attack, environment)?;
                let cell = table::cell(&verdict);
                println!(
                    "{:30} {:12} {cell}  {:?}",
                    attack.program,
                    environment.name(),
                    started.elapsed()
                );
                cells.push(cell);
            }
            rows.push((attack.program, cells));
        }
        println!("{}", table::markdown(&Environment::ALL, &rows));
        Ok(ExitCode::SUCCESS)
    })
}
