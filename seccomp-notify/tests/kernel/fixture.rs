//! This program run again, as a target in a process of its own.
//!
//! Its standard input is a socket: over it the fixture sends its listener, makes the trapped call,
//! and sends the call's result.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::{env, io, process};

use nix::sys::resource::{Resource, setrlimit};
use seccomp_notify::{Listener, pass_fd, take_fd};

use crate::{foreign, target};

const MARK: &str = "--fixture";

/// The fixture this process is to be.
pub(crate) fn requested() -> Option<String> {
    let mut args = env::args().skip(1);
    (args.next()? == MARK).then(|| args.next()).flatten()
}

/// Is that fixture.
pub(crate) fn run(name: &str) -> ! {
    match name {
        "plain" => call_and_tell(),
        "few-descriptors" => {
            setrlimit(Resource::RLIMIT_NOFILE, 16, 16).unwrap();
            call_and_tell();
        }
        // The trapped call happens with 0, 1 and 2 open.
        "full-table" => {
            setrlimit(Resource::RLIMIT_NOFILE, 8, 8).unwrap();
            let fill: Vec<_> = (0..3).map(|_| io::stdin().as_fd().try_clone_to_owned()).collect();
            call_and_tell_with(|| {
                let full: Vec<_> =
                    (0..8).map_while(|_| io::stdin().as_fd().try_clone_to_owned().ok()).collect();
                let result = target::getppid();
                drop((full, fill));
                result
            });
        }
        "ia32" => foreign::ia32_probe(),
        other => panic!("no fixture {other}"),
    }
    process::exit(0);
}

fn call_and_tell() {
    call_and_tell_with(target::getppid);
}

fn call_and_tell_with(call: impl FnOnce() -> Result<i64, i32>) {
    let socket = io::stdin();
    let listener = target::trap_getppid().install().unwrap();
    pass_fd(&socket, listener.as_fd(), b"L").unwrap();
    drop(listener);
    let result = match call() {
        Ok(value) => value,
        Err(errno) => -i64::from(errno),
    };
    rustix::io::write(&socket, &result.to_ne_bytes()).unwrap();
}

/// A running fixture; killed if dropped.
pub(crate) struct Fixture {
    child: Child,
    socket: UnixStream,
}

impl Fixture {
    pub(crate) fn start(name: &str) -> (Listener, Self) {
        let (socket, theirs) = UnixStream::pair().unwrap();
        socket.set_read_timeout(Some(target::PATIENCE)).unwrap();
        let child = Command::new(env::current_exe().unwrap())
            .args([MARK, name])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (_, fd) = take_fd(&socket, &mut [0]).unwrap();
        (Listener::from_fd(fd.unwrap()).unwrap(), Self { child, socket })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the trapped call returned; negative for an errno.
    pub(crate) fn result(&mut self) -> i64 {
        let mut bytes = [0; 8];
        self.socket.read_exact(&mut bytes).unwrap();
        i64::from_ne_bytes(bytes)
    }

    /// Kills the fixture and waits for its end.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Whether this kernel runs i386 calls at all; where it does not, the attempt is fatal.
pub(crate) fn ia32_works() -> bool {
    Command::new(env::current_exe().unwrap())
        .args([MARK, "ia32"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
