//! The command line: values that are only checked here for their form.

mod config;
mod confine;
mod help;
mod policy;
mod publish;
mod visibility;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use bypass_core::AuditLimits;
use clap::builder::{Resettable, Str};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

pub(crate) use self::config::ConfigArgs;
pub(crate) use self::confine::ConfineArgs;
pub(crate) use self::policy::PolicyArgs;
pub(crate) use self::publish::{PublishArgs, UdpArgs};
pub(crate) use self::visibility::{AskedArgs, StatusArgs, TopArgs, VisibilityArgs, beside_of};
use crate::explain::Question;
use crate::profile::Base;

/// Host-speed networking for rootless containers.
#[derive(Debug, Parser)]
#[command(name = "bypass-cli", version, max_term_width = 100, arg_required_else_help = true,
          after_long_help = help::CLI)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command in its own user and network namespace, with connections to the outside
    /// made at host speed.
    #[command(after_long_help = help::RUN)]
    Run(RunArgs),
    /// Serve containers whose OCI runtime hands over a seccomp listener.
    #[command(after_long_help = help::SERVE)]
    Serve(ServeArgs),
    /// Serve containers that engines announce over HTTP, as bypass4netnsd does for nerdctl.
    #[command(after_long_help = help::DAEMON)]
    Daemon(DaemonArgs),
    /// Print the seccomp profile that hands containers over to `serve`.
    ///
    /// It needs the options on policy, publishing and UDP that `serve` is given: they decide which calls
    /// are trapped.
    #[command(after_long_help = help::PROFILE)]
    Profile(ProfileArgs),
    /// Be an OCI runtime that hands its containers over to `serve`, in front of another runtime.
    ///
    /// It is for engines that drop `listenerPath`. It takes the options on policy, publishing and UDP
    /// that `serve` is given.
    #[command(after_long_help = help::OCI_RUNTIME)]
    OciRuntime(OciArgs),
    /// Say what of this machine stands in the way, and what to do about it.
    #[command(after_long_help = help::DOCTOR)]
    Doctor(DoctorArgs),
    /// Say what `serve` or `daemon` serves.
    ///
    /// That is: containers, verdicts on their calls by reason, published ports and their state, and what is
    /// enforced.
    #[command(after_long_help = help::STATUS)]
    Status(StatusArgs),
    /// Show what `serve` or `daemon` serves, live.
    #[command(after_long_help = help::TOP)]
    Top(TopArgs),
    /// Say what a policy makes of destinations, and which part of it decides.
    ///
    /// Nothing is connected. UDP is bypassed only as far as --udp of the other commands says.
    #[command(after_long_help = help::EXPLAIN)]
    Explain(ExplainArgs),
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Logs")]
pub(crate) struct LogArgs {
    /// Log every verdict.
    #[arg(long)]
    pub(crate) debug: bool,

    /// How log lines look.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Logs")]
pub(crate) struct AuditArgs {
    /// Append a line of JSON for each destination that is judged; `-` is standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) audit: Option<PathBuf>,

    /// The most such lines of one container in a second: of denied destinations, and of others.
    /// Ten times as many may come at once.
    #[arg(long, value_name = "N", default_value_t = AuditLimits::default().per_second)]
    pub(crate) audit_rate: u32,
}

impl AuditArgs {
    pub(crate) fn limits(&self) -> AuditLimits {
        AuditLimits { per_second: self.audit_rate }
    }
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Network for what is not bypassed.
    #[arg(long, value_name = "KIND", default_value = "none")]
    pub(crate) net: Net,

    /// Name server for the command, in place of the host's.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns: Vec<IpAddr>,

    /// Be root inside.
    #[arg(long)]
    pub(crate) map_root: bool,

    /// Bind on the host what the command binds, at the same address and port, as if it had the
    /// host's network: it can open every port of the host that you could. Takes
    /// --allow-host-loopback. UDP sockets as well with `--udp all`.
    #[arg(long, conflicts_with_all = ["publish", "ignore_bind"])]
    pub(crate) host_binds: bool,

    /// Write a report in JSON at the end; `-` is standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) policy: PolicyArgs,

    #[command(flatten)]
    pub(crate) publish: PublishArgs,

    #[command(flatten)]
    pub(crate) audit: AuditArgs,

    #[command(flatten)]
    pub(crate) confine: ConfineArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,

    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND",
          value_hint = ValueHint::CommandWithArguments, help_heading = IN_GENERAL)]
    pub(crate) command: Vec<OsString>,
}

/// What containers are to each other.
#[derive(Args, Debug)]
pub(crate) struct NeighbourArgs {
    /// Connect containers that publish TCP ports to each other over the host, by their own addresses
    /// and ports, where their networks would lead there.
    #[arg(long)]
    pub(crate) handle_c2c_connections: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Where runtimes connect [default: $XDG_RUNTIME_DIR/bypass4netns.sock].
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// Write our process id to this file.
    #[arg(long, value_name = "PATH")]
    pub(crate) pid_file: Option<PathBuf>,

    /// Append the log to this file instead of standard error.
    #[arg(long, value_name = "PATH")]
    pub(crate) log_file: Option<PathBuf>,

    /// Write one byte to this descriptor once runtimes can connect.
    #[arg(long, value_name = "FD")]
    pub(crate) ready_fd: Option<i32>,

    /// Exit when the other end of this descriptor is closed.
    #[arg(long, value_name = "FD")]
    pub(crate) exit_fd: Option<i32>,

    #[command(flatten)]
    pub(crate) neighbours: NeighbourArgs,

    #[command(flatten)]
    pub(crate) policy: PolicyArgs,

    #[command(flatten)]
    pub(crate) publish: PublishArgs,

