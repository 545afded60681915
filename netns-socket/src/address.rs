//! connect(2) and bind(2) with an address as bytes.
//!
//! A supervisor that stands in for a container must hand the kernel the very bytes that it copied,
//! also where they make no sense: then the container gets the kernel's own error for them. The
//! address types of other crates cannot hold such bytes.

use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::sys;

/// Connects the socket to the address in these bytes, as they would stand in a `struct sockaddr`.
///
/// # Errors
/// What [connect(2)] said, EINPROGRESS among it. EINVAL for more than 128 bytes.
///
/// [connect(2)]: https://man7.org/linux/man-pages/man2/connect.2.html
pub fn connect(fd: impl AsFd, address: &[u8]) -> Result<(), Errno> {
    sys::connect(fd.as_fd(), address)
}

/// Binds the socket to the address in these bytes, as they would stand in a `struct sockaddr`.
///
/// # Errors
/// What [bind(2)] said. EINVAL for more than 128 bytes.
///
/// [bind(2)]: https://man7.org/linux/man-pages/man2/bind.2.html
pub fn bind(fd: impl AsFd, address: &[u8]) -> Result<(), Errno> {
    sys::bind(fd.as_fd(), address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketType, socket};

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn the_kernel_judges_the_bytes() {
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        assert_eq!(connect(&fd, &[2, 0, 0]), Err(Errno::INVAL));
        assert_eq!(bind(&fd, &[0; 200]), Err(Errno::INVAL));
        let mut any = [0; 16];
        any[..2].copy_from_slice(&2_u16.to_ne_bytes());
        assert_eq!(bind(&fd, &any), Ok(()));
        assert_eq!(bind(&fd, &any), Err(Errno::INVAL), "bound already");
    }
}
