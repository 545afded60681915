//! Raw socket options, for values that no wrapper has.

use std::os::fd::{AsFd, AsRawFd};

use netns_socket::Errno;

pub(crate) fn set(fd: impl AsFd, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    let len = libc::socklen_t::try_from(value.len()).unwrap();
    // SAFETY: pointer and length describe the same live slice, which the kernel only reads.
    let answer = unsafe {
        libc::setsockopt(fd.as_fd().as_raw_fd(), level, name, value.as_ptr().cast(), len)
    };
    check(answer)
}

pub(crate) fn set_int(fd: impl AsFd, level: i32, name: i32, value: i32) -> Result<(), Errno> {
    set(fd, level, name, &value.to_ne_bytes())
}

pub(crate) fn get(fd: impl AsFd, level: i32, name: i32, size: usize) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0_u8; size];
    let mut len = libc::socklen_t::try_from(size).unwrap();
    // SAFETY: the value pointer is valid for `len` bytes, the length pointer is a live local.
    let answer = unsafe {
        libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    check(answer)?;
    value.truncate(usize::try_from(len).unwrap());
    Ok(value)
}

pub(crate) fn get_int(fd: impl AsFd, level: i32, name: i32) -> i32 {
    i32::from_ne_bytes(get(fd, level, name, 4).unwrap().try_into().unwrap())
}

/// Attaches a classic filter that accepts everything.
pub(crate) fn attach_filter(fd: impl AsFd) -> Result<(), Errno> {
    // BPF_RET | BPF_K
    let mut program = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: u32::MAX }];
    let filter = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    let size = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap();
    // SAFETY: `filter` is a `sock_fprog` whose pointer and length describe the live `program`;
    // the kernel copies both within the call.
    let answer = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size,
        )
    };
    check(answer)
}

fn check(answer: i32) -> Result<(), Errno> {
    if answer < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap());
    }
    Ok(())
}

pub(crate) fn set_owner(fd: impl AsFd, pid: i32) -> Result<(), Errno> {
    // SAFETY: `F_SETOWN` takes a plain integer.
    check(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_SETOWN, pid) })
}
