//! The table of results, as it is kept in `docs/attacks.md`, and what is expected by it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::suite::Verdict;
use super::{Attack, Environment, Layer, SECTIONS};
use crate::failure::{Context, Result};

/// One attack, and what came of it in some environments.
#[derive(Debug, Clone)]
pub struct Row {
    /// The heading that it stands under.
    pub section: &'static str,
    /// The attack.
    pub attack: &'static Attack,
    /// What came of it.
    pub verdicts: Vec<(Environment, Verdict)>,
}

/// What a cell says.
#[must_use]
pub fn cell(attack: &Attack, verdict: &Verdict) -> String {
    let names = |layers: &[Layer], between: &str| {
        layers.iter().map(|layer| layer.name()).collect::<Vec<_>>().join(between)
    };
    match verdict {
        Verdict::Nowhere => "–".to_owned(),
        Verdict::NotInKernel => "not in this kernel".to_owned(),
        Verdict::Reached(reach) if attack.races => format!("{REACHED}, racing: {}", reach.words()),
        Verdict::Reached(reach) => format!("{REACHED}: {}", reach.words()),
        Verdict::Stopped(alone) => names(alone, ", "),
        Verdict::StoppedTogether(layers) => names(layers, " with "),
        Verdict::StoppedBy(what) => format!("*{what}*"),
        Verdict::Never => "*never*".to_owned(),
        Verdict::NotTried(call) => format!("not tried: {call}"),
        Verdict::NotShown(why) => format!("NOT SHOWN: {why}"),
    }
}

const REACHED: &str = "**REACHED**";

impl Row {
    /// What its cell for an environment says; nothing if it was not run there.
    fn cell(&self, environment: Environment) -> String {
        let verdict = self.verdicts.iter().find(|(of, _)| *of == environment);
        verdict.map(|(_, verdict)| cell(self.attack, verdict)).unwrap_or_default()
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let verdicts = self.verdicts.iter().map(|(environment, verdict)| {
            let layers: Vec<_> = match verdict {
                Verdict::Stopped(layers) | Verdict::StoppedTogether(layers) => {
                    layers.iter().map(|layer| layer.name()).collect()
                }
                _ => Vec::new(),
            };
            json!({
                "environment": environment.name(),
                "reached": matches!(verdict, Verdict::Reached(_)),
                "layers": layers,
                "alone": matches!(verdict, Verdict::Stopped(_)),
                "cell": cell(self.attack, verdict),
            })
        });
        json!({
            "section": self.section,
            "attack": self.attack.program,
            "races": self.attack.races,
            "verdicts": verdicts.collect::<Vec<_>>(),
        })
    }
}

/// The tables of all sections in Markdown.
///
/// # Errors
/// When the source of an attack says nothing about it.
pub fn markdown(rows: &[Row]) -> Result<String> {
    let mut text = String::new();
    let names: Vec<_> = Environment::ALL.iter().map(|one| one.name()).collect();
    for (section, _) in SECTIONS {
        let rows: Vec<_> = rows.iter().filter(|row| row.section == *section).collect();
        if rows.is_empty() {
            continue;
        }
        writeln!(text, "\n### {section}")?;
        writeln!(text, "| attack | what it tries | {} |", names.join(" | "))?;
        writeln!(text, "|---|---|{}", "---|".repeat(names.len()))?;
        for row in rows {
            let cells: Vec<_> = Environment::ALL.iter().map(|one| row.cell(*one)).collect();
            let program = row.attack.program;
            let never = row.attack.never.map(|why| format!(" Never gets through: {why}."));
            let tries = row.attack.tries()? + &never.unwrap_or_default();
            writeln!(text, "| `{program}` | {tries} | {} |", cells.join(" | "))?;
        }
    }
    Ok(text)
}

/// The page in which the tables are kept, with others in their place.
///
/// # Errors
/// When it does not mark the place.
pub fn with_tables(page: &str, tables: &str) -> Result<String> {
    let (before, rest) = page.split_once(BEGIN).context(format!("no `{BEGIN}`"))?;
    let (_, after) = rest.split_once(END).context(format!("no `{END}`"))?;
    Ok(format!("{before}{BEGIN}{tables}{END}{after}"))
}

const BEGIN: &str = "<!-- begin: printed by `make attack` -->\n";
const END: &str = "<!-- end: printed by `make attack` -->";

/// What the page says about an attack in an environment.
#[must_use]
pub fn expected<'a>(
    page: &'a str,
    section: &str,
    attack: &Attack,
    environment: Environment,
) -> Option<&'a str> {
    let column = 2 + Environment::ALL.iter().position(|one| *one == environment)?;
    let (_, rest) = page.split_once(&format!("\n### {section}\n"))?;
    let lines = rest.lines().take_while(|line| !line.starts_with("###"));
    let name = format!("`{}`", attack.program);
    lines
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>())
        .find(|cells| cells.first() == Some(&name.as_str()))
        .and_then(|cells| cells.get(column).copied())
}

