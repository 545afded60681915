//! One trapped system call that waits for its answer.

use std::fmt;

use rustix::io::Errno;

use crate::addfd::{AddFd, AddFdOutcome, AddFdReplyError, AddFdReplyOutcome, Failure};
use crate::error::{AddFdError, AliveError, ReplyError};
use crate::listener::Listener;
use crate::reply::Reply;
use crate::sys;

/// The kernel's name for one notification, unique within its listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NotifId(u64);

impl NotifId {
    pub(crate) const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The number itself, for logs.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for NotifId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

/// Which calling convention a trapped call used, and so what its number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit x86 with 32-bit pointers: the same audit architecture as [`Arch::X86_64`], told
    /// apart by bit 30 of the call number.
    X32,
    /// 32-bit x86.
    I386,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM.
    Arm,
    /// Any other `AUDIT_ARCH_*` value of `linux/audit.h`.
    Other(u32),
}

impl Arch {
    fn of(audit_arch: u32, nr: i32) -> Self {
        match audit_arch {
            AUDIT_ARCH_X86_64 if has_x32_bit(nr) => Self::X32,
            AUDIT_ARCH_X86_64 => Self::X86_64,
            AUDIT_ARCH_I386 => Self::I386,
            AUDIT_ARCH_AARCH64 => Self::Aarch64,
            AUDIT_ARCH_ARM => Self::Arm,
            other => Self::Other(other),
        }
    }
}

/// A trapped call whose target waits until this value is used up.
///
/// Answering consumes it, so nothing can be answered twice. It keeps its listener open. If it is
/// **dropped unanswered, the target's call fails with EIO**: a supervisor that panics or forgets
/// leaves a failed call behind, never a target that hangs.
///
/// All accessors report what the kernel recorded when the call was trapped; none of them says that
/// the target still exists.
///
/// # Races
///
/// The thread behind [`tid`](Self::tid) can die, and its id be used anew, at any moment. Read from
/// the target first (its memory, its descriptors, its `/proc` files), *then* ask
/// [`is_alive`](Self::is_alive), and only then believe what was read.
#[must_use = "the target waits for an answer; dropping this answers EIO"]
pub struct Notification {
    listener: Listener,
    raw: libc::seccomp_notif,
    answered: bool,
}

impl Notification {
    pub(crate) const fn new(listener: Listener, raw: libc::seccomp_notif) -> Self {
        Self { listener, raw, answered: false }
    }

    /// The kernel's name for this notification.
    pub const fn id(&self) -> NotifId {
        NotifId::new(self.raw.id)
    }

    /// The id of the trapped *thread*, in the PID namespace of whoever received the notification.
    ///
    /// It is 0 if the thread is not visible there, as when the target lives in a sibling
    /// namespace: there is then no way to inspect it.
    pub const fn tid(&self) -> i32 {
        self.raw.pid.cast_signed()
    }

    /// The calling convention, to be checked before the number means anything.
    pub fn arch(&self) -> Arch {
        Arch::of(self.raw.data.arch, self.raw.data.nr)
    }

    /// The number of the trapped call in the numbering of [`arch`](Self::arch), without the bit
    /// that marks x32.
    pub fn syscall_nr(&self) -> i32 {
        match self.arch() {
            Arch::X32 => self.raw.data.nr & !X32_BIT,
            _ => self.raw.data.nr,
        }
    }

    /// The six argument registers.
    ///
    /// For parameters that C declares narrower than 64 bits the kernel ignores the upper part,
    /// which the target may fill at will: truncate as the kernel does before judging.
    pub const fn args(&self) -> [u64; 6] {
        self.raw.data.args
    }

    /// Where in the target's program the call was made.
    pub const fn instruction_pointer(&self) -> u64 {
        self.raw.data.instruction_pointer
    }

