//! One small error type per operation on a listener or a notification; other operations' errors
//! stand beside them.
//!
//! Races with the target (it died, it was interrupted) are not here: they are outcomes in the
//! return types, so that a caller must match on them.

use rustix::io::Errno;
use thiserror::Error;

/// A descriptor could not be taken as a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The kernel does not tell its structure sizes (seccomp user notification is missing, or
    /// seccomp(2) is itself forbidden here).
    #[error("SECCOMP_GET_NOTIF_SIZES failed")]
    SizesCall {
        /// What seccomp(2) gave.
        #[source]
        source: Errno,
    },
    /// The kernel's structures are larger than the ones this crate was built with.
    #[error("kernel uses larger notification structures: {notif} and {resp} bytes")]
    Sizes {
        /// The kernel's `sizeof(struct seccomp_notif)`.
        notif: u16,
        /// The kernel's `sizeof(struct seccomp_notif_resp)`.
        resp: u16,
    },
    /// The descriptor is not the listening end of a seccomp filter.
    #[error("descriptor is not a seccomp listener")]
    NotAListener {
        /// What the ID_VALID ioctl gave; absent if it claimed that impossible ids are valid.
        #[source]
        source: Option<Errno>,
    },
}

/// A notification could not be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The RECV ioctl failed.
    #[error("RECV ioctl failed")]
    RecvCall {
        /// What ioctl(2) gave.
        #[source]
        source: Errno,
    },
}

/// The flags of a listener could not be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SetFlagsError {
    /// The SET_FLAGS ioctl failed.
    #[error("SET_FLAGS ioctl failed")]
    SetFlagsCall {
        /// What ioctl(2) gave.
        #[source]
        source: Errno,
    },
}

/// It could not be found out whether a notification is still waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AliveError {
    /// The ID_VALID ioctl failed.
    #[error("ID_VALID ioctl failed")]
    IdValidCall {
        /// What ioctl(2) gave.
        #[source]
        source: Errno,
    },
}

/// A notification could not be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The trapped call has its answer already: an interrupted
    /// [`add_fd_and_reply`](crate::Notification::add_fd_and_reply) did take effect.
    #[error("notification is already answered")]
    AlreadyAnswered,
    /// The SEND ioctl failed. The target is then answered with EIO.
    #[error("SEND ioctl failed")]
    SendCall {
        /// What ioctl(2) gave.
        #[source]
        source: Errno,
    },
}

/// A descriptor could not be installed, for a reason that is not the target's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AddFdError {
    /// The ADDFD ioctl failed.
    #[error("ADDFD ioctl failed")]
    AddFdCall {
        /// What ioctl(2) gave; EINVAL where the kernel lacks the ioctl or the flag.
        #[source]
        source: Errno,
    },
}
