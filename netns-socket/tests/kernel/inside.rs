//! Sockets inside another process's namespaces.

use std::fs;
use std::os::fd::AsRawFd;
use std::thread;

use libtest_mimic::Trial;
use netns_socket::{
    Domain, Errno, Identity, InsideError, Kind, MAX_AT_ONCE, Namespace, PidFd, SocketSpec,
    create_twin, netns_cookie_inside, own_netns_cookie, socket_inside, sockets_inside,
    unprivileged_port_start,
};
use rustix::process::{Resource, Rlimit, WaitId, WaitIdOptions, getrlimit, setrlimit, waitid};

use crate::harness::{Fixture, TCP4, TCP6, in_new_netns, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("inside::is_in_the_targets_namespace", namespace),
        trial("inside::several_at_once", several_at_once),
        trial("inside::also_netlink", netlink),
        trial("inside::namespace_outlives_its_processes", outlived),
        trial("inside::same_user_namespace", same_user_namespace),
        trial("inside::port_start_is_that_of_the_namespace", port_start),
        trial("inside::many_leave_nothing_behind", many),
        trial("inside::failures_leave_nothing_behind", failures),
        trial("inside::without_descriptors_leaves_nothing_behind", no_descriptors),
        trial("inside::from_several_threads", several_threads),
    ]
}

struct Container {
    fixture: Fixture,
    cookie: u64,
    handle: PidFd,
}

fn container() -> Container {
    let mut fixture = Fixture::start("container");
    let [cookie] = fixture.numbers()[..] else { unreachable!() };
    let handle = PidFd::open(fixture.pid()).unwrap();
    Container { fixture, cookie, handle }
}

fn tcp() -> SocketSpec {
    SocketSpec::from(TCP4)
}

fn several_at_once() {
    let container = container();
    for (wanted, made) in [(0, 1), (1, 1), (3, 3), (1000, MAX_AT_ONCE)] {
        let sockets = sockets_inside(&container.handle, tcp(), true, wanted).unwrap();
        assert_eq!(sockets.len(), made);
        let ids = sockets.iter().map(|socket| Identity::of(socket).unwrap().unwrap());
        let cookies: Vec<_> = ids
            .inspect(|id| assert_eq!(id.netns_cookie, Some(container.cookie)))
            .map(|id| id.cookie)
            .collect();
        assert!(
            cookies.iter().all(|one| cookies.iter().filter(|other| *other == one).count() == 1)
        );
    }
}

fn namespace() {
    let container = container();
    for (id, nonblocking) in [(TCP4, true), (TCP6, false)] {
        let socket = socket_inside(&container.handle, SocketSpec::from(id), nonblocking).unwrap();
        let found = Identity::of(&socket).unwrap().unwrap();
        assert_eq!(found.netns_cookie, Some(container.cookie));
        assert_eq!(found.domain, id.domain);
        assert_ne!(own_netns_cookie().unwrap(), Some(container.cookie));
        let flags = netns_socket::FileFlags::capture(&socket).unwrap();
        assert_eq!(flags.nonblocking, nonblocking);
        let own = std::process::id().cast_signed();
        let cloexec = netns_socket::read_cloexec(own, socket.as_raw_fd());
        assert_eq!(cloexec.unwrap(), Some(true));
    }
}

fn netlink() {
    let container = container();
    let spec =
        SocketSpec { domain: Domain::Other(libc::AF_NETLINK), kind: Kind::Other(3), protocol: 0 };
    let socket = socket_inside(&container.handle, spec, false).unwrap();
    assert_eq!(Identity::of(&socket).unwrap().unwrap().netns_cookie, Some(container.cookie));
}

fn outlived() {
    let Container { fixture, cookie, .. } = container();
    let namespace = Namespace::of(fixture.pid()).unwrap();
    let pid = fixture.pid();
    drop(fixture);
    assert!(Namespace::of(pid).is_err());
    for socket in sockets_inside(&namespace, tcp(), true, 3).unwrap() {
        assert_eq!(Identity::of(&socket).unwrap().unwrap().netns_cookie, Some(cookie));
    }
    // In our own user namespace as well.
    let (there, namespace) = in_new_netns(|| {
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        (own_netns_cookie().unwrap(), Namespace::of(own).unwrap())
    });
    let socket = socket_inside(&namespace, tcp(), true).unwrap();
    assert_eq!(Identity::of(&socket).unwrap().unwrap().netns_cookie, there);
    assert_eq!(netns_cookie_inside(&namespace).unwrap(), there);
}

