//! What the project aims at, and whether this run shows it.

use std::fmt;

use bypass_benches::samples::Samples;

use crate::figure::{Figure, PARKED};
use crate::table::Table;
use crate::ways::Way;

/// A target with what was measured for it.
#[derive(Debug)]
pub(crate) struct Verdict {
    what: String,
    base: &'static str,
    bound: Bound,
    measured: Samples,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// No difference, but for that between two runs of the same thing.
    Same,
}

/// One verdict per target for which there are figures.
pub(crate) fn verdicts(table: &Table, ways: &[Way]) -> Vec<Verdict> {
    let host = ways.iter().position(Way::is_host);
    let ours = ways.iter().position(Way::is_ours);
    let (Some(host), Some(ours)) = (host, ours) else { return Vec::new() };
    let targets =
        table.figures().flat_map(|figure| bounds(figure).iter().map(move |b| (figure, *b)));
    targets
        .filter_map(|(figure, bound)| {
            let samples = table.samples(figure, ours)?;
            let (what, base, base_samples) = match figure {
                Figure::BesideParked => (
                    format!("connects beside {PARKED} parked ones"),
                    "those before",
                    table.samples(Figure::Connect, ours)?,
                ),
                _ => (figure.to_string(), "host", table.samples(figure, host)?),
            };
            Some(Verdict { what, base, bound, measured: samples.relative_to(base_samples) })
        })
        .collect()
}

fn bounds(figure: Figure) -> &'static [Bound] {
    match figure {
        Figure::Throughput(..) => &[Bound::AtLeast(0.98)],
        Figure::Connect => &[Bound::AtMost(1.30), Bound::AtMost(1.15)],
        Figure::BesideParked => &[Bound::AtMost(1.10)],
        Figure::Untrapped(_) => &[Bound::Same],
    }
}

impl Bound {
    fn is_met_by(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
            Self::Same => ratio <= 1.0 + NOISE,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "at least {least:.2}"),
            Self::AtMost(most) => write!(f, "at most {most:.2}"),
            Self::Same => write!(f, "1.00, of which up to {:.2} is noise", 1.0 + NOISE),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.bound.is_met_by(self.measured.median()) { "met" } else { "missed" };
        let Self { what, base, bound, measured } = self;
        write!(f, "- {word}: {what}: {measured:.2} × {base}, target {bound}")
    }
}

/// By how much two runs of the same call on the host can differ.
const NOISE: f64 = 0.03;
