//! Sockets of other processes and network namespaces: take, identify, copy, pin, create
mod address;
mod defaults;
mod error;
mod flags;
mod foreign;
mod identity;
mod inside;
mod netlink;
pub mod options;
mod pin;
mod route;
mod state;
#[expect(unsafe_code, reason = "system calls that rustix does not wrap; reviewed as one file")]
mod sys;
mod twin;

pub use rustix::io::Errno;

pub use crate::address::{bind, connect};
pub use crate::defaults::Defaults;
pub use crate::error::SockOptError;
pub use crate::flags::{FileFlags, FileFlagsError, Owner, ReadCloexecError, read_cloexec};
pub use crate::foreign::{PidFd, PidFdError, TakeFdError, Taken};
pub use crate::identity::{Domain, Identity, Kind, TcpState, own_netns_cookie, tcp_state};
pub use crate::inside::{InsideError, socket_inside};
pub use crate::pin::{PinError, Pinned, pin, pinned_to};
pub use crate::route::{Egress, RouteError, Router};
pub use crate::state::{Applied, ApplyError, Captured, Refusal, SocketState};
pub use crate::twin::{SocketSpec, create_twin};
