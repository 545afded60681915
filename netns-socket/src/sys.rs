//! The system calls that rustix does not wrap, and the only `unsafe` of the crate.
//!
//! Everything here is a thin, safe function: it borrows descriptors, never keeps a pointer past the
//! call, and returns the kernel's answer.

use std::ffi::CStr;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// Reads a socket option into `buffer` and returns how many bytes the kernel wrote.
pub(crate) fn getsockopt(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    buffer: &mut [u8],
) -> Result<usize, Errno> {
    // No option is longer than a few hundred bytes; a longer buffer only goes partly used.
    let mut len = libc::socklen_t::try_from(buffer.len()).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the value pointer is valid for writes of `len` bytes because both come from the same
    // exclusive slice, the length pointer is a live local, and any byte is a valid `u8`.
    let answer = unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, name, buffer.as_mut_ptr().cast(), &raw mut len)
    };
    check(answer)?;
    Ok(usize::try_from(len).map_or(buffer.len(), |len| len.min(buffer.len())))
}

/// Asks for the length that `SO_GET_FILTER` reports for a null buffer.
///
/// That option counts in filter instructions, not bytes, and copies nothing when the length is 0.
pub(crate) fn filter_length(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut len: libc::socklen_t = 0;
    // SAFETY: with a length of 0 the kernel writes nothing through the (null) value pointer, and
    // the length pointer is a live local.
    let answer = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_GET_FILTER,
            std::ptr::null_mut(),
            &raw mut len,
        )
    };
    check(answer)?;
    Ok(len)
}

/// Attaches a classic BPF program, which then filters what the socket receives.
pub(crate) fn attach_filter(
    fd: BorrowedFd<'_>,
    program: &[libc::sock_filter],
) -> Result<(), Errno> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_too_long| Errno::INVAL)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the value is a live local of the size given. Its pointer and length describe the
    // caller's slice, which the kernel only reads, and only during the call.
    let answer = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap_or_default(),
        )
    };
    check(answer)
}

/// Sets a socket option.
pub(crate) fn setsockopt(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &[u8],
) -> Result<(), Errno> {
    let len = libc::socklen_t::try_from(value.len()).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: pointer and length describe the same live slice, which the kernel only reads. No
    // option that this crate sets holds a pointer inside its value.
    let answer =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    check(answer)
}

/// connect(2) with these bytes for an address.
pub(crate) fn connect(fd: BorrowedFd<'_>, address: &[u8]) -> Result<(), Errno> {
    // The kernel refuses any length above that of a `sockaddr_storage`.
    let len = libc::socklen_t::try_from(address.len()).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: pointer and length describe the same live slice, which the kernel only reads.
    let answer = unsafe { libc::connect(fd.as_raw_fd(), address.as_ptr().cast(), len) };
    check(answer)
}

/// bind(2) with these bytes for an address.
pub(crate) fn bind(fd: BorrowedFd<'_>, address: &[u8]) -> Result<(), Errno> {
    let len = libc::socklen_t::try_from(address.len()).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: pointer and length describe the same live slice, which the kernel only reads.
    let answer = unsafe { libc::bind(fd.as_raw_fd(), address.as_ptr().cast(), len) };
    check(answer)
}

/// How much of each buffer [`recvmsg`] filled.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Filled {
    pub(crate) data: usize,
    pub(crate) name: usize,
    pub(crate) control: usize,
    /// `msg_flags`.
    pub(crate) flags: i32,
}

/// recvmsg(2) into these buffers. No socket that passes descriptors may be given: the caller takes
/// control messages for bytes.
pub(crate) fn recvmsg(
    fd: BorrowedFd<'_>,
    data: &mut [u8],
    name: &mut [u8],
    control: &mut [u8],
    flags: i32,
) -> Result<Filled, Errno> {
    let mut vector = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    // SAFETY: `msghdr` is a C struct of integers and pointers, for which zero is a valid value.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen = libc::socklen_t::try_from(name.len()).unwrap_or(libc::socklen_t::MAX);
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = control.len() as _;
    // SAFETY: each pointer in `message` is valid for writes of the length next to it, as both come
    // from the same exclusive slice (`vector` is a live local), and any byte is a valid `u8`.
    let answer = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags) };
    let received = usize::try_from(answer).map_err(|_negative| last_error())?;
    // Its type is another one with some C libraries.
    let control_len: usize = message.msg_controllen as _;
    Ok(Filled {
        data: received.min(data.len()),
        // The kernel tells the full length of a name that it has cut.
        name: usize::try_from(message.msg_namelen).map_or(name.len(), |len| len.min(name.len())),
        control: control_len.min(control.len()),
        flags: message.msg_flags,
    })
}

