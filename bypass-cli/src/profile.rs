//! `bypass-cli profile`: the seccomp profile for OCI runtimes.

use std::io::{self, Write as _};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::args::ProfileArgs;
use crate::filter::{Action, RULES, Rule};
use crate::serve::{SocketPathError, socket_path};

/// The profile could not be printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    #[error(transparent)]
    Socket(#[from] SocketPathError),
    #[error("the profile cannot be written to standard output")]
    Write(#[source] io::Error),
}

pub(crate) fn print(args: &ProfileArgs) -> Result<ExitCode, ProfileError> {
    let socket = socket_path(args.socket.as_deref())?;
    let profile = profile(&socket.to_string_lossy());
    let mut out = io::stdout().lock();
    writeln!(out, "{profile:#}").map_err(ProfileError::Write)?;
    Ok(ExitCode::SUCCESS)
}

/// The `seccomp` object of the OCI runtime specification. Only native system calls are
/// listed: to a runtime all others are calls of an architecture that it does not know.
fn profile(socket: &str) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": [NATIVE],
        "listenerPath": socket,
        "listenerMetadata": "bypass",
        "syscalls": RULES.iter().map(entry).collect::<Vec<_>>(),
    })
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
    if let Some((index, mask, value)) = rule.when {
        object.insert(
            "args".into(),
            json!([{
                "index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ",
            }]),
        );
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_in_the_profile_with_its_condition() {
        let profile = profile("/run/user/1000/b.sock");
        assert_eq!(profile["listenerPath"], "/run/user/1000/b.sock");
        let entries = profile["syscalls"].as_array().unwrap();
        assert_eq!(entries.len(), RULES.len());
        let of = |name: &str| entries.iter().find(|entry| entry["names"][0] == name).unwrap();
        assert_eq!(of("connect")["action"], "SCMP_ACT_NOTIFY");
        assert!(of("connect").get("args").is_none());
        assert_eq!(of("sendto")["errnoRet"], libc::EOPNOTSUPP);
        assert_eq!(of("sendto")["args"][0]["index"], 3);
        assert_eq!(of("sendto")["args"][0]["value"], libc::MSG_FASTOPEN);
    }
}
