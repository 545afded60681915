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
mod config;
mod confine;
mod connections;
mod daemon;
mod doctor;
mod drop_in;
mod exit;
mod explain;
mod filter;
mod generate;
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

use std::path::Path;
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
    if let Some(code) = generate::run() {
        return code;
    }
    let line = match config::complete(std::env::args_os().collect()) {
        Ok(line) => line,
        Err(error) => return Failure::new(error).report(),
    };
    let cli = match Cli::try_parse_from(&line.words) {
        Ok(cli) => cli,
        Err(said) => return refuse(&said, line.from.as_deref()),
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
                let words = line.words.get(1..).unwrap_or_default();
                daemon::daemon(&args, words, false).map_err(Failure::new)
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

/// Says what is wrong with the command line, to which a file may have added.
fn refuse(said: &clap::Error, from: Option<&Path>) -> ExitCode {
    said.print().ok();
    if !said.use_stderr() {
        // Help and version are no failures.
        return ExitCode::SUCCESS;
    }
    if let Some(path) = from {
        note(&format!("{} gives options too; --no-config leaves it out", path.display()));
    }
    // Ours, not the command's.
    ExitCode::from(exit::OWN_FAILURE)
}

#[expect(clippy::print_stderr, reason = "what a user has to know about an error")]
fn note(text: &str) {
    eprintln!("bypass-cli: {text}");
}
