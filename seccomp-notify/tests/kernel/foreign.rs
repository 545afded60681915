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
    assert_eq!(crate::sys::ia32_getpid(), i64::from(std::process::id()));
    #[cfg(not(target_arch = "x86_64"))]
    panic!("not x86-64");
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use seccomp_notify::Errno;

    use crate::sys::{ia32_getpid, raw_call};
    use crate::target::{self, spawn};

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
}
