//! `bypass-cli profile`: the seccomp profile for OCI runtimes.

use std::io::{self, Write as _};
use std::process::ExitCode;

use bypass_core::PublishConflict;
use bypass_core::weaken::{self, Layer};
use serde_json::{Value, json};

use crate::args::ProfileArgs;
use crate::filter::{Action, Rule, Traps, When, rules};
use crate::metadata::Metadata;
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
    #[error("the profile cannot be written to standard output")]
    Write(#[source] io::Error),
}

pub(crate) fn print(args: &ProfileArgs) -> Result<ExitCode, ProfileError> {
    let socket = socket_path(args.socket.as_deref())?;
    let profile = profile(&socket.to_string_lossy(), traps(args)?);
    let mut out = io::stdout().lock();
    writeln!(out, "{profile:#}").map_err(ProfileError::Write)?;
    Ok(ExitCode::SUCCESS)
}

fn traps(args: &ProfileArgs) -> Result<Traps, ProfileError> {
    // One profile is for all containers, so it traps what any of them needs.
    let policies = Policies::read(&args.policy)?;
    Ok(args.publish.traps(&args.publish.list()?, policies.devices_suffice()))
}

/// The `seccomp` object of the OCI runtime specification. Only native system calls are
/// listed: to a runtime all others are calls of an architecture that it does not know.
fn profile(socket: &str, traps: Traps) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": architectures(),
        "listenerPath": socket,
        "listenerMetadata": Metadata(traps).to_string(),
        "syscalls": rules(traps).map(entry).collect::<Vec<_>>(),
    })
}

fn architectures() -> &'static [&'static str] {
    if weaken::is_off(Layer::Foreign) {
        &[NATIVE, "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    } else {
        &[NATIVE]
    }
}

#[cfg(target_arch = "x86_64")]
const NATIVE: &str = "SCMP_ARCH_X86_64";
#[cfg(target_arch = "aarch64")]
const NATIVE: &str = "SCMP_ARCH_AARCH64";

fn entry(rule: &Rule) -> Value {
    let mut entry = json!({ "names": [rule.name] });
    let Some(object) = entry.as_object_mut() else { return entry };
    match rule.action {
        Action::Notify => {
            object.insert("action".into(), json!("SCMP_ACT_NOTIFY"));
        }
        Action::Refuse(errno) => {
            object.insert("action".into(), json!("SCMP_ACT_ERRNO"));
            object.insert("errnoRet".into(), json!(errno.raw_os_error()));
        }
    }
    if !rule.when.is_empty() {
        // All of them must hold, as no argument is looked at twice.
        let args: Vec<Value> = rule.when.iter().copied().map(argument).collect();
        object.insert("args".into(), json!(args));
    }
    entry
}

fn argument(when: When) -> Value {
    match when {
        When::Masked { arg, mask, value } => {
            json!({ "index": arg, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" })
        }
        When::NonZero { arg } => json!({ "index": arg, "value": 0, "op": "SCMP_CMP_NE" }),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    /// The entries for a call, in their order.
    fn of(traps: Traps, name: &str) -> Vec<Value> {
        let profile = profile("/run/user/1000/b.sock", traps);
        assert_eq!(profile["listenerPath"], "/run/user/1000/b.sock");
        let entries = profile["syscalls"].as_array().unwrap();
        assert_eq!(entries.len(), rules(traps).count());
        entries.iter().filter(|entry| entry["names"] == json!([name])).cloned().collect()
    }

    #[test]
    fn every_rule_is_in_the_profile_with_its_condition() {
        let none = Traps::default();
        assert_eq!(
            of(none, "connect"),
            [json!({
                "names": ["connect"], "action": "SCMP_ACT_NOTIFY",
            })]
        );
        assert_eq!(
            of(none, "sendto"),
            [json!({
                "names": ["sendto"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EOPNOTSUPP,
                "args": [{
                    "index": 3, "value": libc::MSG_FASTOPEN, "valueTwo": libc::MSG_FASTOPEN,
                    "op": "SCMP_CMP_MASKED_EQ",
                }],
            })]
        );
        assert!(of(none, "getsockname").is_empty());
    }

    #[test]
    fn the_metadata_tells_the_traps() {
        let traps = Traps { messages: true, ..Traps::default() };
        assert_eq!(profile("/s", traps)["listenerMetadata"], "bypass messages");
    }

    #[test]
    fn denied_networks_decide_as_they_do_for_serve() {
        for (option, sends) in [
            ("--deny=10.0.0.0/8", true),
            ("--default=leave", true),
            ("--deny=any/tcp", false),
            ("--ignore=10.0.0.0/8", false),
        ] {
            let line = ["bypass-cli", "profile", "--udp=connected", option];
            let Command::Profile(args) = Cli::parse_from(line).command else { panic!("{option}") };
            assert_eq!(traps(&args).unwrap(), Traps { names: false, messages: true, sends });
        }
    }

    #[test]
    fn what_only_some_need_is_in_the_profile_of_these() {
        let names = Traps { names: true, ..Traps::default() };
        for name in ["getsockname", "getpeername"] {
            assert_eq!(of(names, name), [json!({ "names": [name], "action": "SCMP_ACT_NOTIFY" })]);
        }
        assert_eq!(of(names, "sendto").len(), 1);
        let messages = Traps { messages: true, ..Traps::default() };
        assert_eq!(of(messages, "sendto").len(), 1);
        for (name, flags) in [("sendmsg", 2), ("sendmmsg", 3)] {
            assert_eq!(of(names, name).len(), 1);
            let entries = of(messages, name);
            assert_eq!(entries.len(), 2);
            assert_eq!(
                entries[1],
                json!({
                    "names": [name], "action": "SCMP_ACT_NOTIFY",
                    "args": [{
                        "index": flags, "value": libc::MSG_FASTOPEN, "valueTwo": 0,
                        "op": "SCMP_CMP_MASKED_EQ",
                    }],
                })
            );
        }
        let sends = of(Traps { sends: true, ..Traps::default() }, "sendto");
        assert_eq!(sends.len(), 2);
        assert_eq!(
            sends[1],
            json!({
                "names": ["sendto"], "action": "SCMP_ACT_NOTIFY",
                "args": [
                    {
                        "index": 3, "value": libc::MSG_FASTOPEN, "valueTwo": 0,
                        "op": "SCMP_CMP_MASKED_EQ",
                    },
                    { "index": 4, "value": 0, "op": "SCMP_CMP_NE" },
                ],
            })
        );
    }
}
