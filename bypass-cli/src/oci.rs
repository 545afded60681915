//! `bypass-cli oci-runtime`: an OCI runtime in front of another one, for engines that drop
//! `listenerPath` from the profiles that they are given.
//!
//! ```text
//! engine ─▶ bypass-cli oci-runtime create --bundle B ID ─▶ exec runc create --bundle B ID
//!                 └ B/config.json: our traps are added to linux.seccomp
//! ```
//! All else is the other runtime's: this process becomes it, so arguments, descriptors, signals and the
//! exit status are passed on by nobody. An `exec` into a container needs nothing of us, since
//! the runtime applies the profile that it has kept.

mod bundle;
mod line;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use bypass_core::PublishConflict;
use clap::Parser as _;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use self::bundle::{Bundle, BundleError};
use self::line::Line;
use crate::annotations::{self, Annotated, Mode};
use crate::args::{Cli, Command as CliCommand, OciArgs};
use crate::config;
use crate::exit;
use crate::filter::Traps;
use crate::policy::{Policies, PolicyError, devices_suffice};
use crate::serve::{SocketPathError, socket_path};

/// The runtime was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OciError {
    #[error(transparent)]
    Socket(#[from] SocketPathError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Publish(#[from] PublishConflict),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(
        "no supervisor listens on {}; start `bypass-cli serve` there, or start the container with the \
         annotation {}=optional to do without", path.display(), annotations::MODE
    )]
    NobodyListens { path: PathBuf, source: Errno },
    #[error("there is neither runc nor crun in PATH; name a runtime with --runtime")]
    NoRuntime,
    #[error("the runtime {} is this program; name another with --runtime", .0.display())]
    Ourselves(PathBuf),
    #[error("{} could not be started; name an installed runtime with --runtime", runtime.display())]
    Exec { runtime: PathBuf, source: io::Error },
}

/// Carries out `oci-runtime`; returns only if that failed.
pub(crate) fn oci_runtime(args: &OciArgs) -> ExitCode {
    let line = Line::parse(&args.line);
    let error = match prepare(args, &line) {
        Ok(runtime) => {
            let source = Command::new(&runtime).args(&args.line).exec();
            OciError::Exec { runtime, source }
        }
        Err(error) => error,
    };
    report(&error, line.log);
    // As runc does; engines know this one.
    ExitCode::from(1)
}

/// Called by a link of the name `bypass-runtime`, `bypass-runtime-runc` or `bypass-runtime-crun`, since
/// some engines take a path without arguments: the arguments are all the runtime's. Ours may be in
/// `BYPASS_OPTIONS`, between spaces.
pub(crate) fn by_name() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let name = arguments.next()?;
    let name = Path::new(&name).file_name()?.to_str()?.strip_prefix(NAME)?;
    let runtime = match name.strip_prefix('-') {
        Some(runtime) => Some(runtime.into()),
        None if name.is_empty() => None,
        None => return None,
    };
    let options = std::env::var("BYPASS_OPTIONS").unwrap_or_default();
    let options = ["bypass-cli", "oci-runtime"].into_iter().chain(options.split_whitespace());
    let words = match config::complete(options.map(OsString::from).collect()) {
        Ok(line) => line.words,
        Err(error) => {
            warn(&exit::chain(&error));
            return Some(ExitCode::from(1));
        }
    };
    let args = match Cli::try_parse_from(words) {
        Ok(Cli { command: CliCommand::OciRuntime(args) }) => args,
        Ok(_) => return None,
        Err(error) => {
            warn(&format!("BYPASS_OPTIONS: {error}"));
            return Some(ExitCode::from(1));
        }
    };
    let runtime = runtime.or(args.runtime);
    Some(oci_runtime(&OciArgs { runtime, line: arguments.collect(), ..args }))
}

const NAME: &str = "bypass-runtime";

