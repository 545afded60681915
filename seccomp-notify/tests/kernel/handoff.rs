//! What a runtime may send, and what it should not.

use std::fs::File;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use seccomp_notify::{Handoff, HandoffError, Listener, OpenError, receive_handoff};

use crate::sys::unsent;
use crate::target::{PATIENCE, spare_listener};
use crate::{Case, Need};

pub(crate) const TRIALS: &[Case] = &[
    ("handoff_good", Need::Notify, handoff_good),
    ("handoff_in_pieces", Need::Notify, handoff_in_pieces),
    ("handoff_large", Need::Notify, handoff_large),
    ("handoff_too_large", Need::Notify, handoff_too_large),
    ("handoff_closes_other_descriptors", Need::Notify, handoff_closes_other_descriptors),
    ("handoff_takes_the_named_descriptor", Need::Notify, handoff_takes_the_named_descriptor),
    ("handoff_without_descriptor", Need::Notify, handoff_without_descriptor),
    ("handoff_with_wrong_names", Need::Notify, handoff_with_wrong_names),
    ("handoff_of_no_listener", Need::Notify, handoff_of_no_listener),
    ("handoff_with_too_many_descriptors", Need::Notify, handoff_with_too_many_descriptors),
    ("handoff_garbage", Need::Notify, handoff_garbage),
    ("handoff_cut_short", Need::Notify, handoff_cut_short),
    ("handoff_from_nobody", Need::Notify, handoff_from_nobody),
    ("handoff_keeps_its_deadline", Need::Notify, handoff_keeps_its_deadline),
];

/// As crun sends it, with whatever names.
fn json(names: &[&str]) -> String {
    format!(
        r#"{{"ociVersion":"0.2.0","fds":{names:?},"pid":0,"metadata":"","state":
        {{"ociVersion":"0.2.0","id":"c1","status":"running","pid":0,"bundle":"/b"}}}}"#
    )
}

fn send(stream: &UnixStream, text: &str, fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
    let iov = [std::io::IoSlice::new(text.as_bytes())];
    let sent = rustix::net::sendmsg(stream, &iov, &mut control, SendFlags::NOSIGNAL).unwrap();
    assert_eq!(sent, text.len());
}

/// One whole message to a receiver.
fn exchange(text: &str, fds: &[BorrowedFd<'_>]) -> Result<Handoff, HandoffError> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    send(&theirs, text, fds);
    receive_handoff(&ours, PATIENCE)
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Runs `body`, which must leave as many descriptors open as it found.
fn without_leak<T>(body: impl FnOnce() -> T) -> T {
    let before = open_descriptors();
    let result = body();
    assert_eq!(open_descriptors(), before, "descriptors leaked");
    result
}

fn is_cloexec(listener: &Listener) -> bool {
    rustix::io::fcntl_getfd(listener).unwrap().contains(rustix::io::FdFlags::CLOEXEC)
}

fn handoff_good() {
    let listener = spare_listener();
    let handoff = exchange(&json(&["seccompFd"]), &[listener.as_fd()]).unwrap();
    assert_eq!(handoff.state.oci_version, "0.2.0");
    assert_eq!(handoff.state.state.id, "c1");
    assert_eq!(handoff.peer.pid, std::process::id().cast_signed());
    assert_eq!((handoff.peer.uid, handoff.peer.gid), (1000, 1000));
    assert!(is_cloexec(&handoff.listener));
}

/// The sender keeps the connection open, so the end must be found by itself.
fn handoff_in_pieces() {
    let listener = spare_listener();
    let text = json(&["seccompFd"]) + "\n\0trailing";
    for split in [1, 20, text.len() - 12] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (head, tail) = text.split_at(split);
        let receiver = thread::spawn(move || receive_handoff(&ours, PATIENCE));
        send(&theirs, head, &[listener.as_fd()]);
        wait_until_drained(&theirs);
        send(&theirs, tail, &[]);
        receiver.join().unwrap().unwrap();
    }
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let receiver = thread::spawn(move || receive_handoff(&ours, PATIENCE));
    send(&theirs, &text[..1], &[listener.as_fd()]);
    for byte in text[1..text.len() - 10].bytes() {
        theirs.write_all(&[byte]).unwrap();
    }
    receiver.join().unwrap().unwrap();
}

/// Returns when the peer has received everything (SIOCOUTQ is 0).
fn wait_until_drained(stream: &UnixStream) {
    let start = Instant::now();
    while unsent(stream) != 0 {
        assert!(start.elapsed() < PATIENCE, "nobody receives");
        thread::yield_now();
    }
}

/// Larger than any socket buffer, and than one receive.
fn handoff_large() {
    let listener = spare_listener();
    let text = json(&["seccompFd"]).replace("\"/b\"", &format!("\"{}\"", "b".repeat(900_000)));
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let receiver = thread::spawn(move || receive_handoff(&ours, PATIENCE));
    send(&theirs, &text[..10], &[listener.as_fd()]);
    theirs.write_all(&text.as_bytes()[10..]).unwrap();
    let handoff = receiver.join().unwrap().unwrap();
    assert_eq!(handoff.state.state.bundle.len(), 900_000);
}

fn handoff_too_large() {
    without_leak(|| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let receiver = thread::spawn(move || receive_handoff(&ours, PATIENCE));
        let null = File::open("/dev/null").unwrap();
        send(&theirs, "{\"metadata\":\"", &[null.as_fd()]);
        // Fails at some point, since the receiver goes away.
        let written = theirs.write_all(&vec![b'x'; 4 << 20]);
        assert!(matches!(receiver.join().unwrap(), Err(HandoffError::TooLarge)));
        assert!(written.is_err());
    });
}

