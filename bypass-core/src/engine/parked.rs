//! Calls that wait for the network.
//!
//! A parked call holds its notification and a duplicate of the socket, which the
//! target has as well. It ends when the connection does, when the socket's send
//! timeout is over, or when nobody waits any more.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use seccomp_notify::Errno;
use sockaddr_inspect::RawSockAddr;

use super::unheard::Unheard;
use super::{Answer, Kernel, Probe, Step, Token, Whose};
use crate::Reason;
use crate::share::Share;
use crate::stats::Outcome;

/// How often parked calls are checked for having been interrupted by a signal.
const CHECK_EVERY: Duration = Duration::from_millis(100);

pub(super) struct Parked<K: Kernel> {
    pub(super) note: K::Note,
    pub(super) tid: i32,
    pub(super) sock: K::Sock,
    pub(super) addr: RawSockAddr,
    /// When `SO_SNDTIMEO` is over.
    pub(super) deadline: Option<Instant>,
    pub(super) wait: Wait,
}

/// How a wait ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// What is counted when the connection comes to stand.
    pub(super) success: (Outcome, Reason),
    /// What connect(2) says when `SO_SNDTIMEO` is over: EINPROGRESS to the call that began
    /// the connection, EALREADY to a later one.
    pub(super) timed_out: Errno,
    pub(super) whose: Whose,
}

/// All parked calls of a container.
pub(super) struct Lot<K: Kernel> {
    calls: HashMap<Token, Parked<K>>,
    by_tid: HashMap<i32, Token>,
    next: u32,
    next_check: Option<Instant>,
    /// No deadline is before this one. It may be that of a call that has ended since.
    soonest: Option<Instant>,
    share: Share,
}

impl<K: Kernel> Lot<K> {
    /// With as much room as there is in `share`: each call holds descriptors of ours.
    pub(super) fn new(share: Share) -> Self {
        Self {
            calls: HashMap::new(),
            by_tid: HashMap::new(),
            next: 0,
            next_check: None,
            soonest: None,
            share,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Gives the notification back if there is no room for it.
    pub(super) fn park(&mut self, k: &mut K, call: Parked<K>, now: Instant) -> Result<(), K::Note> {
        if !self.share.take() {
            return Err(call.note);
        }
        let token = self.free_token();
        if !k.watch(token, call.tid, &call.sock) {
            self.share.give_back();
            return Err(call.note);
        }
        self.next_check.get_or_insert(now + CHECK_EVERY);
        self.soonest = self.soonest.into_iter().chain(call.deadline).min();
        self.by_tid.insert(call.tid, token);
        self.calls.insert(token, call);
        Ok(())
    }

    /// Numbers are not reused soon, so that a stale event cannot hit a later call.
    fn free_token(&mut self) -> Token {
        loop {
            let token = Token(self.next);
            self.next = self.next.wrapping_add(1);
            if !self.calls.contains_key(&token) {
                return token;
            }
        }
    }

    /// Drops what this thread waited for.
    pub(super) fn forget(&mut self, k: &mut K, tid: i32) {
        if let Some(token) = self.by_tid.get(&tid).copied() {
            self.drop_one(k, token);
        }
    }

    pub(super) fn drop_one(&mut self, k: &mut K, token: Token) -> bool {
        self.remove(k, token).is_some()
    }

    fn remove(&mut self, k: &mut K, token: Token) -> Option<Parked<K>> {
        let call = self.calls.remove(&token)?;
        k.unwatch(token, &call.sock);
        self.share.give_back();
        if self.by_tid.get(&call.tid) == Some(&token) {
            self.by_tid.remove(&call.tid);
        }
        if self.calls.is_empty() {
            self.next_check = None;
            self.soonest = None;
            // A burst of waiting calls should not be paid for until the container ends.
            self.calls.shrink_to(64);
            self.by_tid.shrink_to(64);
        }
        Some(call)
    }

    /// The socket is ready: ask how the connection ended and answer.
    pub(super) fn complete(
        &mut self,
        k: &mut K,
        token: Token,
        unheard: &mut Unheard,
    ) -> Option<(Outcome, Reason)> {
        let call = self.calls.get(&token)?;
        let success = call.wait.success;
        let step = match call.wait.whose {
            // Another thread may have fetched the error first; only that one got it.
            Whose::Host => match k.probe(&call.sock, true) {
                Probe::Answer(step) => step,
                Probe::Unconnected => Step::Failed(Errno::CONNABORTED),
            },
            _ => k.connect(&call.sock, &call.addr, true),
        };
        let (answer, counted) = match step {
            // Another thread may have seen it stand first.
            Step::Done | Step::Failed(Errno::ISCONN) => (Answer::Success, success),
            Step::InProgress => return None,
            Step::Failed(errno) => (Answer::Fail(errno), (Outcome::Failed, success.1)),
        };
        let Parked { note, tid, sock, addr, .. } = self.remove(k, token)?;
        // Closed by us after the program, it would wait for what SO_LINGER says.
        drop(sock);
        if k.answer(note, answer) {
            return Some(counted);
        }
        unheard.remember(tid, &addr, answer);
        Some((Outcome::Gone, counted.1))
    }

    pub(super) fn expire(
        &mut self,
        k: &mut K,
        now: Instant,
        mut count: impl FnMut(Outcome, Reason),
    ) {
        // On every turn of the loop, so it must not cost what the number of waiting calls is.
        if self.next_deadline().is_none_or(|at| now < at) {
            return;
        }
        let check = self.next_check.is_some_and(|at| at <= now);
        let mut over = Vec::new();
        for (token, call) in &self.calls {
            if call.deadline.is_some_and(|at| at <= now) || (check && !k.is_alive(&call.note)) {
                over.push(*token);
            }
        }
        for token in over {
            let Some(call) = self.remove(k, token) else { continue };
            let waited = k.answer(call.note, Answer::Fail(call.wait.timed_out));
            count(if waited { Outcome::Failed } else { Outcome::Gone }, call.wait.success.1);
        }
        if check && !self.calls.is_empty() {
            self.next_check = Some(now + CHECK_EVERY);
        }
        self.soonest = self.calls.values().filter_map(|call| call.deadline).min();
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next_check.into_iter().chain(self.soonest).min()
    }
}
