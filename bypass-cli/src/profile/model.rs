//! A seccomp profile as engines and runtimes write it, typed: what is not in the formats is an
//! error with its place.
//!
//! One type is for both formats. The OCI runtime specification's is what a runtime reads; Docker's
//! and Podman's, which an engine makes the former of, has conditions on a whole entry as well
//! ([`Filter`]) and architectures by groups.

use serde::{Deserialize, Serialize};

/// `linux.seccomp` of a bundle, or a file for `--security-opt seccomp=`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Profile {
    pub(crate) default_action: Action,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default_errno_ret: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default_errno: Option<String>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) architectures: Option<Vec<Arch>>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) arch_map: Option<Vec<ArchGroup>>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) flags: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listener_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listener_metadata: Option<String>,
    #[serde(default)]
    pub(crate) syscalls: Option<Vec<Entry>>,
}

/// Rules for some system calls.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Entry {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) names: Vec<String>,
    /// One of Docker's first format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) action: Action,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) errno_ret: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) errno: Option<String>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) args: Option<Vec<Arg>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) comment: Option<String>,
    #[serde(default, skip_serializing_if = "Filter::is_empty")]
    pub(crate) includes: Filter,
    #[serde(default, skip_serializing_if = "Filter::is_empty")]
    pub(crate) excludes: Filter,
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Arg {
    pub(crate) index: ArgIndex,
    pub(crate) value: u64,
    #[serde(default)]
    pub(crate) value_two: u64,
    pub(crate) op: Op,
}

/// Which argument, 0 to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "u32", into = "u32")]
pub(crate) struct ArgIndex(u32);

impl ArgIndex {
    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for ArgIndex {
    type Error = &'static str;

    fn try_from(index: u32) -> Result<Self, Self::Error> {
        if index < 6 { Ok(Self(index)) } else { Err("a system call has arguments 0 to 5") }
    }
}

impl From<ArgIndex> for u32 {
    fn from(ArgIndex(index): ArgIndex) -> Self {
        index
    }
}

/// What Docker's format makes an entry depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Filter {
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) caps: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) arches: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) min_kernel: Option<String>,
}

impl Filter {
    pub(crate) fn is_empty(&self) -> bool {
        self.caps().is_empty() && self.arches().is_empty() && self.min_kernel.is_none()
    }

    pub(crate) fn caps(&self) -> &[String] {
        self.caps.as_deref().unwrap_or_default()
    }

    pub(crate) fn arches(&self) -> &[String] {
        self.arches.as_deref().unwrap_or_default()
    }
}

/// An architecture and those whose calls it can make as well.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ArchGroup {
    pub(crate) architecture: Arch,
    #[serde(default)]
    pub(crate) sub_architectures: Option<Vec<Arch>>,
}

/// `SCMP_ACT_*`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Action {
    #[serde(rename = "SCMP_ACT_KILL")]
    Kill,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

impl Action {
    /// Whether the kernel carries the call out.
    pub(crate) fn lets_through(self) -> bool {
        matches!(self, Self::Allow | Self::Log)
    }
}

/// `SCMP_CMP_*`, on an argument as an unsigned number of 64 bits (32 on 32-bit architectures).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Op {
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

/// `SCMP_ARCH_*`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[expect(non_camel_case_types, reason = "the names of the format")]
pub(crate) enum Arch {
    SCMP_ARCH_NATIVE,
    SCMP_ARCH_X86,
    SCMP_ARCH_X86_64,
    SCMP_ARCH_X32,
    SCMP_ARCH_ARM,
    SCMP_ARCH_AARCH64,
    SCMP_ARCH_LOONGARCH64,
    SCMP_ARCH_M68K,
    SCMP_ARCH_MIPS,
    SCMP_ARCH_MIPS64,
    SCMP_ARCH_MIPS64N32,
    SCMP_ARCH_MIPSEL,
    SCMP_ARCH_MIPSEL64,
    SCMP_ARCH_MIPSEL64N32,
    SCMP_ARCH_PARISC,
    SCMP_ARCH_PARISC64,
    SCMP_ARCH_PPC,
    SCMP_ARCH_PPC64,
    SCMP_ARCH_PPC64LE,
    SCMP_ARCH_RISCV64,
    SCMP_ARCH_S390,
    SCMP_ARCH_S390X,
    SCMP_ARCH_SH,
    SCMP_ARCH_SHEB,
}

impl Arch {
    #[cfg(target_arch = "x86_64")]
    pub(crate) const NATIVE: Self = Self::SCMP_ARCH_X86_64;
    #[cfg(target_arch = "aarch64")]
    pub(crate) const NATIVE: Self = Self::SCMP_ARCH_AARCH64;

    /// As Docker's filters name the native one.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const NATIVE_IN_FILTERS: &'static str = "amd64";
    #[cfg(target_arch = "aarch64")]
    pub(crate) const NATIVE_IN_FILTERS: &'static str = "arm64";
}

impl Profile {
    /// A profile without rules.
    pub(crate) fn allow_all(architectures: Vec<Arch>) -> Self {
        Self {
            default_action: Action::Allow,
            default_errno_ret: None,
            default_errno: None,
            architectures: Some(architectures),
            arch_map: None,
            flags: None,
            listener_path: None,
            listener_metadata: None,
            syscalls: None,
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        self.syscalls.as_deref().unwrap_or_default()
    }

    /// The architectures that it is for on this machine; none means the native one alone.
    pub(crate) fn arches(&self) -> Vec<Arch> {
        let mut arches = self.architectures.clone().unwrap_or_default();
        for group in self.arch_map.iter().flatten() {
            if group.architecture == Arch::NATIVE {
                arches.push(group.architecture);
                arches.extend(group.sub_architectures.iter().flatten());
            }
        }
        arches
    }

    /// Whether it has what only Docker's format knows.
    pub(crate) fn is_of_docker(&self) -> bool {
        self.arch_map.is_some()
            || self.entries().iter().any(|entry| {
                !entry.includes.is_empty() || !entry.excludes.is_empty() || entry.name.is_some()
            })
    }
}

impl Entry {
    pub(crate) fn args(&self) -> &[Arg] {
        self.args.as_deref().unwrap_or_default()
    }

    pub(crate) fn all_names(&self) -> impl Iterator<Item = &str> {
        self.name.as_deref().into_iter().chain(self.names.iter().map(String::as_str))
    }
}

fn is_empty<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        serde_json::from_str::<Profile>(text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_in_the_format_is_named_with_its_place() {
        for (text, parts) in [
            (r#"{"defaultAction":"SCMP_ACT_PERMIT"}"#, &["SCMP_ACT_PERMIT", "line 1"][..]),
            (
                "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\n\"syscalls\":[{\"names\":[\"connect\"],\
                 \"action\":\"SCMP_ACT_ERRNO\",\"args\":[{\"index\":0,\"value\":1,\
                 \"op\":\"SCMP_CMP_IS\"}]}]}",
                &["SCMP_CMP_IS", "line 2 column"],
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],
                    "action":"SCMP_ACT_ERRNO","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#,
                &["arguments 0 to 5", "line 2"],
            ),
            (r#"{"defaultAction":"SCMP_ACT_ALLOW","sycalls":[]}"#, &["sycalls", "column"]),
            (r#"{"syscalls":[]}"#, &["defaultAction"]),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_VAX"]}"#,
                &["SCMP_ARCH_VAX"],
            ),
        ] {
            let said = error(text);
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        }
    }
}
