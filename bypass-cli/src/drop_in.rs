//! Called as `bypass4netns` or `bypass4netnsd`, this program is that one: its flags, defaults, output
//! and exit statuses. What it was told is translated into a command line of ours.
//!
//! Both are written in Go, whose flags differ in small things: `--debug=true`, `-p=8080:80`, and of a
//! flag that is given twice the last counts.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser};
use ipnet::IpNet;

use crate::args::{Cli, Command};
use crate::exit::Failure;
use crate::log::{self, Place};
use crate::{daemon, serve};

/// What a program of Go's ends with, for a fault of its own, and for flags that it does not know.
const FATAL: u8 = 1;
const USAGE: u8 = 2;

/// Flags of both.
#[derive(Args, Debug)]
struct Common {
    /// Socket file for communication with bypass4netns
    #[arg(long, value_name = "string")]
    com_socket: Option<OsString>,
    /// Pid file
    #[arg(long, value_name = "string")]
    pid_file: Option<OsString>,
    /// Output logs to file
    #[arg(long, value_name = "string")]
    log_file: Option<OsString>,
    #[command(flatten)]
    c2c: C2c,
    /// Enable debug mode
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = truth)]
    debug: bool,
    /// Show version
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = truth)]
    version: bool,
    /// Show help
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = truth)]
    help: bool,
    /// There are no commands.
    #[arg(hide = true)]
    rest: Vec<OsString>,
}

/// Flags about other containers and other hosts.
#[derive(Args, Debug)]
struct C2c {
    /// Handle connections between containers
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = truth)]
    handle_c2c_connections: bool,
    /// Enable connection tracer
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = truth)]
    tracer: bool,
    /// Enable multinode communication
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = truth)]
    multinode: bool,
    /// Etcd address for multinode communication
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    multinode_etcd_address: String,
    /// Host address for multinode communication
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    multinode_host_address: String,
}

#[derive(Debug, Parser)]
#[command(name = "bypass4netns", disable_help_flag = true, args_override_self = true)]
struct Bypass4netns {
    /// Socket file [default: $XDG_RUNTIME_DIR/bypass4netns.sock]
    #[arg(long, value_name = "string")]
    socket: Option<OsString>,
    #[command(flatten)]
    common: Common,
    /// File descriptor to notify when ready
    #[arg(long, value_name = "int", default_value_t = -1, allow_negative_numbers = true)]
    ready_fd: i32,
    /// File descriptor for terminating bypass4netns
    #[arg(long, value_name = "int", default_value_t = -1, allow_negative_numbers = true)]
    exit_fd: i32,
    /// Subnets to ignore in bypass4netns. Can be also set to "auto".
    #[arg(long, value_name = "strings", value_delimiter = ',', default_value = "127.0.0.0/8")]
    ignore: Vec<String>,
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "stringArray")]
    publish: Vec<String>,
    /// Disable bypassing bind
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = truth)]
    ignore_bind: bool,
}

#[derive(Debug, Parser)]
#[command(name = "bypass4netnsd", disable_help_flag = true, args_override_self = true)]
struct Bypass4netnsd {
    /// Socket file [default: $XDG_RUNTIME_DIR/bypass4netnsd.sock]
    #[arg(long, value_name = "string")]
    socket: Option<OsString>,
    #[command(flatten)]
    common: Common,
    /// Path to bypass4netns executable; containers are served without it
    #[arg(long, value_name = "string")]
    b4nn_executable: Option<OsString>,
}

/// The line of ours that says the same, and where the log goes.
#[derive(Debug)]
struct Translated {
    line: Vec<OsString>,
    log_file: Option<PathBuf>,
    warnings: Vec<&'static str>,
}

/// Why it ends at once.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    /// For standard output.
    said: String,
    /// For standard error.
    complained: String,
    status: u8,
}

