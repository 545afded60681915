//! The report for people: a table for each group of rows.

use crate::plot;
use crate::schema::{Cell, Report, Row, Spread};
use crate::turns;

/// The whole file.
pub(crate) fn report(report: &Report) -> String {
    let mut text = String::from("# Benchmark report\n\n");
    if report.quick {
        text.push_str(
            "**This was `--quick`, to see that everything works: the figures say nothing.**\n\n",
        );
    }
    if report.machine.load > QUIET {
        text.push_str("**Other programs ran on the machine meanwhile, and are seen in all figures of time.**\n\n");
    }
    text.push_str(&machine(report));
    text.push_str(
        "\nEach cell: the median of the rounds (least–most), and in bold the median of the ratios to the \
         host's figure of the same round.\nA dash was not measured; below the table it says why. How each row \
         is measured is in [README.md](README.md).\n",
    );
    text.push_str("\n## Beside the host\n\n![Speed beside the host's](headline.svg)\n");
    for (group, rows) in report.groups() {
        let file = plot::file_name(group);
        text.push_str(&format!("\n## {group}\n\n![{group}]({file})\n\n{}", table(report, &rows)));
    }
    let failures: Vec<_> = turns::failures(report).collect();
    if !failures.is_empty() {
        text.push_str("\n## What failed\n\n");
        failures.iter().for_each(|failure| text.push_str(&format!("- {failure}\n")));
    }
    text
}

/// Load average of a machine that does nothing else.
pub(crate) const QUIET: f64 = 0.5;

fn machine(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "{} {}, begun {}, {} min. {} CPUs ({}), {} MiB, Linux {}, {}; load average before: {:.2}. \
         `bypass-cli` has {:.1} MiB.\n\n",
        report.rounds,
        if report.rounds == 1 { "round" } else { "rounds" },
        report.begun,
        report.seconds.div_ceil(60),
        machine.cpus,
        machine.model,
        machine.memory,
        machine.kernel,
        machine.system,
        machine.load,
        mebibytes(machine.program_size),
    );
    for column in &report.columns {
        text.push_str(&format!("- **{}**: {}\n", column.name, column.about));
    }
    text.push_str(&format!("\nWith {}.\n", machine.programs.join("; ")));
    text
}

fn mebibytes(bytes: u64) -> f64 {
    // In steps that a table shows.
    u32::try_from(bytes / 1024).map_or(f64::NAN, |kib| f64::from(kib) / 1024.0)
}

fn table(report: &Report, rows: &[&Row]) -> String {
    let names: Vec<_> = report.columns.iter().map(|column| column.name.as_str()).collect();
    let mut text = format!("| | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for row in rows {
        let cells: Vec<_> =
            row.cells.iter().enumerate().map(|(at, one)| cell(row, one, at == 0)).collect();
        text.push_str(&format!("| {}, {} | {} |\n", row.title, row.unit, cells.join(" | ")));
    }
    let mut reasons = Vec::new();
    for (cell, name) in rows.iter().flat_map(|row| row.cells.iter().zip(&names)) {
        let reason = cell.left_out.as_ref().map(|why| format!("\n{name}: {why}.\n"));
        reasons.extend(reason.filter(|reason| !reasons.contains(reason)));
    }
    text + &reasons.concat()
}

fn cell(row: &Row, cell: &Cell, is_host: bool) -> String {
    let Some(figure) = cell.figure else {
        return if cell.failures.is_empty() { "–" } else { "failed" }.to_owned();
    };
    let mut text = in_words(figure);
    if let (Some(ratio), false, true) = (cell.ratio, is_host, has_ratio(row)) {
        text.push_str(&format!(", **{}**", times(ratio.median)));
    }
    text
}

/// Whether a ratio of two of these means anything: not where the host's may be 0.
pub(crate) fn has_ratio(row: &Row) -> bool {
    row.unit != "%"
}

/// `0.99 ×`
pub(crate) fn times(ratio: f64) -> String {
    let digits = match ratio {
        small if small < 0.01 => 4,
        usual if usual < 10.0 => 2,
        _ => 0,
    };
    format!("{ratio:.digits$} ×")
}

fn in_words(spread: Spread) -> String {
    let Spread { median, least, most } = spread;
    if least == most {
        return amount(median);
    }
    format!("{} ({}–{})", amount(median), amount(least), amount(most))
}

/// Three digits that mean something, and thousands set apart.
pub(crate) fn amount(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_owned(),
        size if size < 1.0 => format!("{number:.3}"),
        size if size < 10.0 => format!("{number:.2}"),
        size if size < 100.0 => format!("{number:.1}"),
        _ => {
            let digits = format!("{number:.0}");
            let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().collect();
            groups.iter().map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(",")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_the_digits_that_mean_something() {
        let said = [0.0, 0.01234, 5.678, 56.78, 567.8, 1_234.5, 1_234_567.0].map(amount);
        assert_eq!(said, ["0", "0.012", "5.68", "56.8", "568", "1,234", "1,234,567"]);
    }

    #[test]
    fn small_ratios_are_not_nothing() {
        assert_eq!(
            [0.00042, 0.04, 9.994, 37.6].map(times),
            ["0.0004 ×", "0.04 ×", "9.99 ×", "38 ×"]
        );
    }

    #[test]
    fn cells_say_what_there_is() {
        let mut row = Row {
            key: "k".into(),
            title: "t".into(),
            group: "g".into(),
            unit: "u".into(),
            larger_is_better: true,
            cells: [[1.0, 2.0], [0.5, 1.0], [3.0, 3.0]]
                .map(|samples| Cell { samples: samples.map(Some).to_vec(), ..Cell::default() })
                .to_vec(),
        };
        row.sum_up();
        assert_eq!(cell(&row, &row.cells[0], true), "1.50 (1.00–2.00)");
        assert_eq!(cell(&row, &row.cells[1], false), "0.750 (0.500–1.00), **0.50 ×**");
        assert_eq!(cell(&row, &row.cells[2], false), "3.00, **2.25 ×**");
        assert_eq!(cell(&row, &Cell::default(), false), "–");
        let failed = Cell { failures: vec!["round 1: no".into()], ..Cell::default() };
        assert_eq!(cell(&row, &failed, false), "failed");
    }
}
