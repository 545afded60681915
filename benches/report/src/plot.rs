//! Plots: a panel for each row, with a bar for each column and a line from the least to the most.
//!
//! Each plot has a ground of its own, so that it can be read on any page, and a dark one where a dark
//! colour scheme is preferred.

use std::fmt;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use test_support::Failure;
use test_support::failure::Result;

use crate::markdown::{amount, has_ratio, times};
use crate::rows::HEADLINE;
use crate::schema::{Report, Row, Spread};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// One bar.
struct Bar {
    name: String,
    colour: RGBColor,
    /// `None`: failed, or was not measured.
    spread: Option<Spread>,
    words: String,
}

/// A title, and bars below it.
struct Panel {
    title: String,
    bars: Vec<Bar>,
    /// Where a line stands for the host.
    mark: Option<f64>,
}

/// Of the plot of a group, by its title.
pub(crate) fn file_name(group: &str) -> String {
    let words: Vec<_> = group.split_whitespace().map(str::to_lowercase).collect();
    format!("{}.svg", words.join("-"))
}

/// One row of each kind, beside the host: the more, the faster.
pub(crate) fn headline(report: &Report) -> Result<String> {
    let rows = HEADLINE.iter().filter_map(|key| report.row(key));
    let panels = rows.map(|row| Panel {
        title: row.title_in_full(),
        mark: Some(1.0),
        bars: bars(report, row).skip(1).map(|bar| relative(bar, row)).collect(),
    });
    let panels: Vec<_> = panels.collect();
    draw("Speed, where the host's own is 1 (the line); longer is faster", &panels)
}

/// All rows of a group, in their units.
pub(crate) fn group(report: &Report, name: &str, rows: &[&Row]) -> Result<String> {
    let panels: Vec<_> = rows
        .iter()
        .map(|row| {
            let better =
                if row.larger_is_better { "longer is better" } else { "shorter is better" };
            Panel {
                title: format!("{}, {} ({better})", row.title, row.unit),
                mark: None,
                bars: bars(report, row).map(|(bar, _)| bar).collect(),
            }
        })
        .collect();
    draw(name, &panels)
}

impl Row {
    /// Its title, with what its group says where that does not show by itself.
    fn title_in_full(&self) -> String {
        match self.group.as_str() {
            "TCP throughput" => format!("TCP {}", self.title),
            "Published ports" if self.title.starts_with("TCP") => {
                format!("published {}", self.title)
            }
            "Clients of servers" | "Published ports" | "Connections and latency" => {
                self.title.clone()
            }
            group => format!("{group}: {}", self.title),
        }
    }
}

/// A bar for each column, with its ratio to the host.
fn bars<'r>(report: &'r Report, row: &'r Row) -> impl Iterator<Item = (Bar, Option<Spread>)> + 'r {
    let columns = report.columns.iter().zip(&row.cells).zip(COLOURS);
    columns.map(|((column, cell), colour)| {
        let words = match cell.figure {
            Some(figure) => amount(figure.median),
            None if cell.failures.is_empty() => "–".to_owned(),
            None => "failed".to_owned(),
        };
        let ratio = cell.ratio.filter(|_| has_ratio(row));
        (Bar { name: column.name.clone(), colour, spread: cell.figure, words }, ratio)
    })
}

/// What takes twice as long is half as fast.
fn relative((bar, ratio): (Bar, Option<Spread>), row: &Row) -> Bar {
    let speed = ratio.map(|ratio| {
        let of = |number: f64| if row.larger_is_better { number } else { 1.0 / number };
        let (one, other) = (of(ratio.least), of(ratio.most));
        Spread { median: of(ratio.median), least: one.min(other), most: one.max(other) }
    });
    let words = speed.map_or(bar.words, |speed| times(speed.median));
    Bar { spread: speed, words, ..bar }
}

fn draw(title: &str, panels: &[Panel]) -> Result<String> {
    let lines: Vec<_> = panels.chunks(ACROSS).collect();
    let heights = lines.iter().map(|line| line.iter().map(Panel::height).max().unwrap_or(0));
    let heights: Vec<i32> = heights.collect();
    let height = TOP + heights.iter().sum::<i32>() + GAP / 2;
    let mut svg = String::new();
    {
        let size = (u32::try_from(WIDTH)?, u32::try_from(height)?);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&GROUND).map_err(failed)?;
        text(&root, title, (GAP, TOP / 2), 16, HPos::Left)?;
        let mut top = TOP;
        for (line, height) in lines.iter().zip(&heights) {
            for (panel, left) in line.iter().zip((0..).step_by(PANEL_STEP)) {
                panel.draw(&root, (GAP + left, top))?;
            }
            top += height;
        }
        root.present().map_err(failed)?;
    }
    Ok(svg.replacen("<rect", &format!("{STYLE}<rect"), 1) + "\n")
}

