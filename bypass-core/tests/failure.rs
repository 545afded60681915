//! A fault of ours in one container is the end of that one.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bypass_core::{
    AuditLimits, AuditRecord, AuditSink, Container, End, Policy, Settings, Supervisor,
};
use seccomp_notify::{Filter, Listener};

/// Nothing here takes so long unless it is broken.
const LIMIT: Duration = Duration::from_secs(10);

/// A thread whose `connect` is trapped. It connects whenever it is told to.
struct Target {
    listener: Option<Listener>,
    connect: Sender<()>,
    answers: Receiver<Option<i32>>,
    thread: JoinHandle<()>,
}

impl Target {
    fn start() -> Self {
        let (listeners, listener) = channel();
        let (connect, told) = channel();
        let (answer, answers) = channel();
        let thread = thread::spawn(move || {
            let filter = i32::try_from(libc::SYS_connect).map(|nr| Filter::allow_all().notify(nr));
            listeners.send(filter.ok().and_then(|filter| filter.install().ok())).ok();
            while told.recv().is_ok() {
                let nobody = SocketAddr::from(([192, 0, 2, 1], 9));
                let result = TcpStream::connect(nobody);
                answer.send(result.err().and_then(|error| error.raw_os_error())).ok();
            }
        });
        Self { listener: listener.recv().ok().flatten(), connect, answers, thread }
    }

    fn connect(&self) -> Option<i32> {
        self.connect.send(()).ok()?;
        self.answers.recv_timeout(LIMIT).expect("no answer")
    }
}

/// The bug: it is met on the container's own thread.
#[derive(Debug)]
struct Panics;

impl AuditSink for Panics {
    #[expect(clippy::panic, reason = "it is what this is about")]
    fn record(&self, record: &AuditRecord<'_>) {
        panic!("on purpose, at {}", record.destination);
    }
}

fn settings(name: &str) -> Settings {
    Settings::new(name, Policy::builder().deny("0.0.0.0/0".parse().ok()).build())
}

#[test]
fn a_container_that_fails_takes_nobody_along() {
    let supervisor = Supervisor::new().unwrap();
    let [mut bad, mut good] = [(); 2].map(|()| Target::start());
    let (ended, end) = channel();
    let failing = settings("bad")
        .audit(Arc::new(Panics), AuditLimits::default())
        .on_end(move |_stats| ended.send(()).unwrap_or_default());
    let attach = |target: &mut Target, settings| -> Container {
        supervisor.attach(target.listener.take().unwrap(), settings).unwrap()
    };
    let failing = attach(&mut bad, failing);
    let sound = attach(&mut good, settings("good"));
    assert_eq!(good.connect(), Some(libc::ENETUNREACH));
    assert_eq!((failing.end(), sound.end()), (None, None));

    // Whether this one is still answered is not promised.
    bad.connect();
    assert_eq!(failing.wait(LIMIT), Some(End::Failed));
    end.recv_timeout(LIMIT).expect("whoever keeps containers is told");
    assert_eq!(bad.connect(), Some(libc::ENOSYS), "there is nobody to answer, and no way past");
    assert!(!failing.join(Target::start().listener.unwrap()), "a session joined the dead");

    assert_eq!(good.connect(), Some(libc::ENETUNREACH));
    assert_eq!(sound.end(), None);
    for target in [bad, good] {
        drop(target.connect);
        target.thread.join().unwrap();
    }
    assert_eq!(sound.wait(LIMIT), Some(End::Over));
}
