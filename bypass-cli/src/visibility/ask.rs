//! The teller's side: asks the supervisor, for whoever wants to know.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::model::Status;
use super::tell::{Question, Told};
use crate::channel::Channel;

/// How long the supervisor may take. It has to wait for a CPU, and for a container to be admitted.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// However many ask, the supervisor is asked no more often.
const NO_SOONER_THAN: Duration = Duration::from_millis(100);
/// More than ten thousand containers take.
const MOST_BYTES: u64 = 32 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("the supervisor cannot be asked")]
    Ask(#[source] io::Error),
    #[error("the supervisor does not answer")]
    Silent,
    #[error("the supervisor could not write its status, or wrote too much")]
    Unwritten,
    #[error("what the supervisor wrote cannot be read")]
    Read(#[source] io::Error),
    #[error("what the supervisor wrote cannot be understood")]
    Parse(#[source] serde_json::Error),
}

/// Who asks.
#[derive(Debug)]
pub(crate) struct Asker {
    channel: Channel,
    /// The same socket.
    ready: UnixDatagram,
    /// What the supervisor writes to. Memory that it cannot have us touch: it is read, not mapped.
    file: File,
    turn: Mutex<Turn>,
}

#[derive(Debug, Default)]
struct Turn {
    number: u64,
    last: Option<Instant>,
}

impl Asker {
    /// To be made before the process confines itself, and used where there is a runtime.
    pub(crate) fn new(channel: Channel) -> io::Result<Self> {
        channel.set_nonblocking()?;
        let file = File::from(memfd_create("status", MemfdFlags::CLOEXEC)?);
        // All that is asked of it is when there is something to receive.
        let ready = std::os::unix::net::UnixDatagram::from(channel.as_fd().try_clone_to_owned()?);
        let ready = UnixDatagram::from_std(ready)?;
        Ok(Self { channel, ready, file, turn: Mutex::default() })
    }

    /// What there is now. Who asks while others do waits for a turn.
    pub(crate) async fn ask(&self) -> Result<Status, AskError> {
        let mut turn = self.turn.lock().await;
        if let Some(last) = turn.last {
            tokio::time::sleep_until(last + NO_SOONER_THAN).await;
        }
        turn.number += 1;
        let number = turn.number;
        turn.last = Some(Instant::now());
        self.channel.send(&Question { number }, Some(self.file.as_fd())).map_err(AskError::Ask)?;
        let told = tokio::time::timeout(ANSWERED_WITHIN, self.told(number)).await;
        let bytes = told.map_err(|_elapsed| AskError::Silent)?.map_err(AskError::Ask)?;
        let bytes = bytes.filter(|bytes| *bytes <= MOST_BYTES).ok_or(AskError::Unwritten)?;
        let status = self.read(bytes);
        // Its pages are not needed until the next time.
        self.file.set_len(0).ok();
        status
    }

    async fn told(&self, number: u64) -> io::Result<Option<u64>> {
        loop {
            let receive = || self.channel.receive::<Told>();
            match self.ready.async_io(Interest::READABLE, receive).await? {
                // To who did not wait for it.
                Some((told, _)) if told.number < number => {}
                Some((told, _)) => return Ok(told.bytes),
                None => return Err(io::ErrorKind::ConnectionReset.into()),
            }
        }
    }

    fn read(&self, bytes: u64) -> Result<Status, AskError> {
        let mut file = &self.file;
        file.rewind().map_err(AskError::Read)?;
        let mut lines = BufReader::new(file.take(bytes)).split(b'\n');
        let first = lines.next().ok_or(AskError::Unwritten)?.map_err(AskError::Read)?;
        let server = serde_json::from_slice(&first).map_err(AskError::Parse)?;
        let containers = lines.map(|line| {
            serde_json::from_slice(&line.map_err(AskError::Read)?).map_err(AskError::Parse)
        });
        Ok(Status { server, containers: containers.collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::confine::Confined;
    use crate::visibility::{About, Ledger, Treated, tell};

    fn asked(run: impl AsyncFnOnce(Asker, Channel)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, theirs) = Channel::pair().unwrap();
            run(Asker::new(ours).unwrap(), theirs).await;
        });
    }

    #[test]
    fn what_the_ledger_holds_is_told() {
        asked(async |asker, theirs| {
            let ledger = Arc::new(Ledger::default());
            let treated = Treated { pin: true, ..Treated::default() };
            let entered: Vec<_> = (0..300)
                .map(|number| ledger.admit(&format!("c{number}"), Arc::default(), treated))
                .collect();
            let about = About { role: "serve", confined: Confined::NOTHING };
            tell(theirs, about, Arc::clone(&ledger)).unwrap();
            let status = asker.ask().await.unwrap();
            assert_eq!(status.containers.len(), 300);
            assert_eq!(status.containers[7].id, "c7");
            assert_eq!(status.containers[7].enforced, treated);
            assert_eq!(
                (status.server.role.as_str(), status.server.pid),
                ("serve", std::process::id())
            );
            drop(entered);
            // The file has less in it than before.
            let status = asker.ask().await.unwrap();
            assert_eq!((status.containers.len(), status.server.containers_admitted), (0, 300));
        });
    }

    #[test]
    fn a_supervisor_that_has_gone_is_an_error_and_so_is_one_that_talks_nonsense() {
        asked(async |asker, theirs| {
            theirs.send(&Told { number: 1, bytes: Some(MOST_BYTES + 1) }, None).unwrap();
            assert!(matches!(asker.ask().await, Err(AskError::Unwritten)));
            theirs.send(&Told { number: 1, bytes: Some(1) }, None).unwrap();
            theirs.send(&Told { number: 2, bytes: Some(1 << 20) }, None).unwrap();
            // An answer that is late, and one that says more than was written.
            assert!(matches!(asker.ask().await, Err(AskError::Unwritten)));
            theirs.send(&Told { number: 3, bytes: None }, None).unwrap();
            assert!(matches!(asker.ask().await, Err(AskError::Unwritten)));
            drop(theirs);
            assert!(matches!(asker.ask().await, Err(AskError::Ask(_))));
        });
    }

    #[test]
    fn who_asks_often_waits() {
        asked(async |asker, theirs| {
            let about = About { role: "serve", confined: Confined::NOTHING };
            tell(theirs, about, Arc::default()).unwrap();
            let begun = Instant::now();
            for _ in 0..3 {
                asker.ask().await.unwrap();
            }
            assert!(begun.elapsed() >= 2 * NO_SOONER_THAN);
        });
    }
}
