//! Descriptors, identities and flags of other processes.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use libtest_mimic::Trial;
use netns_socket::{
    FileFlags, Identity, PidFd, PidFdError, Taken, TcpState, create_twin, own_netns_cookie,
    read_cloexec, tcp_state,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_getfd};
use rustix::net::{SocketAddr, bind, listen, sockopt};

use crate::harness::{CLASSES, Fixture, TCP4, UDP4, in_new_netns, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("foreign::a_descriptor_of_a_process", process),
        trial("foreign::descriptors_of_threads", threads),
        trial("foreign::a_process_that_may_not_be_inspected", denied),
        trial("foreign::close_on_exec_is_the_targets", cloexec),
        trial("identity::is_the_same_for_duplicates", duplicates),
        trial("identity::tells_namespaces_apart", namespaces),
        trial("identity::of_what_is_no_socket", no_socket),
        trial("identity::states_of_tcp", states),
        trial("flags::are_copied", flags),
        trial("twin::is_of_the_same_kind", twins),
    ]
}

fn taken(handle: &PidFd, number: u64) -> OwnedFd {
    match handle.take_fd(i32::try_from(number).unwrap()).unwrap() {
        Taken::Fd(fd) => fd,
        other => unreachable!("{other:?}"),
    }
}

fn cookie(fd: impl AsFd) -> u64 {
    Identity::of(fd).unwrap().unwrap().cookie
}

fn process() {
    let mut target = Fixture::start("socket");
    let [number, expected] = target.numbers()[..] else { unreachable!() };
    let handle = PidFd::open(target.pid()).unwrap();
    let fd = taken(&handle, number);
    assert_eq!(cookie(&fd), expected);
    assert!(fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));

    target.go_on();
    target.numbers();
    for closed in [i32::try_from(number).unwrap(), -1, i32::MIN, i32::MAX] {
        assert!(matches!(handle.take_fd(closed), Ok(Taken::Closed)), "{closed}");
    }
    assert!(!exited(&handle));
    target.end();
    assert!(exited(&handle));
    assert!(matches!(handle.take_fd(0), Ok(Taken::Gone)));
    assert!(matches!(PidFd::open(target.pid()), Err(PidFdError::Gone)));
}

fn threads() {
    let mut target = Fixture::start("threads");
    let [follower, shared, shared_cookie, alone, own, own_cookie] = target.numbers()[..] else {
        unreachable!()
    };
    assert_eq!(PidFd::names_threads().is_some(), PidFd::open(target.pid()).is_ok());
    let tid = |tid: u64| i32::try_from(tid).unwrap();

    let follower = PidFd::open(tid(follower)).unwrap();
    assert_eq!(cookie(taken(&follower, shared)), shared_cookie);
    if PidFd::names_threads() == Some(true) {
        let alone = PidFd::open(tid(alone)).unwrap();
        assert_eq!(cookie(taken(&alone, own)), own_cookie);
        // The same number is something else, or nothing, for the rest of the process.
        match follower.take_fd(tid(own)).unwrap() {
            Taken::Fd(fd) => {
                assert_ne!(Identity::of(&fd).unwrap().map(|id| id.cookie), Some(own_cookie))
            }
            other => assert!(matches!(other, Taken::Closed)),
        }
        // A handle of a thread ends with the thread, not with the process.
        target.go_on();
        target.numbers();
        assert!(exited_within_a_second(&follower));
        assert!(matches!(follower.take_fd(tid(shared)), Ok(Taken::Gone)));
        assert!(!exited(&alone));
    }
}

fn denied() {
    // Process 1 belongs to the user namespace above ours.
    let handle = PidFd::open(1).unwrap();
    assert!(matches!(handle.take_fd(0), Ok(Taken::Denied)));
}

fn cloexec() {
    let mut target = Fixture::start("socket");
    let [number, _] = target.numbers()[..] else { unreachable!() };
    let number = i32::try_from(number).unwrap();
    assert_eq!(read_cloexec(target.pid(), number).unwrap(), Some(false));
    assert_eq!(read_cloexec(target.pid(), 4242).unwrap(), None);
    let own = create_twin(&TCP4, false).unwrap();
    let pid = std::process::id().cast_signed();
    assert_eq!(read_cloexec(pid, own.as_raw_fd()).unwrap(), Some(true));
    target.end();
    assert_eq!(read_cloexec(target.pid(), number).unwrap(), None);
}

