//! Runs the attacks, prints which layer stops which of them where, and compares that with what
//! `docs/attacks.md` says. Fails where it differs.

#![expect(clippy::print_stdout, reason = "it prints a table")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::Value;
use test_support::attack::environment::{install_weakened, without_switches};
use test_support::attack::table::{self, Row};
use test_support::attack::{Attack, EXPECTED, Environment, Field, SECTIONS, suite};
use test_support::failure::{Context, Result};
use test_support::{World, ensure, fail, stage};

fn main() -> Result<ExitCode> {
    let options = Options::parse(std::env::args().skip(1))?;
    ensure!(nix::unistd::geteuid().is_root(), "root is needed to make network namespaces");
    stage::enter(|| {
        let world = World::new()?;
        install_weakened(&world)?;
        without_switches(&world)?;
        let field = Field::new(&world)?;
        let field = if options.runs { field.telling(|run| println!("    {run}")) } else { field };
        let (mut rows, mut surprises) = (Vec::new(), Vec::new());
        let started = Instant::now();
        for (section, attacks) in SECTIONS {
            let chosen: Vec<_> = attacks.iter().filter(|attack| options.wants(attack)).collect();
            if !chosen.is_empty() {
                println!("\n{section}\n{}", line("", &Environment::ALL.map(Environment::name)));
            }
            for attack in chosen {
                attack.build(&world)?;
                let mut row = Row { section, attack, verdicts: Vec::new() };
                let mut cells = Vec::new();
                for environment in Environment::ALL {
                    let verdict = suite::judge(&field, attack, environment)?;
                    let cell = table::cell(attack, &verdict);
                    let expected = table::expected(EXPECTED, section, attack, environment);
                    let agrees = expected.is_some_and(|expected| {
                        table::agrees(expected, attack, &verdict, field.landlock(attack))
                    });
                    if !agrees {
                        let (program, environment) = (attack.program, environment.name());
                        let expected = expected.unwrap_or("nothing");
                        surprises.push(format!(
                            "{program} in {environment}: {cell}, expected {expected}"
                        ));
                    }
                    cells.push(cell.replace("**", ""));
                    row.verdicts.push((environment, verdict));
                }
                println!("{}", line(attack.program, &cells));
                rows.push(row);
            }
        }
        println!("\n{} attacks in {:.0?}", rows.len(), started.elapsed());
        options.write(&rows)?;
        if surprises.is_empty() {
            println!("all as expected");
            return Ok(ExitCode::SUCCESS);
        }
        println!("not as expected:\n  {}", surprises.join("\n  "));
        Ok(ExitCode::FAILURE)
    })
}

/// One line of the table for people.
fn line<S: AsRef<str>>(first: &str, cells: &[S]) -> String {
    let cells = cells.iter().map(|cell| format!("{:26}", cell.as_ref()));
    format!("  {first:28}{}", cells.collect::<String>()).trim_end().to_owned()
}

/// What the command line asks for.
#[derive(Debug, Default)]
struct Options {
    /// Only these.
    attacks: Vec<String>,
    /// Print every run.
    runs: bool,
    /// Write the tables in Markdown to this file.
    markdown: Option<PathBuf>,
    /// Write everything in JSON to this file.
    json: Option<PathBuf>,
    /// Put the tables in the place of those in this page.
    update: Option<PathBuf>,
}

const USAGE: &str = "attack [--runs] [--markdown FILE] [--json FILE] [--update FILE] [ATTACK]...";

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            let file = match word.as_str() {
                "--runs" => {
                    options.runs = true;
                    continue;
                }
                "--markdown" => &mut options.markdown,
                "--json" => &mut options.json,
                "--update" => &mut options.update,
                other if other.starts_with('-') => fail!("{USAGE}"),
                _ => {
                    options.attacks.push(word);
                    continue;
                }
            };
            *file = Some(words.next().context(USAGE)?.into());
        }
        for name in &options.attacks {
            let known = SECTIONS.iter().flat_map(|(_, attacks)| attacks.iter());
            ensure!(known.into_iter().any(|one| one.program == name), "there is no attack {name}");
        }
        Ok(options)
    }

    fn wants(&self, attack: &Attack) -> bool {
        self.attacks.is_empty() || self.attacks.iter().any(|name| name == attack.program)
    }

    fn write(&self, rows: &[Row]) -> Result {
        if let Some(path) = &self.markdown {
            std::fs::write(path, table::markdown(rows)?).context(path.display())?;
        }
        if let Some(path) = &self.json {
            let json: Value = rows.iter().map(Row::json).collect();
            std::fs::write(path, format!("{json:#}\n")).context(path.display())?;
        }
        if let Some(path) = &self.update {
            ensure!(self.attacks.is_empty(), "--update takes a run of all attacks");
            let page = std::fs::read_to_string(path).context(path.display())?;
            let page = table::with_tables(&page, &table::markdown(rows)?)?;
            std::fs::write(path, page).context(path.display())?;
        }
        Ok(())
    }
}
