//! The table of results.

use super::suite::Verdict;
use super::{Environment, Layer};

/// What a cell says.
#[must_use]
pub fn cell(verdict: &Verdict) -> String {
    let names = |layers: &[Layer], with: &str| {
        layers.iter().map(|layer| layer.name()).collect::<Vec<_>>().join(with)
    };
    match verdict {
        Verdict::NotApplicable(why) => format!("– ({why})"),
        Verdict::Reached(reach) => format!("**REACHED**: {}", reach.words()),
        Verdict::Stopped(alone) => names(alone, ", "),
        Verdict::StoppedTogether(layers) => names(layers, " with "),
        Verdict::StoppedBy(what) => format!("*{what}*"),
        Verdict::NotShown(why) => format!("not shown ({why})"),
    }
}

/// The table in Markdown, with the names of the environments on top.
#[must_use]
pub fn markdown(environments: &[Environment], rows: &[(&str, Vec<String>)]) -> String {
    let names: Vec<_> = environments.iter().map(|one| one.name()).collect();
    let mut text =
        format!("| attack | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for (name, cells) in rows {
        text.push_str(&format!("| `{name}` | {} |\n", cells.join(" | ")));
    }
    text
}
