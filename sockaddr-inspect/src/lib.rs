//! Bounded reads and strict decoding of socket addresses that another process supplied.
//!
//! A supervisor that answers system calls for another process (seccomp user
//! notification, ptrace) receives *pointers*: `connect(3, 0x7ffd…, 16)`. This crate
//! turns such arguments into a value the supervisor can judge and act on:
//!
//! ```text
//!  pointer, length ──fetch──▶ RawSockAddr ──decode──▶ SockAddr ──Destination::of──▶ policy
//!  (hostile)        one copy, ≤ 128 bytes   the kernel's own   one form per destination
//!                                           strictness
//! ```
//!
//! ```
//! use sockaddr_inspect::{Destination, FakeMemory, ForeignAddr, SockAddr, fetch};
//!
//! // What a target has at 0x1000; `ProcessMemory::of(tid)` in earnest.
//! let written = SockAddr::V6("[::ffff:127.0.0.1]:80".parse()?);
//! let at = ForeignAddr::new(0x1000);
//! let memory = FakeMemory::new().map(at, written.encode().as_bytes());
//!
//! // connect(fd, 0x1000, 28)
//! let copy = fetch(&memory, at, 28)?;
//! let addr = copy.decode()?.ip().expect("an IP address was written");
//! assert!(Destination::of(addr).is_loopback());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it promises
//!
//! - **One copy.** The target can rewrite its memory at any time. Decide and act on the
//!   [`RawSockAddr`], and never read the address again.
//! - **Bounded.** No more than [`MAX_SOCKADDR`] bytes of an address are read, and of a
//!   message no more than there is room for; nothing is allocated, and no byte or length
//!   of the target can cause a panic.
//! - **The kernel's judgement.** What [`fetch()`] and [`decode`](RawSockAddr::decode) refuse,
//!   the kernel refuses, with the error number that their errors give; what they take,
//!   it takes. [`store_name`] answers as the kernel does, byte for byte. The tests compare
//!   both on the running kernel.
//!
//! # What it does not do
//!
//! - It does not know whether the process behind a thread id is still the one that
//!   called: see [`ProcessMemory`].
//! - It does not say whether a given *socket* takes an address of a given family, and
//!   makes no policy.
//! - It understands no families but IPv4, IPv6 and `AF_UNIX`.
//!
//! # Kernels
//!
//! [`ProcessMemory`] needs Linux 3.2 (`process_vm_readv(2)`, built in unless
//! `CONFIG_CROSS_MEMORY_ATTACH` is off). All else builds on any target and depends on no
//! system library.

#![forbid(unsafe_code)]

mod addr;
mod decode;
mod encode;
mod errno;
pub mod fake;
pub mod family;
mod fetch;
mod inline;
#[cfg(target_os = "linux")]
mod mem_file;
mod memory;
pub mod msghdr;
pub mod normal;
#[cfg(target_os = "linux")]
mod process;
mod raw;
mod store;

pub use addr::{AbstractName, SockAddr, UnixAddr, UnixPath};
pub use decode::Malformed;
pub use fake::FakeMemory;
pub use fetch::{FetchError, fetch, fetch_u32_array};
#[cfg(target_os = "linux")]
pub use mem_file::MemoryFile;
pub use memory::{ForeignAddr, ReadError, ReadMemory, WriteError, WriteMemory};
pub use msghdr::MsgHdrName;
pub use normal::Destination;
#[cfg(target_os = "linux")]
pub use process::ProcessMemory;
pub use raw::{MAX_SOCKADDR, RawSockAddr, TruncateError, truncate_for_caller};
pub use store::{StoreError, store_name};

#[cfg(all(doctest, target_os = "linux"))]
#[doc = include_str!("../README.md")]
mod readme {}
