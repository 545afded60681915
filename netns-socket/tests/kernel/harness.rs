//! The sandbox that all trials run in, and what they share.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::{env, fs, thread};

use libtest_mimic::{Failed, Trial};
use netns_socket::{Domain, Identity, Kind};
use nix::sched::{CloneFlags, unshare};

pub(crate) const TCP4: Identity = id(Domain::Inet, Kind::Stream, libc::IPPROTO_TCP);
pub(crate) const TCP6: Identity = id(Domain::Inet6, Kind::Stream, libc::IPPROTO_TCP);
pub(crate) const UDP4: Identity = id(Domain::Inet, Kind::Datagram, libc::IPPROTO_UDP);
pub(crate) const UDP6: Identity = id(Domain::Inet6, Kind::Datagram, libc::IPPROTO_UDP);

pub(crate) const CLASSES: [(&str, Identity); 4] =
    [("tcp4", TCP4), ("tcp6", TCP6), ("udp4", UDP4), ("udp6", UDP6)];

const fn id(domain: Domain, kind: Kind, protocol: i32) -> Identity {
    Identity { domain, kind, protocol, cookie: 0, netns_cookie: None }
}

/// A socket of the namespace that the tests were started in, where we have no capability: it
/// stands for a host socket.
pub(crate) static HOST_SOCKET: OnceLock<OwnedFd> = OnceLock::new();

/// Enters new user and network namespaces as their root. No thread may exist yet.
pub(crate) fn enter_sandbox() -> Result<(), String> {
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    HOST_SOCKET.set(netns_socket::create_twin(&TCP4, true).map_err(|e| e.to_string())?).ok();
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .map_err(|e| format!("user namespaces: {e}"))?;
    fs::write("/proc/self/setgroups", "deny").map_err(|e| e.to_string())?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).map_err(|e| e.to_string())?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).map_err(|e| e.to_string())?;
    ip("link set lo up")
}

/// Runs `body` on a thread in a network namespace of its own, with `lo` up.
pub(crate) fn in_new_netns<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                ip("link set lo up").unwrap();
                body()
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs ip(8) in the calling thread's network namespace.
pub(crate) fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .map_err(|error| format!("ip: {error}"))?;
    if !output.status.success() {
        return Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(())
}

pub(crate) fn ifindex(device: &str) -> u32 {
    // `/sys` shows the namespace it was mounted in; /proc/thread-self/net is the thread's.
    let output = Command::new("ip").args(["-o", "link", "show", "dev", device]).output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    line.split(':').next().unwrap().parse().unwrap()
}

/// A trial that needs nothing but the sandbox.
pub(crate) fn trial(name: impl Into<String>, body: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        body();
        Ok(())
    })
}

/// A trial that cannot run here for want of `requirement`.
///
/// It is ignored, or fails if `BYPASS_REQUIRE` has one of `demanded_by`.
pub(crate) fn missing(name: String, requirement: &str, demanded_by: &[&str]) -> Trial {
    let demanded = env::var("BYPASS_REQUIRE").unwrap_or_default();
    let demanded = demanded.split(',').any(|word| demanded_by.contains(&word.trim()));
    let message = format!("missing: {requirement}");
    Trial::test(name, move || Err(Failed::from(message)))
        .with_kind(requirement.to_owned())
        .with_ignored_flag(!demanded)
}

/// This program, run again as a target process. It ends when dropped.
pub(crate) struct Fixture {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Fixture {
    pub(crate) fn start(role: impl AsRef<OsStr>) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The next line that it says, as numbers.
    pub(crate) fn numbers(&mut self) -> Vec<u64> {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.split_whitespace().map(|word| word.parse().unwrap()).collect()
    }

    /// Lets it go on to its next step.
    pub(crate) fn go_on(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Ends it and waits for that.
    pub(crate) fn end(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.end();
    }
}

pub(crate) const ROLE: &str = "NETNS_SOCKET_FIXTURE";