/// sendmsg(2) of one datagram to the address in `name`, with these control messages, if any.
pub(crate) fn sendmsg(
    fd: BorrowedFd<'_>,
    data: &[u8],
    name: &[u8],
    control: &[u8],
    flags: i32,
) -> Result<usize, Errno> {
    let mut vector = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: as in `recvmsg`.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_name = name.as_ptr().cast_mut().cast();
    message.msg_namelen = libc::socklen_t::try_from(name.len()).unwrap_or(libc::socklen_t::MAX);
    message.msg_control = control.as_ptr().cast_mut().cast();
    message.msg_controllen = control.len() as _;
    // SAFETY: each pointer in `message` refers to as many live bytes as the length next to it says,
    // and sendmsg only reads them. UDP sockets ignore control messages that hold descriptors.
    let answer = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) };
    usize::try_from(answer).map_err(|_negative| last_error())
}

/// Whether the `offset`th thing that descriptor `epoll` of a thread watches under `number` is the
/// file of `socket`, which is ours (`KCMP_EPOLL_TFD` of kcmp(2)). ENOENT if there is none.
pub(crate) fn kcmp_epoll(
    tid: i32,
    epoll: u32,
    socket: BorrowedFd<'_>,
    number: u32,
    offset: u32,
) -> Result<bool, Errno> {
    // `struct kcmp_epoll_slot`: three 32-bit words.
    let slot = [epoll, number, offset];
    let own = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: kcmp reads one `struct kcmp_epoll_slot` through the last pointer, which refers to a
    // live local of that size; the others are integers.
    let answer = unsafe {
        libc::syscall(libc::SYS_kcmp, own, tid, KCMP_EPOLL_TFD, socket.as_raw_fd(), slot.as_ptr())
    };
    if answer < 0 { Err(last_error()) } else { Ok(answer == 0) }
}

/// Whether two threads have one memory (`KCMP_VM` of kcmp(2)).
pub(crate) fn kcmp_memory(one: i32, other: i32) -> Result<bool, Errno> {
    // SAFETY: with this type kcmp takes integers only.
    let answer = unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_VM, 0, 0) };
    if answer < 0 { Err(last_error()) } else { Ok(answer == 0) }
}

/// Gives the calling thread a descriptor table of its own, with nothing in it.
pub(crate) fn leave_shared_descriptors() -> Result<(), Errno> {
    // SAFETY: unshare takes flags only. The other threads keep the old table.
    let answer = unsafe { libc::unshare(libc::CLONE_FILES) };
    check(answer)?;
    // SAFETY: the table is the copy made above, which no `OwnedFd` refers to: this thread was born
    // for it and has opened nothing.
    let answer = unsafe { libc::close_range(0, libc::c_uint::MAX, 0) };
    check(answer)
}

/// Kind and id of the process, thread or group that gets a descriptor's signals (`F_GETOWN_EX`).
pub(crate) fn owner(fd: BorrowedFd<'_>) -> Result<(i32, i32), Errno> {
    let mut owner = [0_i32; 2];
    // SAFETY: `F_GETOWN_EX` writes one `struct f_owner_ex`, two ints, which is what `owner` holds.
    let answer = unsafe { libc::fcntl(fd.as_raw_fd(), F_GETOWN_EX, owner.as_mut_ptr()) };
    check(answer)?;
    let [kind, id] = owner;
    Ok((kind, id))
}

/// Sets what [`owner`] reads (`F_SETOWN_EX`).
pub(crate) fn set_owner(fd: BorrowedFd<'_>, kind: i32, id: i32) -> Result<(), Errno> {
    let owner = [kind, id];
    // SAFETY: `F_SETOWN_EX` reads one `struct f_owner_ex`, two ints, from a live local.
    let answer = unsafe { libc::fcntl(fd.as_raw_fd(), F_SETOWN_EX, owner.as_ptr()) };
    check(answer)
}

/// The signal sent when the descriptor becomes ready (`F_GETSIG`), 0 for the default.
pub(crate) fn signal(fd: BorrowedFd<'_>) -> Result<i32, Errno> {
    // SAFETY: `F_GETSIG` takes no argument and touches no memory of ours.
    let answer = unsafe { libc::fcntl(fd.as_raw_fd(), F_GETSIG) };
    check(answer)?;
    Ok(answer)
}

/// Sets what [`signal`] reads (`F_SETSIG`).
pub(crate) fn set_signal(fd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: `F_SETSIG` takes a plain integer.
    let answer = unsafe { libc::fcntl(fd.as_raw_fd(), F_SETSIG, signal) };
    check(answer)
}

