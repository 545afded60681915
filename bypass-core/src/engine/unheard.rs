//! Answers that nobody heard, since the call was interrupted just before.
//!
//! Between the moment that a connection stands and that of our answer a signal may end the call; even
//! one that the program ignores does so at times (`SIGCHLD` while another thread has all signals
//! blocked, as in posix_spawn(3)). The kernel then makes the call once more, and the second one
//! would be told EISCONN, of a connection that the program has not heard of. Natively a connect that
//! was interrupted says 0 or waits when it is made again (`__inet_stream_connect()`: the
//! socket is in `SS_CONNECTING` until somebody was told).

use sockaddr_inspect::RawSockAddr;

use super::Answer;

/// The last few such answers, one for a thread.
#[derive(Debug, Default)]
pub(super) struct Unheard(Vec<(i32, RawSockAddr, Answer)>);

/// Further ones replace the oldest.
const MOST: usize = 32;

impl Unheard {
    /// This thread was to be told so, of a connect to this address.
    pub(super) fn remember(&mut self, tid: i32, to: &RawSockAddr, answer: Answer) {
        self.forget(tid);
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push((tid, *to, answer));
    }

    /// The thread makes a call: what it was to be told, if that is the same once more.
    pub(super) fn take(&mut self, tid: i32, to: &RawSockAddr) -> Option<Answer> {
        let at = self.0.iter().position(|(of, _, _)| *of == tid)?;
        let (_, address, answer) = self.0.remove(at);
        (address.as_bytes() == to.as_bytes()).then_some(answer)
    }

    pub(super) fn forget(&mut self, tid: i32) {
        self.0.retain(|(of, _, _)| *of != tid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(bytes: &[u8]) -> RawSockAddr {
        RawSockAddr::from_bytes(bytes).unwrap()
    }

    #[test]
    fn only_the_same_call_of_the_same_thread_is_answered_and_once() {
        let mut unheard = Unheard::default();
        unheard.remember(1, &to(b"one"), Answer::Success);
        assert_eq!(unheard.take(2, &to(b"one")), None);
        assert_eq!(unheard.take(1, &to(b"one")), Some(Answer::Success));
        assert_eq!(unheard.take(1, &to(b"one")), None);
        unheard.remember(1, &to(b"one"), Answer::Success);
        assert_eq!(unheard.take(1, &to(b"two")), None);
        assert_eq!(unheard.take(1, &to(b"one")), None);
    }

    #[test]
    fn a_container_does_not_decide_how_many_are_remembered() {
        let mut unheard = Unheard::default();
        for tid in 0..10_000 {
            unheard.remember(tid, &to(b"one"), Answer::Success);
        }
        assert_eq!(unheard.0.len(), MOST);
        assert_eq!(unheard.take(9_999, &to(b"one")), Some(Answer::Success));
        assert_eq!(unheard.take(0, &to(b"one")), None);
    }
}
