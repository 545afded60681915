//! The system calls of a supervisor at work.
//!
//! Everything else fails with ENOSYS, which is what a library expects of a kernel that is older than
//! it is: a new version of it may use calls that nobody has thought of here, and falls back. A
//! filter that killed instead would one day end the network of every container for an update of
//! the C library, and win little: who has taken the supervisor over can end it anyhow.

use seccomp_notify::{Allowlist, Condition, Errno, Test};

/// What depends on options.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    /// Names or counts are written into the memory of containers.
    pub(crate) writes_memory: bool,
    /// Files are removed at the end.
    pub(crate) removes_files: bool,
    /// Children to be ended, by their ids.
    pub(crate) children: Vec<u32>,
}

/// The list for the calling process.
pub(super) fn list(needs: &Needs) -> Allowlist {
    let list = Allowlist::refuse_others_with(Errno::NOSYS);
    let list = ALWAYS.iter().fold(list, |list, nr| list.allow(number(*nr)));
    let list = WHEN.iter().fold(list, |list, (nr, when)| list.allow_when(number(*nr), when));
    let opens = OPEN.iter().map(|(nr, flags)| (number(*nr), *flags));
    let mut list = opens.clone().fold(list, |list, (nr, flags)| {
        list.allow_when(nr, &[masked(flags, WRITES, libc::O_RDONLY)])
    });
    if needs.writes_memory {
        list = list.allow(number(libc::SYS_pwrite64));
        list = opens.fold(list, |list, (nr, flags)| {
            list.allow_when(nr, &[masked(flags, WRITES, libc::O_RDWR)])
        });
    }
    if needs.removes_files {
        list = REMOVE.iter().fold(list, |list, nr| list.allow(number(*nr)));
    }
    // abort(3), for one.
    list = list.allow_when(number(libc::SYS_tgkill), &[Condition::int_eq(0, std::process::id())]);
    needs.children.iter().fold(list, |list, child| {
        list.allow_when(number(libc::SYS_kill), &[Condition::int_eq(0, *child)])
    })
}

/// Calls whatever their arguments: the kernel lets these pass without running the filter.
const ALWAYS: &[i64] = &[
    // Sockets that are at hand.
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    // Descriptors that are at hand, and files to look at.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    // Waiting.
    libc::SYS_ppoll,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    // Containers, and the children that enter them.
    libc::SYS_process_vm_readv,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_waitid,
    libc::SYS_wait4,
    // Threads.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_membarrier,
    libc::SYS_getcpu,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Who and when.
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    // Forms of old, which only this architecture has.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// Calls with these arguments only. Several lines for one call are alternatives; the first are the
/// quickest.
const WHEN: &[(i64, &[Condition])] = &[
    // Those of seccomp listeners all have this letter, and FIONBIO is fcntl(2) in disguise. The
    // terminal's are not among them.
    (libc::SYS_ioctl, &[masked(1, 0xff00, (b'!' as i32) << 8)]),
    (libc::SYS_ioctl, &[int(1, FIONBIO)]),
    // UNIX sockets lead to whatever else runs for the user: D-Bus, agents, container engines.
    (libc::SYS_socket, &[int(0, libc::AF_INET)]),
    (libc::SYS_socket, &[int(0, libc::AF_INET6)]),
    (libc::SYS_socket, &[int(0, libc::AF_NETLINK), int(2, libc::NETLINK_ROUTE)]),
    (libc::SYS_socket, &[int(0, libc::AF_NETLINK), int(2, libc::NETLINK_SOCK_DIAG)]),
    (libc::SYS_socketpair, &[int(0, libc::AF_UNIX)]),
    // No memory becomes executable.
    (libc::SYS_mmap, &[masked(2, libc::PROT_EXEC, 0)]),
    (libc::SYS_mprotect, &[masked(2, libc::PROT_EXEC, 0)]),
    // Threads, and the child that enters a container. In clone3(2) nothing of it can be seen, and
    // libraries do without that call.
    (libc::SYS_clone, &[masked(0, NAMESPACES | libc::CLONE_THREAD, libc::CLONE_THREAD)]),
    (libc::SYS_clone, &[Condition::new(0, Test::Eq(libc::CLONE_PIDFD as u64))]),
    (libc::SYS_setns, &[int(1, libc::CLONE_NEWUSER | libc::CLONE_NEWNET)]),
    (libc::SYS_setns, &[int(1, libc::CLONE_NEWUSER)]),
    (libc::SYS_setns, &[int(1, libc::CLONE_NEWNET)]),
    (libc::SYS_unshare, &[Condition::new(0, Test::Eq(libc::CLONE_FILES as u64))]),
    (libc::SYS_prctl, &[int(0, libc::PR_SET_NAME)]),
    (libc::SYS_prctl, &[int(0, libc::PR_SET_DUMPABLE), Condition::new(1, Test::Eq(0))]),
    // Names of memory areas, as memory allocators give them.
    (libc::SYS_prctl, &[int(0, libc::PR_SET_VMA)]),
    (libc::SYS_prlimit64, &[Condition::new(2, Test::Eq(0))]),
    (libc::SYS_seccomp, &[int(0, libc::SECCOMP_GET_NOTIF_SIZES.cast_signed())]),
];

/// Calls that open files, and which argument their flags are.
const OPEN: &[(i64, u32)] = &[
    (libc::SYS_openat, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 1),
];

const REMOVE: &[i64] = &[
    libc::SYS_unlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

/// All that makes, changes or may change a file. `/proc/PID/mem` is opened for reading and writing.
///
/// `O_TMPFILE` has the bit of `O_DIRECTORY`, which changes nothing, beside its own.
const WRITES: i32 = libc::O_ACCMODE
    | libc::O_CREAT
    | libc::O_TRUNC
    | libc::O_APPEND
    | (libc::O_TMPFILE & !libc::O_DIRECTORY);

/// `asm-generic/ioctls.h`; the type that libc gives it differs between C libraries.
const FIONBIO: i32 = 0x5421;

const NAMESPACES: i32 = libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS;

const fn int(arg: u32, value: i32) -> Condition {
    Condition::int_eq(arg, value.cast_unsigned())
}

const fn masked(arg: u32, mask: i32, value: i32) -> Condition {
    let (mask, value) = (mask.cast_unsigned() as u64, value.cast_unsigned() as u64);
    Condition::new(arg, Test::MaskedEq { mask, value })
}

/// Numbers of calls are small. -1 does not compile.
fn number(nr: i64) -> i32 {
    i32::try_from(nr).unwrap_or(-1)
}

#[cfg(test)]
mod tests;
