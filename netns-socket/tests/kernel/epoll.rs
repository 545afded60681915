//! Epoll registrations and their transfer.

use std::os::fd::{AsRawFd, OwnedFd};

use libtest_mimic::Trial;
use netns_socket::Errno;
use netns_socket::epoll::{
    EpollError, Registration, Surgeon, numbers_in, register, registration, watches,
};
use rustix::event::{Timespec, epoll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::harness::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("epoll::found_in_a_thread", found),
        trial("epoll::watched_sockets_are_told_from_others", told_apart),
        trial("epoll::registration_works_for_the_new_socket", transferred),
        trial("epoll::any_number_can_be_given", any_number),
        trial("epoll::a_free_number_is_used_here", here),
        trial("epoll::refusals_are_reported", refused),
        trial("epoll::nothing_stays_open", nothing_open),
        trial("epoll::the_thread_has_no_descriptor_of_ours", no_descriptor),
    ]
}

const DATA: u64 = 0xfeed_0000_0000_0007;
/// What the kernel adds to every registration.
const ALWAYS: u32 = epoll::EventFlags::ERR.bits() | epoll::EventFlags::HUP.bits();

fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
}

fn epoll_of(socket: &OwnedFd, events: epoll::EventFlags) -> OwnedFd {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    epoll::add(&epoll, socket, epoll::EventData::new_u64(DATA), events).unwrap();
    epoll
}

fn number(fd: &OwnedFd) -> u32 {
    u32::try_from(fd.as_raw_fd()).unwrap()
}

fn ready(epoll: &OwnedFd) -> Vec<(u64, u32)> {
    let mut events = Vec::with_capacity(4);
    let none = Timespec { tv_sec: 0, tv_nsec: 0 };
    epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), Some(&none)).unwrap();
    // The kernel's struct is packed: fields are copied out.
    events.iter().map(|event| ({ event.data }.u64(), { event.flags }.bits())).collect()
}

fn found() {
    let (socket, _peer) = pair();
    let epoll = epoll_of(&socket, epoll::EventFlags::IN);
    let own = rustix::thread::gettid().as_raw_nonzero().get();
    let numbers = numbers_in(own).unwrap();
    assert!(numbers.contains(&epoll.as_raw_fd()), "{numbers:?}");
    assert!(!numbers.contains(&socket.as_raw_fd()), "{numbers:?}");
    assert!(matches!(numbers_in(i32::MAX), Err(EpollError::ReadFdDirectory { .. })));
}

fn told_apart() {
    let (old, new) = pair();
    let epoll = epoll_of(&old, epoll::EventFlags::IN);
    assert!(watches(&epoll, &old, number(&old)).unwrap());
    assert!(!watches(&epoll, &new, number(&old)).unwrap());
    assert!(!watches(&epoll, &old, number(&new)).unwrap());
    // A duplicate is the same file, and what counts is the number it was registered under.
    let duplicate = rustix::io::fcntl_dupfd_cloexec(&old, 0).unwrap();
    assert!(watches(&epoll, &duplicate, number(&old)).unwrap());
    assert!(!watches(&epoll, &duplicate, number(&duplicate)).unwrap());
    assert!(matches!(
        watches(&new, &old, number(&old)),
        Err(EpollError::KcmpCall { source: Errno::INVAL })
    ));
}

fn transferred() {
    use epoll::EventFlags as E;
    let surgeon = Surgeon::start().unwrap();
    for events in [E::IN, E::IN | E::ET, E::IN | E::ONESHOT, E::IN | E::RDHUP, E::IN | E::EXCLUSIVE]
    {
        let (mut old, _old_peer) = pair();
        let (new, peer) = pair();
        let epoll = epoll_of(&old, events);
        let at = number(&old);
        let known = registration(&epoll, &old, at).unwrap().unwrap();
        assert_eq!(known, Registration { events: events.bits() | ALWAYS, data: DATA });
        assert_eq!(registration(&epoll, &new, at).unwrap(), None);

        surgeon.register(&epoll, &new, at, known).unwrap();
        // As ADDFD does it: the old file ends with its last descriptor.
        rustix::io::dup2(&new, &mut old).unwrap();
        drop(new);
        assert!(ready(&epoll).is_empty(), "{events:?}");
        rustix::io::write(&peer, b"x").unwrap();
        assert_eq!(ready(&epoll), [(DATA, E::IN.bits())], "{events:?}");
        // Level-triggered ones tell again, the others do not.
        let again = !events.intersects(E::ET | E::ONESHOT);
        assert_eq!(!ready(&epoll).is_empty(), again, "{events:?}");
        // The program finds it under its number.
        if !events.contains(E::EXCLUSIVE) {
            epoll::modify(&epoll, &old, epoll::EventData::new_u64(1), E::OUT).unwrap();
            assert_eq!(ready(&epoll), [(1, E::OUT.bits())], "{events:?}");
        }
        epoll::delete(&epoll, &old).unwrap();
        assert!(ready(&epoll).is_empty(), "{events:?}");
    }
}

