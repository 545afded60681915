//! Safe seccomp user notification: receive, inspect, answer and hand over descriptors.
//!
//! A seccomp filter can stop a system call and ask another process what it shall return. This
//! crate is both ends of that: it builds and installs such filters, receives listeners from OCI
//! runtimes, and wraps the ioctls with which a supervisor receives calls, checks on them, answers
//! them, and installs descriptors in the caller.
//!
//! ```text
//!      target thread                kernel                       supervisor
//!      ─────────────                ──────                       ──────────
//!  Filter::install ──── seccomp(2), NEW_LISTENER ────> Listener
//!                                                      (pass_fd / take_fd, receive_handoff)
//!  connect(fd, ...) ──> filter says "notify"
//!        :               listener gets readable ─────> Listener::recv ──> Notification
//!        :                                                 inspect the target, then is_alive
//!        :  <─────────── ADDFD ─────────────────────── Notification::add_fd
//!        :               target installs, gives number ──> AddFdOutcome::Installed
//!  returns 0  <───────── SEND ──────────────────────── Notification::reply(Reply::value(0))
//! ```
//!
//! # Contract
//!
//! - A notification is a value that answering consumes. Nothing is answered twice, and one that is
//!   dropped answers EIO: a target never hangs because a supervisor forgot it.
//! - A target that dies or is interrupted at any moment is an *outcome* to match on, not an error.
//! - Received descriptors are close-on-exec and owned; file descriptor numbers are only ever those
//!   of the target.
//! - Receiving and answering allocate nothing and take no lock.
//! - Not here: reading the target's memory or descriptors, any policy, any event loop.
//!
//! # Checking and using
//!
//! The target is not stopped but for the one trapped thread, so that what a supervisor finds can
//! change behind its back:
//!
//! 1. **Read, then check.** A thread id can be used anew. What was read from `/proc` or the memory
//!    of [`Notification::tid`] is the target's only if [`Notification::is_alive`] says so
//!    *afterwards*.
//! 2. **Copy once.** Memory behind a pointer argument can be rewritten between two reads. Decide
//!    and act on one and the same copy.
//! 3. **Act yourself.** [`Reply::continue_call`] lets the kernel read the arguments again, so no
//!    decision taken before it binds the target. To enforce, perform the call in the supervisor
//!    and answer with its result.
//!
//! [seccomp_unotify(2)] has the whole story.
//!
//! # Kernel versions
//!
//! | Linux | what | here |
//! |---|---|---|
//! | 5.0 | user notification | [`Listener::recv`], [`Notification::reply`] |
//! | 5.5 | `USER_NOTIF_FLAG_CONTINUE` | [`Reply::continue_call`] |
//! | 5.9 | `NOTIF_ADDFD`; EPOLLHUP when the last thread under the filter ends | [`Notification::add_fd`] |
//! | 5.14 | `ADDFD_FLAG_SEND` | [`Notification::add_fd_and_reply`] |
//! | 5.19 | `FILTER_FLAG_WAIT_KILLABLE_RECV` | [`Filter::wait_killable_recv`] |
//! | 6.6 | `NOTIF_SET_FLAGS` | [`Listener::set_sync_wake_up`] |
//!
//! [`Features`] asks the running kernel.
//!
//! # Example
//!
//! ```
//! use std::os::unix::process::parent_id;
//! use std::{sync::mpsc, thread};
//!
//! use seccomp_notify::{Filter, Received, Reply, ReplyOutcome};
//!
//! let (sender, receiver) = mpsc::channel();
//! let target = thread::spawn(move || {
//!     // From here on this thread's getppid(2) waits for an answer.
//!     sender.send(Filter::allow_all().notify(libc::SYS_getppid as i32).install()).unwrap();
//!     parent_id()
//! });
//! let listener = receiver.recv()??;
//! let Received::Notification(call) = listener.recv()? else { panic!("target has gone") };
//! assert_eq!(i64::from(call.syscall_nr()), libc::SYS_getppid);
//! assert_eq!(call.reply(Reply::value(4711))?, ReplyOutcome::Delivered);
//! assert_eq!(target.join().unwrap(), 4711);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [seccomp_unotify(2)]: https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html

mod addfd;
mod error;
mod features;
mod filter;
mod handoff;
mod listener;
mod notification;
mod pass_fd;
mod reply;
#[expect(unsafe_code, reason = "the seccomp calls that no safe crate wraps")]
mod sys;

pub use rustix::io::Errno;

pub use addfd::{AddFd, AddFdOutcome, AddFdReplyError, AddFdReplyOutcome};
pub use error::{AddFdError, AliveError, OpenError, RecvError, ReplyError, SetFlagsError};
pub use features::{Features, NotifSizes};
pub use filter::{
    Allowlist, Condition, Filter, FilterError, InstallError, Test, libseccomp_version,
};
pub use handoff::{ContainerProcessState, Handoff, HandoffError, PeerCred, State, receive_handoff};
pub use listener::{Listener, Received, Support};
pub use notification::{Arch, NotifId, Notification, ReplyOutcome};
pub use pass_fd::{PassFdError, TakeFdError, pass_fd, take_fd};
pub use reply::Reply;
