//! A terminal: a program runs in it, and what is on its screen is looked at.
//!
//! The kernel's half is a real pseudo-terminal (pty(7)); what would be the window understands what
//! programs write, escape sequences and all.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::failure::{Context, Result};
use crate::process::pid_of;
use crate::{ensure, fail};

/// Rows and columns at the start.
const SIZE: (u16, u16) = (30, 110);

/// A terminal with one program in it, which is killed when this is dropped.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    /// Our end.
    window: File,
    /// The program's end, so that it is there when the program has gone.
    line: OwnedFd,
    screen: Arc<Screen>,
}

#[derive(Default)]
struct Screen {
    shown: Mutex<Shown>,
    changed: Condvar,
}

struct Shown {
    parser: vt100::Parser,
    /// All that was written.
    bytes: Vec<u8>,
}

impl Default for Shown {
    fn default() -> Self {
        Self { parser: vt100::Parser::new(SIZE.0, SIZE.1, 0), bytes: Vec::new() }
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Screen")
    }
}

impl Terminal {
    /// Starts `command` with the terminal as all of its standard streams, and as its controlling terminal.
    ///
    /// # Errors
    /// When there is no terminal to be had, or the command cannot be started.
    pub fn start(command: &Command) -> Result<Self> {
        let window = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&window)?;
        unlockpt(&window)?;
        let name = ptsname(&window, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let line = rustix::fs::open(&name, flags, Mode::empty())?;
        let (ws_row, ws_col) = SIZE;
        tcsetwinsize(&line, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 })?;
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args()).env_clear();
        session.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        session.env("TERM", "xterm-256color");
        session.stdin(line.try_clone()?).stdout(line.try_clone()?).stderr(line.try_clone()?);
        let child = session.spawn().context("setsid")?;
        let screen = Arc::<Screen>::default();
        let window = File::from(window);
        let (mut output, shows) = (window.try_clone()?, Arc::clone(&screen));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Ends when nobody has the other end.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let bytes = bytes.get(..count).unwrap_or_default();
                let mut shown = shows.shown.lock().unwrap_or_else(PoisonError::into_inner);
                shown.parser.process(bytes);
                shown.bytes.extend_from_slice(bytes);
                shows.changed.notify_all();
            }
        });
        Ok(Self { child, window, line, screen })
    }

    /// Waits until what is to be seen is as wanted, and returns it.
    ///
    /// # Errors
    /// When it is not before the limit; the message has the screen.
    pub fn shows(&self, limit: Duration, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + limit;
        let mut shown = self.screen.shown.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let text = shown.parser.screen().contents();
            if wanted(&text) {
                return Ok(text);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "the screen is\n{text}");
            let waited = self.screen.changed.wait_timeout(shown, left);
            shown = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether a program shows a screen of its own, and has hidden the cursor.
    #[must_use]
    pub fn is_taken_over(&self) -> bool {
        let shown = self.screen.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let screen = shown.parser.screen();
        screen.alternate_screen() || screen.hide_cursor()
    }

    /// Whether the terminal hands on keys as they are pressed, and shows none.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn is_raw(&self) -> Result<bool> {
        let modes = tcgetattr(&self.line)?.local_modes;
        Ok(!modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG))
    }

    /// Whether anything was coloured up to now: escape sequences that select a colour.
    #[must_use]
    pub fn is_coloured(&self) -> bool {
        let shown = self.screen.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&shown.bytes);
        let colours = |sequence: &str| {
            let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(0);
            let (parameters, kind) = sequence.split_at(end);
            let selects = |number: &str| {
                number
                    .parse()
                    .is_ok_and(|n: u8| matches!(n, 30..=38 | 40..=48 | 90..=97 | 100..=107))
            };
            kind.starts_with('m') && parameters.split(';').any(selects)
        };
        text.split("\u{1b}[").skip(1).any(colours)
    }

    /// Whether there was any escape sequence up to now.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let shown = self.screen.shown.lock().unwrap_or_else(PoisonError::into_inner);
        !shown.bytes.contains(&0x1b)
    }

    /// Presses keys.
    ///
    /// # Errors
    /// When the terminal does not take them.
    pub fn press(&mut self, keys: &str) -> Result {
        Ok(self.window.write_all(keys.as_bytes())?)
    }

    /// Makes the window another size, of which the program is told.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn resize(&self, rows: u16, columns: u16) -> Result {
        let mut shown = self.screen.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.parser.screen_mut().set_size(rows, columns);
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(&self.line, size)?)
    }

    /// Sends the program a signal.
    ///
    /// # Errors
    /// When it has gone.
    pub fn signal(&self, signal: Signal) -> Result {
        Ok(kill_process(pid_of(self.child.id())?, signal)?)
    }

    /// Waits for the program's end.
    ///
    /// # Errors
    /// When it does not come before the limit.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let pid = pid_of(self.child.id())?;
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        let deadline = Instant::now() + limit;
        if !crate::process::poll_until(&pidfd, rustix::event::PollFlags::IN, deadline)? {
            fail!("the program in the terminal does not end");
        }
        Ok(self.child.wait()?)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
