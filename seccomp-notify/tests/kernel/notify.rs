//! Receiving and answering, and everything that can get in between.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::thread::JoinHandleExt;
use std::thread;

use nix::sys::pthread::pthread_kill;
use nix::sys::signal::Signal;
use rustix::event::PollFlags;
use seccomp_notify::{
    AddFd, AddFdOutcome, AddFdReplyOutcome, Arch, Errno, Filter, Received, Reply, ReplyOutcome,
    Support,
};

use crate::fixture::Fixture;
use crate::sys::install_empty_handler;
use crate::target::{getppid, next, spare_listener, spawn, trap_getppid, wait_for};
use crate::{Case, Need};

pub(crate) const TRIALS: &[Case] = &[
    ("reply_with_value", Need::Notify, reply_with_value),
    ("reply_with_errno", Need::Notify, reply_with_errno),
    ("reply_with_continue", Need::Notify, reply_with_continue),
    ("notification_tells_the_call", Need::Notify, notification_tells_the_call),
    ("dropped_unanswered_is_eio", Need::Notify, dropped_unanswered_is_eio),
    ("panicking_supervisor_is_eio", Need::Notify, panicking_supervisor_is_eio),
    ("notification_outlives_listener", Need::Notify, notification_outlives_listener),
    ("calls_without_listener_fail", Need::Notify, calls_without_listener_fail),
    ("target_killed_before_reply", Need::AddFdSend, target_killed_before_reply),
    ("target_killed_before_receive", Need::Notify, target_killed_before_receive),
    ("several_wait_at_once", Need::Notify, several_wait_at_once),
    ("hangup_when_last_target_ends", Need::AddFd, hangup_when_last_target_ends),
    ("receive_is_interrupted_by_signals", Need::Notify, receive_is_interrupted_by_signals),
    ("sync_wake_up_on_and_off", Need::SetFlags, sync_wake_up_on_and_off),
    ("features_leave_listener_usable", Need::SetFlags, features_leave_listener_usable),
    ("killable_wait_shields_from_signals", Need::KillableWait, killable_wait_shields_from_signals),
];

fn reply_with_value() {
    let (listener, thread) = spawn(trap_getppid(), || [getppid(), getppid()]);
    for value in [i64::MAX, 0] {
        assert_eq!(next(&listener).reply(Reply::value(value)), Ok(ReplyOutcome::Delivered));
    }
    assert_eq!(thread.join().unwrap(), [Ok(i64::MAX), Ok(0)]);
}

fn reply_with_errno() {
    let (listener, thread) = spawn(trap_getppid(), getppid);
    let reply = Reply::errno(Errno::NETUNREACH);
    assert_eq!(next(&listener).reply(reply), Ok(ReplyOutcome::Delivered));
    assert_eq!(thread.join().unwrap(), Err(libc::ENETUNREACH));
}

fn reply_with_continue() {
    let real = getppid();
    let (listener, thread) = spawn(trap_getppid(), getppid);
    assert_eq!(next(&listener).reply(Reply::continue_call()), Ok(ReplyOutcome::Delivered));
    assert_eq!(thread.join().unwrap(), real);
}

fn notification_tells_the_call() {
    let dup3 = libc::SYS_dup3 as i32;
    let (listener, thread) = spawn(Filter::allow_all().notify(dup3), || {
        let tid = nix::unistd::gettid().as_raw();
        let socket = std::os::unix::net::UnixStream::pair().unwrap().0;
        let mut to = rustix::io::dup(&socket).unwrap();
        let numbers = (number(&socket), number(&to));
        (tid, numbers, rustix::io::dup3(&socket, &mut to, rustix::io::DupFlags::CLOEXEC))
    });
    let call = next(&listener);
    assert_eq!(call.is_alive(), Ok(true));
    let (id, tid, args) = (call.id(), call.tid(), call.args());
    assert_eq!(call.syscall_nr(), dup3);
    #[cfg(target_arch = "x86_64")]
    assert_eq!(call.arch(), Arch::X86_64);
    #[cfg(target_arch = "aarch64")]
    assert_eq!(call.arch(), Arch::Aarch64);
    assert_ne!(call.instruction_pointer(), 0);
    assert!(format!("{call:?}").contains(&id.as_u64().to_string()));
    call.reply(Reply::errno(Errno::NOANO)).unwrap();
    let (their_tid, (from, to), result) = thread.join().unwrap();
    assert_eq!(tid, their_tid);
    assert_eq!(args[..3], [from, to, libc::O_CLOEXEC as u64]);
    assert_eq!(result, Err(Errno::NOANO));
}

fn number(fd: &impl AsRawFd) -> u64 {
    fd.as_raw_fd().unsigned_abs().into()
}

fn dropped_unanswered_is_eio() {
    let (listener, thread) = spawn(trap_getppid(), getppid);
    drop(next(&listener));
    assert_eq!(thread.join().unwrap(), Err(libc::EIO));
}

