//! A network namespace that can be entered though whoever was seen in it has gone.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use crate::PidFd;

/// A network namespace and the user namespace by way of which it is entered. It stays, and can be
/// entered, as long as this is held.
#[derive(Debug)]
pub struct Namespace {
    pub(crate) user: OwnedFd,
    pub(crate) net: OwnedFd,
}

impl Namespace {
    /// The namespaces of thread `tid`, an id in the caller's pid namespace ([namespaces(7)]).
    ///
    /// # Errors
    /// What open(2) said: ENOENT if there is no such thread, EACCES if we may not inspect it.
    ///
    /// # Races
    /// Ids are reused. The caller proves that the thread is the one it means *after* this call,
    /// for example with `SECCOMP_IOCTL_NOTIF_ID_VALID`.
    ///
    /// [namespaces(7)]: https://man7.org/linux/man-pages/man7/namespaces.7.html
    pub fn of(tid: i32) -> io::Result<Self> {
        let open = |kind| File::open(format!("/proc/{tid}/ns/{kind}")).map(OwnedFd::from);
        Ok(Self { user: open("user")?, net: open("net")? })
    }
}

/// Whose network namespace is meant.
#[derive(Clone, Copy, Debug)]
pub enum Within<'a> {
    /// That of a thread, while it lives.
    Thread(&'a PidFd),
    /// That one.
    Namespace(&'a Namespace),
}

impl<'a> From<&'a PidFd> for Within<'a> {
    fn from(thread: &'a PidFd) -> Self {
        Self::Thread(thread)
    }
}

impl<'a> From<&'a Namespace> for Within<'a> {
    fn from(namespace: &'a Namespace) -> Self {
        Self::Namespace(namespace)
    }
}
