//! The structures and numbers this crate relies on, held against the values of `linux/seccomp.h`.

use std::mem::{offset_of, size_of};

use libc::{seccomp_data, seccomp_notif, seccomp_notif_addfd, seccomp_notif_resp};

#[test]
fn opcodes() {
    assert_eq!(libc::SECCOMP_IOCTL_NOTIF_RECV, 0xc050_2100);
    assert_eq!(libc::SECCOMP_IOCTL_NOTIF_SEND, 0xc018_2101);
    assert_eq!(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, 0x4008_2102);
    assert_eq!(libc::SECCOMP_IOCTL_NOTIF_ADDFD, 0x4018_2103);
    assert_eq!(libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, 0x4008_2104);
}

#[test]
fn sizes() {
    assert_eq!(size_of::<seccomp_data>(), 64);
    assert_eq!(size_of::<seccomp_notif>(), 80);
    assert_eq!(size_of::<seccomp_notif_resp>(), 24);
    assert_eq!(size_of::<seccomp_notif_addfd>(), 24);
    assert_eq!(size_of::<libc::seccomp_notif_sizes>(), 6);
    assert_eq!(size_of::<libc::sock_filter>(), 8);
}

#[test]
fn offsets() {
    assert_eq!(offset_of!(seccomp_data, nr), 0);
    assert_eq!(offset_of!(seccomp_data, arch), 4);
    assert_eq!(offset_of!(seccomp_data, instruction_pointer), 8);
    assert_eq!(offset_of!(seccomp_data, args), 16);

    assert_eq!(offset_of!(seccomp_notif, id), 0);
    assert_eq!(offset_of!(seccomp_notif, pid), 8);
    assert_eq!(offset_of!(seccomp_notif, flags), 12);
    assert_eq!(offset_of!(seccomp_notif, data), 16);

    assert_eq!(offset_of!(seccomp_notif_resp, id), 0);
    assert_eq!(offset_of!(seccomp_notif_resp, val), 8);
    assert_eq!(offset_of!(seccomp_notif_resp, error), 16);
    assert_eq!(offset_of!(seccomp_notif_resp, flags), 20);

    assert_eq!(offset_of!(seccomp_notif_addfd, id), 0);
    assert_eq!(offset_of!(seccomp_notif_addfd, flags), 8);
    assert_eq!(offset_of!(seccomp_notif_addfd, srcfd), 12);
    assert_eq!(offset_of!(seccomp_notif_addfd, newfd), 16);
    assert_eq!(offset_of!(seccomp_notif_addfd, newfd_flags), 20);
}

#[test]
fn flags_and_actions() {
    assert_eq!(libc::SECCOMP_SET_MODE_FILTER, 1);
    assert_eq!(libc::SECCOMP_GET_ACTION_AVAIL, 2);
    assert_eq!(libc::SECCOMP_GET_NOTIF_SIZES, 3);
    assert_eq!(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER, 8);
    assert_eq!(libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH, 16);
    assert_eq!(libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, 32);
    assert_eq!(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE, 1);
    assert_eq!(libc::SECCOMP_ADDFD_FLAG_SETFD, 1);
    assert_eq!(libc::SECCOMP_ADDFD_FLAG_SEND, 2);
    assert_eq!(libc::SECCOMP_RET_USER_NOTIF, 0x7fc0_0000);
    assert_eq!(libc::SECCOMP_RET_ERRNO, 0x0005_0000);
    assert_eq!(libc::SECCOMP_RET_ALLOW, 0x7fff_0000);
}
