//! The command line: values that are only checked here for their form.

mod publish;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use bypass_core::Policy;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

pub(crate) use self::publish::PublishArgs;

/// Host-speed networking for rootless containers.
#[derive(Debug, Parser)]
#[command(name = "bypass-cli", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command in its own user and network namespace, with connections to the outside
    /// made at host speed.
    Run(RunArgs),
    /// Serve containers whose OCI runtime hands over a seccomp listener.
    Serve(ServeArgs),
    /// Print the seccomp profile that hands containers over to `serve`. It needs the options on
    /// publishing, UDP and denied networks that `serve` is given: they decide which calls are
    /// trapped.
    Profile(ProfileArgs),
}

/// Options that say where sockets may go.
#[derive(Args, Debug)]
#[command(next_help_heading = "Policy")]
pub(crate) struct PolicyArgs {
    /// Networks whose connections stay in the container. The host's loopback always does,
    /// unless --allow-host-loopback is given.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = parse_net)]
    pub(crate) ignore: Vec<IpNet>,

    /// Networks to which connections are refused.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = parse_net)]
    pub(crate) deny: Vec<IpNet>,

    /// Let the container reach services on the host's loopback addresses. Such services
    /// often trust whoever connects.
    #[arg(long)]
    pub(crate) allow_host_loopback: bool,

    /// Bind host sockets to the device that leads to their destination, so that no later
    /// call can turn them round. Switch it off only where live connections change devices.
    #[arg(long, value_name = "WHEN", default_value = "on")]
    pub(crate) pin: Switch,
}

impl PolicyArgs {
    /// Whether the device that a datagram socket is bound to keeps it to this policy.
    pub(crate) fn devices_suffice(&self) -> bool {
        devices_suffice(&self.deny, self.pin)
    }

    pub(crate) fn policy(&self, also_ignore: &[IpNet]) -> Policy {
        Policy::builder()
            .ignore(self.ignore.iter().chain(also_ignore).copied())
            .deny(self.deny.iter().copied())
            .allow_host_loopback(self.allow_host_loopback)
            .build()
    }
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

    /// Write a report in JSON at the end; `-` is standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) policy: PolicyArgs,

    #[command(flatten)]
    pub(crate) publish: PublishArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,

    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
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
    pub(crate) policy: PolicyArgs,

    #[command(flatten)]
    pub(crate) publish: PublishArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ProfileArgs {
    /// Where `serve` listens [default: $XDG_RUNTIME_DIR/bypass4netns.sock].
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// Networks to which connections are refused. Here it only decides which calls are trapped,
    /// so that `serve` can refuse datagrams to these networks as well.
    #[arg(
        long,
        value_name = "CIDR",
        value_delimiter = ',',
        value_parser = parse_net,
        help_heading = "Policy"
    )]
    pub(crate) deny: Vec<IpNet>,

    /// Whether `serve` binds host sockets to their device. Without that, more calls are trapped.
    #[arg(long, value_name = "WHEN", default_value = "on", help_heading = "Policy")]
    pub(crate) pin: Switch,

    #[command(flatten)]
    pub(crate) publish: PublishArgs,
}

impl ProfileArgs {
    /// As [`PolicyArgs::devices_suffice`].
    pub(crate) fn devices_suffice(&self) -> bool {
        devices_suffice(&self.deny, self.pin)
    }
}

/// A device keeps datagrams off the host's loopback, but not off denied networks behind it.
fn devices_suffice(deny: &[IpNet], pin: Switch) -> bool {
    deny.is_empty() && pin == Switch::On
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

fn parse_net(text: &str) -> Result<IpNet, String> {
    if text == "auto" {
        return Err("the word `auto` is not supported yet; name the networks".into());
    }
    text.parse::<IpNet>()
        .or_else(|_not_a_net| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_neither| "not a network; write it like 10.0.0.0/8 or fd00::/8".into())
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
    fn everything_after_the_command_belongs_to_it() {
        let cli = Cli::parse_from(["bypass-cli", "run", "--map-root", "ls", "--net", "-l"]);
        let Command::Run(args) = cli.command else { panic!("not run") };
        assert!(args.map_root);
        assert_eq!(args.net, Net::None);
        assert_eq!(args.command, ["ls", "--net", "-l"]);
    }

    #[test]
    fn networks_come_in_lists_and_single_addresses_count() {
        let line =
            ["bypass-cli", "serve", "--ignore", "10.0.0.0/8,fd00::/8", "--ignore", "192.0.2.1"];
        let Command::Serve(args) = Cli::parse_from(line).command else { panic!("not serve") };
        let nets: Vec<String> = args.policy.ignore.iter().map(ToString::to_string).collect();
        assert_eq!(nets, ["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"]);
    }

    #[test]
    fn a_wrong_network_is_named_with_its_option() {
        let error = Cli::try_parse_from(["bypass-cli", "run", "--deny", "10.0.0/8", "true"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("--deny") && error.contains("10.0.0/8"), "{error}");
        assert!(error.contains("write it like"), "{error}");
    }
}
