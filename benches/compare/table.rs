//! The figures, and their table.

use std::collections::BTreeMap;

use bypass_benches::samples::Samples;

use crate::figure::Figure;
use crate::ways::Way;

/// Figures by row and by the position of the way, one of each per turn.
#[derive(Debug, Default)]
pub(crate) struct Table(BTreeMap<Figure, BTreeMap<usize, Samples>>);

impl Table {
    pub(crate) fn push(&mut self, figure: Figure, way: usize, value: f64) {
        self.0.entry(figure).or_default().entry(way).or_default().push(value);
    }

    pub(crate) fn figures(&self) -> impl Iterator<Item = Figure> {
        self.0.keys().copied()
    }

    pub(crate) fn samples(&self, figure: Figure, way: usize) -> Option<&Samples> {
        self.0.get(&figure)?.get(&way)
    }

    /// A column per way and a row per figure, aligned for people who read it as it is.
    pub(crate) fn in_markdown(&self, ways: &[Way]) -> String {
        let host = ways.iter().position(Way::is_host);
        let titles = ways.iter().map(|way| way.name().to_owned());
        let mut lines: Vec<Vec<String>> = vec![[String::new()].into_iter().chain(titles).collect()];
        for figure in self.figures() {
            let base = host.and_then(|host| self.samples(figure, host));
            let cells = (0..ways.len()).map(|way| self.cell(figure, way, base));
            lines.push([format!("{figure}, {}", figure.unit())].into_iter().chain(cells).collect());
        }
        let cells = |at: usize| lines.iter().filter_map(move |line| line.get(at));
        let width = |at| cells(at).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..=ways.len()).map(width).collect();
        let rule = widths.iter().map(|width| "-".repeat(*width)).collect();
        lines.insert(1, rule);
        lines.iter().map(|cells| line(cells, &widths)).collect()
    }

    fn cell(&self, figure: Figure, way: usize, base: Option<&Samples>) -> String {
        let Some(samples) = self.samples(figure, way) else { return "–".to_owned() };
        let shown = format!("{samples:.*}", figure.digits());
        match base {
            Some(base) if base != samples && figure.has_ratio() => {
                format!("{shown} {:.2} ×", samples.relative_to(base).median())
            }
            _ => shown,
        }
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
    format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
}
