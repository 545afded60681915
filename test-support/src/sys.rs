//! The calls without a safe wrapper: untyped socket options, names of sockets in buffers of
//! any length, `fork`, and `dup2` over a descriptor that others use.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

/// Sets a socket option from its bytes.
///
/// See [setsockopt(2)](https://man7.org/linux/man-pages/man2/setsockopt.2.html).
///
/// # Errors
/// What the kernel answers.
pub fn set_option(socket: impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(value)).unwrap_or(libc::socklen_t::MAX);
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads `length` bytes from the pointer, which is the length of the
    // borrowed slice, and keeps no reference to it.
    let result = unsafe { libc::setsockopt(socket, level, name, value.as_ptr().cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads a socket option as bytes, at most 64.
///
/// See [getsockopt(2)](https://man7.org/linux/man-pages/man2/getsockopt.2.html).
///
/// # Errors
/// What the kernel answers.
pub fn option(socket: impl AsFd, level: i32, name: i32) -> io::Result<Vec<u8>> {
    let mut value = [0_u8; 64];
    let mut length: libc::socklen_t = 64;
    let socket = socket.as_fd().as_raw_fd();
    let into = value.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most `length` bytes to `into`, which is the size of the
    // array behind it; both places outlive the call and are borrowed by nobody else.
    let result = unsafe { libc::getsockopt(socket, level, name, into, &raw mut length) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let length = usize::try_from(length).unwrap_or(0).min(value.len());
    Ok(value.get(..length).unwrap_or_default().to_vec())
}

/// A call that writes an address to the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// getsockname(2)
    Local,
    /// getpeername(2)
    Peer,
    /// accept(2)
    Accept,
}

/// What is passed as `addrlen`, and with it as `addr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// A buffer that is said to have this many bytes, true or not; it has 128.
    Bytes(i32),
    /// Null for the buffer, with a length of 16.
    NoBuffer,
    /// Null for the length.
    NoLength,
}

/// What a naming call left behind.
#[derive(Debug)]
pub struct Named {
    /// The length that it reports.
    pub length: i32,
    /// The whole buffer; what was not written is as it was.
    pub buffer: [u8; 128],
    /// The connection that accept(2) returned.
    pub accepted: Option<OwnedFd>,
}

/// Asks for a name with a buffer of a chosen length, which is full of `untouched` before.
///
/// See [getsockname(2)](https://man7.org/linux/man-pages/man2/getsockname.2.html).
///
/// # Errors
/// What the kernel answers.
pub fn name(socket: impl AsFd, call: Naming, room: Room, untouched: u8) -> io::Result<Named> {
    let mut buffer = [untouched; 128];
    let said = match room {
        Room::Bytes(said) => said,
        Room::NoBuffer | Room::NoLength => 16,
    };
    // The kernel takes a signed number, which libc's type does not show.
    let mut length = libc::socklen_t::from_ne_bytes(said.to_ne_bytes());
    let into: *mut libc::sockaddr = match room {
        Room::NoBuffer => ptr::null_mut(),
        _ => buffer.as_mut_ptr().cast(),
    };
    let length_at: *mut libc::socklen_t = match room {
        Room::NoLength => ptr::null_mut(),
        _ => &raw mut length,
    };
    let socket = socket.as_fd().as_raw_fd();
    let function = match call {
        Naming::Local => libc::getsockname,
        Naming::Peer => libc::getpeername,
        Naming::Accept => libc::accept,
    };
    // SAFETY: the kernel writes no more than the length of an IP socket's address, 28 bytes,
    // whatever length it is told; the buffer has 128. It checks both pointers and answers
    // EFAULT for null. Both places outlive the call and are borrowed by nobody else.
    let result = unsafe { function(socket, into, length_at) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let accepted = (call == Naming::Accept).then(|| {
        // SAFETY: accept(2) returned a new descriptor, which nobody else knows of.
        unsafe { OwnedFd::from_raw_fd(result) }
    });
    Ok(Named { length: i32::from_ne_bytes(length.to_ne_bytes()), buffer, accepted })
}

/// Forks; `None` in the child.
///
/// # Errors
/// What the kernel answers, and `EBUSY` in a process with more than one thread: the child
/// could then only call async-signal-safe functions.
pub fn fork() -> io::Result<Option<u32>> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: this process has a single thread, checked above, and only that thread could
    // start another. So no lock can be left held in the child, and it may run any code.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => Ok(None),
        _ => u32::try_from(pid).map(Some).map_err(|_negative| io::Error::last_os_error()),
    }
}

/// As [`fork`], of a child that has our descriptor table and not a copy of it.
///
/// # Errors
/// As [`fork`].
pub fn fork_sharing_descriptors() -> io::Result<Option<u32>> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let flags = libc::c_long::from(libc::CLONE_FILES | libc::SIGCHLD);
    // SAFETY: without CLONE_VM the child goes on with a copy of this memory, on the copied stack, as
    // after fork(2); there is a single thread, checked above, so no lock is held in the copy.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    match pid {
        0 => Ok(None),
        _ => u32::try_from(pid).map(Some).map_err(|_negative| io::Error::last_os_error()),
    }
}

/// Marks every descriptor but the standard ones close-on-exec.
///
/// See [close_range(2)](https://man7.org/linux/man-pages/man2/close_range.2.html).
///
/// # Errors
/// What the kernel answers.
pub fn close_all_on_exec() -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: with this flag the call closes nothing and touches no memory.
    let result = unsafe { libc::close_range(3, u32::MAX, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the descriptor `target` mean what `with` means, whoever is using it meanwhile.
///
/// See [dup2(2)](https://man7.org/linux/man-pages/man2/dup2.2.html).
///
/// # Errors
/// What the kernel answers.
pub fn replace(target: impl AsFd, with: impl AsFd) -> io::Result<()> {
    let (with, target) = (with.as_fd().as_raw_fd(), target.as_fd().as_raw_fd());
    // SAFETY: both numbers are open, since they are borrowed, and stay open: the kernel
    // exchanges what `target` refers to in one step, and its owner closes the new meaning.
    let result = unsafe { libc::dup2(with, target) };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
