//! What the project aims at, and whether this run shows it.

use std::fmt;

use bypass_benches::samples::Samples;

use crate::figure::{Figure, PARKED};
use crate::table::Table;
use crate::ways::{Role, Way};

/// A target with what was measured for it.
#[derive(Debug)]
pub(crate) struct Verdict {
    is_met: bool,
    what: String,
    measured: String,
    target: String,
}

/// What a figure of ours is divided by.
#[derive(Debug, Clone, Copy)]
enum Base {
    Host,
    /// The host under a filter that allows everything: what the kernel asks for having one, as
    /// containers do, whatever it says.
    Filtered,
    /// Our own connects, without those that are parked.
    Before,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// No difference, but for that between two runs of the same thing.
    Same,
    /// No further below the host than one of the host's turns was from the one beside it.
    LikeItself,
}

/// Where the columns are that targets speak of.
#[derive(Debug, Clone, Copy)]
struct Columns {
    host: usize,
    again: usize,
    filtered: usize,
    ours: usize,
}

/// One verdict per target for which there are figures.
pub(crate) fn verdicts(table: &Table, ways: &[Way]) -> Vec<Verdict> {
    let Some(columns) = Columns::of(ways) else { return Vec::new() };
    let verdicts = table.figures().flat_map(|figure| {
        let targets = targets(figure).iter();
        let ratios =
            targets.filter_map(move |target| by_ratio(table, columns, figure, target.0, target.1));
        ratios.chain(by_loss(table, columns, figure))
    });
    verdicts.collect()
}

fn targets(figure: Figure) -> &'static [(Base, Bound)] {
    match figure {
        Figure::Throughput(..) | Figure::PublishedThroughput(_) => {
            &[(Base::Host, Bound::AtLeast(0.98))]
        }
        Figure::Connect => &[(Base::Host, Bound::AtMost(1.30)), (Base::Host, Bound::AtMost(1.15))],
        Figure::BesideParked => &[(Base::Before, Bound::AtMost(1.10))],
        Figure::Untrapped(_) | Figure::Exchange => {
            &[(Base::Host, Bound::Same), (Base::Filtered, Bound::Same)]
        }
        Figure::Accepts => &[(Base::Host, Bound::AtLeast(0.97))],
        Figure::Datagrams(_) => &[(Base::Host, Bound::LikeItself)],
        Figure::Echo(_) => &[(Base::Host, Bound::AtMost(1.02))],
        // Once in the life of a server; and what has no ratio.
        Figure::Listen | Figure::DatagramsLost(_) => &[],
    }
}

fn by_ratio(
    table: &Table,
    columns: Columns,
    figure: Figure,
    base: Base,
    bound: Bound,
) -> Option<Verdict> {
    let what = match base {
        Base::Before => format!("connects beside {PARKED} parked ones"),
        Base::Host | Base::Filtered => figure.to_string(),
    };
    let base_samples = match base {
        Base::Host => table.samples(figure, columns.host)?,
        Base::Filtered => table.samples(figure, columns.filtered)?,
        Base::Before => table.samples(Figure::Connect, columns.ours)?,
    };
    let ratios = table.samples(figure, columns.ours)?.relative_to(base_samples);
    let noise = table.samples(figure, columns.again).map(|again| again.relative_to(base_samples));
    let noise = noise.unwrap_or_default();
    Some(Verdict {
        is_met: bound.is_met_by(ratios.median(), &noise),
        what,
        measured: format!("{ratios:.*} × {base}", bound.digits()),
        target: bound.in_words(&noise),
    })
}

/// Of datagrams no more may be lost than in the worst of the host's own turns.
fn by_loss(table: &Table, columns: Columns, figure: Figure) -> Option<Verdict> {
    if figure.has_ratio() {
        return None;
    }
    let ours = table.samples(figure, columns.ours)?;
    let host = [columns.host, columns.again].map(|column| table.samples(figure, column));
    let most = host.into_iter().flatten().map(|turns| turns.spread().1).fold(0.0, f64::max);
    let (digits, unit) = (figure.digits(), figure.unit());
    Some(Verdict {
        is_met: ours.median() <= most,
        what: figure.to_string(),
        measured: format!("{ours:.digits$} {unit}"),
        target: format!("at most {most:.digits$}, the most of the host's own turns"),
    })
}

impl Columns {
    fn of(ways: &[Way]) -> Option<Self> {
        Some(Self {
            host: ways.iter().position(Way::is_host)?,
            again: ways.iter().position(|way| way.has_role(Role::Again))?,
            filtered: ways.iter().position(|way| way.has_role(Role::Filtered))?,
            ours: ways.iter().position(Way::is_ours)?,
        })
    }
}

impl Bound {
    /// With the ratios of the host to itself.
    fn is_met_by(self, ratio: f64, noise: &Samples) -> bool {
        match self {
            Self::AtLeast(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
            Self::Same => ratio <= 1.0 + NOISE,
            Self::LikeItself => {
                let (least, most) = noise.spread();
                ratio >= least.min(1.0 / most).min(1.0 - RESOLUTION)
            }
        }
    }

    /// Digits of the ratio that tell.
    fn digits(self) -> usize {
        match self {
            Self::AtLeast(_) | Self::AtMost(_) | Self::Same => 2,
            Self::LikeItself => 4,
        }
    }

    fn in_words(self, noise: &Samples) -> String {
        match self {
            Self::AtLeast(least) => format!("at least {least:.2}"),
            Self::AtMost(most) => format!("at most {most:.2}"),
            Self::Same => format!("1.00, of which up to {:.2} is noise", 1.0 + NOISE),
            Self::LikeItself => format!("as far as the host is from itself, {noise:.4}"),
        }
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Filtered => "host with any filter",
            Self::Before => "those before",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { is_met, what, measured, target } = self;
        let word = if *is_met { "met" } else { "missed" };
        write!(f, "- {word}: {what}: {measured}, target {target}")
    }
}

/// By how much two runs of the same call on the host can differ.
const NOISE: f64 = 0.03;

/// What the ratio of two rates is known to that their senders fix: a datagram more or less in
/// every timer's period.
const RESOLUTION: f64 = 0.001;
