//! What `report.json` holds. These types are its schema: fields are only ever added, and [`VERSION`]
//! changes where that is not enough.
//!
//! Numbers are in the unit of their row. A sample that was not taken, or failed, is `null`, so that the
//! n-th sample of every cell is of the same round.

use serde::{Deserialize, Serialize};

/// Of the schema.
pub(crate) const VERSION: u32 = 1;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// [`VERSION`] of the program that wrote it.
    pub(crate) version: u32,
    /// When it was begun, as RFC 3339 has it, in UTC.
    pub(crate) begun: String,
    /// How long it took.
    pub(crate) seconds: u64,
    /// How often each cell took its turn, at most.
    pub(crate) rounds: usize,
    /// Whether it was the short version, whose figures say nothing.
    pub(crate) quick: bool,
    /// What it ran on.
    pub(crate) machine: Machine,
    /// What was compared; the host is the first.
    pub(crate) columns: Vec<Column>,
    /// Ways to the network that could not be set up, and why.
    pub(crate) missing: Vec<String>,
    /// What was measured.
    pub(crate) rows: Vec<Row>,
}

/// What it ran on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Of the processors, and the hypervisor if there is one.
    pub(crate) model: String,
    /// Processors that could be used.
    pub(crate) cpus: usize,
    /// In MiB.
    pub(crate) memory: u64,
    /// Of the kernel.
    pub(crate) kernel: String,
    /// Name of the distribution.
    pub(crate) system: String,
    /// Load average of the last minute when it was begun: what else the machine did.
    pub(crate) load: f64,
    /// Programs that were measured, and with what, as they name themselves.
    pub(crate) programs: Vec<String>,
    /// Size of the program that was measured, stripped, in bytes.
    pub(crate) program_size: u64,
}

/// A way to the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Column {
    /// Its name in tables and plots.
    pub(crate) name: String,
    /// What it is.
    pub(crate) about: String,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Its name for programs; stays the same from report to report.
    pub(crate) key: String,
    /// Its name for people.
    pub(crate) title: String,
    /// With which rows it stands in a table and in a plot.
    pub(crate) group: String,
    /// Of its numbers.
    pub(crate) unit: String,
    /// Whether a larger number is the better one.
    pub(crate) larger_is_better: bool,
    /// One for each column, in their order.
    pub(crate) cells: Vec<Cell>,
}

/// One row of one column.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cell {
    /// One for each round.
    pub(crate) samples: Vec<Option<f64>>,
    /// Of the samples.
    pub(crate) figure: Option<Spread>,
    /// Of the samples, each divided by the host's of the same round.
    pub(crate) ratio: Option<Spread>,
    /// What went wrong.
    pub(crate) failures: Vec<String>,
    /// Why it was not measured.
    pub(crate) left_out: Option<String>,
}

/// The middle of some numbers, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    /// The number in the middle, or the mean of the two there.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) least: f64,
    /// The largest.
    pub(crate) most: f64,
}

impl Spread {
    /// Of some numbers; `None` of none.
    pub(crate) fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let (below, above) = (sorted.get((sorted.len() - 1) / 2)?, sorted.get(sorted.len() / 2)?);
        Some(Self { median: f64::midpoint(*below, *above), least, most })
    }
}

impl Row {
    /// Works out figures and ratios from the samples.
    pub(crate) fn sum_up(&mut self) {
        let host = self.cells.first().map(|cell| cell.samples.clone()).unwrap_or_default();
        for cell in &mut self.cells {
            cell.figure = Spread::of(cell.samples.iter().copied().flatten());
            let pairs = cell.samples.iter().zip(&host);
            let ratios = pairs.filter_map(|(own, host)| Some(((*own)?, (*host)?)));
            cell.ratio =
                Spread::of(ratios.filter(|(_, host)| *host > 0.0).map(|(own, host)| own / host));
        }
    }
}

impl Report {
    /// Rows of each group, in the order in which groups come first.
    pub(crate) fn groups(&self) -> Vec<(&str, Vec<&Row>)> {
        let mut groups: Vec<(&str, Vec<&Row>)> = Vec::new();
        for row in &self.rows {
            match groups.iter_mut().find(|(name, _)| *name == row.group) {
                Some((_, rows)) => rows.push(row),
                None => groups.push((&row.group, vec![row])),
            }
        }
        groups
    }

    /// A row by its key.
    pub(crate) fn row(&self, key: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.key == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_odd_and_even_numbers() {
        assert_eq!(Spread::of([]), None);
        let odd = Spread::of([9.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.least, odd.most), (2.0, 1.0, 9.0));
        assert_eq!(Spread::of([4.0, 1.0, 9.0, 2.0]).unwrap().median, 3.0);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let cell = |samples: &[Option<f64>]| Cell { samples: samples.to_vec(), ..Cell::default() };
        let mut row = Row {
            key: "k".into(),
            title: "t".into(),
            group: "g".into(),
            unit: "u".into(),
            larger_is_better: true,
            cells: vec![
                cell(&[Some(1.0), None, Some(4.0)]),
                cell(&[Some(3.0), Some(5.0), Some(4.0)]),
                cell(&[None, Some(5.0), None]),
            ],
        };
        row.sum_up();
        let ratio = row.cells[1].ratio.unwrap();
        assert_eq!((ratio.median, ratio.least, ratio.most), (2.0, 1.0, 3.0));
        assert_eq!(row.cells[1].figure.unwrap().median, 4.0);
        assert_eq!(row.cells[2].ratio, None);
    }
}
