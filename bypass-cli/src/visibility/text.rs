//! A status for people.

use std::fmt::Write as _;
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::model::{Calls, Enforced, PortState, Status, Treated};

const HEADING: Style = Style::new().bold();
const ALARM: Style = AnsiColor::Red.on_default().bold();
const CAUTION: Style = AnsiColor::Yellow.on_default();

/// The verdicts, in the order of the columns.
pub(super) const OUTCOMES: [&str; 6] = ["switched", "host", "left", "denied", "failed", "gone"];

/// All of it, with escape sequences for colours.
pub(super) fn text(status: &Status) -> String {
    let Status { server, containers } = status;
    let mut out = String::new();
    let _ = writeln!(out, "{HEADING}{}{HEADING:#}", heading(status));
    let _ = writeln!(out, "supervisor: {}", supervisor(server.enforced));
    let _ = writeln!(
        out,
        "containers: {} now, {} since the start; {} further sessions, {} hand-overs refused",
        containers.len(),
        server.containers_admitted,
        server.sessions_joined,
        server.handovers_refused
    );
    if !containers.is_empty() {
        out.push('\n');
        let mut rows = vec![row(
            &["CONTAINER", "UP"],
            &OUTCOMES.map(str::to_uppercase),
            &["WAITING", "P50 µs", "PIN", "UDP"],
        )];
        for container in containers {
            let calls = &container.calls;
            let verdicts = OUTCOMES.map(|outcome| calls.verdict(outcome).to_string());
            let Treated { pin, host_udp, .. } = container.enforced;
            let tail = [
                container.waiting.to_string(),
                format!("{:.0}", calls.connect_us.p50),
                if pin { "on" } else { "off" }.into(),
                if host_udp { "host" } else { "container" }.into(),
            ];
            let head = [printable(&container.id), span(container.up_seconds)];
            rows.push(row(&head, &verdicts, &tail));
        }
        table(&mut out, &rows);
        reasons(&mut out, status);
    }
    if !server.published.is_empty() {
        out.push('\n');
        let mut rows =
            vec![["PUBLISHED", "PORT", "STATE", "CONTAINER"].map(str::to_owned).to_vec()];
        for port in &server.published {
            rows.push(vec![
                format!("{} {}", port.protocol, port.host),
                port.container_port.to_string(),
                port.state.name().into(),
                port.container.as_deref().map_or_else(|| "any".into(), printable),
            ]);
        }
        table(&mut out, &rows);
    }
    if server.published.iter().any(|port| port.state == PortState::Relayed) {
        let _ = writeln!(
            out,
            "{CAUTION}relayed: through user space, docs/publishing.md says when{CAUTION:#}"
        );
    }
    out
}

/// Who serves.
pub(super) fn heading(status: &Status) -> String {
    let server = &status.server;
    format!(
        "bypass-cli {} {}, process {}, up {}, Linux {}",
        printable(&server.version),
        printable(&server.role),
        server.pid,
        span(server.up_seconds),
        printable(&server.kernel)
    )
}

/// What holds it, and loudly what does not.
fn supervisor(enforced: Enforced) -> String {
    let Enforced { seccomp, not_dumpable, no_capabilities } = enforced;
    let layers = [
        (seccomp, "system calls of a list only", "ALL SYSTEM CALLS"),
        (not_dumpable, "not to be traced", "TRACEABLE"),
        (no_capabilities, "without capabilities", "WITH ITS CAPABILITIES"),
    ];
    let say = |(on, held, not): (bool, &str, &str)| {
        if on { held.to_owned() } else { format!("{ALARM}{not}{ALARM:#}") }
    };
    layers.map(say).join(", ")
}

fn reasons(out: &mut String, status: &Status) {
    out.push('\n');
    let mut rows = vec![["CONTAINER", "VERDICT", "REASONS"].map(str::to_owned).to_vec()];
    for container in &status.containers {
        for (outcome, said) in by_reason(&container.calls) {
            rows.push(vec![printable(&container.id), outcome, said]);
        }
    }
    if rows.len() > 1 {
        table(out, &rows);
    } else {
        out.push_str("no verdicts yet\n");
    }
}