fn handoff_closes_other_descriptors() {
    let listener = spare_listener();
    let null = File::open("/dev/null").unwrap();
    let names = ["a", "seccompFd", "b", "c"];
    let fds = [null.as_fd(), listener.as_fd(), null.as_fd(), null.as_fd()];
    without_leak(|| {
        let before = open_descriptors();
        let handoff = exchange(&json(&names), &fds).unwrap();
        assert_eq!(open_descriptors(), before + 1);
        assert!(is_cloexec(&handoff.listener));
    });
}

fn handoff_takes_the_named_descriptor() {
    let listener = spare_listener();
    let null = File::open("/dev/null").unwrap();
    let swapped = [null.as_fd(), listener.as_fd()];
    assert!(exchange(&json(&["other", "seccompFd"]), &swapped).is_ok());
    assert!(matches!(
        exchange(&json(&["seccompFd", "other"]), &swapped),
        Err(HandoffError::NotAListener { source: OpenError::NotAListener { .. } })
    ));
}

fn handoff_without_descriptor() {
    assert!(matches!(
        exchange(&json(&["seccompFd"]), &[]),
        Err(HandoffError::FdCountMismatch { named: 1, received: 0 })
    ));
    assert!(matches!(exchange(&json(&[]), &[]), Err(HandoffError::NoSeccompFd)));
}

fn handoff_with_wrong_names() {
    let listener = spare_listener();
    without_leak(|| {
        assert!(matches!(
            exchange(&json(&["seccompfd"]), &[listener.as_fd()]),
            Err(HandoffError::NoSeccompFd)
        ));
        assert!(matches!(
            exchange(&json(&["seccompFd"]), &[listener.as_fd(), listener.as_fd()]),
            Err(HandoffError::FdCountMismatch { named: 1, received: 2 })
        ));
        assert!(matches!(
            exchange("{}", &[listener.as_fd()]),
            Err(HandoffError::FdCountMismatch { named: 0, received: 1 })
        ));
    });
}

fn handoff_of_no_listener() {
    let null = File::open("/dev/null").unwrap();
    without_leak(|| {
        assert!(matches!(
            exchange(&json(&["seccompFd"]), &[null.as_fd()]),
            Err(HandoffError::NotAListener { .. })
        ));
    });
}

fn handoff_with_too_many_descriptors() {
    let null = File::open("/dev/null").unwrap();
    let fds = [null.as_fd(); 32];
    without_leak(|| {
        assert!(matches!(exchange(&json(&["x"; 32]), &fds), Err(HandoffError::ControlTruncated)));
    });
    without_leak(|| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send(&theirs, "{", &fds[..16]);
        send(&theirs, "\"pid\":", &fds[..1]);
        assert!(matches!(receive_handoff(&ours, PATIENCE), Err(HandoffError::TooManyFds)));
    });
}

fn handoff_garbage() {
    let listener = spare_listener();
    without_leak(|| {
        for text in ["garbage", "[]", "}", "\0", "{]", r#"{"fds":1}"#, "{\"a\":\"\u{1}\"}"] {
            assert!(
                matches!(exchange(text, &[listener.as_fd()]), Err(HandoffError::NotJson { .. })),
                "{text:?}"
            );
        }
    });
}

fn handoff_cut_short() {
    let listener = spare_listener();
    without_leak(|| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send(&theirs, r#"{"fds":["seccompFd""#, &[listener.as_fd()]);
        drop(theirs);
        let error = receive_handoff(&ours, PATIENCE).unwrap_err();
        assert!(matches!(&error, HandoffError::NotJson { source } if source.is_eof()), "{error:?}");
    });
}

fn handoff_from_nobody() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    assert!(matches!(receive_handoff(&ours, PATIENCE), Err(HandoffError::PeerClosed)));
}

/// Neither silence nor a dribble holds the receiver beyond its time.
fn handoff_keeps_its_deadline() {
    let deadline = Duration::from_millis(50);
    let listener = spare_listener();
    let (ours, theirs) = UnixStream::pair().unwrap();
    send(&theirs, "{\"metadata\":\"", &[listener.as_fd()]);
    without_leak(|| {
        let start = Instant::now();
        assert!(matches!(receive_handoff(&ours, deadline), Err(HandoffError::Timeout)));
        assert!(start.elapsed() >= deadline);
    });

    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let receiver = thread::spawn(move || receive_handoff(&ours, deadline));
    send(&theirs, "{\"metadata\":\"", &[]);
    let start = Instant::now();
    while theirs.write_all(b"x").is_ok() {
        wait_or_gone(&theirs);
        assert!(start.elapsed() < PATIENCE, "deadline is not kept");
    }
    assert!(matches!(receiver.join().unwrap(), Err(HandoffError::Timeout)));
}

/// Returns when the peer has received everything or has gone.
fn wait_or_gone(stream: &UnixStream) {
    let start = Instant::now();
    while unsent(stream) != 0 && start.elapsed() < Duration::from_millis(5) {
        thread::yield_now();
    }
}
