//! A new socket takes the place of another, wherever the other is.
//!
//! A program may have more than one descriptor of a socket: duplicates of its own, those of
//! children, those of processes that it passed one to. Replacing the one that a call names would
//! silently make two sockets of one. So:
//!
//! ```text
//! install at the number of the call ─ let go of the old one ─ is it open anywhere still?
//!   ├ no                          ─ done: nearly always, for about 2 µs
//!   └ at numbers of the same table ─ install there as well ─ still open?
//!        ├ no                               ─ done
//!        ├ in a child that is about to execute a program, which closes it ─ done
//!        ├ in another process, which cannot be given anything
//!        │    ├ a container socket ─ put it back at every number: it is left, as `shared`
//!        │    └ a host socket      ─ it cannot be used again: parted, and counted
//!        └ nobody found: in flight over a UNIX socket, or in a call under way ─ parted, and counted
//! ```
//!
//! The first question is asked *after* the connection was made, since nothing else can answer it: our
//! own descriptor and the target's both keep the old file open. To look for other holders first
//! would cost every connect about 1 µs for each descriptor of each process of the container. The price
//! is that the peer of a socket which is put back sees a connection that ends at once; the program's own
//! is then made by the container.
//!
//! The registrations of the old socket with epolls are as they were when it is put back, for they
//! end with its file, which somebody has kept open. Those of the new one end with it.

use netns_socket::Identity;

use super::{Beside, Engine, Installed, Kernel, Target};
use crate::Reason;

/// How an exchange ended.
pub(super) enum Exchanged<S> {
    /// The new socket is wherever the old one was, or what is not was counted.
    Done,
    /// Nobody waits any more.
    Gone,
    /// Everything is as before. The old socket again, and why.
    Refused(S, Reason),
}

impl<K: Kernel> Engine<K> {
    /// Puts `new` in the place of `old`, which is what the target has at the number of its call.
    pub(super) fn exchange(
        &self,
        k: &mut K,
        note: &K::Note,
        target: &Target,
        id: &Identity,
        old: K::Sock,
        new: &K::Sock,
    ) -> Exchanged<K::Sock> {
        let Target { tid, fd } = *target;
        if !k.transplant(tid, fd, &old, new) {
            return Exchanged::Refused(old, Reason::Epoll);
        }
        if !k.keep_in_sight(&old) {
            return Exchanged::Refused(old, Reason::HostSocket);
        }
        match k.install(note, tid, fd, new) {
            Installed::Done => {}
            Installed::Gone => return Exchanged::Gone,
            Installed::Refused => return Exchanged::Refused(old, Reason::Install),
        }
        if !k.let_go(old) {
            return Exchanged::Done;
        }
        self.exchange_duplicates(k, note, target, id, new)
    }

    /// The socket is open elsewhere as well.
    fn exchange_duplicates(
        &self,
        k: &mut K,
        note: &K::Note,
        target: &Target,
        id: &Identity,
        new: &K::Sock,
    ) -> Exchanged<K::Sock> {
        let tid = target.tid;
        let (mut held, mut numbers) = (None, Vec::new());
        for number in k.numbers_in_sight(tid) {
            let Ok(duplicate) = k.take(tid, number) else { continue };
            if k.identity(&duplicate).is_some_and(|other| other.cookie == id.cookie) {
                numbers.push(number);
                held.get_or_insert(duplicate);
            }
        }
        if !k.is_alive(note) {
            return Exchanged::Gone;
        }
        let mut done = vec![target.fd];
        if let Some(old) = held {
            for number in numbers {
                // Its epoll registrations are for the number.
                if !k.transplant(tid, number, &old, new) {
                    return self.put_all_back(k, note, tid, &done, old, Reason::Epoll);
                }
                match k.install(note, tid, number, new) {
                    Installed::Done => done.push(number),
                    Installed::Gone => return Exchanged::Gone,
                    Installed::Refused => {
                        return self.put_all_back(k, note, tid, &done, old, Reason::Install);
                    }
                }
            }
            if !k.let_go(old) {
                return Exchanged::Done;
            }
        }
        // A host socket that is replaced is of no use any more, so it is not put back.
        let of_host = id.netns_cookie == Some(self.facts.host_netns);
        let beside = if of_host { Beside::Nobody } else { k.take_beside(tid, id) };
        // Whatever was read of its processes counts only if it still waits.
        if !of_host && !k.is_alive(note) {
            return Exchanged::Gone;
        }
        match beside {
            Beside::Keeps(old) => {
                return self.put_all_back(k, note, tid, &done, old, Reason::Shared);
            }
            Beside::Passes => return Exchanged::Done,
            Beside::Nobody => {}
        }
        // Meanwhile the last of the others may have ended.
        if k.is_in_sight() {
            self.stats.count_parted();
        }
        Exchanged::Done
    }

    /// Undoes what was done: the old socket gets its numbers back.
    fn put_all_back(
        &self,
        k: &mut K,
        note: &K::Note,
        tid: i32,
        numbers: &[i32],
        old: K::Sock,
        reason: Reason,
    ) -> Exchanged<K::Sock> {
        if !k.is_alive(note) {
            return Exchanged::Gone;
        }
        for number in numbers {
            match k.install(note, tid, *number, &old) {
                Installed::Done => {}
                Installed::Gone => return Exchanged::Gone,
                Installed::Refused => {
                    self.stats.count_parted();
                    return Exchanged::Done;
                }
            }
        }
        Exchanged::Refused(old, reason)
    }
}