fn port_start() {
    let container = container();
    // Of a namespace of this trial's own, so that no other one is disturbed.
    let (own, inside) = in_new_netns(move || {
        fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "700").unwrap();
        let thread = PidFd::open(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
        (
            unprivileged_port_start(&thread).unwrap(),
            unprivileged_port_start(&container.handle).unwrap(),
        )
    });
    assert_eq!((own, inside), (700, 1024));
}

fn same_user_namespace() {
    let here = own_netns_cookie().unwrap();
    let own = PidFd::open(std::process::id().cast_signed()).unwrap();
    // Only our network namespace differs on this thread, not our user namespace.
    let (there, socket) =
        in_new_netns(|| (own_netns_cookie().unwrap(), socket_inside(&own, tcp(), false).unwrap()));
    assert_ne!(here, there);
    assert_eq!(Identity::of(&socket).unwrap().unwrap().netns_cookie, here);
}

fn many() {
    let container = container();
    let before = descriptors();
    for _ in 0..200 {
        socket_inside(&container.handle, tcp(), true).unwrap();
    }
    assert_eq!(descriptors(), before);
    assert_no_children_left();
}

fn failures() {
    let mut container = container();
    let before = descriptors();
    let nonsense = SocketSpec { domain: Domain::Other(4242), ..tcp() };
    for _ in 0..20 {
        let error = socket_inside(&container.handle, nonsense, true).unwrap_err();
        assert_eq!(error, InsideError::OpenCall { source: Errno::AFNOSUPPORT });
    }
    container.fixture.end();
    assert_eq!(socket_inside(&container.handle, tcp(), true).unwrap_err(), InsideError::Gone);
    // Process 1 belongs to the user namespace above ours.
    let above = PidFd::open(1).unwrap();
    let error = socket_inside(&above, tcp(), true).unwrap_err();
    assert_eq!(error, InsideError::SetnsCall { source: Errno::PERM });
    drop(above);
    // The fixture's pipes went with it.
    assert!(descriptors() <= before);
    assert_no_children_left();
}

fn no_descriptors() {
    let container = container();
    // No gaps: every new descriptor gets the next number.
    let fillers: Vec<_> = (0..64).map(|_| create_twin(&TCP4, false).unwrap()).collect();
    let highest = fillers.iter().map(AsRawFd::as_raw_fd).max().unwrap();
    let next = u64::try_from(highest).unwrap() + 1;
    let before = descriptors();
    let limit = getrlimit(Resource::Nofile);
    let mut failed = 0;
    let mut worked = 0;
    // With one more number free each time, another step is the first that finds none.
    for free in 0..12 {
        setrlimit(Resource::Nofile, Rlimit { current: Some(next + free), ..limit }).unwrap();
        let outcome = socket_inside(&container.handle, tcp(), true).map(drop);
        setrlimit(Resource::Nofile, limit).unwrap();
        match outcome {
            Ok(_) => worked += 1,
            Err(_) => failed += 1,
        }
        assert_eq!(descriptors(), before, "{free}");
        assert_no_children_left();
    }
    assert!(failed > 0 && worked > 0, "{failed} {worked}");
}

fn several_threads() {
    let container = container();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let socket = socket_inside(&container.handle, tcp(), true).unwrap();
                    let found = Identity::of(&socket).unwrap().unwrap();
                    assert_eq!(found.netns_cookie, Some(container.cookie));
                    drop(create_twin(&TCP4, true).unwrap());
                }
            });
        }
    });
    assert_no_children_left();
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn assert_no_children_left() {
    // Only children without an exit signal count here; fixtures have one.
    let options = WaitIdOptions::EXITED
        | WaitIdOptions::NOHANG
        | WaitIdOptions::from_bits_retain(libc::__WCLONE.cast_unsigned());
    assert_eq!(waitid(WaitId::All, options).err(), Some(Errno::CHILD));
}
