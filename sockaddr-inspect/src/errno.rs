//! The error numbers the kernel gives for bad arguments.
//!
//! [`EFAULT`] and [`EINVAL`] have the same value on every Linux architecture; the others
//! are those of `asm-generic/errno.h`, which all but alpha, mips, parisc and sparc use.

/// The pointer does not lead to readable memory.
pub(crate) const EFAULT: i32 = 14;
/// The length or the contents do not form an address.
pub(crate) const EINVAL: i32 = 22;
/// The message is too long, or in too many pieces.
pub(crate) const EMSGSIZE: i32 = 90;
/// The control data is longer than the kernel takes.
pub(crate) const ENOBUFS: i32 = 105;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn numbers_are_those_of_libc() {
        assert_eq!(super::EFAULT, libc::EFAULT);
        assert_eq!(super::EINVAL, libc::EINVAL);
        assert_eq!(super::EMSGSIZE, libc::EMSGSIZE);
        assert_eq!(super::ENOBUFS, libc::ENOBUFS);
    }
}
