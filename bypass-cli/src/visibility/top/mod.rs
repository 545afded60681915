//! `bypass-cli top`: what a server serves, live.
//!
//! One thread asks, another one draws and listens to keys, so a server that is slow slows nothing but its
//! figures. The terminal is given back as it was, whatever ends us.

mod draw;
mod view;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use self::view::View;
use super::client::{AskServerError, Server};
use super::model::Status;
use crate::args::TopArgs;

/// How long keys may wait for figures, and the other way round.
const TURN: Duration = Duration::from_millis(50);

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopError {
    #[error("standard input and output have to be a terminal; `bypass-cli status` needs none")]
    NoTerminal,
    #[error(transparent)]
    Ask(#[from] AskServerError),
    #[error("the terminal cannot be used")]
    Terminal(#[source] io::Error),
    #[error("{call} failed")]
    Call { call: &'static str, source: io::Error },
}

/// What came of asking.
type Answer = Result<Status, AskServerError>;

pub(crate) fn top(args: &TopArgs) -> Result<ExitCode, TopError> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(TopError::NoTerminal);
    }
    let server = Server::find(&args.asked)?;
    let path = server.path().display().to_string();
    // A mistake in the socket's name is better read where it was made.
    let first = server.ask()?;
    let signals = signals().map_err(|source| TopError::Call { call: "signalfd", source })?;
    let interval = args.interval;
    let (answers, asked) = channel();
    let (life, over) = channel::<()>();
    std::thread::Builder::new()
        .name("ask".into())
        .spawn(move || ask(&server, interval, &answers, &over))
        .map_err(|source| TopError::Call { call: "starting a thread", source })?;
    let mut view = View::new(path, std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()));
    view.take(Ok(first), Instant::now());
    let mut terminal = ratatui::try_init().map_err(TopError::Terminal)?;
    let result = until_told(&mut terminal, &mut view, &asked, &signals);
    // What we were doing here is over, and the shell goes on.
    ratatui::restore();
    drop(life);
    result.map_err(TopError::Terminal)?;
    Ok(ExitCode::SUCCESS)
}

/// Until nobody wants to know.
fn ask(server: &Server, interval: Duration, answers: &Sender<Answer>, over: &Receiver<()>) {
    while over.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        if answers.send(server.ask()).is_err() {
            return;
        }
    }
}

fn until_told(
    terminal: &mut ratatui::DefaultTerminal,
    view: &mut View,
    asked: &Receiver<Answer>,
    signals: &SignalFd,
) -> io::Result<()> {
    let mut stale = true;
    loop {
        if stale {
            terminal.draw(|frame| draw::draw(frame, view))?;
        }
        stale = false;
        if event::poll(TURN)? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    if is_end(key) {
                        return Ok(());
                    }
                    view.press(key.code);
                    stale = true;
                }
                Event::Resize(..) => stale = true,
                _ => {}
            }
        }
        for answer in asked.try_iter() {
            view.take(answer, Instant::now());
            stale = true;
        }
        if matches!(signals.read_signal(), Ok(Some(_))) {
            return Ok(());
        }
    }
}

fn is_end(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
        || (control && key.code == KeyCode::Char('c'))
}

/// Those that would leave the terminal as we had it.
fn signals() -> io::Result<SignalFd> {
    let set: SigSet =
        [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT].into_iter().collect();
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}