/// Whether the attack gets through, as the page says.
#[must_use]
pub fn reaches(expected: &str) -> bool {
    expected.starts_with(REACHED)
}

/// Whether a verdict is what was expected. A race need not be won every time, so that a layer may seem
/// to stop it alone that does not; and a kernel may lack what an attack or a layer takes.
#[must_use]
pub fn agrees(expected: &str, attack: &Attack, verdict: &Verdict, landlock: bool) -> bool {
    let stopped = !matches!(verdict, Verdict::Reached(_) | Verdict::NotShown(_));
    let got = cell(attack, verdict);
    let without_landlock = expected
        .split(", ")
        .filter(|layer| *layer != Layer::Landlock.name())
        .collect::<Vec<_>>()
        .join(", ");
    got == expected
        || (!landlock && (got == without_landlock || without_landlock.is_empty()))
        || (attack.races
            && expected.starts_with(REACHED)
            && !matches!(verdict, Verdict::Reached(_)))
        || (attack.races && holds_at_least(verdict, expected))
        || *verdict == Verdict::NotInKernel
        || (expected == "not in this kernel" && stopped)
}

/// Whether each layer that is expected to stop it alone is among those that were shown to.
fn holds_at_least(verdict: &Verdict, expected: &str) -> bool {
    let Verdict::Stopped(alone) = verdict else { return false };
    expected.split(", ").all(|name| alone.iter().any(|layer| layer.name() == name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::{Goal, Reach};

    const ATTACK: Attack = SECTIONS[0].1[0];

    fn page() -> String {
        let row = |verdict: Verdict| Row {
            section: SECTIONS[0].0,
            attack: &SECTIONS[0].1[0],
            verdicts: vec![(Environment::Run, Verdict::Never), (Environment::Crun, verdict)],
        };
        let tables = markdown(&[row(Verdict::Stopped(vec![Layer::Pin, Layer::Landlock]))]).unwrap();
        with_tables(&format!("before\n{BEGIN}old\n{END}\nafter"), &tables).unwrap()
    }

    #[test]
    fn a_lost_race_may_flatter_a_layer_but_never_lets_one_fall() {
        let attack = Attack { races: true, ..ATTACK };
        let both = Verdict::Stopped(vec![Layer::Pin, Layer::Landlock]);
        let one = Verdict::Stopped(vec![Layer::Landlock]);
        assert!(agrees("landlock", &attack, &both, true));
        assert!(!agrees("landlock", &ATTACK, &both, true));
        assert!(!agrees("pin, landlock", &attack, &one, true));
        assert!(!agrees("*never*", &attack, &one, true));
    }

    #[test]
    fn what_is_written_is_expected() {
        let page = page();
        let expected = |environment| expected(&page, SECTIONS[0].0, &ATTACK, environment);
        assert_eq!(expected(Environment::Run), Some("*never*"));
        assert_eq!(expected(Environment::Published), Some(""));
        assert_eq!(expected(Environment::Crun), Some("pin, landlock"));
        assert!(page.starts_with("before\n") && page.ends_with("after") && !page.contains("old"));
    }

    #[test]
    fn an_attack_that_gets_through_agrees_with_nothing_else() {
        let through = Verdict::Reached(Reach::Connection);
        for expected in ["pin", "*never*", "not in this kernel", "–", ""] {
            assert!(!agrees(expected, &ATTACK, &through, true), "{expected}");
        }
        assert!(agrees("**REACHED**: connection", &ATTACK, &through, true));
        let pin = Verdict::Stopped(vec![Layer::Pin]);
        assert!(!agrees("**REACHED**: connection", &ATTACK, &pin, true));
        assert!(!agrees("pin, landlock", &ATTACK, &pin, true));
        assert!(agrees("pin, landlock", &ATTACK, &pin, false));
    }

    #[test]
    fn a_race_may_be_lost_but_not_won_unexpectedly() {
        let race = Attack { races: true, goal: Goal::Port, ..ATTACK };
        let through = Verdict::Reached(Reach::OneWay);
        let won = cell(&race, &through);
        assert!(agrees(&won, &race, &through, true));
        assert!(agrees(&won, &race, &Verdict::NotShown(String::new()), true));
        assert!(!agrees("landlock", &race, &through, true));
        assert!(!agrees("landlock", &race, &Verdict::NotShown(String::new()), true));
    }
}
