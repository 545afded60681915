//! A container's own network namespace: which it is, and the networks of its interfaces.

use std::net::IpAddr;

use netns_socket::{Networks, PidFd, Within, netns_cookie_inside};

/// What one container's thread knows of its namespace.
///
/// The word of whoever started the container says which it is: its first process. That cannot be
/// entered while it is still a runtime on its way to the container's program, so it is tried again
/// when the first socket is seen.
#[derive(Debug, Default)]
pub(crate) struct OwnNamespace {
    /// Until it has been entered.
    first: Option<PidFd>,
    /// Whether its networks are wanted.
    follow: bool,
    followed: Option<Networks>,
    failures: u32,
}

impl OwnNamespace {
    pub(crate) fn new(first: Option<PidFd>, follow: bool) -> Self {
        Self { first, follow, followed: None, failures: 0 }
    }

    /// The cookie of the namespace in which the first process is, at the moment, once; `None` where
    /// that cannot be found out, or not yet. `host` is the cookie of one that it cannot be.
    pub(crate) fn enter(&mut self, host: u64) -> Option<u64> {
        let first = self.first.as_ref()?;
        let (cookie, followed) = if self.follow {
            follow(first).map(|networks| (networks.netns_cookie(), Some(networks)))?
        } else {
            let cookie = netns_cookie_inside(first);
            let cookie = cookie.inspect_err(|error| {
                let error = error as &dyn std::error::Error;
                tracing::debug!(error, "the container's first process cannot be entered");
            });
            (cookie.ok()?, None)
        };
        self.first = None;
        let cookie = cookie.filter(|cookie| *cookie != host)?;
        self.followed = followed;
        Some(cookie)
    }

    /// Whether an interface of the container is connected to a network with this address. `netns` is
    /// the cookie of its namespace, where that is known, and `thread` one of its threads.
    pub(crate) fn contains<'t>(
        &mut self,
        thread: impl FnOnce() -> Option<&'t PidFd>,
        netns: Option<u64>,
        ip: IpAddr,
    ) -> Option<bool> {
        let netns = netns?;
        if self.followed.as_ref().is_none_or(|known| known.netns_cookie() != Some(netns)) {
            self.followed = self.follow(thread, netns);
        }
        self.followed.as_mut()?.contain(ip)
    }

    /// By way of some thread that wants to connect somewhere. Costs a process each time, and nothing is
    /// to be gained by it for a container that cannot be entered.
    fn follow<'t>(
        &mut self,
        thread: impl FnOnce() -> Option<&'t PidFd>,
        netns: u64,
    ) -> Option<Networks> {
        if self.failures >= MAX_FAILURES {
            return None;
        }
        // It may be in a namespace of its own, with a socket of the container's.
        let found = follow(thread()?).filter(|found| found.netns_cookie() == Some(netns));
        if found.is_none() {
            self.failures += 1;
            if self.failures == MAX_FAILURES {
                tracing::warn!(
                    "the networks of a container cannot be followed, as `auto` wants it: nothing of \
                     it is bypassed"
                );
            }
        }
        found
    }
}

fn follow<'a>(target: impl Into<Within<'a>>) -> Option<Networks> {
    Networks::of(target)
        .inspect_err(|error| {
            let error = error as &dyn std::error::Error;
            tracing::debug!(error, "a container's networks cannot be followed");
        })
        .ok()
}

/// Threads by way of which the namespace is tried to be entered.
const MAX_FAILURES: u32 = 16;
