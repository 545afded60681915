//! The error that identity and state share: a socket option that could not be read.

use rustix::io::Errno;

/// A socket could not be examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SockOptError {
    /// An option could not be read.
    #[error("getsockopt({option}) failed")]
    Get {
        /// C name of the option.
        option: &'static str,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// A fresh socket, needed to compare with, could not be made.
    #[error("socket failed")]
    Socket {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
}
