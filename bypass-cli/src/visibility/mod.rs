//! What is served, for whoever may see it: `status`, `top` and metrics.
//!
//! ```text
//! status, top, curl ── HTTP, UNIX socket ──▶ teller ── "tell me" + a file ──▶ supervisor
//! Prometheus ───────── HTTP, TCP if asked ─▶   │                                 │ a thread of its own
//!                                              └◀── the file, written ◀──────────┘ reads the ledger
//! ```
//!
//! The teller speaks HTTP: the first process of `daemon`, and a child of `serve` that does nothing else and
//! is as confined as `serve` itself. So the process that containers depend on hears no client: it
//! writes what there is into a file in memory whenever the teller asks, at most ten times a second. Its thread
//! for that takes a lock that containers take when they come and go, and none that their calls take.

mod ask;
mod client;
mod http;
mod ledger;
mod metrics;
mod model;
mod place;
mod status;
mod tell;
mod teller;
mod text;
mod top;

pub(crate) use self::ask::Asker;
pub(crate) use self::http::serve;
pub(crate) use self::ledger::{Entered, Ledger};
pub(crate) use self::model::Treated;
pub(crate) use self::place::{PlaceError, Sockets};
pub(crate) use self::status::status;
pub(crate) use self::tell::{About, tell};
pub(crate) use self::teller::{Teller, stage};
pub(crate) use self::top::top;
