//! `bypass-cli profile`: the seccomp profile for OCI runtimes and container engines.

mod base;
mod explain;
mod merge;
mod model;
mod region;
#[cfg(test)]
mod tests;

use std::io::{self, Write as _};
use std::process::ExitCode;

use bypass_core::PublishConflict;
use bypass_core::weaken::{self, Layer};

pub(crate) use self::base::Base;
use self::base::BaseError;
use self::explain::Difference;
pub(crate) use self::merge::{MergeError, merge};
pub(crate) use self::model::{Arch, Profile};
use crate::args::{Format, ProfileArgs};
use crate::filter::Traps;
use crate::policy::{Policies, PolicyError};
use crate::serve::{SocketPathError, socket_path};

/// The profile could not be printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    #[error(transparent)]
    Socket(#[from] SocketPathError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Publish(#[from] PublishConflict),
    #[error(transparent)]
    Base(#[from] BaseError),
    #[error("--base: {0}")]
    Merge(#[from] MergeError),
    #[error("the profile cannot be written to standard output")]
    Write(#[source] io::Error),
}

pub(crate) fn print(args: &ProfileArgs) -> Result<ExitCode, ProfileError> {
    let socket = socket_path(args.socket.as_deref())?;
    let chosen = args.base.clone().unwrap_or(Base::Allow);
    let (mut base, from) = chosen.load()?;
    if chosen == Base::Allow {
        base.architectures = Some(architectures());
    }
    if args.format == Format::Oci && base.is_of_docker() {
        let kernel = rustix::system::uname();
        let kernel = base::version(&kernel.release().to_string_lossy()).unwrap_or_default();
        base = base::resolve(&base, &args.capability, kernel);
    }
    let merged = merge(&base, traps(args)?, &socket.to_string_lossy())?;
    let mut out = io::stdout().lock();
    if args.explain {
        let from = from.as_deref();
        return write!(out, "{}", Difference { from, base: &base, merged: &merged })
            .map(|()| ExitCode::SUCCESS)
            .map_err(ProfileError::Write);
    }
    if args.base.is_none() {
        warn_of_the_default();
    }
    serde_json::to_writer_pretty(&mut out, &merged)
        .map_err(io::Error::from)
        .and_then(|()| writeln!(out))
        .map_err(ProfileError::Write)?;
    Ok(ExitCode::SUCCESS)
}

/// Nobody is to find out later that this profile is not like an engine's.
#[expect(clippy::print_stderr, reason = "standard output is for the profile")]
fn warn_of_the_default() {
    eprintln!(
        "bypass-cli: this profile allows all calls that it does not trap, which is weaker than the \
         default of a container engine; name what to start from with `--base podman` or `--base \
         FILE`, or say `--base allow`"
    );
}

fn traps(args: &ProfileArgs) -> Result<Traps, ProfileError> {
    // One profile is for all containers, so it traps what any of them needs.
    let policies = Policies::read(&args.policy)?;
    let mut traps = args.publish.traps(&args.publish.list()?, policies.devices_suffice());
    // The peer of such a connection is an address of the host.
    traps.names |= args.neighbours.handle_c2c_connections;
    Ok(traps)
}

/// Of a profile that allows all: to a runtime, calls of other architectures are not known.
fn architectures() -> Vec<Arch> {
    if weaken::is_off(Layer::Foreign) {
        vec![Arch::NATIVE, Arch::SCMP_ARCH_X86, Arch::SCMP_ARCH_X32]
    } else {
        vec![Arch::NATIVE]
    }
}
