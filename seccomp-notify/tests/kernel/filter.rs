//! What the kernel makes of compiled rules.

use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SendFlags, SocketType};
use seccomp_notify::{Condition, Errno, Filter, InstallError, Reply, Test};

use crate::sys::{raw_call, send_on_nothing};
use crate::target::{getppid, next, spawn, trap_getppid};
use crate::{Case, Need};

pub(crate) const TRIALS: &[Case] = &[
    ("errno_rule_by_flag_argument", Need::Notify, errno_rule_by_flag_argument),
    ("sends_are_sorted_by_flag_and_address", Need::Notify, sends_are_sorted_by_flag_and_address),
    ("errno_rule_without_condition", Need::Notify, errno_rule_without_condition),
    ("second_listener_is_refused", Need::Notify, second_listener_is_refused),
    ("filter_without_rules_installs", Need::Notify, filter_without_rules_installs),
    ("privilege_or_no_new_privs", Need::Notify, privilege_or_no_new_privs),
];

fn udp() -> OwnedFd {
    rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap()
}

/// The flag is refused whatever other flags come with it; without it, an address traps.
fn errno_rule_by_flag_argument() {
    let sendto = libc::SYS_sendto as i32;
    let filter = Filter::allow_all()
        .errno_when(sendto, &[Condition::bits_set(3, libc::MSG_FASTOPEN as u32)], Errno::NOANO)
        .notify_when(sendto, &[Condition::new(4, Test::Ne(0))]);
    let (listener, thread) = spawn(filter, || {
        let socket = udp();
        let fastopen = SendFlags::from_bits_retain(libc::MSG_FASTOPEN as u32);
        let to = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 9);
        [
            rustix::net::send(&socket, b"x", fastopen),
            rustix::net::send(&socket, b"x", fastopen | SendFlags::DONTWAIT),
            rustix::net::sendto(&socket, b"x", fastopen, &to),
            rustix::net::send(&socket, b"x", SendFlags::DONTWAIT),
            rustix::net::sendto(&socket, b"x", SendFlags::DONTWAIT, &to),
        ]
    });
    let call = next(&listener);
    assert_eq!(call.syscall_nr(), sendto);
    assert_ne!(call.args()[4], 0);
    assert_eq!(call.args()[3], u64::from(SendFlags::DONTWAIT.bits()));
    call.reply(Reply::value(77)).unwrap();
    let refused = Err(Errno::NOANO);
    assert_eq!(
        thread.join().unwrap(),
        [refused, refused, refused, Err(Errno::DESTADDRREQ), Ok(77)]
    );
}

/// Rules that exclude each other: the flag is refused, an address (which only sendto has among
/// its arguments) asks, all else goes on to the kernel.
fn sends_are_sorted_by_flag_and_address() {
    const FASTOPEN: u32 = libc::MSG_FASTOPEN as u32;
    let filter = [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)]
        .into_iter()
        .fold(Filter::allow_all(), |filter, (nr, flags)| {
            let mut ask = vec![Condition::bits_clear(flags, FASTOPEN)];
            if nr == libc::SYS_sendto {
                ask.push(Condition::new(4, Test::Ne(0)));
            }
            let refuse = [Condition::bits_set(flags, FASTOPEN)];
            filter.notify_when(nr as i32, &ask).errno_when(nr as i32, &refuse, Errno::NOANO)
        });
    let dirty = |flags: i32| 0xdead_beef_0000_0000 | u64::from(flags.cast_unsigned());
    let (fast, plain) = (dirty(libc::MSG_FASTOPEN), dirty(libc::MSG_DONTWAIT));
    let (refused, asked, allowed) = (Err(libc::ENOANO), Ok(77), Err(libc::EBADF));
    let cases = [
        (libc::SYS_sendto, [0, 0, fast, 0, 0], refused),
        (libc::SYS_sendto, [0, 0, fast, 1, 16], refused),
        (libc::SYS_sendto, [0, 0, plain, 0, 0], allowed),
        (libc::SYS_sendto, [0, 0, plain, 1, 16], asked),
        (libc::SYS_sendto, [0, 0, 0, 1 << 32, 16], asked),
        (libc::SYS_sendto, [0, 0, 0, 0, 16], allowed),
        (libc::SYS_sendmsg, [0, fast, 0, 0, 0], refused),
        (libc::SYS_sendmsg, [0, plain, fast, 1, 0], asked),
        (libc::SYS_sendmmsg, [0, 0, fast, 0, 0], refused),
        (libc::SYS_sendmmsg, [0, fast, plain, 0, 0], asked),
    ];
    let (listener, thread) =
        spawn(filter, move || cases.map(|(nr, rest, _)| send_on_nothing(nr, rest)));
    for (nr, rest, outcome) in cases {
        if outcome == asked {
            let call = next(&listener);
            assert_eq!(i64::from(call.syscall_nr()), nr);
            assert_eq!(call.args()[1..], rest);
            call.reply(Reply::value(77)).unwrap();
        }
    }
    assert_eq!(thread.join().unwrap(), cases.map(|(_, _, outcome)| outcome));
}

fn errno_rule_without_condition() {
    let filter = Filter::allow_all().errno(libc::SYS_getpgrp as i32, Errno::NOANO);
    let (_listener, thread) = spawn(filter, || [libc::SYS_getpgrp, libc::SYS_getuid].map(raw_call));
    let [refused, allowed] = thread.join().unwrap();
    assert_eq!(refused, Err(libc::ENOANO));
    assert_eq!(allowed, Ok(1000));
}

fn second_listener_is_refused() {
    let (_listener, thread) =
        spawn(trap_getppid(), || Filter::allow_all().notify(libc::SYS_getpgrp as i32).install());
    assert!(matches!(thread.join().unwrap(), Err(InstallError::ListenerExists)));
}

fn filter_without_rules_installs() {
    let (_listener, thread) = spawn(Filter::allow_all(), getppid);
    assert!(thread.join().unwrap().is_ok());
}

/// The namespace gives this thread every capability, so that it may install without the bit; a
/// thread that has dropped them may not.
fn privilege_or_no_new_privs() {
    let bare = trap_getppid().no_new_privs(false);
    let (_listener, thread) = spawn(bare.clone(), rustix::thread::no_new_privs);
    assert_eq!(thread.join().unwrap(), Ok(false));
    let (_listener, thread) = spawn(trap_getppid(), rustix::thread::no_new_privs);
    assert_eq!(thread.join().unwrap(), Ok(true));

    let unprivileged = std::thread::spawn(move || {
        let none = rustix::thread::CapabilitySets {
            effective: rustix::thread::CapabilitySet::empty(),
            permitted: rustix::thread::CapabilitySet::empty(),
            inheritable: rustix::thread::CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, none).unwrap();
        bare.install()
    });
    assert!(matches!(
        unprivileged.join().unwrap(),
        Err(InstallError::SeccompCall { source: Errno::ACCESS })
    ));
}
