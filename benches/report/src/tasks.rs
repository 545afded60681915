//! What is run to fill the rows: each task measures one or several rows of one column at a time.

mod connections;
mod files;
mod iperf;
mod memory;
mod pgbench;
mod redis;
mod web;

use test_support::failure::Result;

use crate::lab::Lab;
use crate::ways::Way;

/// Figures of some rows, by their keys.
pub(crate) type Figures = Vec<(&'static str, f64)>;

/// Measures some rows.
pub(crate) trait Task {
    /// Keys of the rows.
    fn keys(&self) -> &'static [&'static str];

    /// Why there are no such figures of this way.
    fn left_out(&self, _way: &Way) -> Option<&'static str> {
        None
    }

    /// Whether once is enough: what is measured does not change from round to round.
    fn once(&self) -> bool {
        false
    }

    /// Starts what the measurements share.
    ///
    /// # Errors
    /// When it cannot be had: then none of its rows is measured.
    fn prepare(&mut self, _lab: &Lab<'_>) -> Result {
        Ok(())
    }

    /// Measures one column.
    ///
    /// # Errors
    /// When a program fails, or takes too long: then there is no figure in this round.
    fn measure(&self, lab: &Lab<'_>, way: &Way) -> Result<Figures>;
}

/// All tasks, in the order of a round.
pub(crate) fn all(quick: bool) -> Vec<Box<dyn Task>> {
    let mut tasks: Vec<Box<dyn Task>> = Vec::new();
    tasks.extend(iperf::tasks(quick));
    tasks.extend(connections::tasks());
    tasks.extend(web::tasks());
    tasks.extend(redis::tasks());
    tasks.extend(pgbench::tasks());
    tasks.extend(files::tasks());
    tasks.push(Box::new(memory::Memory));
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;

    #[test]
    fn every_row_has_one_task() {
        let mut measured: Vec<_> =
            all(false).iter().flat_map(|task| task.keys().iter().copied()).collect();
        let mut rows: Vec<_> = ROWS.iter().map(|row| row.key).collect();
        measured.sort_unstable();
        rows.sort_unstable();
        assert_eq!(measured, rows);
    }

    #[test]
    fn the_short_version_has_no_rows_of_its_own() {
        let keys = all(true).into_iter().flat_map(|task| task.keys());
        for key in keys {
            assert!(ROWS.iter().any(|row| row.key == *key), "{key}");
        }
    }
}
