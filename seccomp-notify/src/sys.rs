//! The system calls that no safe crate wraps, and the only unsafe code of this crate.
//!
//! Each function makes one call and turns its result into an owned value or an [`Errno`]. What a
//! given errno *means* is decided by the callers. None of them allocates.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::{Errno, Result, retry_on_intr};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` of `linux/seccomp.h`, which `libc` does not have.
pub(crate) const SYNC_WAKE_UP: usize = 1;

/// `SECCOMP_IOCTL_NOTIF_RECV`: take the oldest pending notification, blocking for one.
///
/// Not retried on EINTR: the caller must be able to leave a blocking receive.
pub(crate) fn notif_recv(listener: BorrowedFd<'_>) -> Result<libc::seccomp_notif> {
    // The kernel refuses a buffer that holds anything but zeros.
    let mut notif = libc::seccomp_notif {
        id: 0,
        pid: 0,
        flags: 0,
        data: libc::seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] },
    };
    // SAFETY: `Updater::new` wants an opcode whose argument is a pointer to the given type. RECV
    // is `_IOWR` of `struct seccomp_notif`, of which `libc::seccomp_notif` is the definition
    // (layout checked in `tests/abi.rs`); every bit pattern the kernel writes is valid for it.
    let recv = unsafe { rustix::ioctl::Updater::<RECV, _>::new(&mut notif) };
    // SAFETY: the opcode must suit the descriptor's driver. `'!' 0` belongs to seccomp; another
    // kind of file is handed only a pointer to 80 writable bytes, the size encoded in the opcode.
    unsafe { rustix::ioctl::ioctl(listener, recv) }?;
    Ok(notif)
}

/// `SECCOMP_IOCTL_NOTIF_SEND`: answer a notification.
///
/// Retried on EINTR, which the kernel gives only while it waits for the filter's lock, before
/// anything has happened.
pub(crate) fn notif_send(
    listener: BorrowedFd<'_>,
    mut resp: libc::seccomp_notif_resp,
) -> Result<()> {
    retry_on_intr(|| {
        // SAFETY: SEND is `_IOWR` of `struct seccomp_notif_resp`, which is the type of `resp`
        // (layout checked in `tests/abi.rs`); all its bit patterns are valid.
        let send = unsafe { rustix::ioctl::Updater::<SEND, _>::new(&mut resp) };
        // SAFETY: the opcode belongs to seccomp; `resp` is writable, lives through the call, and
        // has the size encoded in the opcode.
        unsafe { rustix::ioctl::ioctl(listener, send) }
    })
}

/// `SECCOMP_IOCTL_NOTIF_ID_VALID`: `Ok` while the notification waits for its answer.
pub(crate) fn notif_id_valid(listener: BorrowedFd<'_>, id: u64) -> Result<()> {
    retry_on_intr(|| {
        // SAFETY: `Setter::new` wants an opcode whose argument is a pointer to the given type, to
        // be read only. ID_VALID is `_IOW` of a 64-bit integer.
        let valid = unsafe { rustix::ioctl::Setter::<ID_VALID, u64>::new(id) };
        // SAFETY: the opcode belongs to seccomp and its argument is 8 readable bytes.
        unsafe { rustix::ioctl::ioctl(listener, valid) }
    })
}

/// `SECCOMP_IOCTL_NOTIF_ADDFD`: install a descriptor in the target; gives its number there.
///
/// Not retried on EINTR: with `SEND` the interrupted call may have had its effect.
pub(crate) fn notif_addfd(
    listener: BorrowedFd<'_>,
    request: libc::seccomp_notif_addfd,
) -> Result<i32> {
    // SAFETY: the `Ioctl` implementation of `AddFd` describes the command truthfully (see there),
    // and an opcode of seccomp on another kind of file is handed only 24 readable bytes.
    unsafe { rustix::ioctl::ioctl(listener, AddFd(request)) }
}

/// `SECCOMP_IOCTL_NOTIF_SET_FLAGS`: replaces the listener's flags.
pub(crate) fn notif_set_flags(listener: BorrowedFd<'_>, flags: usize) -> Result<()> {
    retry_on_intr(|| {
        // SAFETY: `IntegerSetter` passes its argument by value. SET_FLAGS is declared `_IOW` of a
        // 64-bit integer but takes the argument itself for the flags (kernel commit 48a1084a8b74),
        // so the kernel dereferences nothing.
        let set = unsafe { rustix::ioctl::IntegerSetter::<SET_FLAGS>::new_usize(flags) };
        // SAFETY: the opcode belongs to seccomp. Callers hand only descriptors which
        // `Listener::from_fd` found to be listeners, so no other driver takes it for a pointer.
        unsafe { rustix::ioctl::ioctl(listener, set) }
    })
}

/// `SECCOMP_GET_NOTIF_SIZES`: the sizes of the kernel's structures.
pub(crate) fn notif_sizes() -> Result<libc::seccomp_notif_sizes> {
    let mut sizes =
        libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
    // SAFETY: with this operation seccomp(2) wants flags of 0 and a pointer to a writable
    // `struct seccomp_notif_sizes`; `sizes` is one and outlives the call.
    let ret = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, &raw mut sizes)
    };
    check(ret).map(|_| sizes)
}

