//! No container fills a disk with warnings: each kind of them has a rate.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bypass_core::TokenBucket;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Warnings and errors of one kind, that is from one place in the program, that come at once.
const AT_ONCE: u32 = 50;
/// How often there is another one after these.
const EVERY: Duration = Duration::from_secs(10);

/// A format that leaves out what comes too often, and says how much. What is no more than
/// information is told whatever happens: no container causes much of it. So is what is told for
/// debugging, where all is wanted.
#[derive(Debug)]
pub(super) struct Limited<F> {
    format: F,
    /// How a line looks that says how many were left out before the last.
    left_out: fn(u64) -> String,
    clock: fn() -> Instant,
    /// As many as there are places in the program that warn.
    rates: Mutex<HashMap<Identifier, TokenBucket>>,
}

impl<F> Limited<F> {
    pub(super) fn new(format: F, left_out: fn(u64) -> String) -> Self {
        Self { format, left_out, clock: Instant::now, rates: Mutex::default() }
    }

    fn take(&self, kind: Identifier) -> Option<u64> {
        let now = (self.clock)();
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || TokenBucket::new(AT_ONCE, EVERY, now);
        rates.entry(kind).or_insert_with(fresh).take(now)
    }
}

impl<S, N, F> FormatEvent<S, N> for Limited<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // What is more verbose is greater.
        if *event.metadata().level() > Level::WARN {
            return self.format.format_event(context, writer, event);
        }
        match self.take(event.metadata().callsite()) {
            // Nothing is written of an empty text.
            None => Ok(()),
            Some(0) => self.format.format_event(context, writer, event),
            Some(missed) => {
                self.format.format_event(context, writer.by_ref(), event)?;
                writeln!(writer, "{}", (self.left_out)(missed))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;
    use std::sync::Arc;

    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::fmt::format::{Format, Full};

    use super::*;

    fn taken(rate: &mut TokenBucket, tries: u32, now: Instant) -> (usize, u64) {
        let told: Vec<u64> = (0..tries).filter_map(|_| rate.take(now)).collect();
        (told.len(), told.iter().sum())
    }

    #[test]
    fn so_many_come_at_once_and_then_one_now_and_then() {
        let start = Instant::now();
        let mut rate = TokenBucket::new(AT_ONCE, EVERY, start);
        assert_eq!(taken(&mut rate, 1_000, start), (50, 0));
        assert_eq!(taken(&mut rate, 1_000, start + EVERY / 2), (0, 0));
        assert_eq!(taken(&mut rate, 1_000, start + EVERY), (1, 1_950));
        assert_eq!(taken(&mut rate, 1_000, start + 3 * EVERY), (2, 999));
        // However long nothing came.
        assert_eq!(taken(&mut rate, 1_000, start + 1_000 * EVERY).0, 50);
    }

    /// Text that was written.
    #[derive(Clone, Debug, Default)]
    struct Text(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Text {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Text {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn written(limited: Limited<Format<Full, ()>>, log: impl FnOnce()) -> Vec<String> {
        let text = Text::default();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .event_format(limited)
            .with_writer(text.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = text.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    fn limited() -> Limited<Format<Full, ()>> {
        Limited::new(Format::default().without_time(), |missed| format!("{missed} left out"))
    }

    #[test]
    fn a_flood_of_warnings_is_cut_and_hides_no_others() {
        let lines = written(limited(), || {
            for number in 0..10_000 {
                tracing::warn!(number, "a flood");
            }
            tracing::warn!("another");
            tracing::error!("an error");
        });
        assert_eq!(lines.len(), 52, "{lines:?}");
        assert!(lines[50].contains("another") && lines[51].contains("an error"), "{lines:?}");
    }

    #[test]
    fn information_is_not_cut() {
        let lines = written(limited(), || {
            for number in 0..1_000 {
                tracing::info!(number, "started");
            }
        });
        assert_eq!(lines.len(), 1_000);
    }

    thread_local! {
        static SKIPPED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    #[test]
    fn what_was_left_out_is_counted_in_a_line_of_its_own() {
        let clock = || Instant::now() + SKIPPED.get();
        let lines = written(Limited { clock, ..limited() }, || {
            for number in 0..=60 {
                if number == 60 {
                    SKIPPED.set(EVERY);
                }
                tracing::warn!(number, "a flood");
            }
        });
        assert_eq!(lines.len(), 52, "{lines:?}");
        assert!(lines[50].contains("number=60"), "{lines:?}");
        assert_eq!(lines[51], "10 left out");
    }
}