fn any_number() {
    let surgeon = Surgeon::start().unwrap();
    let (old, _peer) = pair();
    let wanted = Registration { events: epoll::EventFlags::OUT.bits(), data: DATA };
    // The thread's own few numbers among them.
    for at in (0..16).chain([500, 1000]) {
        let (new, _peer) = pair();
        let epoll = epoll_of(&old, epoll::EventFlags::IN);
        surgeon.register(&epoll, &new, at, wanted).unwrap();
        assert!(watches(&epoll, &new, at).unwrap(), "{at}");
        assert_eq!(ready(&epoll), [(DATA, epoll::EventFlags::OUT.bits())], "{at}");
    }
}

fn here() {
    let (old, _peer) = pair();
    let wanted = Registration { events: epoll::EventFlags::OUT.bits(), data: DATA };
    for at in [400, 900] {
        let (new, _peer) = pair();
        let epoll = epoll_of(&old, epoll::EventFlags::IN);
        assert!(register(&epoll, &new, at, wanted).unwrap(), "{at}");
        assert!(watches(&epoll, &new, at).unwrap(), "{at}");
        assert_eq!(ready(&epoll), [(DATA, epoll::EventFlags::OUT.bits())], "{at}");
        let error = register(&epoll, &new, at, wanted).unwrap_err();
        assert!(matches!(error, EpollError::EpollCtlCall { source: Errno::EXIST }), "{error:?}");
        // It does not stay open under the number, and ends with its owner.
        assert!(!std::path::Path::new(&format!("/proc/self/fd/{at}")).exists(), "{at}");
        drop(new);
        assert!(ready(&epoll).is_empty(), "{at}");
    }
    // Numbers that are ours, or cannot be had, are left alone.
    let (new, _peer) = pair();
    let epoll = epoll_of(&old, epoll::EventFlags::IN);
    for at in [number(&old), number(&new), number(&epoll), u32::MAX] {
        assert!(!register(&epoll, &new, at, wanted).unwrap(), "{at}");
        assert!(!watches(&epoll, &new, at).unwrap(), "{at}");
    }
}

fn refused() {
    let surgeon = Surgeon::start().unwrap();
    let (new, _peer) = pair();
    let epoll = epoll_of(&new, epoll::EventFlags::IN);
    let wanted = Registration { events: epoll::EventFlags::OUT.bits(), data: DATA };
    let error = surgeon.register(&epoll, &new, number(&new), wanted).unwrap_err();
    assert!(matches!(error, EpollError::EpollCtlCall { source: Errno::EXIST }), "{error:?}");
    let error = surgeon.register(&epoll, &new, u32::MAX, wanted).unwrap_err();
    assert!(matches!(error, EpollError::Place { .. }), "{error:?}");
    // The thread goes on after a failure.
    surgeon.register(&epoll, &new, 700, wanted).unwrap();
}

/// A socket that was registered ends when its owner closes it: the thread keeps none open.
fn nothing_open() {
    let surgeon = Surgeon::start().unwrap();
    let (old, _old_peer) = pair();
    let (new, peer) = pair();
    let epoll = epoll_of(&old, epoll::EventFlags::IN);
    let wanted = Registration { events: epoll::EventFlags::OUT.bits(), data: DATA };
    surgeon.register(&epoll, &new, number(&old), wanted).unwrap();
    drop(new);
    assert_eq!(rustix::io::read(&peer, &mut [0; 1]), Ok(0), "still open somewhere");
}

/// Other trials open and close descriptors meanwhile, but none has this many handles of processes.
fn no_descriptor() {
    const MANY: usize = 64;
    let handles = || {
        let entries = std::fs::read_dir("/proc/self/fd").unwrap();
        let links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().contains("pid")).count()
    };
    let before = handles();
    let surgeons: Vec<_> = (0..MANY).map(|_| Surgeon::start().unwrap()).collect();
    assert!(handles() < before + MANY / 2, "while they live");
    drop(surgeons);
    assert!(handles() < before + MANY / 2, "after that");
}