/// What a child of [`open_in_namespace`] is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChildPlan<'fd> {
    pub(crate) join: Join<'fd>,
    /// The end of a socket pair on which the child sends its [`CHILD_MESSAGE`] bytes.
    pub(crate) report: BorrowedFd<'fd>,
    pub(crate) open: Open,
}

/// The user and network namespace that the child joins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Join<'fd> {
    /// Those of the process of this pidfd.
    Process(BorrowedFd<'fd>),
    /// These, by descriptors of `/proc/PID/ns/user` and `/proc/PID/ns/net`.
    Namespaces { user: BorrowedFd<'fd>, net: BorrowedFd<'fd> },
}

/// What the child opens inside and sends back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Open {
    /// `socket(2)` with these arguments; the second with `SOCK_CLOEXEC` and perhaps
    /// `SOCK_NONBLOCK`. As many of them as asked for, from 1 to [`MAX_OPENED`].
    Sockets { domain: i32, kind: i32, protocol: i32, count: usize },
    /// A file, for reading. Those below `/proc/sys/net` show the namespace of who opens them.
    File(&'static CStr),
}

/// How many descriptors the child sends at most.
pub(crate) const MAX_OPENED: usize = 8;

/// What the child has opened; the first `count` entries count.
struct Opened {
    fds: [libc::c_int; MAX_OPENED],
    count: usize,
}

/// `KCMP_VM` of `linux/kcmp.h`.
const KCMP_VM: libc::c_int = 1;
/// `KCMP_EPOLL_TFD` of `linux/kcmp.h`, since Linux 4.13.
const KCMP_EPOLL_TFD: libc::c_int = 7;

/// Length of the child's report: a step byte, then the errno in native order.
pub(crate) const CHILD_MESSAGE: usize = 5;

/// Values of the step byte.
pub(crate) const STEP_PROTECT: u8 = 1;
pub(crate) const STEP_SETNS: u8 = 2;
pub(crate) const STEP_OPEN: u8 = 3;
pub(crate) const STEP_DONE: u8 = 4;

/// Starts the child and returns its pidfd.
///
/// The child is a process of its own, since only a process with one thread may join a user
/// namespace. It has a copy of our memory and descriptor table, so nothing that it does changes
/// ours, and everything it holds is gone when it is. It has no exit signal: no `SIGCHLD` is sent and
/// a plain `wait` of the embedding program does not see it.
pub(crate) fn open_in_namespace(plan: &ChildPlan<'_>) -> Result<OwnedFd, Errno> {
    let mut pidfd: libc::c_int = -1;
    // A handler of the embedding program must not run in the child, whose descriptors reach the
    // same pipes and event queues as ours.
    let signals = SignalsBlocked::new();
    // Not clone3(2), whose flags no seccomp filter can see: embedding programs may be under one.
    // SAFETY: `pidfd` is a live local, to which CLONE_PIDFD writes; the other pointers are not used
    // with these flags. Without CLONE_VM the child works on a copy of our memory, on the copied
    // stack, so it can invalidate nothing here; in it only `child` runs, which makes system calls
    // and never returns.
    let answer = unsafe {
        libc::syscall(libc::SYS_clone, CLONE_PIDFD, NO_STACK, &raw mut pidfd, 0_usize, 0_usize)
    };
    if answer == 0 {
        child(plan);
    }
    let failure = (answer < 0).then(last_error);
    drop(signals);
    if let Some(errno) = failure {
        return Err(errno);
    }
    // SAFETY: clone succeeded with CLONE_PIDFD, so it stored a new descriptor that nobody else
    // knows; the kernel makes it close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

/// The life of the child. Async-signal-safe: other threads of the parent may have held any lock.
fn child(plan: &ChildPlan<'_>) -> ! {
    match enter_and_open(plan) {
        Ok(opened) => report(plan, STEP_DONE, 0, &opened),
        Err((step, errno)) => {
            let nothing = Opened { fds: [-1; MAX_OPENED], count: 0 };
            report(plan, step, errno.raw_os_error(), &nothing);
        }
    }
    // SAFETY: `_exit` runs no destructor or handler; the kernel frees all that the child holds.
    unsafe { libc::_exit(0) }
}

fn enter_and_open(plan: &ChildPlan<'_>) -> Result<Opened, (u8, Errno)> {
    // Once in the container's user namespace, a privileged process of the container could trace
    // the child (they may share a pid namespace) and take our memory and descriptors. A process
    // that is not dumpable can be traced only with CAP_SYS_PTRACE in the namespace its program
    // was executed in, which is ours.
    // SAFETY: PR_SET_DUMPABLE takes plain integers.
    let answer = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0_u64, 0_u64, 0_u64, 0_u64) };
    check(answer).map_err(|errno| (STEP_PROTECT, errno))?;

    let joined = match plan.join {
        Join::Process(target) => {
            match set_namespace(target, libc::CLONE_NEWUSER | libc::CLONE_NEWNET) {
                // We already are in that user namespace.
                Err(Errno::INVAL) => set_namespace(target, libc::CLONE_NEWNET),
                other => other,
            }
        }
        Join::Namespaces { user, net } => match set_namespace(user, libc::CLONE_NEWUSER) {
            // As above.
            Ok(()) | Err(Errno::INVAL) => set_namespace(net, libc::CLONE_NEWNET),
            other => other,
        },
    };
    joined.map_err(|errno| (STEP_SETNS, errno))?;

    let mut opened = Opened { fds: [-1; MAX_OPENED], count: 0 };
    let wanted = match plan.open {
        Open::Sockets { count, .. } => count,
        Open::File(_) => 1,
    };
    for slot in opened.fds.iter_mut().take(wanted) {
        *slot = match plan.open {
            Open::Sockets { domain, kind, protocol, .. } => {
                // SAFETY: socket takes plain integers.
                unsafe { libc::socket(domain, kind, protocol) }
            }
            Open::File(path) => {
                // SAFETY: the path is a string with its terminator that lives for ever.
                unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) }
            }
        };
        match check(*slot) {
            Ok(()) => opened.count += 1,
            // Fewer than asked for are better than none.
            Err(_) if opened.count > 0 => break,
            Err(errno) => return Err((STEP_OPEN, errno)),
        }
    }
    Ok(opened)
}

