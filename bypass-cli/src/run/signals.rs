//! Signals on their way to the command.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;

use nix::sys::signal::{SigSet, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::Signal;

/// What a user or a service manager sends to a program and means for what it runs.
const FORWARDED: [NixSignal; 6] = [
    NixSignal::SIGHUP,
    NixSignal::SIGINT,
    NixSignal::SIGQUIT,
    NixSignal::SIGTERM,
    NixSignal::SIGUSR1,
    NixSignal::SIGUSR2,
];

/// The `si_code` of signals that the kernel sends, as for ctrl-C at a terminal.
const SI_KERNEL: i32 = libc::SI_KERNEL;

/// Signals caught instead of suffered.
#[derive(Debug)]
pub(super) struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals in this thread, and thereby in those it starts from now on.
    pub(super) fn catch() -> io::Result<Self> {
        let set: SigSet = FORWARDED.into_iter().collect();
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Those that came in and that the command has not got by itself: what a terminal
    /// sends, it sends to the whole foreground process group.
    pub(super) fn to_forward(&self) -> Vec<Signal> {
        let mut signals = Vec::new();
        while let Ok(Some(info)) = self.0.read_signal() {
            if info.ssi_code != SI_KERNEL {
                signals.extend(i32::try_from(info.ssi_signo).ok().and_then(Signal::from_named_raw));
            }
        }
        signals
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends the signal to the command.
pub(super) fn forward(signal: Signal, command: &OwnedFd) {
    if let Err(errno) = rustix::process::pidfd_send_signal(command, signal) {
        tracing::debug!(?signal, %errno, "could not be forwarded");
    }
}

/// Ends the steps towards a command that has not started.
pub(super) fn end(steps: &Child) {
    let steps = rustix::process::Pid::from_child(steps);
    if let Err(errno) = rustix::process::kill_process(steps, Signal::KILL) {
        tracing::debug!(%errno, "the steps could not be ended");
    }
}
