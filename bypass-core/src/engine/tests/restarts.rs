//! Calls that are made again since their answer was not heard.

use super::*;

#[test]
fn what_was_not_heard_is_told_again() {
    for to in [REMOTE, IGNORED] {
        let mut scene = Scene::new();
        scene.k.faults.insert(Fault::AnswerGone);
        scene.connect(to);
        assert_eq!(scene.connect(to), Some(Answer::Success), "{to}");
        // Once.
        assert_eq!(scene.connect(to), Some(Answer::Fail(Errno::ISCONN)), "{to}");
    }
}

#[test]
fn another_thread_or_address_is_told_what_is() {
    let mut scene = Scene::new();
    scene.k.faults.insert(Fault::AnswerGone);
    scene.connect(REMOTE);
    let addr = |text: &str| SockAddr::from(text.parse::<SocketAddr>().unwrap()).encode();
    assert_eq!(scene.connect_raw(8, addr(REMOTE)), Some(Answer::Fail(Errno::ISCONN)));
    assert_eq!(scene.connect_raw(7, addr(OTHER)), Some(Answer::Fail(Errno::ISCONN)));
}

#[test]
fn a_fresh_socket_is_connected() {
    let mut scene = Scene::new();
    scene.k.faults.insert(Fault::AnswerGone);
    scene.connect(REMOTE);
    scene.k.open(FD, CONTAINER, Domain::Inet, TCP);
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
    assert_eq!(scene.k.at(FD).netns, HOST);
}

#[test]
fn the_end_of_a_wait_is_told_again() {
    let mut scene = Scene::new();
    scene.peer(REMOTE, Peer::Silent);
    assert_eq!(scene.connect(REMOTE), None);
    scene.peer(REMOTE, Peer::Accepts);
    scene.k.faults.insert(Fault::AnswerGone);
    scene.engine.handle_ready(&mut scene.k, Token(0));
    assert_eq!(scene.connect(REMOTE), Some(Answer::Success));
}

#[test]
fn a_call_that_did_not_wait_says_again_that_it_is_in_progress() {
    let mut scene = Scene::new();
    let sock = scene.k.table[&FD];
    scene.k.socks[sock].blocking = false;
    scene.peer(REMOTE, Peer::Silent);
    scene.k.faults.insert(Fault::AnswerGone);
    scene.connect(REMOTE);
    assert_eq!(scene.connect(REMOTE), Some(Answer::Fail(Errno::INPROGRESS)));
    assert_eq!(scene.connect(REMOTE), Some(Answer::Fail(Errno::ALREADY)));
}