impl Panel {
    fn height(&self) -> i32 {
        HEAD + BAR * i32::try_from(self.bars.len()).unwrap_or(0) + GAP
    }

    fn draw(&self, root: &Area<'_>, (left, top): (i32, i32)) -> Result {
        text(root, &self.title, (left, top + HEAD / 2), 13, HPos::Left)?;
        let longest = self.bars.iter().filter_map(|bar| bar.spread).map(|spread| spread.most);
        let longest = longest.chain(self.mark).fold(f64::MIN_POSITIVE, f64::max);
        let start = left + NAME;
        #[expect(clippy::cast_possible_truncation, reason = "a share of the width of a panel")]
        let at = |value: f64| start + (value / longest * f64::from(LENGTH)).round() as i32;
        for (bar, middle) in self.bars.iter().zip((top + HEAD + BAR / 2..).step_by(BAR_STEP)) {
            text(root, &bar.name, (start - 6, middle), 12, HPos::Right)?;
            let mut end = start;
            if let Some(spread) = bar.spread {
                let corners = [(start, middle - 6), (at(spread.median), middle + 6)];
                root.draw(&Rectangle::new(corners, bar.colour.filled())).map_err(failed)?;
                if spread.least < spread.most {
                    let line = [(at(spread.least), middle), (at(spread.most), middle)];
                    root.draw(&PathElement::new(line, INK.stroke_width(1))).map_err(failed)?;
                }
                end = at(spread.most);
            }
            // Not through the host's line.
            let mark = self.mark.map_or(end, at);
            let over = (end..end + NUMBER).contains(&mark);
            text(root, &bar.words, (if over { mark } else { end } + 6, middle), 12, HPos::Left)?;
        }
        if let Some(mark) = self.mark {
            let bottom = top + self.height() - GAP;
            let line = [(at(mark), top + HEAD), (at(mark), bottom)];
            root.draw(&PathElement::new(line, INK.stroke_width(1))).map_err(failed)?;
        }
        Ok(())
    }
}

fn text(root: &Area<'_>, words: &str, at: (i32, i32), size: i32, side: HPos) -> Result {
    let style = ("sans-serif", size).into_font().color(&INK).pos(Pos::new(side, VPos::Center));
    root.draw(&Text::new(words.to_owned(), at, style)).map_err(failed)
}

fn failed(error: impl fmt::Display) -> Failure {
    Failure::new(format!("drawing: {error}"))
}

/// Of panels beside each other.
const ACROSS: usize = 2;
const WIDTH: i32 = 880;
const GAP: i32 = 16;
const TOP: i32 = 44;
/// From one panel to the next.
const PANEL_STEP: usize = 432;
/// Of a panel's title.
const HEAD: i32 = 26;
const BAR: i32 = 18;
const BAR_STEP: usize = 18;
/// Room for the name of a column.
const NAME: i32 = 86;
/// Of the longest bar; behind it is room for a number.
const LENGTH: i32 = 250;

/// Room for a number.
const NUMBER: i32 = 54;

const GROUND: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);
const INK: RGBColor = RGBColor(0x1F, 0x23, 0x28);
/// By column. They stand out from either ground, and every bar has its name beside it.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x8C, 0x95, 0x9F),
    RGBColor(0x1F, 0x8F, 0x4E),
    RGBColor(0xC9, 0x7B, 0x12),
    RGBColor(0x8A, 0x63, 0xD2),
    RGBColor(0x2F, 0x7F, 0xD6),
    RGBColor(0xC8, 0x4B, 0x5A),
];
/// What becomes of ground and ink in the dark.
const STYLE: &str = "<style>@media (prefers-color-scheme: dark) {\
    rect[fill=\"#FFFFFF\"] { fill: #0D1117 } text { fill: #E6EDF3 } \
    polyline { stroke: #E6EDF3 } }</style>\n";
