//! Calls in a foreign calling convention, which would walk past rules made for the native one.

use crate::{Case, Need};

#[cfg(target_arch = "x86_64")]
pub(crate) const TRIALS: &[Case] = &[
    ("x32_numbers_get_the_errno", Need::Notify, x86::x32_numbers_get_the_errno),
    ("i386_calls_get_the_errno", Need::Ia32, x86::i386_calls_get_the_errno),
];
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const TRIALS: &[Case] = &[];

/// Makes an i386 call; ends this process by a signal, or unsuccessfully, if that cannot be done.
pub(crate) fn ia32_probe() {
    #[cfg(target_arch = "x86_64")]
    assert_eq!(x86::ia32_getpid(), i64::from(std::process::id()));
    #[cfg(not(target_arch = "x86_64"))]
    panic!("not x86-64");
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use seccomp_notify::Errno;

    use crate::target::{self, raw_call, spawn};

    const X32_BIT: libc::c_long = 0x4000_0000;

    /// Not what a kernel without x32 or i386 would give.
    const MARKER: Errno = Errno::NOANO;

    pub(super) fn x32_numbers_get_the_errno() {
        let filter = target::trap_getppid().foreign_arch(MARKER);
        let (_listener, thread) = spawn(filter, || {
            [libc::SYS_getppid, libc::SYS_getpid, 512].map(|nr| raw_call(X32_BIT | nr))
        });
        assert_eq!(thread.join().unwrap(), [Err(MARKER.raw_os_error()); 3]);
    }

    pub(super) fn i386_calls_get_the_errno() {
        let filter = target::trap_getppid().foreign_arch(MARKER);
        let (_listener, thread) = spawn(filter, ia32_getpid);
        assert_eq!(thread.join().unwrap(), -i64::from(MARKER.raw_os_error()));
    }

    /// getpid by the i386 gate, which every 64-bit program can use.
    #[expect(unsafe_code, reason = "there is no other way to make an i386 call")]
    pub(super) fn ia32_getpid() -> i64 {
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
}
