//! Host-speed networking for rootless containers.
//!
//! `bypass-cli run` starts a command in namespaces of its own, `bypass-cli serve`
//! serves containers that OCI runtimes start, `bypass-cli profile` prints the seccomp
//! profile that those runtimes need, `bypass-cli oci-runtime` adds it to containers of engines that
//! cannot, `bypass-cli explain` says what a policy means, and `bypass-cli status` and `top` what is served.

#![forbid(unsafe_code)]

mod annotations;
mod args;
mod audit;
mod channel;
mod confine;
mod connections;
mod daemon;
mod doctor;
mod drop_in;
mod exit;
mod explain;
mod filter;
mod inherited;
mod limits;
mod log;
mod metadata;
mod oci;
mod policy;
mod profile;
mod report;
mod run;
mod serve;
mod traps;
mod visibility;

use std::process::ExitCode;

use clap::Parser as _;

use self::args::{Cli, Command};
use self::exit::Failure;

fn main() -> ExitCode {
    // `run` starts this program again for each step inside the new namespaces, and `daemon` for the
    // other processes that it is made of.
    if let Some(code) =
        run::stage().or_else(daemon::stage).or_else(visibility::stage).or_else(drop_in::run)
    {
        return code;
    }
    if let Some(code) = oci::by_name() {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => {
            // Help and version are no failures; what is left is ours, not the command's.
            let status = if said.use_stderr() { exit::OWN_FAILURE } else { 0 };
            said.print().ok();
            return ExitCode::from(status);
        }
    };
    let result = match cli.command {
        Command::Run(args) => log::init(&args.log, log::Place::StandardError)
            .map_err(Failure::new)
            .and_then(|()| run::run(&args).map_err(Failure::new)),
        Command::Serve(args) => log::init(&args.log, args.log_file.as_deref())
            .map_err(Failure::new)
            .and_then(|()| serve::serve(&args).map_err(Failure::new)),
        Command::Daemon(args) => {
            log::init(&args.log, args.log_file.as_deref()).map_err(Failure::new).and_then(|()| {
                let line: Vec<_> = std::env::args_os().skip(1).collect();
                daemon::daemon(&args, &line, false).map_err(Failure::new)
            })
        }
        Command::Profile(args) => profile::print(&args).map_err(Failure::new),
        Command::OciRuntime(args) => Ok(oci::oci_runtime(&args)),
        Command::Doctor(args) => doctor::doctor(&args).map_err(Failure::new),
        Command::Status(args) => visibility::status(&args).map_err(Failure::new),
        Command::Top(args) => visibility::top(&args).map_err(Failure::new),
        Command::Explain(args) => explain::print(&args).map_err(Failure::new),
    };
    result.unwrap_or_else(|failure| failure.report())
}
