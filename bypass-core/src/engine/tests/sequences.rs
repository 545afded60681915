//! Runs of the [model](crate::engine::model), made up by chance.

use super::*;
use crate::engine::model::{Seen, run};

proptest! {
    #[test]
    fn no_run_breaks_a_rule(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        run(&bytes);
    }
}

/// A rule about what never happens would hold for nothing.
#[test]
#[cfg_attr(miri, ignore = "takes Miri minutes")]
fn runs_get_everywhere() {
    let mut random = 1_u64;
    let mut bytes = [0; 400];
    let mut all = Seen::default();
    for _ in 0..300 {
        for byte in &mut bytes {
            // Knuth's MMIX.
            random = random.wrapping_mul(6_364_136_223_846_793_005);
            random = random.wrapping_add(1_442_695_040_888_963_407);
            *byte = random.to_be_bytes()[0];
        }
        let seen = run(&bytes);
        all.clients += seen.clients;
        all.servers += seen.servers;
        all.own_services += seen.own_services;
        all.neighbours += seen.neighbours;
        all.datagrams += seen.datagrams;
        all.listens += seen.listens;
        all.dissolved += seen.dissolved;
        all.waits += seen.waits;
        all.continued += seen.continued;
        all.duplicates += seen.duplicates;
        all.shared += seen.shared;
        all.gone += seen.gone;
    }
    let Seen { clients, servers, own_services, neighbours, datagrams, listens, .. } = all;
    let Seen { dissolved, waits, continued, duplicates, shared, gone, .. } = all;
    let given = [clients, servers, own_services, neighbours, duplicates, shared];
    let done = [datagrams, listens, dissolved, waits, continued, gone];
    assert!(!given.contains(&0) && !done.contains(&0), "{all:?}");
}
