//! What is to be seen: the last two answers, and what the user looks at.

use std::collections::BTreeMap;
use std::time::Instant;

use ratatui::crossterm::event::KeyCode;

use super::super::model::{Calls, ContainerStatus, Status};
use super::super::text::OUTCOMES;
use super::Answer;

/// State of the screen.
#[derive(Debug)]
pub(super) struct View {
    pub(super) path: String,
    pub(super) colours: bool,
    pub(super) status: Status,
    pub(super) rows: Vec<Row>,
    pub(super) total: Rates,
    /// Why the figures are old.
    pub(super) trouble: Option<String>,
    pub(super) order: Order,
    pub(super) selected: usize,
    taken: Option<Instant>,
}

/// A container, and what it does in a second.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) container: ContainerStatus,
    pub(super) rates: Rates,
}

/// Verdicts in a second, in the order of [`OUTCOMES`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates(pub(super) [f64; OUTCOMES.len()]);

/// What the rows are in the order of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Rate,
    Total,
    Id,
}

impl Order {
    const fn next(self) -> Self {
        match self {
            Self::Rate => Self::Total,
            Self::Total => Self::Id,
            Self::Id => Self::Rate,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Total => "total",
            Self::Id => "id",
        }
    }
}

impl Rates {
    /// From one answer to the next. Who is smaller than before has begun anew.
    #[expect(clippy::cast_precision_loss, reason = "rates are rounded when they are shown")]
    fn between(before: &Calls, after: &Calls, seconds: f64) -> Self {
        Self(OUTCOMES.map(|outcome| {
            let (before, after) = (before.verdict(outcome), after.verdict(outcome));
            let since = after.checked_sub(before).unwrap_or(after);
            if seconds > 0.0 { since as f64 / seconds } else { 0.0 }
        }))
    }

    pub(super) fn sum(self) -> f64 {
        self.0.iter().sum()
    }
}

impl View {
    pub(super) fn new(path: String, colours: bool) -> Self {
        Self {
            path,
            colours,
            status: Status::default(),
            rows: Vec::new(),
            total: Rates::default(),
            trouble: None,
            order: Order::Rate,
            selected: 0,
            taken: None,
        }
    }

    /// The figures of `now`.
    pub(super) fn take(&mut self, answer: Answer, now: Instant) {
        let status = match answer {
            Ok(status) => status,
            Err(error) => {
                self.trouble = Some(crate::exit::chain(&error));
                return;
            }
        };
        self.trouble = None;
        let same = status.server.pid == self.status.server.pid;
        let seconds = self.taken.filter(|_| same).map_or(0.0, |at| (now - at).as_secs_f64());
        let before: BTreeMap<&str, &Calls> =
            self.status.containers.iter().map(|one| (one.id.as_str(), &one.calls)).collect();
        let nothing = Calls::default();
        let row = |container: &ContainerStatus| {
            // What one that is new has done, it has done since.
            let before = before.get(container.id.as_str()).copied().unwrap_or(&nothing);
            let rates = Rates::between(before, &container.calls, seconds);
            Row { container: container.clone(), rates }
        };
        let selected = self.rows.get(self.selected).map(|row| row.container.id.clone());
        self.rows = status.containers.iter().map(row).collect();
        self.total = Rates::between(&self.status.server.calls, &status.server.calls, seconds);
        self.status = status;
        self.taken = Some(now);
        self.sort(selected.as_deref());
    }

    pub(super) fn press(&mut self, key: KeyCode) {
        let last = self.rows.len().saturating_sub(1);
        match key {
            KeyCode::Char('s') => {
                self.order = self.order.next();
                let selected = self.rows.get(self.selected).map(|row| row.container.id.clone());
                self.sort(selected.as_deref());
            }
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.selected = (self.selected + 1).min(last),
            KeyCode::Home => self.selected = 0,
            KeyCode::End => self.selected = last,
            KeyCode::PageUp => self.selected = self.selected.saturating_sub(10),
            KeyCode::PageDown => self.selected = (self.selected + 10).min(last),
            _ => {}
        }
    }