fn panicking_supervisor_is_eio() {
    let (listener, target) = spawn(trap_getppid(), getppid);
    let call = next(&listener);
    let supervisor = thread::spawn(move || {
        let _call = call;
        // Unwinds without the message that a panic prints.
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(supervisor.join().is_err());
    assert_eq!(target.join().unwrap(), Err(libc::EIO));
}

fn notification_outlives_listener() {
    let (listener, thread) = spawn(trap_getppid(), getppid);
    let call = next(&listener);
    drop(listener);
    assert_eq!(call.reply(Reply::value(5)), Ok(ReplyOutcome::Delivered));
    assert_eq!(thread.join().unwrap(), Ok(5));
}

/// No fail-open: what the documentation of `Listener` says of the supervisor's death.
fn calls_without_listener_fail() {
    let (listener, thread) = spawn(trap_getppid(), || [getppid(), getppid()]);
    next(&listener).reply(Reply::value(1)).unwrap();
    wait_for(&listener, PollFlags::IN);
    drop(listener);
    assert_eq!(thread.join().unwrap(), [Ok(1), Err(libc::ENOSYS)]);
}

fn target_killed_before_reply() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let killed = || {
        let (listener, mut fixture) = Fixture::start("plain");
        let call = next(&listener);
        fixture.kill();
        call
    };
    let call = killed();
    assert_eq!(call.is_alive(), Ok(false));
    assert_eq!(call.add_fd(&AddFd::new(file.as_fd())), Ok(AddFdOutcome::TargetGone));
    assert_eq!(call.reply(Reply::value(1)), Ok(ReplyOutcome::TargetGone));
    assert!(matches!(
        killed().add_fd_and_reply(&AddFd::new(file.as_fd())),
        Ok(AddFdReplyOutcome::TargetGone)
    ));
    drop(killed());
}

fn target_killed_before_receive() {
    let (listener, mut fixture) = Fixture::start("plain");
    assert!(wait_for(&listener, PollFlags::IN).contains(PollFlags::IN));
    fixture.kill();
    assert!(matches!(listener.recv(), Ok(Received::TargetGone)));
}

/// Threads made under a filter share its listener; each gets its own answer.
fn several_wait_at_once() {
    let (listener, target) = spawn(trap_getppid(), || {
        let threads: Vec<_> = (0..8)
            .map(|_| thread::spawn(|| (i64::from(nix::unistd::gettid().as_raw()), getppid())))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
    });
    let mut calls: Vec<_> = (0..8).map(|_| next(&listener)).collect();
    while let Some(call) = calls.pop() {
        let tid = call.tid().into();
        call.reply(Reply::value(tid)).unwrap();
    }
    for (tid, answer) in target.join().unwrap() {
        assert_eq!(answer, Ok(tid));
    }
}

fn hangup_when_last_target_ends() {
    let (listener, mut fixture) = Fixture::start("plain");
    next(&listener).reply(Reply::value(3)).unwrap();
    assert_eq!(fixture.result(), 3);
    let seen = wait_for(&listener, PollFlags::empty());
    assert!(seen.contains(PollFlags::HUP), "{seen:?}");
}

fn receive_is_interrupted_by_signals() {
    install_empty_handler();
    let (listener, target) = spawn(trap_getppid(), getppid);
    next(&listener).reply(Reply::value(0)).unwrap();
    target.join().unwrap().unwrap();

    // A filter whose target lives on, so that the receive blocks.
    let (keep, kept) = std::sync::mpsc::channel::<()>();
    let (listener, target) = spawn(trap_getppid(), move || kept.recv().is_err());
    let receiver = thread::spawn(move || matches!(listener.recv(), Ok(Received::Interrupted)));
    // One that comes before the ioctl is lost.
    while !receiver.is_finished() {
        pthread_kill(receiver.as_pthread_t(), Signal::SIGUSR1).ok();
        thread::yield_now();
    }
    assert!(receiver.join().unwrap());
    drop(keep);
    assert!(target.join().unwrap());
}

fn sync_wake_up_on_and_off() {
    let (listener, thread) = spawn(trap_getppid(), || [getppid(), getppid(), getppid()]);
    next(&listener).reply(Reply::value(1)).unwrap();
    assert_eq!(listener.set_sync_wake_up(true), Ok(Support::Applied));
    next(&listener).reply(Reply::value(2)).unwrap();
    assert_eq!(listener.clone().set_sync_wake_up(false), Ok(Support::Applied));
    next(&listener).reply(Reply::value(3)).unwrap();
    assert_eq!(thread.join().unwrap(), [Ok(1), Ok(2), Ok(3)]);
}

/// Probing with a call pending answers nothing and installs nothing.
fn features_leave_listener_usable() {
    let (listener, thread) = spawn(trap_getppid(), getppid);
    let call = next(&listener);
    let features = listener.features();
    assert_eq!(features.add_fd, Some(true), "{features:?}");
    assert_eq!(features.sync_wake_up, Some(true), "{features:?}");
    assert_eq!(features, spare_listener().features());
    assert_eq!(call.is_alive(), Ok(true));
    call.reply(Reply::value(9)).unwrap();
    assert_eq!(thread.join().unwrap(), Ok(9));
}

/// Without the flag this signal would end the call with EINTR.
fn killable_wait_shields_from_signals() {
    install_empty_handler();
    for (shielded, result) in [(true, Ok(6)), (false, Err(libc::EINTR))] {
        let (listener, thread) = spawn(trap_getppid().wait_killable_recv(shielded), getppid);
        let call = next(&listener);
        pthread_kill(thread.as_pthread_t(), Signal::SIGUSR1).unwrap();
        if !shielded {
            // Its end shows in the notification.
            while call.is_alive().unwrap() {
                thread::yield_now();
            }
        }
        assert_eq!(call.is_alive(), Ok(shielded));
        let outcome = call.reply(Reply::value(6)).unwrap();
        let expected = if shielded { ReplyOutcome::Delivered } else { ReplyOutcome::TargetGone };
        assert_eq!(outcome, expected);
        assert_eq!(thread.join().unwrap(), result);
    }
}
