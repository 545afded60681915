//! Who is measured when: row by row, all ways in turns.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use test_support::stacks::{BYPASS, HOST};

use crate::lab::Lab;
use crate::rows::ROWS;
use crate::schema::{Cell, Column, Report, Row};
use crate::tasks::{self, Task};
use crate::ways::{Way, first_line};

/// Samples and failures of all cells, by the row's key and the column.
type Cells = BTreeMap<(&'static str, usize), Cell>;

/// What is to be measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// At most.
    pub(crate) rounds: usize,
    /// No round is begun that would probably end later.
    pub(crate) limit: Duration,
    /// Part of the keys of the rows that are wanted.
    pub(crate) only: &'a str,
}

/// Takes the rounds; returns how many, and what was measured, without figures.
pub(crate) fn take(lab: &Lab<'_>, ways: &[Way], plan: Plan<'_>) -> (usize, Vec<Row>) {
    let begun = Instant::now();
    let Plan { rounds, limit, only } = plan;
    let mut tasks = tasks::all(lab.quick);
    tasks.retain(|task| task.keys().iter().any(|key| key.contains(only)));
    let mut cells = Cells::new();
    tasks.retain_mut(|task| match task.prepare(lab) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("bench: {}: {error}", task.keys().join(", "));
            let fail = |cell: &mut Cell| cell.failures.push(first_line(&error));
            (0..ways.len()).for_each(|at| each_cell(&mut cells, task.as_ref(), at, fail));
            false
        }
    });
    let mut taken = 0;
    for round in 0..rounds {
        let started = Instant::now();
        for task in &tasks {
            if round > 0 && task.once() {
                continue;
            }
            for turn in 0..ways.len() {
                let at = (turn + round) % ways.len();
                if let Some(way) = ways.get(at) {
                    sample(lab, task.as_ref(), (at, way), round, &mut cells);
                }
            }
        }
        taken += 1;
        let seconds = started.elapsed().as_secs();
        eprintln!("bench: round {taken} of {rounds}, {seconds} s");
        if taken < rounds && begun.elapsed() + started.elapsed() > limit {
            eprintln!("bench: another one would end after {} s", limit.as_secs());
            break;
        }
    }
    (taken, rows(cells, ways.len()))
}

/// One turn of one way.
fn sample(
    lab: &Lab<'_>,
    task: &dyn Task,
    (at, way): (usize, &Way),
    round: usize,
    cells: &mut Cells,
) {
    if let Some(reason) = task.left_out(way) {
        return each_cell(cells, task, at, |cell| cell.left_out = Some(reason.to_owned()));
    }
    let failed = |key: &&str| cells.get(&(*key, at)).is_some_and(|cell| cell.failures.len() > 1);
    if task.keys().iter().any(failed) {
        return;
    }
    match task.measure(lab, way) {
        Ok(figures) => {
            for (key, figure) in figures {
                let cell = cells.entry((key, at)).or_default();
                // Rounds that failed have no sample.
                cell.samples.resize(round, None);
                cell.samples.push(Some(figure));
            }
        }
        Err(error) => {
            eprintln!("bench: {}, {}: {error}", task.keys().join(", "), way.name());
            let line = format!("round {}: {}", round + 1, first_line(&error));
            each_cell(cells, task, at, |cell| cell.failures.push(line.clone()));
        }
    }
}

fn each_cell(cells: &mut Cells, task: &dyn Task, at: usize, mut change: impl FnMut(&mut Cell)) {
    for key in task.keys() {
        change(cells.entry((key, at)).or_default());
    }
}

fn rows(mut cells: Cells, columns: usize) -> Vec<Row> {
    let rows = ROWS.iter().map(|row| Row {
        key: row.key.to_owned(),
        title: row.title.to_owned(),
        group: row.group.title().to_owned(),
        unit: row.unit.to_owned(),
        larger_is_better: row.larger_is_better,
        cells: (0..columns).map(|at| cells.remove(&(row.key, at)).unwrap_or_default()).collect(),
    });
    // Those that nobody asked for were measured nowhere.
    let tried = |cell: &Cell| !cell.samples.is_empty() || !cell.failures.is_empty();
    rows.filter(|row| row.cells.iter().any(tried)).collect()
}

/// Whether the host and we ourselves were measured in every round.
pub(crate) fn is_complete(report: &Report) -> bool {
    let concern = |column: &Column| [HOST, BYPASS].contains(&column.name.as_str());
    report.rows.iter().all(|row| {
        let mut cells = row.cells.iter().zip(&report.columns);
        cells.all(|(cell, column)| cell.failures.is_empty() || !concern(column))
    })
}

/// A line for each way that is missing, and for each cell that failed.
pub(crate) fn failures(report: &Report) -> impl Iterator<Item = String> {
    let cells = report.rows.iter().flat_map(|row| {
        let cells = row.cells.iter().zip(&report.columns);
        cells.flat_map(move |(cell, column)| {
            let failed = cell.failures.iter();
            failed.map(move |why| format!("{}: {}, {}: {why}", row.group, row.title, column.name))
        })
    });
    report.missing.iter().cloned().chain(cells)
}