    /// Whoever is looked at stays it.
    fn sort(&mut self, selected: Option<&str>) {
        let order = self.order;
        self.rows.sort_by(|a, b| {
            let by_id = a.container.id.cmp(&b.container.id);
            match order {
                Order::Rate => b.rates.sum().total_cmp(&a.rates.sum()).then(by_id),
                Order::Total => {
                    b.container.calls.total().cmp(&a.container.calls.total()).then(by_id)
                }
                Order::Id => by_id,
            }
        });
        let found = self.rows.iter().position(|row| Some(row.container.id.as_str()) == selected);
        self.selected = found.unwrap_or(self.selected).min(self.rows.len().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bypass_core::{Outcome, Reason, Stats};

    use super::super::super::client::AskServerError;
    use super::super::super::model::Server;
    use super::*;

    fn status(pid: u32, containers: &[(&str, u64)]) -> Status {
        let calls = |count| {
            let stats = Stats::default();
            (0..count).for_each(|_| stats.count(Outcome::Switched, Reason::Allowed));
            Calls::from(stats.snapshot())
        };
        let container = |&(id, count): &(&str, u64)| ContainerStatus {
            id: id.into(),
            calls: calls(count),
            ..ContainerStatus::default()
        };
        let all = containers.iter().map(|(_, count)| count).sum();
        Status {
            server: Server { pid, calls: calls(all), ..Server::default() },
            containers: containers.iter().map(container).collect(),
        }
    }

    fn ids(view: &View) -> Vec<&str> {
        view.rows.iter().map(|row| row.container.id.as_str()).collect()
    }

    #[test]
    fn rates_are_what_changed_in_the_time_between() {
        let mut view = View::new(String::new(), true);
        let begun = Instant::now();
        view.take(Ok(status(1, &[("a", 10), ("b", 100)])), begun);
        assert_eq!(view.total, Rates::default());
        view.take(
            Ok(status(1, &[("a", 30), ("b", 104), ("c", 2)])),
            begun + Duration::from_secs(2),
        );
        assert_eq!(view.total.0[0], 13.0);
        let rates: Vec<_> =
            view.rows.iter().map(|row| (row.container.id.as_str(), row.rates.0[0])).collect();
        assert_eq!(rates, [("a", 10.0), ("b", 2.0), ("c", 1.0)]);
        // A container that began anew, and a server that did.
        view.take(Ok(status(1, &[("a", 4), ("b", 104)])), begun + Duration::from_secs(3));
        assert_eq!(view.rows[0].rates.0[0], 4.0);
        view.take(Ok(status(2, &[("a", 9)])), begun + Duration::from_secs(4));
        assert_eq!(view.total, Rates::default());
    }

    #[test]
    fn keys_choose_the_order_and_the_container() {
        let mut view = View::new(String::new(), true);
        view.take(Ok(status(1, &[("a", 1), ("b", 3), ("c", 2)])), Instant::now());
        assert_eq!(ids(&view), ["a", "b", "c"]);
        view.press(KeyCode::Char('j'));
        view.press(KeyCode::Char('s'));
        assert_eq!((ids(&view), view.selected), (vec!["b", "c", "a"], 0));
        view.press(KeyCode::End);
        view.press(KeyCode::Down);
        assert_eq!(view.selected, 2);
        // The one that is looked at goes.
        view.take(Ok(status(1, &[("b", 3)])), Instant::now());
        assert_eq!(view.selected, 0);
        view.take(Ok(status(1, &[])), Instant::now());
        view.press(KeyCode::Down);
        assert_eq!(view.selected, 0);
    }

    #[test]
    fn trouble_keeps_the_old_figures() {
        let mut view = View::new(String::new(), true);
        view.take(Ok(status(1, &[("a", 1)])), Instant::now());
        view.take(Err(AskServerError::Late { path: "/s".into() }), Instant::now());
        assert_eq!(
            (ids(&view), view.trouble.as_deref()),
            (vec!["a"], Some("/s: no answer within 10 s"))
        );
        view.take(Ok(status(1, &[("a", 1)])), Instant::now());
        assert_eq!(view.trouble, None);
    }
}
