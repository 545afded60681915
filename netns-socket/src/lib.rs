//! Sockets of other processes and network namespaces: take, identify, copy, pin, create.
//!
//! A supervisor that replaces a container's socket by one of its own namespace needs to know what
//! the socket is, make another that behaves the same, and keep the other from reaching more than
//! it should. This crate has the parts, each usable alone:
//!
//! ```text
//!  another process                     this process
//!  ┌───────────────┐  PidFd::take_fd   ┌─────────────┐ Identity::of, SocketState::capture
//!  │ descriptor  N ├──────────────────▶│ duplicate   ├──────────────┐
//!  └───────────────┘                   └─────────────┘              ▼ apply
//!                                      create_twin ─▶ twin ─▶ pin (device from Router::egress)
//!  ┌───────────────┐  socket_inside
//!  │ its namespace ├──────────────────▶ a new socket that lives there
//!  └───────────────┘
//! ```
//!
//! What it does: it asks the kernel, every time, and says what really happened. Races with the other
//! process (it is gone, it closed the descriptor) are values, not errors. Every descriptor it makes
//! is close-on-exec.
//!
//! What it does not: it decides no policy, installs nothing into other processes, and copies no
//! connection. A socket whose state cannot be copied is reported as such; [`options`] lists every
//! option with what becomes of it.
//!
//! # Example
//! ```
//! use netns_socket::{Captured, Identity, SocketState, create_twin, pin};
//!
//! let original = std::net::UdpSocket::bind("127.0.0.1:0")?;
//! original.set_broadcast(true)?;
//! let Some(id) = Identity::of(&original)? else { return Ok(()) };
//! match SocketState::capture(&original, &id)? {
//!     Captured::State(state) => {
//!         assert_eq!(state.changed().collect::<Vec<_>>(), ["SO_BROADCAST"]);
//!         let twin = create_twin(&id, false)?;
//!         assert!(state.apply(&twin)?.complete());
//!         assert_eq!(pin(&twin, 1)?.ifindex(), 1);
//!     }
//!     Captured::NotCopyable { option, reason } => println!("stays: {option}: {reason}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Kernel
//! Linux 5.9 or newer; newer ones add:
//!
//! | since | what |
//! |---|---|
//! | 5.14 | namespace cookies ([`Identity::netns_cookie`]), `SO_BUF_LOCK` |
//! | 6.9 | handles of single threads ([`PidFd::open`]) |
//!
//! Nothing needs privilege in the initial user namespace. Looking into a process takes the right to
//! trace it, which the owner of its user namespace has.

mod address;
mod capture;
mod datagram;
mod deafen;
mod defaults;
pub mod epoll;
mod error;
mod flags;
mod foreign;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod holders;
mod identity;
mod inside;
mod lines;
mod listener;
mod namespace;
mod netlink;
mod networks;
pub mod options;
mod pin;
mod route;
mod state;
#[expect(unsafe_code, reason = "system calls that rustix does not wrap; reviewed as one file")]
mod sys;
mod twin;
mod udp_sockets;
mod vigil;

pub use rustix::io::Errno;

pub use crate::address::{bind, connect};
pub use crate::capture::Part;
pub use crate::datagram::{
    Datagram, LocalAddress, recv_datagram, report_destination, send_copied, send_datagram,
};
pub use crate::deafen::{DeafenError, deafen_to_loopback};
pub use crate::defaults::Defaults;
pub use crate::error::SockOptError;
pub use crate::flags::{FileFlags, FileFlagsError, Owner, ReadCloexecError, read_cloexec};
pub use crate::foreign::{PidFd, PidFdError, TakeFdError, Taken, group_of};
pub use crate::identity::{
    Domain, Identity, Kind, TcpState, netns_cookie_of, own_netns_cookie, tcp_state,
};
pub use crate::inside::{
    InsideError, MAX_AT_ONCE, netns_cookie_inside, socket_inside, sockets_inside,
    unprivileged_port_start,
};
pub use crate::lines::find_line;
pub use crate::listener::listener_at;
pub use crate::namespace::{Namespace, Within};
pub use crate::networks::{InterfaceAddress, MAX_ADDRESSES, Networks, NetworksError};
pub use crate::pin::{PinError, Pinned, pin, pinned_to};
pub use crate::route::{Arrival, Egress, RouteError, Router};
pub use crate::state::{Applied, ApplyError, Captured, Refusal, SocketState};
pub use crate::twin::{SocketSpec, create_twin};
pub use crate::udp_sockets::open_udp_sockets;
pub use crate::vigil::{Vigil, VigilError, Watched};
