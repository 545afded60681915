//! Logs of single containers, beside that of the whole.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The files, by the container's id.
static FILES: LazyLock<Mutex<HashMap<String, File>>> = LazyLock::new(Mutex::default);

/// Writes what is told of a container to this file as well.
pub(crate) fn open_for(container: &str, file: File) {
    files().insert(container.to_owned(), file);
}

/// No longer.
pub(crate) fn close_for(container: &str) {
    files().remove(container);
}

fn files() -> MutexGuard<'static, HashMap<String, File>> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks for events about a container that has a log of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own;

impl<S: Subscriber> Layer<S> for Own {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut files = files();
        if files.is_empty() {
            return;
        }
        let mut said = Said::default();
        event.record(&mut said);
        if let Some(file) = said.container.as_deref().and_then(|id| files.get_mut(id)) {
            let now = humantime::format_rfc3339_micros(SystemTime::now());
            let line = format!("{now} {:>5}{}\n", event.metadata().level(), said.text);
            // A full disk is no reason to stop.
            file.write_all(line.as_bytes()).ok();
        }
    }
}

#[derive(Debug, Default)]
struct Said {
    container: Option<String>,
    text: String,
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "container" {
            self.container = Some(value.to_owned());
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.text, " {value:?}"),
            name => write!(self.text, " {name}={value:?}"),
        };
        debug_assert!(written.is_ok(), "a String takes everything");
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn a_container_with_a_log_of_its_own_is_told_of_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        open_for("of its own", File::create(&path).unwrap());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Own), || {
            tracing::info!(container = "of its own", pid = 7, "attached");
            tracing::info!(container = "another", "attached too");
            tracing::warn!("nobody's");
            close_for("of its own");
            tracing::info!(container = "of its own", "ended");
        });
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains(" INFO") && text.contains("attached") && text.contains("pid=7"),
            "{text}"
        );
    }
}
