//! The two error numbers the kernel gives for a bad address argument.
//!
//! Both have the same value on every Linux architecture.

/// The pointer does not lead to readable memory.
pub(crate) const EFAULT: i32 = 14;
/// The length or the contents do not form an address.
pub(crate) const EINVAL: i32 = 22;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn numbers_are_those_of_libc() {
        assert_eq!(super::EFAULT, libc::EFAULT);
        assert_eq!(super::EINVAL, libc::EINVAL);
    }
}
