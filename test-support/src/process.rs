//! Children with captured output and a limit on every wait.
//!
//! A child leads a process group of its own; at a time-out, or when its handle is
//! dropped, the whole group is killed. Waiting is done on a pidfd and on the
//! output's arrival, never by sleeping.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

use crate::failure::{Context, Failure, Result};

/// Limit for things that take no time on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `command` to its end with nothing on its standard input.
///
/// # Errors
/// When it cannot be started or exceeds `limit`; the message has its output.
pub fn run(command: &mut Command, limit: Duration) -> Result<Finished> {
    start(command)?.finish(limit)
}

/// Runs `command` with `input` on its standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with_input(command: &mut Command, input: &[u8], limit: Duration) -> Result<Finished> {
    let mut running = start_interactive(command)?;
    // A command that does not read its input is not a failure of ours.
    let _unread = running.write(input);
    running.close_input();
    running.finish(limit)
}

/// Starts `command` with nothing on its standard input.
///
/// # Errors
/// When it cannot be started.
pub fn start(command: &mut Command) -> Result<Running> {
    start_with(command, Stdio::null())
}

/// Starts `command` with a pipe as its standard input, for [`Running::write`].
///
/// # Errors
/// When it cannot be started.
pub fn start_interactive(command: &mut Command) -> Result<Running> {
    start_with(command, Stdio::piped())
}

fn start_with(command: &mut Command, input: Stdio) -> Result<Running> {
    let words = describe(command);
    let mut child = command
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .context(&words)?;
    let stdin = child.stdin.take();
    let stdout = child.stdout.take().map(Captured::read_all).unwrap_or_default();
    let stderr = child.stderr.take().map(Captured::read_all).unwrap_or_default();
    Ok(Running {
        words,
        child,
        stdin,
        stdout,
        stderr,
        seen: 0,
        started: Instant::now(),
        ended: None,
    })
}

/// The command line without the programs that only place it in a namespace.
fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    let placed = words.iter().position(|word| word == "--").map_or(0, |at| at + 1);
    words.split_off(placed).join(" ")
}

/// A child that was started and is watched.
#[derive(Debug)]
pub struct Running {
    words: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Captured,
    stderr: Captured,
    /// Bytes of the standard output that [`Running::line`] has handed out.
    seen: usize,
    started: Instant,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Its process id, which is also its process group's.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits for a further line of standard output that contains `pattern`.
    ///
    /// # Errors
    /// When none comes before `limit` or the output's end.
    pub fn line(&mut self, pattern: &str, limit: Duration) -> Result<String> {
        let found = self.stdout.next_line(&mut self.seen, pattern, limit);
        found.ok_or_else(|| self.failure(&format!("no line with `{pattern}`")))
    }

    /// Waits for the first byte of standard output.
    ///
    /// # Errors
    /// When none comes before `limit` or the output's end.
    pub fn any_output(&self, limit: Duration) -> Result {
        if self.stdout.wait_any(limit) { Ok(()) } else { Err(self.failure("no output")) }
    }

    /// Waits until standard error contains `pattern`, from its beginning on.
    ///
    /// # Errors
    /// When it does not before `limit` or the output's end.
    pub fn told(&self, pattern: &str, limit: Duration) -> Result {
        match self.stderr.next_line(&mut 0, pattern, limit) {
            Some(_line) => Ok(()),
            None => Err(self.failure(&format!("nothing told of `{pattern}`"))),
        }
    }

    /// Writes to its standard input.
    ///
    /// # Errors
    /// When it was not started interactively or does not read.
    pub fn write(&mut self, bytes: &[u8]) -> Result {
        let stdin = self.stdin.as_mut().context("standard input is closed")?;
        stdin.write_all(bytes)?;
        stdin.flush()?;
        Ok(())
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal to the process alone.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result {
        kill_process(pid_of(self.child.id())?, signal).context(&self.words)
    }

    /// Waits for its end and returns everything it wrote.
    ///
    /// # Errors
    /// When it exceeds `limit`; its group is killed then.
    pub fn finish(mut self, limit: Duration) -> Result<Finished> {
        self.wait(limit)?;
        // Someone who inherited the pipe may outlive the command.
        let whole = self.stdout.wait_end(PIPE_GRACE) & self.stderr.wait_end(PIPE_GRACE);
        let status = self.ended.context("an ended process has a status")?;
        Ok(Finished {
            words: self.words.clone(),
            status,
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
            elapsed: self.started.elapsed(),
            output_closed: whole,
        })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it exceeds `limit`; its group is killed then.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let pidfd = pidfd_open(pid_of(self.child.id())?, PidfdFlags::empty())?;
        let ended = poll_until(&pidfd, PollFlags::IN, Instant::now() + limit)?;
        if !ended {
            let failure = self.failure(&format!("still running after {limit:?}"));
            self.kill();
            return Err(failure);
        }
        let status = self.child.wait()?;
        self.ended = Some(status);
        Ok(status)
    }

    /// Whether it is still there.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn is_running(&self) -> Result<bool> {
        Ok(!self.ends_within(Duration::ZERO)?)
    }

