//! Installing descriptors in a target with a table of its own.

use std::fs::{self, File};
use std::os::fd::AsFd;

use seccomp_notify::{
    AddFd, AddFdOutcome, AddFdReplyOutcome, Errno, Listener, Notification, Reply, ReplyOutcome,
};

use crate::fixture::Fixture;
use crate::target::next;
use crate::{Case, Need};

pub(crate) const TRIALS: &[Case] = &[
    ("add_fd_at_number", Need::AddFd, add_fd_at_number),
    ("add_fd_at_any_number", Need::AddFd, add_fd_at_any_number),
    ("add_fd_and_reply_returns_number", Need::AddFdSend, add_fd_and_reply_returns_number),
    ("add_fd_beyond_limit_is_refused", Need::AddFdSend, add_fd_beyond_limit_is_refused),
    ("add_fd_to_full_table_is_refused", Need::AddFdSend, add_fd_to_full_table_is_refused),
];

fn marker() -> File {
    File::open("/proc/self/maps").unwrap()
}

fn start(name: &str) -> (Listener, Fixture, Notification) {
    let (listener, fixture) = Fixture::start(name);
    let call = next(&listener);
    (listener, fixture, call)
}

/// What the target has open there, and whether it is close-on-exec.
fn seen(fixture: &Fixture, number: i32) -> (String, bool) {
    let pid = fixture.pid();
    let link = fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
    let flags = i32::from_str_radix(flags, 8).unwrap();
    (link.into_os_string().into_string().unwrap(), flags & libc::O_CLOEXEC != 0)
}

fn add_fd_at_number() {
    let file = marker();
    let path = format!("/proc/{}/maps", std::process::id());
    let (_listener, mut fixture, call) = start("plain");
    let add = AddFd::new(file.as_fd());
    assert_eq!(call.add_fd(&add.at(200)), Ok(AddFdOutcome::Installed(200)));
    assert_eq!(seen(&fixture, 200), (path.clone(), false));
    assert_eq!(call.add_fd(&add.at(201).cloexec(true)), Ok(AddFdOutcome::Installed(201)));
    assert_eq!(seen(&fixture, 201), (path.clone(), true));
    // What was there is replaced.
    assert_ne!(seen(&fixture, 2).0, path);
    assert_eq!(call.add_fd(&add.at(2)), Ok(AddFdOutcome::Installed(2)));
    assert_eq!(seen(&fixture, 2).0, path);
    call.reply(Reply::value(0)).unwrap();
    assert_eq!(fixture.result(), 0);
}

fn add_fd_at_any_number() {
    let file = marker();
    let (_listener, mut fixture, call) = start("plain");
    let Ok(AddFdOutcome::Installed(number)) = call.add_fd(&AddFd::new(file.as_fd())) else {
        panic!("not installed");
    };
    assert_eq!(seen(&fixture, number), (format!("/proc/{}/maps", std::process::id()), false));
    assert_eq!(call.is_alive(), Ok(true));
    call.reply(Reply::value(8)).unwrap();
    assert_eq!(fixture.result(), 8);
}

fn add_fd_and_reply_returns_number() {
    let file = marker();
    for at in [None, Some(123)] {
        let (_listener, mut fixture, call) = start("plain");
        let mut add = AddFd::new(file.as_fd()).cloexec(true);
        if let Some(at) = at {
            add = add.at(at);
        }
        let Ok(AddFdReplyOutcome::Delivered(number)) = call.add_fd_and_reply(&add) else {
            panic!("not delivered");
        };
        assert_eq!(fixture.result(), i64::from(number));
        assert!(at.is_none_or(|at| i64::from(at) == i64::from(number)));
    }
}

fn add_fd_beyond_limit_is_refused() {
    let file = marker();
    let (_listener, mut fixture, call) = start("few-descriptors");
    for number in [16, 1 << 20, u32::MAX] {
        assert_eq!(
            call.add_fd(&AddFd::new(file.as_fd()).at(number)),
            Ok(AddFdOutcome::Refused(Errno::BADF)),
            "{number}"
        );
    }
    assert_eq!(call.add_fd(&AddFd::new(file.as_fd()).at(15)), Ok(AddFdOutcome::Installed(15)));
    let Ok(AddFdReplyOutcome::Refused { errno: Errno::BADF, notification }) =
        call.add_fd_and_reply(&AddFd::new(file.as_fd()).at(16))
    else {
        panic!("not refused");
    };
    assert_eq!(notification.reply(Reply::value(4)), Ok(ReplyOutcome::Delivered));
    assert_eq!(fixture.result(), 4);
}

fn add_fd_to_full_table_is_refused() {
    let file = marker();
    let (_listener, mut fixture, call) = start("full-table");
    let add = AddFd::new(file.as_fd());
    assert_eq!(call.add_fd(&add), Ok(AddFdOutcome::Refused(Errno::MFILE)));
    let Ok(AddFdReplyOutcome::Refused { errno: Errno::MFILE, notification }) =
        call.add_fd_and_reply(&add)
    else {
        panic!("not refused");
    };
    // Handed back and dropped, it still answers.
    drop(notification);
    assert_eq!(fixture.result(), -i64::from(libc::EIO));
}
