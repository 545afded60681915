//! Hand-overs under way.
//!
//! Each is received on a thread of its own with a deadline, so a peer that sends nothing, or slowly,
//! holds up nobody. There are never more than a few: where there are as many as there may be, the
//! oldest makes room. A runtime needs well under a millisecond, so that is never one of those.

use std::collections::VecDeque;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seccomp_notify::receive_handoff;

use super::containers::Containers;
use crate::exit;

/// How long a runtime may take over a hand-over.
const WITHIN: Duration = Duration::from_secs(5);
/// Hand-overs received at a time.
const MOST: usize = 32;
/// What a thread needs of its stack: the received JSON is on the heap, but its parser recurses.
const STACK: usize = 256 * 1024;

/// Connections whose hand-over is not complete, the oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handovers(Arc<Mutex<VecDeque<Arc<UnixStream>>>>);

impl Handovers {
    /// Receives what the peer has for these containers, on another thread.
    pub(crate) fn begin(&self, stream: UnixStream, containers: &Arc<Containers>) {
        let stream = Arc::new(stream);
        let mut under_way = self.lock();
        if under_way.len() >= MOST
            && let Some(oldest) = under_way.pop_front()
        {
            tracing::warn!("{MOST} hand-overs are under way: the oldest makes room for another");
            // Its thread sees the end of the stream.
            oldest.shutdown(Shutdown::Both).ok();
        }
        under_way.push_back(Arc::clone(&stream));
        drop(under_way);

        let (all, containers, own) = (self.clone(), Arc::clone(containers), Arc::clone(&stream));
        let thread = std::thread::Builder::new().name("hand-over".into()).stack_size(STACK);
        let started = thread.spawn(move || {
            let received = receive_handoff(&*own, WITHIN);
            // Before the container is admitted: whoever sees it served sees no trace of this.
            all.forget(&own);
            drop(own);
            match received {
                Ok(handoff) => containers.admit(handoff),
                Err(error) => {
                    tracing::warn!("refused a hand-over: {}", exit::chain(&error));
                    containers.note_refused();
                }
            }
        });
        if let Err(error) = started {
            self.forget(&stream);
            tracing::warn!(%error, "no thread for a hand-over");
        }
    }

    fn forget(&self, stream: &Arc<UnixStream>) {
        self.lock().retain(|one| !Arc::ptr_eq(one, stream));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<UnixStream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