/// For each verdict that there is, its reasons and how often each was the reason.
pub(super) fn by_reason(calls: &Calls) -> Vec<(String, String)> {
    let row = |outcome: &str| {
        let mut row: Vec<_> = calls.reasons.get(outcome)?.iter().collect();
        row.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let said: Vec<_> =
            row.iter().map(|(reason, count)| format!("{} {count}", printable(reason))).collect();
        Some((outcome.to_owned(), said.join(", ")))
    };
    OUTCOMES.into_iter().filter_map(row).collect()
}

fn row(head: &[impl ToString], middle: &[String], tail: &[impl ToString]) -> Vec<String> {
    let (head, tail) = (head.iter().map(ToString::to_string), tail.iter().map(ToString::to_string));
    head.chain(middle.iter().cloned()).chain(tail).collect()
}

/// Columns as wide as the widest of each; the first row is a heading.
fn table(out: &mut String, rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let line = line.trim_end();
        if index == 0 {
            let _ = writeln!(out, "{HEADING}{line}{HEADING:#}");
        } else {
            let _ = writeln!(out, "{line}");
        }
    }
}

/// A time that has passed, as one reads it.
pub(super) fn span(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    match (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60, whole % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m{s:02}s"),
        (0, h, m, _) => format!("{h}h{m:02}m"),
        (d, h, _, _) => format!("{d}d{h:02}h"),
    }
}

/// What somebody else has written, without power over the terminal.
pub(super) fn printable(text: &str) -> String {
    let invisible = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().map(|c| if invisible(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::model::{ContainerStatus, PublishedPort, Server};
    use super::*;

    fn calls() -> Calls {
        let stats = bypass_core::Stats::default();
        for _ in 0..7 {
            stats.count(bypass_core::Outcome::Left, bypass_core::Reason::Ignored);
        }
        stats.count(bypass_core::Outcome::Left, bypass_core::Reason::Option);
        stats.snapshot().into()
    }

    #[test]
    fn verdicts_have_the_names_of_the_engine() {
        assert_eq!(OUTCOMES, bypass_core::Outcome::ALL.map(bypass_core::Outcome::name));
    }

    #[test]
    fn a_status_is_a_page() {
        let container = ContainerStatus {
            id: "web\u{1b}[31m".into(),
            up_seconds: 3_725.0,
            calls: calls(),
            ..Default::default()
        };
        let port = PublishedPort {
            container: None,
            protocol: "tcp".into(),
            host: ([127, 0, 0, 1], 8080).into(),
            container_port: 80,
            state: PortState::Direct,
        };
        let server = Server {
            version: "1.2.3".into(),
            role: "serve".into(),
            pid: 42,
            kernel: "6.18.0".into(),
            containers_admitted: 3,
            enforced: Enforced { seccomp: true, not_dumpable: true, no_capabilities: false },
            published: vec![port],
            ..Server::default()
        };
        let page = text(&Status { server, containers: vec![container] });
        let plain = anstream::adapter::strip_str(&page).to_string();
        for part in [
            "bypass-cli 1.2.3 serve, process 42, up 0s, Linux 6.18.0\n",
            "supervisor: system calls of a list only, not to be traced, WITH ITS CAPABILITIES\n",
            "containers: 1 now, 3 since the start; 0 further sessions, 0 hand-overs refused\n",
            "web\u{fffd}[31m   1h02m  0         0     8     0",
            "left     ignored 7, option 1\n",
            "tcp 127.0.0.1:8080  80    direct  any\n",
        ] {
            assert!(plain.contains(part), "{part:?} in\n{plain}");
        }
        assert!(plain.lines().all(|line| !line.ends_with(' ')));
        assert!(!page.contains("web\u{1b}"));
    }

    #[test]
    fn spans_are_as_exact_as_is_of_use() {
        for (seconds, said) in [
            (0.9, "0s"),
            (59.0, "59s"),
            (61.0, "1m01s"),
            (7_260.0, "2h01m"),
            (90_000.0, "1d01h"),
            (f64::NAN, "0s"),
        ] {
            assert_eq!(span(seconds), said);
        }
    }
}
