//! How the harness gets into namespaces of its own, and how they end.
//!
//! The program starts itself again, twice:
//!
//! 1. *outside*: replaced by `unshare(1)`, which makes new network, mount and
//!    process namespaces and dies together with its child;
//! 2. *init*: process 1 of the new process namespace. It starts the world, reaps
//!    orphans, passes SIGINT and SIGTERM on by ending, and hands on the exit
//!    status. With its end the kernel kills whatever is left inside;
//! 3. *world*: the harness proper, with no thread but its first.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::failure::{Context, Result};

/// Environment variable that tells a restarted program which stage it is.
const STAGE: &str = "BYPASS_TEST_STAGE";

/// Runs `world` inside namespaces of its own; call it first thing in `main`.
///
/// # Errors
/// When a stage cannot be started; needs root (`CAP_SYS_ADMIN`).
pub fn enter(world: impl FnOnce() -> Result<ExitCode>) -> Result<ExitCode> {
    match env::var(STAGE).as_deref() {
        Ok("world") => {
            watched_signals().thread_unblock()?;
            world()
        }
        Ok("init") => init(),
        _ => {
            let error = again("init", Some("unshare")).exec();
            Err(error).context("unshare(1)")
        }
    }
}

/// This program with the same arguments, as another stage.
fn again(stage: &str, through: Option<&str>) -> Command {
    let program: OsString = "/proc/self/exe".into();
    // `/proc/self/exe` means another program once `unshare` runs it.
    let program = env::current_exe().map_or(program, Into::into);
    let mut command = match through {
        Some(unshare) => {
            let mut command = Command::new(unshare);
            command
                .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
                .args(["--propagation", "private", "--"])
                .arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args(env::args_os().skip(1)).env(STAGE, stage);
    command
}

/// Life of process 1: start the world, reap, end with it.
fn init() -> Result<ExitCode> {
    let signals = watched_signals();
    // Blocked before the child exists, so that its end cannot be missed; the child inherits
    // the mask and undoes it.
    signals.thread_block()?;
    let world = again("world", None).spawn().context("starting the world")?;
    let world = Pid::from_raw(i32::try_from(world.id())?);
    loop {
        if signals.wait()? != Signal::SIGCHLD {
            return Ok(ExitCode::from(130));
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) if pid == world => {
                    return Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)));
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == world => {
                    let status = u8::try_from(128 + signal as i32).unwrap_or(1);
                    return Ok(ExitCode::from(status));
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("waitpid"),
            }
        }
    }
}

fn watched_signals() -> SigSet {
    [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM].into_iter().collect()
}