    /// Whether the trapped call still waits for its answer.
    ///
    /// # Errors
    ///
    /// If the ioctl fails for another reason than an ended call.
    ///
    /// # Races
    ///
    /// `true` speaks of the past: what was read from the target *before* this call did come from
    /// the target. Nothing follows for what is read after it.
    #[doc(alias = "SECCOMP_IOCTL_NOTIF_ID_VALID")]
    pub fn is_alive(&self) -> Result<bool, AliveError> {
        match sys::notif_id_valid(self.listener.borrow(), self.raw.id) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(source) => Err(AliveError::IdValidCall { source }),
        }
    }

    /// Answers the trapped call and lets the target go on.
    ///
    /// # Errors
    ///
    /// [`ReplyError::SendCall`] if the kernel does not take the reply (EINVAL for
    /// [`Reply::continue_call`] before Linux 5.5); the target is then answered with EIO.
    #[doc(alias = "SECCOMP_IOCTL_NOTIF_SEND")]
    pub fn reply(mut self, reply: Reply) -> Result<ReplyOutcome, ReplyError> {
        match sys::notif_send(self.listener.borrow(), reply.to_raw(self.id())) {
            Ok(()) => {
                self.answered = true;
                Ok(ReplyOutcome::Delivered)
            }
            Err(Errno::NOENT) => {
                self.answered = true;
                Ok(ReplyOutcome::TargetGone)
            }
            Err(Errno::INPROGRESS) => {
                self.answered = true;
                Err(ReplyError::AlreadyAnswered)
            }
            Err(source) => Err(ReplyError::SendCall { source }),
        }
    }

    /// Installs a descriptor in the target while its call goes on waiting (since Linux 5.9).
    ///
    /// The target's thread wakes up to do this, and the ioctl returns when it has.
    ///
    /// # Errors
    ///
    /// [`AddFdError::AddFdCall`] if the kernel lacks the ioctl or does not take the request.
    #[doc(alias = "SECCOMP_IOCTL_NOTIF_ADDFD")]
    pub fn add_fd(&self, fd: &AddFd<'_>) -> Result<AddFdOutcome, AddFdError> {
        let source = match sys::notif_addfd(self.listener.borrow(), fd.to_raw(self.id(), false)) {
            Ok(number) => return Ok(AddFdOutcome::Installed(number)),
            Err(errno) => errno,
        };
        match Failure::of(source) {
            Failure::TargetGone => Ok(AddFdOutcome::TargetGone),
            Failure::Interrupted => Ok(AddFdOutcome::Interrupted),
            Failure::Refused => Ok(AddFdOutcome::Refused(source)),
            Failure::Call => Err(AddFdError::AddFdCall { source }),
        }
    }

    /// Installs a descriptor in the target and lets its call return the new number, in one step
    /// and one wake-up (since Linux 5.14).
    ///
    /// # Errors
    ///
    /// [`AddFdReplyError`], with the notification in it, if the kernel lacks the flag or does not
    /// take the request.
    #[doc(alias = "SECCOMP_ADDFD_FLAG_SEND")]
    pub fn add_fd_and_reply(
        mut self,
        fd: &AddFd<'_>,
    ) -> Result<AddFdReplyOutcome, AddFdReplyError> {
        let source = match sys::notif_addfd(self.listener.borrow(), fd.to_raw(self.id(), true)) {
            Ok(number) => {
                self.answered = true;
                return Ok(AddFdReplyOutcome::Delivered(number));
            }
            // After a signal with SA_RESTART the kernel runs the ioctl anew, and this second run
            // finds its own first one.
            Err(Errno::INPROGRESS) => return Ok(AddFdReplyOutcome::Interrupted(self)),
            Err(errno) => errno,
        };
        match Failure::of(source) {
            Failure::TargetGone => {
                self.answered = true;
                Ok(AddFdReplyOutcome::TargetGone)
            }
            Failure::Interrupted => Ok(AddFdReplyOutcome::Interrupted(self)),
            Failure::Refused => {
                Ok(AddFdReplyOutcome::Refused { errno: source, notification: self })
            }
            Failure::Call => Err(AddFdReplyError { notification: self, source }),
        }
    }
}

impl Drop for Notification {
    fn drop(&mut self) {
        if !self.answered {
            // Whether or not it gets there, nobody is left to be told.
            sys::notif_send(self.listener.borrow(), Reply::errno(Errno::IO).to_raw(self.id())).ok();
        }
    }
}

impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notification")
            .field("id", &self.id())
            .field("tid", &self.tid())
            .field("arch", &self.arch())
            .field("syscall_nr", &self.syscall_nr())
            .field("args", &self.args())
            .finish_non_exhaustive()
    }
}

/// What came of [`Notification::reply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyOutcome {
    /// The target goes on with this answer.
    Delivered,
    /// The trapped call was over before the answer: the target died, or a signal interrupted it.
    TargetGone,
}

/// `__X32_SYSCALL_BIT` of `asm/unistd.h`.
const X32_BIT: i32 = 0x4000_0000;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
const AUDIT_ARCH_ARM: u32 = 0x4000_0028;

/// Negative numbers (a tracer may set -1) are no x32 calls although they have the bit.
const fn has_x32_bit(nr: i32) -> bool {
    nr >= 0 && nr & X32_BIT != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures() {
        for (audit, nr, arch) in [
            (0xc000_003e, 41, Arch::X86_64),
            (0xc000_003e, 0x4000_0000 | 41, Arch::X32),
            (0xc000_003e, -1, Arch::X86_64),
            (0x4000_0003, 359, Arch::I386),
            (0x4000_0003, 0x4000_0000, Arch::I386),
            (0xc000_00b7, 198, Arch::Aarch64),
            (0x4000_0028, 281, Arch::Arm),
            (0xc000_00f3, 198, Arch::Other(0xc000_00f3)),
        ] {
            assert_eq!(Arch::of(audit, nr), arch, "{audit:#x} {nr:#x}");
        }
    }
}