/// Adds to the bundle, if the command has one, and finds the runtime.
fn prepare(args: &OciArgs, line: &Line<'_>) -> Result<PathBuf, OciError> {
    let runtime = runtime(args.runtime.as_deref())?;
    let Some(config) = &line.config else { return Ok(runtime) };
    let Some(bundle) = Bundle::read(config)? else { return Ok(runtime) };
    let annotated = bundle.annotated()?;
    if annotated.mode == Mode::Off {
        return Ok(runtime);
    }
    let socket = socket_path(args.socket.as_deref())?;
    if let Err(errno) = listens(&socket) {
        if annotated.mode == Mode::Optional {
            warn(&format!(
                "no supervisor listens on {}: the container is not bypassed",
                socket.display()
            ));
            return Ok(runtime);
        }
        return Err(OciError::NobodyListens { path: socket, source: errno });
    }
    bundle.add(traps(args, &annotated)?, &socket)?;
    Ok(runtime)
}

/// Whether the supervisor publishes what the annotations ask for is not known here, so that both is
/// trapped for.
fn traps(args: &OciArgs, annotated: &Annotated) -> Result<Traps, OciError> {
    let policies = Policies::read(&args.policy)?;
    let suffice = policies.devices_suffice() && devices_suffice(&annotated.layer);
    let traps = args.publish.traps(&args.publish.list()?, suffice);
    let asked = annotated.publish.as_ref().map(|list| args.publish.traps(list, suffice));
    Ok(traps.and(asked.unwrap_or_default()))
}

/// Whether somebody serves the socket. A connection would be a hand-over that never comes, so one of
/// another type is asked for, which the kernel refuses with EPROTOTYPE if there is a socket at all
/// (`unix_find_other()`).
pub(crate) fn listens(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC;
    let asker = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    match rustix::net::connect(&asker, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::PROTOTYPE) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn runtime(asked: Option<&OsStr>) -> Result<PathBuf, OciError> {
    let runtime = match asked {
        Some(name) if Path::new(name).components().count() > 1 => PathBuf::from(name),
        Some(name) => in_path(name).unwrap_or_else(|| PathBuf::from(name)),
        None => ["runc", "crun"]
            .into_iter()
            .find_map(|name| in_path(OsStr::new(name)))
            .ok_or(OciError::NoRuntime)?,
    };
    let same = |one: io::Result<PathBuf>| one.ok();
    let own = same(std::fs::read_link("/proc/self/exe"));
    if own.is_some() && same(runtime.canonicalize()) == own {
        return Err(OciError::Ourselves(runtime));
    }
    Ok(runtime)
}

pub(crate) fn in_path(name: &OsStr) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|dir| dir.join(name));
    found.into_iter().find(|path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok())
}

/// Where engines look for what a runtime says: in the file of `--log`, as JSON, and on standard error.
fn report(error: &OciError, log: Option<&OsString>) {
    let message = exit::chain(error);
    warn(&message);
    let Some(log) = log else { return };
    let time = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    let line =
        serde_json::json!({ "level": "error", "msg": format!("bypass: {message}"), "time": time });
    if let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(log) {
        writeln!(file, "{line}").ok();
    }
}

#[expect(clippy::print_stderr, reason = "an OCI runtime's own words go to stderr")]
fn warn(message: &str) {
    eprintln!("bypass-cli: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn whether_somebody_listens_is_asked_without_a_connection() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert_eq!(listens(&path), Err(Errno::NOENT));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listens(&path), Ok(()));
        assert!(listener.accept().is_err(), "nobody has connected");
        drop(listener);
        assert_eq!(listens(&path), Err(Errno::CONNREFUSED));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such files")]
    fn the_runtime_is_never_this_program() {
        let own = std::env::current_exe().unwrap();
        assert!(matches!(runtime(Some(own.as_os_str())), Err(OciError::Ourselves(_))));
        assert_eq!(runtime(Some(OsStr::new("/bin/sh"))).unwrap(), PathBuf::from("/bin/sh"));
        assert!(runtime(Some(OsStr::new("sh"))).unwrap().is_absolute());
    }
}
