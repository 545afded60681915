//! Receiving, checking and answering allocate nothing: they are on the path of every trapped call.

#![expect(clippy::cast_possible_truncation, reason = "call numbers are small")]

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
mod sys;

use std::os::fd::AsFd;
use std::os::unix::process::parent_id;
use std::sync::mpsc;
use std::thread;

use self::sys::ALLOCATIONS;
use seccomp_notify::{AddFd, AddFdOutcome, Filter, Received, Reply, ReplyOutcome};

#[test]
fn the_life_of_a_notification() {
    let (sender, receiver) = mpsc::channel();
    let target = thread::spawn(move || {
        sender.send(Filter::allow_all().notify(libc::SYS_getppid as i32).install()).unwrap();
        [parent_id(), parent_id()]
    });
    let listener = receiver.recv().unwrap().unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();

    let before = ALLOCATIONS.get();
    let Received::Notification(call) = listener.recv().unwrap() else { panic!("target has gone") };
    assert_eq!(call.is_alive(), Ok(true));
    let added = call.add_fd(&AddFd::new(file.as_fd()).at(500).cloexec(true));
    assert_eq!(call.reply(Reply::value(7)), Ok(ReplyOutcome::Delivered));
    drop(listener.recv().unwrap());
    let after = ALLOCATIONS.get();

    assert_eq!(added, Ok(AddFdOutcome::Installed(500)));
    assert_eq!(target.join().unwrap()[0], 7);
    assert_ne!(before, 0, "allocations are not counted");
    assert_eq!(after - before, 0);
}
