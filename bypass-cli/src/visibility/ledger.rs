//! What is served, kept for who wants to see it.
//!
//! Containers are entered when they are admitted, and struck off by dropping what they were entered with.
//! Their counters are those that their threads write: nothing is pushed, and no call of a container takes
//! the lock in here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bypass_core::{Ports, Stats};

use super::model::{ContainerStatus, PublishedPort, Server, Treated};

/// One for each process that serves containers.
#[derive(Debug)]
pub(crate) struct Ledger {
    started: Instant,
    started_at: SystemTime,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    next: u64,
    containers: BTreeMap<u64, Entry>,
    ports: BTreeMap<u64, (Option<String>, Ports)>,
    /// What containers that have gone did.
    past: Stats,
    admitted: u64,
    joined: u64,
    refused: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    id: String,
    since: Instant,
    stats: Arc<Stats>,
    treated: Treated,
}

impl Default for Ledger {
    fn default() -> Self {
        let (started, started_at) = (Instant::now(), SystemTime::now());
        Self { started, started_at, books: Mutex::default() }
    }
}

impl Ledger {
    pub(crate) fn admit(
        self: &Arc<Self>,
        id: &str,
        stats: Arc<Stats>,
        treated: Treated,
    ) -> Entered {
        let mut books = self.books();
        books.admitted += 1;
        let number = books.number();
        let entry = Entry { id: id.to_owned(), since: Instant::now(), stats, treated };
        books.containers.insert(number, entry);
        Entered { ledger: Arc::clone(self), number }
    }

    /// Ports that are published, for a container or for all.
    pub(crate) fn publish(self: &Arc<Self>, container: Option<&str>, ports: &Ports) -> Entered {
        let mut books = self.books();
        let number = books.number();
        books.ports.insert(number, (container.map(str::to_owned), ports.clone()));
        Entered { ledger: Arc::clone(self), number }
    }

    pub(crate) fn count_joined(&self) {
        self.books().joined += 1;
    }

    pub(crate) fn count_refused(&self) {
        self.books().refused += 1;
    }

    /// What there is to tell, but for what the process itself knows. The containers are yet to be asked.
    pub(crate) fn read(&self) -> (Server, Vec<Seen>) {
        let books = self.books();
        let containers: Vec<Seen> = books.containers.values().cloned().map(Seen).collect();
        // In one look, so that no container is missing in the sum, or in it twice.
        let all = Stats::default();
        all.absorb(&books.past);
        let (admitted, joined, refused) = (books.admitted, books.joined, books.refused);
        // Their lock is taken in here: who strikes them off can be sure that no clone is left.
        let published = books.ports.values().flat_map(|(container, ports)| {
            ports.published().map(|port| PublishedPort::of(container.as_deref(), &port))
        });
        let published = published.collect();
        drop(books);
        for Seen(entry) in &containers {
            all.absorb(&entry.stats);
        }
        let since = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let server = Server {
            started: since.as_secs_f64(),
            up_seconds: self.started.elapsed().as_secs_f64(),
            containers_admitted: admitted,
            sessions_joined: joined,
            handovers_refused: refused,
            calls: all.snapshot().into(),
            connect: all.connect_times().into(),
            published,
            ..Server::default()
        };
        (server, containers)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    const fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// A container as it was found.
#[derive(Debug)]
pub(crate) struct Seen(Entry);

impl Seen {
    pub(crate) fn status(&self) -> ContainerStatus {
        let Self(Entry { id, since, stats, treated }) = self;
        ContainerStatus {
            id: id.clone(),
            up_seconds: since.elapsed().as_secs_f64(),
            waiting: stats.waiting(),
            enforced: *treated,
            calls: stats.snapshot().into(),
        }
    }
}

/// Something in the ledger, until this is dropped.
#[derive(Debug)]
pub(crate) struct Entered {
    ledger: Arc<Ledger>,
    number: u64,
}

impl Entered {
    /// Other rules hold for the container.
    pub(crate) fn change(&self, treated: Treated) {
        if let Some(entry) = self.ledger.books().containers.get_mut(&self.number) {
            entry.treated = treated;
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut books = self.ledger.books();
        if let Some(entry) = books.containers.remove(&self.number) {
            books.past.absorb(&entry.stats);
        }
        books.ports.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bypass_core::{Outcome, Reason};

    use super::*;

    #[test]
    fn what_a_container_did_is_counted_once_before_and_after_its_end() {
        let ledger = Arc::new(Ledger::default());
        let stats = Arc::new(counted());
        let entered = ledger.admit("web", Arc::clone(&stats), Treated::default());
        let (running, containers) = ledger.read();
        assert_eq!(containers.len(), 1);
        assert_eq!(containers[0].status().calls.connect_us.count, 2);
        drop(entered);
        let (ended, containers) = ledger.read();
        assert!(containers.is_empty());
        assert_eq!(running.connect, ended.connect);
        assert_eq!(running.calls, ended.calls);
        assert_eq!(ended.calls.verdict("switched"), 1);
        assert_eq!(ended.connect.count, 2);
        assert_eq!(ended.containers_admitted, 1);
    }

    #[test]
    fn ports_are_free_once_they_are_struck_off() {
        let ledger = Arc::new(Ledger::default());
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let map = format!("{free}:80").parse().unwrap();
        let list = bypass_core::PublishList::new(vec![map]).unwrap();
        let ports = Ports::reserve(&list).unwrap();
        let entered = ledger.publish(Some("web"), &ports);
        let (server, _) = ledger.read();
        let port = server.published.first().unwrap();
        assert_eq!(port.container.as_deref(), Some("web"));
        assert_eq!(port.state.name(), "reserved");
        drop(entered);
        drop(ports);
        std::net::TcpListener::bind(free).unwrap();
    }

    #[test]
    fn what_holds_a_container_can_change() {
        let ledger = Arc::new(Ledger::default());
        let entered = ledger.admit("web", Arc::default(), Treated::default());
        let treated = Treated { pin: true, ..Treated::default() };
        entered.change(treated);
        assert_eq!(ledger.read().1[0].status().enforced, treated);
    }

    fn counted() -> Stats {
        let stats = Stats::default();
        stats.count(Outcome::Switched, Reason::Allowed);
        stats.time_connect(Duration::from_micros(20));
        stats.time_connect(Duration::from_micros(30));
        stats
    }
}
