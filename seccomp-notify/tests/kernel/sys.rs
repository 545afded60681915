//! System calls for which there are no safe wrappers.

use std::io;
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;

/// A system call with zeros for arguments: its value, or its errno.
pub(crate) fn raw_call(nr: libc::c_long) -> Result<i64, i32> {
    // SAFETY: the tests call this for getppid and its like, which take no argument and touch no
    // memory, whether or not they are trapped.
    outcome(unsafe { libc::syscall(nr, 0, 0, 0, 0, 0, 0) })
}

/// A send on no descriptor at all, with these values for the arguments behind it.
pub(crate) fn send_on_nothing(nr: libc::c_long, rest: [u64; 5]) -> Result<i64, i32> {
    assert!([libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_sendmmsg].contains(&nr));
    let [b, c, d, e, f] = rest;
    // SAFETY: the kernel looks the descriptor up before it looks at any memory, and -1 is none.
    outcome(unsafe { libc::syscall(nr, -1_i64, b, c, d, e, f) })
}

fn outcome(ret: libc::c_long) -> Result<i64, i32> {
    if ret == -1 {
        return Err(io::Error::last_os_error().raw_os_error().unwrap());
    }
    Ok(ret)
}

/// Bytes that the peer has not received (SIOCOUTQ).
pub(crate) fn unsent(stream: &UnixStream) -> i32 {
    // SAFETY: TIOCOUTQ (SIOCOUTQ on a socket) writes an int through its argument.
    let get =
        unsafe { rustix::ioctl::Getter::<{ libc::TIOCOUTQ as rustix::ioctl::Opcode }, i32>::new() };
    // SAFETY: a UNIX socket knows this opcode as just said.
    unsafe { rustix::ioctl::ioctl(stream, get) }.unwrap()
}

/// Has SIGUSR1 interrupt calls.
pub(crate) fn install_empty_handler() {
    extern "C" fn ignore(_: libc::c_int) {}
    let action = nix::sys::signal::SigAction::new(
        nix::sys::signal::SigHandler::Handler(ignore),
        nix::sys::signal::SaFlags::empty(),
        nix::sys::signal::SigSet::empty(),
    );
    // SAFETY: the handler must be safe to run at any time; it does nothing.
    unsafe { nix::sys::signal::sigaction(Signal::SIGUSR1, &action) }.unwrap();
}

#[cfg(target_arch = "x86_64")]
/// getpid by the i386 gate, which every 64-bit program can use.
pub(crate) fn ia32_getpid() -> i64 {
    /// `__NR_getpid` of i386.
    const GETPID: i64 = 20;
    let result: i64;
    // SAFETY: the gate takes the number in eax and returns in rax; 64-bit callers may find r8
    // to r11 changed (declared). getpid takes no argument and touches no memory. The red zone
    // is out of the kernel's reach, so the stack is not touched either.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("rax") GETPID => result,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    // The gate returns 32 bits.
    i64::from(result as i32)
}