    /// Whether it ends before the limit.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn ends_within(&self, limit: Duration) -> Result<bool> {
        if self.ended.is_some() {
            return Ok(true);
        }
        let pidfd = pidfd_open(pid_of(self.child.id())?, PidfdFlags::empty())?;
        poll_until(&pidfd, PollFlags::IN, Instant::now() + limit)
    }

    /// Kills its process group and waits for the process.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            if let Ok(pid) = pid_of(self.child.id()) {
                // The group is gone when the last member ended by itself.
                let _gone = kill_process_group(pid, Signal::KILL);
            }
            self.ended = self.child.wait().ok();
        }
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::new(format!(
            "`{}`: {what}\n--- stdout\n{}--- stderr\n{}",
            self.words,
            self.stdout(),
            self.stderr()
        ))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    words: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, lossily decoded.
    pub stdout: String,
    /// Its standard error, lossily decoded.
    pub stderr: String,
    /// From start to end, output included.
    pub elapsed: Duration,
    /// No process that inherited the output outlived it.
    pub output_closed: bool,
}

impl Finished {
    /// Exit status as a shell has it: 128+n after signal n.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Fails unless it exited with `code`.
    ///
    /// # Errors
    /// With the whole output.
    pub fn expect_code(self, code: i32) -> Result<Self> {
        if self.code() == code {
            Ok(self)
        } else {
            Err(self.failure(&format!("exit status {}, expected {code}", self.code())))
        }
    }

    /// Fails unless it exited with 0.
    ///
    /// # Errors
    /// With the whole output.
    pub fn success(self) -> Result<Self> {
        self.expect_code(0)
    }

    /// A failure that shows this command and its output.
    #[must_use]
    pub fn failure(&self, what: &str) -> Failure {
        Failure::new(format!("{what}\n{self}"))
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` ended with {} after {:?}\n--- stdout\n{}--- stderr\n{}",
            self.words,
            self.code(),
            self.elapsed,
            self.stdout,
            self.stderr
        )
    }
}

/// Output of a child, collected by a thread while it runs.
#[derive(Debug, Default, Clone)]
struct Captured(Arc<(Mutex<Gathered>, Condvar)>);

#[derive(Debug, Default)]
struct Gathered {
    bytes: Vec<u8>,
    ended: bool,
}

impl Captured {
    fn read_all(mut pipe: impl Read + Send + 'static) -> Self {
        let captured = Self::default();
        let writer = captured.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let read = pipe.read(&mut buffer).unwrap_or(0);
                let mut gathered = writer.lock();
                gathered.bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
                gathered.ended = read == 0;
                writer.0.1.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        captured
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).into_owned()
    }

    fn wait_end(&self, limit: Duration) -> bool {
        let guard = self.lock();
        let waited = self.0.1.wait_timeout_while(guard, limit, |gathered| !gathered.ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.ended
    }

    fn wait_any(&self, limit: Duration) -> bool {
        let waiting = |gathered: &mut Gathered| gathered.bytes.is_empty() && !gathered.ended;
        let waited = self.0.1.wait_timeout_while(self.lock(), limit, waiting);
        !waited.unwrap_or_else(PoisonError::into_inner).0.bytes.is_empty()
    }

    /// The next whole line from `*seen` on that contains `pattern`.
    fn next_line(&self, seen: &mut usize, pattern: &str, limit: Duration) -> Option<String> {
        let deadline = Instant::now() + limit;
        let mut guard = self.lock();
        loop {
            while let Some(rest) = guard.bytes.get(*seen..)
                && let Some(end) = rest.iter().position(|byte| *byte == b'\n')
            {
                let line =
                    String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned();
                *seen += end + 1;
                if line.contains(pattern) {
                    return Some(line);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if guard.ended || left.is_zero() {
                return None;
            }
            guard = self.0.1.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Waits until `fd` reports `events`; `false` at the deadline.
///
/// # Errors
/// When poll(2) fails.
pub fn poll_until(
    fd: &impl std::os::fd::AsFd,
    events: PollFlags,
    deadline: Instant,
) -> Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(fd, events)];
        let timeout = Timespec::try_from(left)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
    }
}

/// A checked process id.
///
/// # Errors
/// When `pid` is 0 or too large.
pub fn pid_of(pid: u32) -> Result<Pid> {
    let pid = i32::try_from(pid)?;
    Pid::from_raw(pid).context("process id 0")
}

/// How long output may stay open after its command has ended. Whoever reads it has to get a CPU for that.
const PIPE_GRACE: Duration = Duration::from_secs(5);
