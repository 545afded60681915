//! Memory that belongs to someone else: its addresses, and how to copy it.
//!
//! The two traits are the seam between this crate and the kernel: decoding is
//! tested against [`FakeMemory`](crate::FakeMemory) and runs against
//! [`ProcessMemory`](crate::ProcessMemory).

use std::{fmt, io};

/// A pointer that means something in another process only.
///
/// It is the value of a system call argument, chosen by the target. It cannot be
/// dereferenced here; it can only be given to a [`ReadMemory`] or [`WriteMemory`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForeignAddr(u64);

impl ForeignAddr {
    /// Takes the raw value of a system call argument.
    #[must_use]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// Whether this is the null pointer.
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The address `bytes` further on, or `None` past the end of the 64-bit space.
    #[must_use]
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The value as the target passed it.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for ForeignAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignAddr({:#x})", self.0)
    }
}

/// Copies bytes out of a foreign address space.
pub trait ReadMemory {
    /// Copies from `at` into the start of `buf` and returns how many bytes came.
    ///
    /// Fewer than `buf.len()` means that the memory from there on cannot be read;
    /// the rest of `buf` is then unspecified.
    ///
    /// # Errors
    ///
    /// [`ReadError::Fault`] when `buf` is not empty and not even one byte could be
    /// read; otherwise why the address space itself is out of reach.
    ///
    /// # Races
    ///
    /// The target's other threads can change the bytes before, during and after
    /// the copy. Copy once, and both judge and act on the copy.
    fn read(&self, at: ForeignAddr, buf: &mut [u8]) -> Result<usize, ReadError>;
}

/// Copies bytes into a foreign address space.
pub trait WriteMemory {
    /// Copies `bytes` to `at` and returns how many bytes went.
    ///
    /// Fewer than `bytes.len()` means that the memory from there on cannot be written.
    ///
    /// # Errors
    ///
    /// [`WriteError::Fault`] when `bytes` is not empty and not even one byte could
    /// be written; otherwise why the address space itself is out of reach.
    fn write(&self, at: ForeignAddr, bytes: &[u8]) -> Result<usize, WriteError>;
}

impl<M: ReadMemory + ?Sized> ReadMemory for &M {
    fn read(&self, at: ForeignAddr, buf: &mut [u8]) -> Result<usize, ReadError> {
        (**self).read(at, buf)
    }
}

impl<M: WriteMemory + ?Sized> WriteMemory for &M {
    fn write(&self, at: ForeignAddr, bytes: &[u8]) -> Result<usize, WriteError> {
        (**self).write(at, bytes)
    }
}

/// Why nothing was read.
///
/// All but [`ReadCall`](Self::ReadCall) are to be expected of a target that ends,
/// passes a wild pointer, or has changed its credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Not even the first byte is readable (`EFAULT`).
    #[error("no readable memory at this address")]
    Fault,
    /// The thread has ended, or has no address space any more (`ESRCH`).
    #[error("the process is gone")]
    Gone,
    /// This process may not inspect the target (`EPERM`).
    #[error("no permission to read the process's memory")]
    Denied,
    /// The call failed for a reason on this side.
    #[error("reading the process's memory failed")]
    ReadCall {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Why nothing was written. See [`ReadError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Not even the first byte is writable (`EFAULT`).
    #[error("no writable memory at this address")]
    Fault,
    /// The thread has ended, or has no address space any more (`ESRCH`).
    #[error("the process is gone")]
    Gone,
    /// This process may not inspect the target (`EPERM`).
    #[error("no permission to write the process's memory")]
    Denied,
    /// The call failed for a reason on this side.
    #[error("writing the process's memory failed")]
    WriteCall {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_do_not_wrap() {
        let top = ForeignAddr::new(u64::MAX);
        assert_eq!(top.checked_add(0), Some(top));
        assert_eq!(top.checked_add(1), None);
        assert_eq!(ForeignAddr::new(8).checked_add(8), Some(ForeignAddr::new(16)));
    }

    #[test]
    fn addresses_print_as_pointers() {
        assert_eq!(format!("{:?}", ForeignAddr::new(0x7fff_0010)), "ForeignAddr(0x7fff0010)");
        assert!(ForeignAddr::new(0).is_null());
        assert!(!ForeignAddr::new(1).is_null());
    }
}