/// `SECCOMP_GET_ACTION_AVAIL`: `Ok` if the kernel knows this filter action.
pub(crate) fn action_available(action: u32) -> Result<()> {
    // SAFETY: with this operation seccomp(2) wants flags of 0 and a pointer to a readable 32-bit
    // action; `action` is one and outlives the call.
    let ret = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action)
    };
    check(ret).map(drop)
}

/// `SECCOMP_SET_MODE_FILTER` without a program: EFAULT if the flags are known, EINVAL if not.
pub(crate) fn probe_filter_flags(flags: libc::c_ulong) -> Errno {
    // SAFETY: seccomp(2) reads a `struct sock_fprog` from its last argument. Copying from a null
    // pointer fails inside the kernel with EFAULT, so that no filter can be installed.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            ptr::null::<libc::sock_fprog>(),
        )
    };
    check(ret).err().unwrap_or(Errno::INVAL)
}

/// `SECCOMP_SET_MODE_FILTER` with `NEW_LISTENER`: filters the calling thread from here on.
pub(crate) fn install_filter(
    program: &[libc::sock_filter],
    extra_flags: libc::c_ulong,
) -> Result<OwnedFd> {
    let answer = set_filter(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | extra_flags)?;
    let raw = RawFd::try_from(answer).or(Err(Errno::BADF))?;
    // SAFETY: on success the call gives a new descriptor (close-on-exec), which nothing else in
    // this process can know about yet.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// `SECCOMP_SET_MODE_FILTER` with `TSYNC`: filters every thread of this process from here on, or
/// none and gives one that could not be. What the filter refuses goes to the audit log (`LOG`).
///
/// `SPEC_ALLOW`: a filter otherwise switches mitigations of speculative execution on where the
/// kernel's are set so (the default before Linux 5.16), as for code that nobody knows.
pub(crate) fn filter_all_threads(program: &[libc::sock_filter]) -> Result<Option<i32>> {
    let flags = libc::SECCOMP_FILTER_FLAG_TSYNC
        | libc::SECCOMP_FILTER_FLAG_LOG
        | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    let tid = set_filter(program, flags)?;
    Ok((tid != 0).then(|| i32::try_from(tid).unwrap_or(-1)))
}

fn set_filter(program: &[libc::sock_filter], flags: libc::c_ulong) -> Result<libc::c_long> {
    let len = u16::try_from(program.len()).or(Err(Errno::INVAL))?;
    // The kernel copies the program and never writes through this pointer.
    let prog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: seccomp(2) reads `prog` and the `len` instructions it points to, both of which live
    // through the call. The kernel verifies the program before it installs it.
    let answer = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const prog)
    };
    check(answer)
}

/// `SO_PEERCRED`.
///
/// `rustix` has this call too, but its result type cannot hold the process id 0 that the kernel
/// gives for a peer outside our PID namespace.
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> Result<libc::ucred> {
    let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = libc::socklen_t::try_from(size_of_val(&cred)).or(Err(Errno::INVAL))?;
    // SAFETY: getsockopt(2) writes at most `len` bytes to the value pointer and a length to the
    // last pointer. Both point to live locals, `len` is the size of `cred`, and every bit pattern
    // is a valid `ucred`.
    let ret = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &raw mut len,
        )
    };
    check(ret.into()).map(|_| cred)
}

/// The command whose answer is the ioctl's own return value.
struct AddFd(libc::seccomp_notif_addfd);

// SAFETY: ADDFD is `_IOW` of `struct seccomp_notif_addfd`; `as_ptr` points to one that lives as
// long as the command does, the kernel only reads it, and the output is not taken through the
// pointer.
unsafe impl Ioctl for AddFd {
    type Output = i32;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        ADDFD
    }

    fn as_ptr(&mut self) -> *mut libc::c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut libc::c_void) -> Result<Self::Output> {
        Ok(out)
    }
}

/// The number by which the kernel knows the borrowed descriptor.
pub(crate) fn descriptor_number(fd: &impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().cast_unsigned()
}

const RECV: Opcode = opcode(libc::SECCOMP_IOCTL_NOTIF_RECV);
const SEND: Opcode = opcode(libc::SECCOMP_IOCTL_NOTIF_SEND);
const ID_VALID: Opcode = opcode(libc::SECCOMP_IOCTL_NOTIF_ID_VALID);
const ADDFD: Opcode = opcode(libc::SECCOMP_IOCTL_NOTIF_ADDFD);
const SET_FLAGS: Opcode = opcode(libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS);

#[expect(clippy::cast_possible_truncation, reason = "opcodes have 32 bits in every type they take")]
const fn opcode(raw: libc::Ioctl) -> Opcode {
    raw as Opcode
}

/// Turns the C library's `-1` into the errno of this thread.
fn check(ret: libc::c_long) -> Result<libc::c_long> {
    if ret == -1 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(ret)
}