fn duplicates() {
    let socket = create_twin(&TCP4, false).unwrap();
    let first = Identity::of(&socket).unwrap().unwrap();
    let second = Identity::of(socket.try_clone().unwrap()).unwrap().unwrap();
    assert_eq!(first, second);
    let other = Identity::of(create_twin(&TCP4, false).unwrap()).unwrap().unwrap();
    assert_ne!(first.cookie, other.cookie);
}

fn namespaces() {
    let here = own_netns_cookie().unwrap().unwrap();
    let (there, socket) =
        in_new_netns(|| (own_netns_cookie().unwrap().unwrap(), create_twin(&UDP4, false).unwrap()));
    assert_ne!(here, there);
    assert_eq!(Identity::of(&socket).unwrap().unwrap().netns_cookie, Some(there));
    let own = create_twin(&TCP4, false).unwrap();
    assert_eq!(Identity::of(&own).unwrap().unwrap().netns_cookie, Some(here));
}

fn no_socket() {
    let (read_end, _write_end) = rustix::pipe::pipe().unwrap();
    assert_eq!(Identity::of(&read_end).unwrap(), None);
    let path = rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    assert_eq!(Identity::of(&path).unwrap(), None);
}

fn states() {
    let socket = create_twin(&TCP4, false).unwrap();
    assert_eq!(tcp_state(&socket).unwrap(), TcpState::Close);
    listen(&socket, 1).unwrap();
    assert_eq!(tcp_state(&socket).unwrap(), TcpState::Listen);
    let client = create_twin(&TCP4, false).unwrap();
    let address = rustix::net::getsockname(&socket).unwrap();
    rustix::net::connect(&client, &address).unwrap();
    assert_eq!(tcp_state(&client).unwrap(), TcpState::Established);
    assert!(tcp_state(create_twin(&UDP4, false).unwrap()).is_err());
}

fn flags() {
    let original = create_twin(&TCP4, true).unwrap();
    let captured = FileFlags::capture(&original).unwrap();
    assert_eq!(captured, FileFlags { nonblocking: true, ..FileFlags::default() });

    let wanted = FileFlags { async_: true, append: true, signal: libc::SIGUSR1, ..captured };
    wanted.apply(&original).unwrap();
    set_owner(&original);
    let captured = FileFlags::capture(&original).unwrap();
    assert!(captured.async_ && captured.append && captured.nonblocking);
    assert_eq!(captured.signal, libc::SIGUSR1);
    assert!(captured.owner.is_some());

    let twin = create_twin(&TCP4, false).unwrap();
    captured.apply(&twin).unwrap();
    assert_eq!(FileFlags::capture(&twin).unwrap(), captured);
    // And back: a flag that is not set is cleared.
    FileFlags::default().apply(&twin).unwrap();
    assert!(!FileFlags::capture(&twin).unwrap().nonblocking);
}

fn set_owner(fd: impl AsFd) {
    let pid = std::process::id().cast_signed();
    crate::sys::set_owner(fd, pid).unwrap();
}

fn twins() {
    for (_, id) in CLASSES {
        let twin = create_twin(&id, true).unwrap();
        let found = Identity::of(&twin).unwrap().unwrap();
        assert_eq!((found.domain, found.kind, found.protocol), (id.domain, id.kind, id.protocol));
        assert!(fcntl_getfd(&twin).unwrap().contains(FdFlags::CLOEXEC));
        assert!(FileFlags::capture(&twin).unwrap().nonblocking);
        assert_eq!(found.is_tcp(), id.is_tcp());
        assert_eq!(found.is_udp(), id.is_udp());
    }
    let nowhere = Identity { protocol: -1, ..TCP4 };
    assert!(create_twin(&nowhere, false).is_err());
    // The address is unused: it only shows that a twin can be bound.
    let twin = create_twin(&UDP4, false).unwrap();
    bind(&twin, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    assert!(sockopt::socket_error(&twin).unwrap().is_ok());
}

fn exited(handle: &PidFd) -> bool {
    poll_for(handle, 0)
}

fn exited_within_a_second(handle: &PidFd) -> bool {
    poll_for(handle, 1)
}

fn poll_for(handle: &PidFd, seconds: i64) -> bool {
    let mut watched = [PollFd::new(handle, PollFlags::IN)];
    poll(&mut watched, Some(&Timespec { tv_sec: seconds, tv_nsec: 0 })).unwrap() == 1
}
