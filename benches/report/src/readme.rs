//! The headline in another file, between two markers.

use std::fs;
use std::path::Path;

use test_support::ensure;
use test_support::failure::{Context, Result};

use crate::markdown::{amount, times};
use crate::rows::HEADLINE;
use crate::schema::Report;
use crate::write;

/// Replaces what is between the markers in the file.
pub(crate) fn update(path: &Path, report: &Report) -> Result {
    let text = fs::read_to_string(path).context(path.display())?;
    let changed = between(&text, &headline(report))?;
    write::replace(path, changed.as_bytes())
}

fn between(text: &str, block: &str) -> Result<String> {
    let (before, rest) = text.split_once(BEGIN).context(format!("no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).context(format!("no line {END} behind it"))?;
    ensure!(!after.contains(BEGIN), "{BEGIN} is there twice");
    Ok(format!("{before}{BEGIN}\n{block}{END}{after}"))
}

/// A plot and a small table of ratios.
fn headline(report: &Report) -> String {
    let machine = &report.machine;
    let names: Vec<_> = report.columns.iter().map(|column| column.name.as_str()).collect();
    let mut text = format!(
        "![Speed beside the host's own](docs/benchmarks/headline.svg)\n\n\
         | | {} |\n|---|{}\n",
        names.join(" | "),
        "---|".repeat(names.len())
    );
    for row in HEADLINE.iter().filter_map(|key| report.row(key)) {
        let cells =
            row.cells.iter().enumerate().map(|(at, cell)| match (cell.figure, cell.ratio) {
                (Some(figure), _) if at == 0 => format!("{} {}", amount(figure.median), row.unit),
                (Some(_), Some(ratio)) => times(ratio.median),
                _ => "–".to_owned(),
            });
        let cells: Vec<_> = cells.collect();
        let title = format!("{}: {}", row.group, row.title);
        text.push_str(&format!("| {title} | {} |\n", cells.join(" | ")));
    }
    text.push_str(&format!(
        "\nRatios to the host, medians of {} interleaved rounds on {} CPUs ({}), Linux {}; of times (µs) \
         less is better.\n[The whole report](docs/benchmarks/report.md) has every row, and the spread.\n",
        report.rounds, machine.cpus, machine.model, machine.kernel,
    ));
    text
}

const BEGIN: &str = "<!-- bench: begin, written by make bench -->";
const END: &str = "<!-- bench: end -->";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = format!("before\n{BEGIN}\nnew\n{END}\nafter\n");
        assert_eq!(between(&text, "new\n").unwrap(), new);
        assert_eq!(between(&new, "new\n").unwrap(), new);
        assert!(between("nothing", "new").is_err());
        assert!(between(END, "new").is_err());
        assert!(between(&format!("{text}{BEGIN}"), "new").is_err());
    }
}
