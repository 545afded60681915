//! How much the relay may hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, getrlimit};

/// Bounds on flows, where descriptors are plenty.
const UDP_FLOWS: usize = 512;
const TCP_CONNECTIONS: usize = 256;

/// No front gets more than this part of the descriptors that the process may have, and all
/// of them together no more than that: calls of containers wait for connections with ours. Nor
/// does one get more than are still free (see `share`).
const PART_OF_ROUTE: u64 = 16;
const PART_OF_RELAY: u64 = 4;

/// Bounds of a relay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Flows of one UDP front. A further client takes the place of the idlest one.
    pub(super) udp_flows: usize,
    /// Connections of one TCP front. Further ones wait in the accept queue.
    pub(super) tcp_connections: usize,
    /// Descriptors of all flows together.
    pub(super) descriptors: usize,
}

impl Limits {
    pub(super) fn of_this_process() -> Self {
        Self::of(getrlimit(Resource::Nofile).current)
    }

    /// None for no limit.
    fn of(descriptors: Option<u64>) -> Self {
        let descriptors = descriptors.unwrap_or(u64::MAX);
        let part = |part| usize::try_from(descriptors / part).unwrap_or(usize::MAX);
        let route = part(PART_OF_ROUTE);
        Self {
            udp_flows: route.clamp(8, UDP_FLOWS),
            tcp_connections: (route / TCP).clamp(4, TCP_CONNECTIONS),
            descriptors: part(PART_OF_RELAY).max(16),
        }
    }
}

/// What is left of [`Limits::descriptors`].
pub(super) struct Allowance {
    used: Arc<AtomicUsize>,
    limit: usize,
}

/// Counts a flow with `N` descriptors until it is dropped.
pub(super) struct Permit<const N: usize> {
    used: Arc<AtomicUsize>,
    flows: Arc<AtomicUsize>,
}

/// Descriptors of a flow.
pub(super) const UDP: usize = 1;
pub(super) const TCP: usize = 2;

impl Allowance {
    pub(super) fn new(limits: Limits) -> Self {
        Self { used: Arc::default(), limit: limits.descriptors }
    }

    /// Whether there is room for a flow with `N` descriptors of the route that counts in `flows`.
    /// It stays: only the relay's thread counts.
    pub(super) fn has_room<const N: usize>(&self, flows: &AtomicUsize) -> bool {
        let free = self.limit.saturating_sub(self.used.load(Ordering::Relaxed));
        let held = flows.load(Ordering::Relaxed).saturating_mul(N);
        N <= free && held < free
    }

    /// One more flow of the route that counts in `flows`; None if there is no room.
    pub(super) fn take<const N: usize>(&self, flows: &Arc<AtomicUsize>) -> Option<Permit<N>> {
        if !self.has_room::<N>(flows) {
            return None;
        }
        self.used.fetch_add(N, Ordering::Relaxed);
        flows.fetch_add(1, Ordering::Relaxed);
        Some(Permit { used: Arc::clone(&self.used), flows: Arc::clone(flows) })
    }
}

impl<const N: usize> Drop for Permit<N> {
    fn drop(&mut self) {
        self.used.fetch_sub(N, Ordering::Relaxed);
        self.flows.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_process_relays_little_and_a_large_one_no_more_than_enough() {
        let small = Limits::of(Some(1024));
        assert_eq!((small.udp_flows, small.tcp_connections, small.descriptors), (64, 32, 256));
        let tiny = Limits::of(Some(0));
        assert_eq!((tiny.udp_flows, tiny.tcp_connections, tiny.descriptors), (8, 4, 16));
        for large in [Limits::of(Some(1 << 20)), Limits::of(None)] {
            assert_eq!((large.udp_flows, large.tcp_connections), (512, 256));
        }
    }

    fn limits(descriptors: usize) -> Limits {
        Limits { udp_flows: 99, tcp_connections: 99, descriptors }
    }

    #[test]
    fn a_permit_comes_back_when_it_is_dropped() {
        let (allowance, flows, others) =
            (Allowance::new(limits(3)), Arc::default(), Arc::default());
        let tcp: Permit<TCP> = allowance.take(&flows).unwrap();
        assert!(allowance.take::<TCP>(&others).is_none());
        let udp: Permit<UDP> = allowance.take(&others).unwrap();
        assert!(allowance.take::<UDP>(&others).is_none());
        assert_eq!(flows.load(Ordering::Relaxed), 1);
        drop((tcp, udp));
        assert_eq!(flows.load(Ordering::Relaxed), 0);
        assert!(allowance.take::<TCP>(&flows).is_some());
    }

    #[test]
    fn busy_routes_leave_as_much_as_each_of_them_has() {
        let (allowance, mut kept) = (Allowance::new(limits(100)), Vec::new());
        let routes: [Arc<AtomicUsize>; 5] = Default::default();
        let mut full = false;
        while !full {
            let taken: Vec<Permit<TCP>> =
                routes[..4].iter().filter_map(|route| allowance.take(route)).collect();
            full = taken.is_empty();
            kept.extend(taken);
        }
        let held = routes.each_ref().map(|route| route.load(Ordering::Relaxed));
        assert_eq!(held, [10, 10, 10, 10, 0]);
        assert!(allowance.take::<TCP>(&routes[4]).is_some());
        assert!(allowance.take::<TCP>(&routes[0]).is_none());
    }
}