/// Their command lines, for man pages and completions.
pub(crate) fn commands() -> [clap::Command; 2] {
    let notes = |command| {
        format!(
            "Notes:\n  The program is bypass-cli by another name. It takes the flags of the one that is\n  \
             so called, and reads no configuration file: see bypass-cli-{command}(1)."
        )
    };
    [
        Bypass4netns::command()
            .about("Serve containers as bypass4netns does")
            .after_long_help(notes("serve")),
        Bypass4netnsd::command()
            .about("Serve containers as bypass4netnsd does")
            .after_long_help(notes("daemon")),
    ]
}

/// Runs as that program, if it was called by its name.
pub(crate) fn run() -> Option<ExitCode> {
    let mut line = std::env::args_os();
    let called = PathBuf::from(line.next()?);
    let as_daemon = match called.file_name()?.to_str()? {
        "bypass4netns" => false,
        "bypass4netnsd" => true,
        _ => return None,
    };
    // As they do, before any file is made.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let translated = match (runtime_dir, as_daemon) {
        (None, as_daemon) => Err(Ended {
            said: String::new(),
            complained: "$XDG_RUNTIME_DIR needs to be set\n".into(),
            // The one panics, and the other says so.
            status: if as_daemon { FATAL } else { USAGE },
        }),
        (Some(_), true) => translate_daemon(line),
        (Some(_), false) => translate(line),
    };
    Some(match translated {
        Ok(translated) => act(&translated),
        Err(ended) => {
            print(&ended);
            ExitCode::from(ended.status)
        }
    })
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "what a user asked for")]
fn print(ended: &Ended) {
    print!("{}", ended.said);
    eprint!("{}", ended.complained);
}

fn act(translated: &Translated) -> ExitCode {
    let Translated { line, log_file, warnings } = translated;
    let own = [OsString::from("bypass-cli")].into_iter().chain(line.iter().cloned());
    let cli = match Cli::try_parse_from(own) {
        Ok(cli) => cli,
        Err(error) => {
            error.print().ok();
            return ExitCode::from(FATAL);
        }
    };
    // The log of an earlier one is not kept.
    if let Some(path) = log_file
        && let Err(error) = std::fs::write(path, "")
    {
        let complained = format!("Cannot write log file {} : {error}\n", path.display());
        print(&Ended { said: String::new(), complained, status: FATAL });
        return ExitCode::from(FATAL);
    }
    let place = log_file.as_deref().map_or(Place::StandardError, Place::Both);
    let result = match &cli.command {
        Command::Serve(args) => log::init(&args.log, place).map_err(Failure::new).and_then(|()| {
            warn(warnings);
            serve::serve(args).map_err(Failure::new)
        }),
        Command::Daemon(args) => log::init(&args.log, place).map_err(Failure::new).and_then(|()| {
            warn(warnings);
            daemon::daemon(args, line, true).map_err(Failure::new)
        }),
        _ => return ExitCode::from(FATAL),
    };
    result.unwrap_or_else(|failure| {
        failure.report();
        ExitCode::from(FATAL)
    })
}

