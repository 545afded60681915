//! One screen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::super::model::PortState;
use super::super::text::{OUTCOMES, by_reason, heading, printable, span};
use super::view::{Rates, View};

/// Lines for the ports and reasons at the bottom.
const DETAILS: u16 = 8;
/// Below this height there is only the table.
const ROOM: u16 = 18;

pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let details = if frame.area().height >= ROOM { DETAILS } else { 0 };
    let [top, table, bottom, keys] = Layout::vertical([
        Constraint::Length(4),
        Constraint::Min(1),
        Constraint::Length(details),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(summary(view)), top);
    containers(frame, view, table);
    if details > 0 {
        let [of_container, ports] =
            Layout::horizontal([Constraint::Fill(1); 2]).spacing(2).areas(bottom);
        frame.render_widget(Paragraph::new(reasons(view)), of_container);
        frame.render_widget(Paragraph::new(published(view, ports)), ports);
    }
    let help = format!("q quit   ↑↓ select   s order ({})   {}", view.order.name(), view.path);
    frame.render_widget(Paragraph::new(Line::styled(help, DIM)), keys);
}

fn summary(view: &View) -> Vec<Line<'_>> {
    let server = &view.status.server;
    let counts = format!(
        "{} containers, {} since the start   {} CPU s, {:.1} MiB, {} descriptors",
        view.status.containers.len(),
        server.containers_admitted,
        decimal(server.process.cpu_seconds),
        mebibytes(server.process.resident_bytes),
        server.process.open_fds
    );
    let Rates(rates) = view.total;
    let per_second =
        OUTCOMES.iter().zip(rates).map(|(outcome, rate)| format!("{outcome} {}", decimal(rate)));
    let per_second = format!("per second: {}", per_second.collect::<Vec<_>>().join("   "));
    let last = match &view.trouble {
        Some(trouble) => Line::styled(printable(trouble), alarm(view)),
        None => Line::default(),
    };
    vec![Line::styled(heading(&view.status), BOLD), Line::raw(counts), Line::raw(per_second), last]
}

fn containers(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let head = [
        "CONTAINER",
        "UP",
        "SWITCHED/s",
        "LEFT/s",
        "DENIED/s",
        "FAILED/s",
        "WAITING",
        "CALLS",
        "P50 µs",
    ];
    let rows = view.rows.iter().map(|row| {
        let of = |name: &str| OUTCOMES.iter().position(|outcome| *outcome == name);
        let rate =
            |name: &str| of(name).and_then(|index| row.rates.0.get(index)).copied().unwrap_or(0.0);
        let mark = |name: &str, style: Style| {
            let rate = rate(name);
            let cell = Cell::new(Line::raw(decimal(rate)).right_aligned());
            if rate > 0.0 { cell.style(style) } else { cell }
        };
        let number = |text: String| Cell::new(Line::raw(text).right_aligned());
        Row::new([
            Cell::new(printable(&row.container.id)),
            number(span(row.container.up_seconds)),
            mark("switched", good(view)),
            mark("left", Style::new()),
            mark("denied", alarm(view)),
            mark("failed", alarm(view)),
            number(row.container.waiting.to_string()),
            number(row.container.calls.total().to_string()),
            number(format!("{:.0}", row.container.calls.connect_us.p50)),
        ])
    });
    let widths = [
        Constraint::Min(12),
        Constraint::Length(6),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Length(7),
    ];
    let mut columns = head.into_iter();
    let first = Cell::new(columns.next().unwrap_or_default());
    let others = columns.map(|name| Cell::new(Line::raw(name).right_aligned()));
    let head = Row::new(std::iter::once(first).chain(others)).style(BOLD);
    let table = Table::new(rows, widths).header(head).row_highlight_style(Modifier::REVERSED);
    let mut state =
        TableState::new().with_selected((!view.rows.is_empty()).then_some(view.selected));
    frame.render_stateful_widget(table, area, &mut state);
}

/// Of the container that is selected.
fn reasons(view: &View) -> Vec<Line<'_>> {
    let Some(row) = view.rows.get(view.selected) else {
        return vec![Line::styled("no containers", DIM)];
    };
    let mut lines =
        vec![Line::styled(format!("verdicts of {}", printable(&row.container.id)), BOLD)];
    lines.extend(by_reason(&row.container.calls).into_iter().map(|(outcome, said)| {
        Line::from(vec![Span::styled(format!("{outcome:9}"), BOLD), Span::raw(said)])
    }));
    lines
}

fn published(view: &View, area: Rect) -> Vec<Line<'_>> {
    let ports = &view.status.server.published;
    let mut lines = vec![Line::styled(format!("published ports: {}", ports.len()), BOLD)];
    let room = usize::from(area.height).saturating_sub(1);
    lines.extend(ports.iter().take(room).map(|port| {
        let style = match port.state {
            PortState::Reserved => DIM,
            PortState::Direct => good(view),
            PortState::Relayed => Style::new(),
        };
        let container = port.container.as_deref().map(printable).unwrap_or_default();
        let text = format!("{} {} → {}  ", port.protocol, port.host, port.container_port);
        Line::from(vec![
            Span::raw(printable(&text)),
            Span::styled(port.state.name(), style),
            Span::raw(format!("  {container}")),
        ])
    }));
    lines
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);

fn good(view: &View) -> Style {
    if view.colours { Style::new().fg(Color::Green) } else { Style::new() }
}

fn alarm(view: &View) -> Style {
    let style = BOLD;
    if view.colours { style.fg(Color::Red) } else { style }
}

fn decimal(value: f64) -> String {
    if value == 0.0 {
        "0".into()
    } else if value < 9.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

#[expect(clippy::cast_precision_loss, reason = "it is rounded when it is shown")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
