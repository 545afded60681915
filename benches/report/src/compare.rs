//! What changed since another report.

use crate::markdown::times;
use crate::schema::{Report, Row, Spread};

/// A line for each cell whose ratios to the host have nothing in common with those of the other report.
/// Ratios, since figures change with the machine.
pub(crate) fn changes(old: &Report, new: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for row in &new.rows {
        let Some(before) = old.row(&row.key) else { continue };
        for (at, column) in new.columns.iter().enumerate().skip(1) {
            let was_at = old.columns.iter().position(|other| other.name == column.name);
            let was = was_at.and_then(|at| ratio(before, at));
            let (Some(was), Some(is)) = (was, ratio(row, at)) else { continue };
            if was.most < is.least || is.most < was.least {
                let better = (is.median > was.median) == row.larger_is_better;
                let word = if better { "better" } else { "worse" };
                let (was, is) = (times(was.median), times(is.median));
                lines.push(format!("{word}: {}, {}: {was}, now {is}", row.title, column.name));
            }
        }
    }
    if lines.is_empty() {
        lines.push("nothing lies outside of what it was".to_owned());
    }
    lines
}

fn ratio(row: &Row, at: usize) -> Option<Spread> {
    row.cells.get(at)?.ratio
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Cell, Column, Machine, VERSION};

    fn report(larger_is_better: bool, samples: [f64; 2]) -> Report {
        let cell =
            |samples: [f64; 2]| Cell { samples: samples.map(Some).to_vec(), ..Cell::default() };
        let mut row = Row {
            key: "k".into(),
            title: "row".into(),
            group: "g".into(),
            unit: "u".into(),
            larger_is_better,
            cells: vec![cell([1.0, 1.0]), cell(samples)],
        };
        row.sum_up();
        let column = |name: &str| Column { name: name.into(), about: String::new() };
        Report {
            version: VERSION,
            begun: String::new(),
            seconds: 0,
            rounds: 2,
            quick: false,
            machine: Machine {
                model: String::new(),
                cpus: 2,
                memory: 0,
                kernel: String::new(),
                system: String::new(),
                load: 0.0,
                programs: Vec::new(),
                program_size: 0,
            },
            columns: vec![column("host"), column("ours")],
            missing: Vec::new(),
            rows: vec![row],
        }
    }

    #[test]
    fn only_what_lies_apart_counts() {
        let same = changes(&report(true, [0.9, 1.0]), &report(true, [0.8, 0.95]));
        assert_eq!(same, ["nothing lies outside of what it was"]);
        let worse = changes(&report(true, [0.9, 1.0]), &report(true, [0.5, 0.6]));
        assert_eq!(worse, ["worse: row, ours: 0.95 ×, now 0.55 ×"]);
        let better = changes(&report(false, [0.9, 1.0]), &report(false, [0.5, 0.6]));
        assert_eq!(better, ["better: row, ours: 0.95 ×, now 0.55 ×"]);
    }
}