fn warn(warnings: &[&'static str]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

fn translate(line: impl Iterator<Item = OsString>) -> Result<Translated, Ended> {
    let told: Bypass4netns = parse(line)?;
    let warnings = told.common.check::<Bypass4netns>()?;
    let mut to = told.common.line("serve", told.socket.as_deref());
    for (option, fd) in [("--ready-fd", told.ready_fd), ("--exit-fd", told.exit_fd)] {
        if fd >= 0 {
            to.push(format!("{option}={fd}").into());
        }
    }
    for network in &told.ignore {
        // Go takes an address within the network for it.
        let network = network
            .parse::<IpNet>()
            .map_or_else(|_other| network.clone(), |network| network.trunc().to_string());
        to.push(format!("--ignore={network}").into());
    }
    to.extend(told.publish.iter().map(|map| format!("--publish={map}").into()));
    if told.ignore_bind {
        to.push("--ignore-bind".into());
    }
    Ok(Translated { line: to, log_file: told.common.own_log(), warnings })
}

fn translate_daemon(line: impl Iterator<Item = OsString>) -> Result<Translated, Ended> {
    let told: Bypass4netnsd = parse(line)?;
    let warnings = told.common.check::<Bypass4netnsd>()?;
    let mut to = told.common.line("daemon", told.socket.as_deref());
    if let Some(path) = told.common.com_socket.clone().filter(|path| !path.is_empty()) {
        to.extend(["--com-socket".into(), path]);
    }
    Ok(Translated { line: to, log_file: told.common.own_log(), warnings })
}

fn parse<T: Parser>(line: impl Iterator<Item = OsString>) -> Result<T, Ended> {
    let name = OsString::from(T::command().get_name());
    let parsed = T::command().try_get_matches_from([name].into_iter().chain(line));
    parsed.and_then(|mut matches| T::from_arg_matches_mut(&mut matches)).map_err(|error| Ended {
        said: String::new(),
        complained: error.to_string(),
        status: USAGE,
    })
}

impl Common {
    /// What is to be said instead of serving, and of what will not be done.
    fn check<T: Parser>(&self) -> Result<Vec<&'static str>, Ended> {
        let fatal = |complained: &str| Ended {
            said: String::new(),
            complained: format!("{complained}\n"),
            status: FATAL,
        };
        let name = T::command().get_name().to_owned();
        if !self.rest.is_empty() {
            return Err(fatal(&format!("{}\nInvalid command", T::command().render_help())));
        }
        if self.version {
            let mut said = format!("{name} version {}\n", env!("CARGO_PKG_VERSION"));
            if name == "bypass4netns"
                && let Some((major, minor, micro)) = seccomp_notify::libseccomp_version()
            {
                said.push_str(&format!("libseccomp: {major}.{minor}.{micro}\n"));
            }
            return Err(Ended { said, complained: String::new(), status: 0 });
        }
        if self.help {
            let complained = T::command().render_help().to_string();
            return Err(Ended { said: String::new(), complained, status: 0 });
        }
        let c2c = &self.c2c;
        let mut warnings = Vec::new();
        if c2c.handle_c2c_connections && c2c.multinode {
            return Err(fatal(
                "--handle-c2c-connections and multinode cannot be enabled at the sametime",
            ));
        }
        if c2c.tracer && !c2c.handle_c2c_connections {
            return Err(fatal("--handle-c2c-connections is not enabled"));
        }
        if c2c.multinode {
            if c2c.multinode_etcd_address.is_empty() {
                return Err(fatal("--multinode-etcd-address is not specified"));
            }
            if c2c.multinode_host_address.is_empty() {
                return Err(fatal("--multinode-host-address is not specified"));
            }
            warnings.push(
                "--multinode: containers of other hosts are not known, connections to them take \
                 the containers' own networks",
            );
        }
        Ok(warnings)
    }

    fn own_log(&self) -> Option<PathBuf> {
        self.log_file.clone().filter(|path| !path.is_empty()).map(Into::into)
    }

    fn line(&self, command: &str, socket: Option<&OsStr>) -> Vec<OsString> {
        let mut line = vec![OsString::from(command)];
        for (option, path) in [
            ("--socket", socket),
            ("--pid-file", self.pid_file.as_deref()),
            ("--log-file", self.log_file.as_deref()),
        ] {
            // Go has no other way to say that there is none.
            if let Some(path) = path.filter(|path| !path.is_empty()) {
                line.extend([option.into(), path.into()]);
            }
        }
        if self.debug {
            line.push("--debug".into());
        }
        if self.c2c.handle_c2c_connections {
            line.push("--handle-c2c-connections".into());
        }
        line
    }
}

/// Go's `strconv.ParseBool`.
fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        text => Err(format!("{text:?} is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> impl Iterator<Item = OsString> + '_ {
        text.split_ascii_whitespace().map(OsString::from)
    }

    fn line(translated: Result<Translated, Ended>) -> String {
        let line = translated.unwrap().line;
        // All that is translated is understood.
        Cli::try_parse_from(words("bypass-cli").chain(line.iter().cloned())).unwrap();
        line.join(OsString::from(" ").as_os_str()).into_string().unwrap()
    }

    #[test]
    fn flags_of_bypass4netns_are_options_of_serve() {
        for (told, expected) in [
            ("", "serve --ignore=127.0.0.0/8"),
            (
                "--socket /s --pid-file=/p --log-file /l --ready-fd=3 --exit-fd 4 --debug",
                "serve --socket /s --pid-file /p --log-file /l --debug --ready-fd=3 --exit-fd=4 \
                 --ignore=127.0.0.0/8",
            ),
            (
                "--ignore=10.0.2.7/24,fd00::/8 --ignore 192.0.2.0/24 -p=8080:80 -p 53:53 \
                 --publish=81:81",
                "serve --ignore=10.0.2.0/24 --ignore=fd00::/8 --ignore=192.0.2.0/24 \
                 --publish=8080:80 --publish=53:53 --publish=81:81",
            ),
            (
                "--debug=false --ignore-bind=true --com-socket=/c --handle-c2c-connections \
                 --tracer=true --ready-fd=-1",
                "serve --handle-c2c-connections --ignore=127.0.0.0/8 --ignore-bind",
            ),
            ("--socket=/a --socket=/b --pid-file=", "serve --socket /b --ignore=127.0.0.0/8"),
            (
                "--multinode --multinode-etcd-address=http://e --multinode-host-address=192.0.2.1",
                "serve --ignore=127.0.0.0/8",
            ),
        ] {
            assert_eq!(line(translate(words(told))), expected, "{told}");
        }
    }

    #[test]
    fn flags_of_bypass4netnsd_are_options_of_daemon() {
        for (told, expected) in [
            ("", "daemon"),
            (
                "--socket=/s --com-socket=/c --pid-file=/p --log-file=/l --debug \
                 --b4nn-executable=/usr/bin/bypass4netns --handle-c2c-connections --tracer",
                "daemon --socket /s --pid-file /p --log-file /l --debug --handle-c2c-connections \
                 --com-socket /c",
            ),
        ] {
            assert_eq!(line(translate_daemon(words(told))), expected, "{told}");
        }
    }

    #[test]
    fn what_they_say_instead_is_said() {
        for (told, status, part) in [
            ("--no-such-flag", 2, "--no-such-flag"),
            ("--ready-fd=x", 2, "ready-fd"),
            ("--debug=maybe", 2, "maybe"),
            ("start", 1, "Invalid command"),
            ("--tracer", 1, "--handle-c2c-connections is not enabled"),
            ("--multinode", 1, "--multinode-etcd-address is not specified"),
            ("--multinode --multinode-etcd-address=e", 1, "--multinode-host-address"),
            ("--help", 0, "--com-socket"),
        ] {
            let ended = translate(words(told)).unwrap_err();
            assert_eq!(ended.status, status, "{told}");
            assert!(ended.complained.contains(part), "{told}: {}", ended.complained);
        }
        let both = "--handle-c2c-connections --multinode";
        assert_eq!(translate_daemon(words(both)).unwrap_err().status, 1);
        let said = translate(words("--version")).unwrap_err().said;
        assert!(said.starts_with("bypass4netns version 0."), "{said}");
        assert!(said.lines().nth(1).unwrap().starts_with("libseccomp: 2."), "{said}");
        let said = translate_daemon(words("--version")).unwrap_err().said;
        assert_eq!(said, format!("bypass4netnsd version {}\n", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn what_is_not_done_is_told() {
        let warnings = |told| translate(words(told)).unwrap().warnings;
        assert!(warnings("").is_empty());
        assert!(warnings("--handle-c2c-connections --tracer").is_empty());
        let multinode = "--multinode --multinode-etcd-address=e --multinode-host-address=192.0.2.1";
        assert!(warnings(multinode)[0].contains("other hosts are not known"));
    }
}
