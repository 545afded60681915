//! Sockets that are open more than once.

use super::*;

const COPY: i32 = 9;

impl Scene {
    fn duplicate(&mut self) -> usize {
        let sock = self.k.table[&FD];
        self.k.table.insert(COPY, sock);
        sock
    }
}

#[test]
fn every_duplicate_is_switched() {
    let mut scene = Scene::new();
    scene.duplicate();
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, HOST);
    assert_eq!(scene.k.table[&COPY], scene.k.table[&FD], "two sockets");
    assert_eq!(scene.counted("switched", "allowed"), 1);
    assert_eq!(scene.stats.snapshot().parted, 0);
}

#[test]
fn other_sockets_stay() {
    let mut scene = Scene::new();
    scene.duplicate();
    let other = scene.k.open(6, CONTAINER, Domain::Inet, TCP);
    scene.connect(REMOTE);
    assert_eq!(scene.k.table[&6], other);
}

#[test]
fn what_another_process_has_is_left_as_it_was() {
    for duplicated in [false, true] {
        let mut scene = Scene::new();
        let old = scene.k.table[&FD];
        if duplicated {
            scene.duplicate();
        }
        scene.k.beside.insert(old);
        assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
        assert_eq!(scene.k.table[&FD], old, "not put back");
        assert!(!duplicated || scene.k.table[&COPY] == old, "not put back");
        // In the container.
        assert_eq!(scene.k.at(FD).state, TcpState::Established);
        assert_eq!(scene.counted("left", "shared"), 1);
        assert_eq!(scene.stats.snapshot().parted, 0);
    }
}

#[test]
fn a_connection_that_takes_time_is_undone_as_well() {
    for blocking in [false, true] {
        let mut scene = Scene::new();
        let old = scene.k.table[&FD];
        scene.k.socks[old].blocking = blocking;
        scene.k.beside.insert(old);
        scene.peer(REMOTE, Peer::Silent);
        let answer = scene.connect(REMOTE);
        assert_eq!(answer, (!blocking).then_some(Answer::Fail(Errno::INPROGRESS)));
        assert_eq!(scene.k.table[&FD], old);
        let waits_for: Vec<_> = scene.k.watched.values().copied().collect();
        assert_eq!(waits_for, if blocking { vec![old] } else { vec![] });
    }
}

#[test]
fn what_nobody_can_be_found_to_have_is_counted() {
    let mut scene = Scene::new();
    let old = scene.k.table[&FD];
    scene.k.in_flight.insert(old);
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, HOST);
    assert_eq!(scene.stats.snapshot().parted, 1);
}

#[test]
fn a_duplicate_whose_registrations_cannot_move_keeps_all_in_place() {
    let mut scene = Scene::new();
    let old = scene.duplicate();
    // Of the number of the call they could.
    scene.k.second_transplant_fails = true;
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    assert_eq!((scene.k.table[&FD], scene.k.table[&COPY]), (old, old));
    assert_eq!(scene.counted("left", "epoll"), 1);
}

#[test]
fn a_dissolved_host_socket_is_replaced_at_every_number() {
    let mut scene = Scene::new();
    scene.duplicate();
    scene.connect(REMOTE);
    assert_eq!(scene.connect_raw(7, unspec()), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
    assert_eq!(scene.k.table[&COPY], scene.k.table[&FD], "two sockets");
}

#[test]
fn a_host_socket_that_another_process_has_is_replaced_and_counted() {
    let mut scene = Scene::new();
    scene.connect(REMOTE);
    let host = scene.k.table[&FD];
    scene.k.beside.insert(host);
    assert_eq!(scene.connect_raw(7, unspec()), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, CONTAINER);
    assert_eq!(scene.stats.snapshot().parted, 1);
}

#[test]
fn a_target_that_goes_in_the_middle_is_not_answered() {
    let mut scene = Scene::new();
    scene.duplicate();
    scene.k.dies_after_install = true;
    assert_eq!(scene.connect(REMOTE), None);
    assert_eq!(scene.counted("gone", "allowed"), 1);
}

#[test]
fn what_is_found_beside_a_target_that_goes_counts_for_nothing() {
    for in_flight in [false, true] {
        let mut scene = Scene::new();
        let old = scene.k.table[&FD];
        let others = if in_flight { &mut scene.k.in_flight } else { &mut scene.k.beside };
        others.insert(old);
        scene.k.dies_meanwhile = true;
        assert_eq!(scene.connect(REMOTE), None);
        assert_eq!(scene.counted("gone", "allowed"), 1);
        assert_eq!(scene.stats.snapshot().parted, 0);
    }
}
