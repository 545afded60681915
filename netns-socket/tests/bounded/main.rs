//! What another process can make as long as it likes decides the size of no allocation here.

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
mod sys;

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use netns_socket::{Vigil, epoll, open_udp_sockets};
use rustix::event::epoll as ep;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The largest allocation of a call, in bytes.
fn largest<T>(call: impl FnOnce() -> T) -> (T, usize) {
    sys::LARGEST.set(0);
    let result = call();
    (result, sys::LARGEST.get())
}

/// A directory is listed in pieces of 32 KiB.
const BOUND: usize = 40 * 1024;
/// With a line of some 75 bytes for each, far more than the bound.
const MANY: i32 = 4_000;

/// Raises the limit, and keeps others from opening descriptors meanwhile.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let maximum = getrlimit(Resource::Nofile).maximum;
    let wanted = u64::from(MANY.unsigned_abs()) * 2;
    assert!(maximum.is_none_or(|maximum| maximum > wanted), "the limit is {maximum:?}");
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    assert_eq!(raised, Ok(()));
    alone
}

#[test]
fn an_epoll_that_watches_a_great_deal() {
    let _alone = alone();
    let (socket, watched) = std::os::unix::net::UnixStream::pair().unwrap();
    let ep = ep::create(ep::CreateFlags::CLOEXEC).unwrap();
    let add = |fd: &OwnedFd, data| {
        ep::add(&ep, fd, ep::EventData::new_u64(data), ep::EventFlags::IN).unwrap();
    };
    let copies: Vec<OwnedFd> =
        (0..MANY).map(|_| fcntl_dupfd_cloexec(&socket, 3).unwrap()).collect();
    copies.iter().for_each(|copy| add(copy, 1));
    let watched = OwnedFd::from(watched);
    add(&watched, 7);
    let number = watched.as_raw_fd().cast_unsigned();

    let (found, size) = largest(|| epoll::registration(&ep, &watched, number).unwrap());
    assert_eq!(found.map(|found| found.data), Some(7));
    assert!(size > 0 && size < BOUND, "{size}");
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let (found, size) = largest(|| epoll::numbers_in(own).unwrap());
    assert!(found.contains(&ep.as_raw_fd()));
    assert!(size < BOUND, "{size}");
    let (cloexec, size) = largest(|| netns_socket::read_cloexec(own, ep.as_raw_fd()).unwrap());
    assert_eq!(cloexec, Some(true));
    assert!(size < BOUND, "{size}");
}

#[test]
fn a_process_with_a_great_many_epolls() {
    let _alone = alone();
    let epolls: Vec<_> = (0..MANY).map(|_| ep::create(ep::CreateFlags::CLOEXEC).unwrap()).collect();
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let (found, size) = largest(|| epoll::numbers_in(own));
    assert!(epolls.len() > epoll::MAX_EPOLLS);
    assert!(matches!(found, Err(epoll::EpollError::TooMany)), "{found:?}");
    assert!(size < BOUND, "{size}");
}

#[test]
fn a_host_with_a_great_many_udp_sockets() {
    let _alone = alone();
    let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let sockets: Vec<_> = std::iter::repeat_with(bind).take(1_000).collect();
    let inode = rustix::fs::fstat(&sockets[0]).unwrap().st_ino;
    let (open, size) = largest(|| open_udp_sockets([inode]).unwrap());
    assert_eq!(open.len(), 1);
    assert!(size > 0 && size < BOUND, "{size}");
}

#[test]
fn what_is_watched_costs_its_number() {
    let _alone = alone();
    let vigil = Vigil::new().unwrap();
    let sockets = [(); 100].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let watched = sockets.each_ref().map(|socket| vigil.watch(socket).unwrap());
    let (open, size) = largest(|| vigil.open().unwrap());
    assert_eq!(open.len(), watched.len());
    assert!(size > 0 && size < BOUND, "{size}");
}
