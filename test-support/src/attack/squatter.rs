//! Another program of the host that wants a port which a container publishes.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Takes the port whenever nobody has it, keeps it for a while, and listens to who comes. It ends
/// when this is dropped.
#[derive(Debug)]
pub struct Squatter {
    over: Arc<AtomicBool>,
    heard: Option<thread::JoinHandle<Vec<String>>>,
}

/// How long it keeps the port.
const KEPT: Duration = Duration::from_millis(30);

impl Squatter {
    /// Starts one.
    #[must_use]
    pub fn start(at: SocketAddr) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let heard = thread::spawn(move || {
            let mut heard = Vec::new();
            while !told.load(Ordering::Relaxed) {
                let Ok(listener) = TcpListener::bind(at) else { continue };
                listen(&listener, &mut heard);
            }
            heard
        });
        Self { over, heard: Some(heard) }
    }

    /// What was said to it.
    #[must_use]
    pub fn heard(mut self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        self.heard.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Squatter {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn listen(listener: &TcpListener, heard: &mut Vec<String>) {
    let until = Instant::now() + KEPT;
    if listener.set_nonblocking(true).is_err() {
        return;
    }
    while Instant::now() < until {
        let Ok((mut connection, _)) = listener.accept() else {
            thread::yield_now();
            continue;
        };
        let mut said = String::new();
        // The supervisor hangs up on it if it is not the container's.
        if connection.set_read_timeout(Some(KEPT)).is_ok()
            && connection.read_to_string(&mut said).is_ok()
            && !said.is_empty()
        {
            heard.push(said);
        }
    }
}