/// setns(2), for the child only: a process with several threads must not change its user namespace.
fn set_namespace(of: BorrowedFd<'_>, kinds: libc::c_int) -> Result<(), Errno> {
    // SAFETY: setns takes plain integers; it changes the credentials of this process only.
    let answer = unsafe { libc::setns(of.as_raw_fd(), kinds) };
    check(answer)
}

/// Sends step, errno and what was opened to the parent. A failure shows there as no message.
fn report(plan: &ChildPlan<'_>, step: u8, errno: i32, opened: &Opened) {
    let [a, b, c, d] = errno.to_ne_bytes();
    let mut bytes: [u8; CHILD_MESSAGE] = [step, a, b, c, d];
    let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: CHILD_MESSAGE };
    let mut control = Control { header: EMPTY_HEADER, fds: opened.fds };
    // SAFETY: `msghdr` is a C struct of integers and pointers, for which zero is a valid value.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    if opened.count > 0 {
        let used = size_of::<libc::cmsghdr>() + opened.count * size_of::<libc::c_int>();
        control.header.cmsg_len = used as _;
        control.header.cmsg_level = libc::SOL_SOCKET;
        control.header.cmsg_type = libc::SCM_RIGHTS;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = used.next_multiple_of(size_of::<usize>()) as _;
    }
    // SAFETY: every pointer in `message` refers to a live local of the stated length.
    unsafe {
        libc::sendmsg(plan.report.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL);
    }
}

/// A control message with descriptors, laid out as `CMSG_DATA` has it.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    fds: [libc::c_int; MAX_OPENED],
}

/// Blocks every signal of the calling thread until dropped.
struct SignalsBlocked(libc::sigset_t);

impl SignalsBlocked {
    fn new() -> Self {
        let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: the pointer refers to a live, writable `sigset_t`.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: both pointers refer to live `sigset_t`s, the first filled in above.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        }
        // SAFETY: a `sigset_t` is an array of integers: zero, or what the call stored, is valid.
        Self(unsafe { before.assume_init() })
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the first pointer refers to a live `sigset_t`; a null second one is allowed.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut());
        }
    }
}

fn check(answer: libc::c_int) -> Result<(), Errno> {
    if answer < 0 { Err(last_error()) } else { Ok(()) }
}

fn last_error() -> Errno {
    // The last OS error is never absent here; EIO stands for what cannot happen.
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

const CLONE_PIDFD: libc::c_ulong = 0x1000;
/// The child goes on with its copy of the caller's.
const NO_STACK: usize = 0;
const EMPTY_HEADER: libc::cmsghdr = libc::cmsghdr { cmsg_len: 0, cmsg_level: 0, cmsg_type: 0 };

// asm-generic/fcntl.h; libc has them only for some C libraries.
const F_SETSIG: libc::c_int = 10;
const F_GETSIG: libc::c_int = 11;
const F_SETOWN_EX: libc::c_int = 15;
const F_GETOWN_EX: libc::c_int = 16;