    /// Publish what a container asks for by its annotation `bypass.publish`, in place of -p. Some
    /// engines make annotations of an image's labels, so its author may then choose ports.
    #[arg(long, help_heading = "Publishing and UDP")]
    pub(crate) publish_annotated: bool,

    #[command(flatten)]
    pub(crate) audit: AuditArgs,

    #[command(flatten)]
    pub(crate) visibility: VisibilityArgs,

    #[command(flatten)]
    pub(crate) confine: ConfineArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Args, Debug)]
pub(crate) struct DaemonArgs {
    /// Where engines announce containers [default: $XDG_RUNTIME_DIR/bypass4netnsd.sock].
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// Where agents tell each other of interfaces
    /// [default: $XDG_RUNTIME_DIR/bypass4netnsd-com.sock].
    #[arg(long, value_name = "PATH")]
    pub(crate) com_socket: Option<PathBuf>,

    /// Write our process id to this file.
    #[arg(long, value_name = "PATH")]
    pub(crate) pid_file: Option<PathBuf>,

    /// Append the log to this file instead of standard error.
    #[arg(long, value_name = "PATH")]
    pub(crate) log_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) neighbours: NeighbourArgs,

    #[command(flatten)]
    pub(crate) policy: PolicyArgs,

    #[command(flatten)]
    pub(crate) udp: UdpArgs,

    #[command(flatten)]
    pub(crate) audit: AuditArgs,

    #[command(flatten)]
    pub(crate) visibility: VisibilityArgs,

    #[command(flatten)]
    pub(crate) confine: ConfineArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ProfileArgs {
    /// What the traps are added to: `podman` (its default, /usr/share/containers/seccomp.json),
    /// `docker` (as daemon.json names it), a file, or `allow`, which allows everything else
    /// [default: allow, with a warning].
    #[arg(long, value_name = "FILE|podman|docker|allow")]
    pub(crate) base: Option<Base>,

    /// For whom: `oci` is `linux.seccomp` of a bundle; `docker` is what Docker and Podman take as
    /// `--security-opt seccomp=`, and they decide what depends on a container's capabilities.
    #[arg(long, value_name = "FORMAT", default_value = "oci")]
    pub(crate) format: Format,

    /// A capability of the container, such as CAP_NET_RAW, where `--format oci` makes one profile of
    /// a base that depends on them. Can be repeated.
    #[arg(long, value_name = "CAP")]
    pub(crate) capability: Vec<String>,

    /// Print what is different from the base in place of the profile.
    #[arg(long)]
    pub(crate) explain: bool,

    /// Where `serve` listens [default: $XDG_RUNTIME_DIR/bypass4netns.sock].
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) neighbours: NeighbourArgs,

    #[command(flatten)]
    pub(crate) policy: PolicyArgs,

    #[command(flatten)]
    pub(crate) publish: PublishArgs,
}

#[derive(Args, Debug)]
pub(crate) struct OciArgs {
    /// The runtime that does the work: a name or a path [default: runc, else crun].
    #[arg(long, value_name = "runc|crun|PATH")]
    pub(crate) runtime: Option<OsString>,

    /// Where `serve` listens [default: $XDG_RUNTIME_DIR/bypass4netns.sock].
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) policy: PolicyArgs,

    #[command(flatten)]
    pub(crate) publish: PublishArgs,

    /// The runtime's own command line.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARG",
          help_heading = IN_GENERAL)]
    pub(crate) line: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,

    /// Connect to this address: what the self-test runs.
    #[arg(long, hide = true, value_name = "ADDRESS")]
    pub(crate) connect: Option<std::net::SocketAddr>,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,

    /// Ask for the container with this id.
    #[arg(long, value_name = "ID", help_heading = "Container")]
    pub(crate) container: Option<String>,

    /// Ask for a container with this annotation. Can be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_annotation,
          help_heading = "Container")]
    pub(crate) annotation: Vec<(String, String)>,

    /// Destinations, like `tcp://10.1.2.3:443` or `udp://[fd00::1]:53`.
    #[arg(required = true, value_name = "DESTINATION", help_heading = IN_GENERAL)]
    pub(crate) destinations: Vec<Question>,
}

/// Not under the heading of what stands before it.
const IN_GENERAL: Resettable<Str> = Resettable::Reset;

fn parse_annotation(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("write it like org.example/name=web")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Who reads a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Oci,
    Docker,
}

/// What carries packets of sockets that are not bypassed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Net {
    /// Nothing: only the container's own loopback.
    None,
    /// slirp4netns(1)
    Slirp4netns,
    /// pasta(1)
    Pasta,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_runtimes_command_line_is_its_own() {
        let words =
            "bypass-cli oci-runtime --runtime crun --root /r --log l --debug create -b b id";
        let Command::OciRuntime(args) = Cli::parse_from(words.split(' ')).command else { panic!() };
        assert_eq!(args.runtime.as_deref(), Some("crun".as_ref()));
        assert_eq!(args.line.len(), 9);
        for words in ["bypass-cli oci-runtime --version", "bypass-cli oci-runtime features"] {
            let Command::OciRuntime(args) = Cli::parse_from(words.split(' ')).command else {
                panic!()
            };
            assert_eq!(args.line.len(), 1, "{words}");
        }
    }

    #[test]
    fn everything_after_the_command_belongs_to_it() {
        let cli = Cli::parse_from(["bypass-cli", "run", "--map-root", "ls", "--net", "-l"]);
        let Command::Run(args) = cli.command else { panic!("not run") };
        assert!(args.map_root);
        assert_eq!(args.net, Net::None);
        assert_eq!(args.command, ["ls", "--net", "-l"]);
    }
}
