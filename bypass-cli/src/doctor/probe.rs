//! Whether a runtime hands a listener over: a container is made that has one trap and no program.
//!
//! Its root holds one empty file, which the kernel refuses to execute (ENOEXEC). By then the profile is
//! in force and its listener, if all is well, is here.

use std::fs;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use seccomp_notify::receive_handoff;
use serde_json::{Value, json};

/// How long the runtime may take for all of it.
const WITHIN: Duration = Duration::from_secs(5);
/// As much of a complaint as a finding can do with, in bytes.
const MAX_WORDS: u64 = 4096;

/// `Err` with what the runtime said instead.
pub(super) fn hands_over(runtime: &Path) -> Result<(), String> {
    let directory = tempfile::Builder::new().prefix("bypass-doctor-").tempdir();
    let directory = directory.map_err(|error| error.to_string())?;
    let at = |name: &str| directory.path().join(name);
    let write = || -> std::io::Result<UnixListener> {
        for directory in ["root/proc", "root/dev"] {
            fs::create_dir_all(at(directory))?;
        }
        fs::write(at("root/program"), "")?;
        fs::set_permissions(at("root/program"), fs::Permissions::from_mode(0o755))?;
        fs::write(at("config.json"), config(&at("socket")).to_string())?;
        let listener = UnixListener::bind(at("socket"))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    let listener = write().map_err(|error| error.to_string())?;
    let id = format!("bypass-doctor-{}", std::process::id());
    let mut command = Command::new(runtime);
    command.arg("--root").arg(at("state")).arg("run").arg("--bundle").arg(directory.path());
    command.arg(&id).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut running = command.spawn().map_err(|error| error.to_string())?;
    let deadline = Instant::now() + WITHIN;
    let ended = pidfd_of(&running);
    let handed = ended.as_ref().is_some_and(|ended| {
        let handed = waits_for(&listener, ended, deadline)
            && listener.accept().is_ok_and(|(peer, _)| receive_handoff(&peer, WITHIN).is_ok());
        // It has nothing left to do, and might wait for what never comes.
        waits_for(ended, ended, deadline);
        handed
    });
    running.kill().ok();
    running.wait().ok();
    let mut delete = Command::new(runtime);
    delete.arg("--root").arg(at("state")).args(["delete", "--force", &id]);
    delete.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
    if handed { Ok(()) } else { Err(last_line(&said(&mut running))) }
}

/// What there is to read: a process that was left behind may have the other end as well.
fn said(running: &mut Child) -> String {
    let mut words = Vec::new();
    if let Some(stderr) = running.stderr.take()
        && rustix::io::ioctl_fionbio(&stderr, true).is_ok()
    {
        stderr.take(MAX_WORDS).read_to_end(&mut words).ok();
    }
    String::from_utf8_lossy(&words).into_owned()
}

fn pidfd_of(child: &Child) -> Option<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Whether this is readable before the deadline or the process' end.
fn waits_for(fd: &impl AsFd, ended: &OwnedFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(left) = Timespec::try_from(left) else { return false };
        let mut fds = [PollFd::new(fd, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Err(Errno::INTR) => {}
            polled => return polled.is_ok() && !fds[0].revents().is_empty(),
        }
    }
}

fn last_line(said: &str) -> String {
    let line = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    line.chars().take(200).collect()
}

/// A container in namespaces of its own, in which listen(2) is trapped: runtimes do not call it.
fn config(socket: &Path) -> Value {
    let ids = |id: u32| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": "root", "readonly": true },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
        ],
        "process": {
            "user": { "uid": 0, "gid": 0 }, "cwd": "/", "args": ["/program"],
            "env": ["PATH=/"], "noNewPrivileges": true, "capabilities": {},
        },
        "linux": {
            "namespaces": [
                { "type": "user" }, { "type": "network" }, { "type": "pid" }, { "type": "mount" },
                { "type": "ipc" }, { "type": "uts" },
            ],
            "uidMappings": ids(rustix::process::geteuid().as_raw()),
            "gidMappings": ids(rustix::process::getegid().as_raw()),
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "listenerPath": socket,
                "syscalls": [{ "names": ["listen"], "action": "SCMP_ACT_NOTIFY" }],
            },
        },
    })
}
