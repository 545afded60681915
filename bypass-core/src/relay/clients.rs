//! The flows of a UDP front: who they belong to, and which was used when.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use netns_socket::LocalAddress;

/// Flows without a datagram for so long are over, or up to [`LATE`] later.
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// How often flows are looked through at most.
const LATE: Duration = Duration::from_secs(1);

/// Where datagrams come from, and where answers go. A client that asks two addresses of the
/// host has two flows, since the answers differ in their source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client {
    pub(super) address: SocketAddr,
    pub(super) asked: Option<LocalAddress>,
}

/// A table of flows with what is kept for each.
pub(super) struct Clients<F> {
    flows: HashMap<u32, Entry<F>>,
    ids: HashMap<Client, u32>,
    last_id: u32,
}

struct Entry<F> {
    client: Client,
    used: Instant,
    flow: F,
}

impl<F> Clients<F> {
    pub(super) fn new() -> Self {
        Self { flows: HashMap::new(), ids: HashMap::new(), last_id: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn id_of(&self, client: &Client) -> Option<u32> {
        self.ids.get(client).copied()
    }

    /// A number for a further flow, never 0. Numbers are not reused soon.
    pub(super) fn free_id(&mut self) -> u32 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.flows.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    /// Adds a flow with a number from [`free_id`](Self::free_id), for a client that has none.
    pub(super) fn insert(&mut self, id: u32, client: Client, flow: F, now: Instant) {
        self.ids.insert(client, id);
        self.flows.insert(id, Entry { client, used: now, flow });
    }

    pub(super) fn get(&self, id: u32) -> Option<(&Client, &F)> {
        self.flows.get(&id).map(|entry| (&entry.client, &entry.flow))
    }

    /// A datagram has come or gone.
    pub(super) fn touch(&mut self, id: u32, now: Instant) {
        if let Some(entry) = self.flows.get_mut(&id) {
            entry.used = now;
        }
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<F> {
        let entry = self.flows.remove(&id)?;
        self.ids.remove(&entry.client);
        Some(entry.flow)
    }

    /// Takes out the flow that has been idle for longest. It costs a look at each, which is
    /// little beside the system calls for the flow that takes its place.
    pub(super) fn remove_idlest(&mut self) -> Option<F> {
        let (id, _) = self.flows.iter().min_by_key(|(_, entry)| entry.used)?;
        self.remove(*id)
    }

    /// Drops what has been idle for too long. Says when to do it again, if ever.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Instant> {
        let alive = |entry: &Entry<F>| now.saturating_duration_since(entry.used) < IDLE;
        self.flows.retain(|_, entry| alive(entry));
        let flows = &self.flows;
        self.ids.retain(|_, id| flows.contains_key(id));
        let oldest = self.flows.values().map(|entry| entry.used).min()?;
        Some((oldest + IDLE).max(now + LATE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(port: u16) -> Client {
        Client { address: ([192, 0, 2, 1], port).into(), asked: None }
    }

    fn add(clients: &mut Clients<u16>, port: u16, now: Instant) -> u32 {
        let id = clients.free_id();
        clients.insert(id, client(port), port, now);
        id
    }

    #[test]
    fn a_flow_is_found_by_its_client_and_by_its_number_until_it_is_removed() {
        let (mut clients, now) = (Clients::new(), Instant::now());
        let id = add(&mut clients, 1, now);
        assert_eq!(clients.id_of(&client(1)), Some(id));
        assert_eq!(clients.get(id), Some((&client(1), &1)));
        assert_eq!(clients.remove(id), Some(1));
        assert_eq!((clients.id_of(&client(1)), clients.get(id), clients.len()), (None, None, 0));
        assert_ne!(add(&mut clients, 1, now), id);
    }

    #[test]
    fn one_client_has_a_flow_for_each_address_that_it_asks() {
        let (mut clients, now) = (Clients::new(), Instant::now());
        let id = add(&mut clients, 1, now);
        let ip = "127.0.0.2".parse().unwrap();
        let other = Client { asked: Some(LocalAddress { ip, scope: 0 }), ..client(1) };
        assert_eq!(clients.id_of(&other), None);
        let second = clients.free_id();
        clients.insert(second, other, 2, now);
        assert_eq!((clients.id_of(&client(1)), clients.id_of(&other)), (Some(id), Some(second)));
    }

    #[test]
    fn numbers_go_round_past_zero_and_past_those_in_use() {
        let (mut clients, now) = (Clients::new(), Instant::now());
        assert_eq!(add(&mut clients, 1, now), 1);
        clients.last_id = u32::MAX;
        assert_eq!(clients.free_id(), 2);
    }

    #[test]
    fn the_idlest_makes_room() {
        let (mut clients, start) = (Clients::new(), Instant::now());
        let first = add(&mut clients, 1, start);
        add(&mut clients, 2, start + Duration::from_secs(1));
        clients.touch(first, start + Duration::from_secs(2));
        assert_eq!(clients.remove_idlest(), Some(2));
        assert_eq!(clients.remove_idlest(), Some(1));
        assert_eq!(clients.remove_idlest(), None);
    }

    #[test]
    fn a_flow_ends_after_a_minute_without_datagrams() {
        let (mut clients, start) = (Clients::new(), Instant::now());
        let busy = add(&mut clients, 1, start);
        add(&mut clients, 2, start);
        assert_eq!(clients.expire(start), Some(start + IDLE));
        let half = start + IDLE / 2;
        clients.touch(busy, half);
        assert_eq!(clients.expire(start + IDLE - Duration::from_nanos(1)).unwrap(), {
            // Not at once again: many flows may end one after the other.
            start + IDLE - Duration::from_nanos(1) + LATE
        });
        assert_eq!(clients.len(), 2);
        assert_eq!(clients.expire(start + IDLE), Some(half + IDLE));
        assert_eq!((clients.len(), clients.id_of(&client(2))), (1, None));
        assert_eq!(clients.expire(half + IDLE), None);
        assert_eq!(clients.len(), 0);
    }
}
