//! The child of `serve` that speaks HTTP for it.
//!
//! It is started with its sockets, before `serve` confines itself, and holds itself to the same list of system
//! calls: it has no business with files, other processes or connections of its own. It ends with `serve`.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};

use tokio::net::unix::pipe::Receiver;
use tokio::task::LocalSet;

use super::ask::Asker;
use super::http;
use super::place::{Made, Place, Sockets};
use crate::args::{LogArgs, LogFormat, Switch};
use crate::channel::Channel;
use crate::confine::{Confinement, Needs, Role};
use crate::log::{self, Place as LogPlace};

/// The name under which it is started; no command of the user's.
const TELLER: &str = "<status>";
/// In the place of a socket that there is none of.
const NONE: &str = "-";
/// After the standard streams.
const FIRST_FREE: i32 = 3;

/// The process, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Teller {
    child: Child,
    /// It ends as well when nobody has this any more.
    _life: Option<ChildStdin>,
    /// Its socket's. The socket itself is its alone: when it has gone, nobody waits for an answer.
    _made: Option<Made>,
}

impl Teller {
    /// Starts it; the other end of its channel is for [`tell`](super::tell()).
    pub(crate) fn start(sockets: Sockets, confine: Switch) -> io::Result<(Self, Channel)> {
        let (ours, theirs) = Channel::pair()?;
        // Duplicates for the child, under numbers that its standard streams do not take.
        let pass = |fd: BorrowedFd<'_>| -> io::Result<OwnedFd> {
            let fd = rustix::io::fcntl_dupfd_cloexec(fd, FIRST_FREE)?;
            rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty())?;
            Ok(fd)
        };
        let unix = sockets.unix.as_ref().map(|place| pass(place.listener.as_fd())).transpose()?;
        let tcp = sockets.tcp.as_ref().map(|listener| pass(listener.as_fd())).transpose()?;
        let theirs = pass(theirs.as_fd())?;
        let number = |fd: Option<&OwnedFd>| {
            fd.map_or_else(|| NONE.to_owned(), |fd| fd.as_raw_fd().to_string())
        };
        let mut child = Command::new("/proc/self/exe")
            .arg0(TELLER)
            .args([number(Some(&theirs)), number(unix.as_ref()), number(tcp.as_ref())])
            .arg(if confine == Switch::On { "on" } else { "off" })
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // A signal of the terminal is for `serve`.
            .process_group(0)
            .spawn()?;
        let life = child.stdin.take();
        let made = sockets.unix.and_then(|place| place.made);
        Ok((Self { child, _life: life, _made: made }, ours))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        // It has nothing to finish.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs the process that the command line names, if it names this one.
pub(crate) fn stage() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    if args.next()? != TELLER {
        return None;
    }
    let mut words = args.map(|word| word.into_string().unwrap_or_default());
    let log = LogArgs { debug: false, log_format: LogFormat::Text };
    log::init(&log, LogPlace::StandardError).ok();
    Some(match run(&mut words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("no status is told: {}", crate::exit::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    })
}

fn run(words: &mut impl Iterator<Item = String>) -> Result<(), Box<dyn std::error::Error>> {
    let mut word = || words.next().ok_or("a word is missing");
    let channel = Channel::inherited(word()?.parse()?)?;
    let mut socket = || {
        let word = word()?;
        if word == NONE {
            return Ok::<_, Box<dyn std::error::Error>>(None);
        }
        Ok(Some(crate::inherited::take(word.parse()?)?))
    };
    let unix = socket()?.map(|fd| Place::passed(UnixListener::from(fd)));
    let tcp = socket()?.map(TcpListener::from);
    // `serve` has said what is to be said of `--confine off`.
    let mut confinement = match word()?.as_str() {
        "off" => None,
        _ => Some(Confinement::begin(Switch::On, Role::Teller)?),
    };
    if let Some(confinement) = &mut confinement {
        confinement.give_up_capabilities(false)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        let asker = Asker::new(channel)?;
        let life = Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
        if let Some(confinement) = &mut confinement {
            confinement.complete(&Needs::default())?;
        }
        http::serve(&tasks, &Sockets { unix, tcp }, asker)?;
        // Readable when `serve` has gone.
        life.readable().await?;
        Ok(())
    })
}
