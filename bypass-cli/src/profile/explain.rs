//! What became of a base profile, as a difference.

use std::fmt::{self, Display, Formatter};
use std::path::Path;

use super::model::{Action, Arg, Entry, Op, Profile};

/// Lines that begin with a space are as in the base, with `-` of the base alone, with `+` ours.
pub(super) struct Difference<'a> {
    pub(super) from: Option<&'a Path>,
    pub(super) base: &'a Profile,
    pub(super) merged: &'a Profile,
}

/// Regions of one call that are told one by one.
const SHOWN: usize = 4;

impl Display for Difference<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { from, base, merged } = self;
        match from {
            Some(path) => writeln!(f, "--- {}", path.display())?,
            None => writeln!(f, "--- all calls allowed")?,
        }
        writeln!(f, "+++ with the traps")?;
        writeln!(f, "  by default: {}", word(base.default_action))?;
        let arches: Vec<String> = merged.arches().iter().map(|a| format!("{a:?}")).collect();
        writeln!(f, "  architectures: {}", arches.join(" "))?;
        writeln!(f, "+ listenerPath: {}", merged.listener_path.as_deref().unwrap_or_default())?;
        writeln!(
            f,
            "+ listenerMetadata: {}",
            merged.listener_metadata.as_deref().unwrap_or_default()
        )?;
        let of = |profile: &Profile, name: &str| -> Vec<String> {
            let entries = profile.entries().iter().filter(|e| e.all_names().any(|one| one == name));
            entries.map(said).collect()
        };
        let mut names: Vec<&str> = merged.entries().iter().flat_map(Entry::all_names).collect();
        names.extend(base.entries().iter().flat_map(Entry::all_names));
        names.sort_unstable();
        names.dedup();
        let mut same = 0_usize;
        for name in names {
            let (was, is) = (of(base, name), of(merged, name));
            if was.iter().all(|one| is.contains(one)) && is.iter().all(|one| was.contains(one)) {
                same += 1;
                continue;
            }
            list(f, '-', name, was.iter().filter(|one| !is.contains(one)))?;
            list(f, '+', name, is.iter().filter(|one| !was.contains(one)))?;
        }
        writeln!(f, "  {same} other calls as before")
    }
}

fn list<'a>(
    f: &mut Formatter<'_>,
    sign: char,
    name: &str,
    rules: impl Iterator<Item = &'a String>,
) -> fmt::Result {
    let rules: Vec<&String> = rules.collect();
    for rule in rules.iter().take(SHOWN) {
        writeln!(f, "{sign} {name}: {rule}")?;
    }
    match rules.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(f, "{sign} {name}: and {more} more"),
    }
}

fn said(entry: &Entry) -> String {
    let mut said = word(entry.action).to_owned();
    if let Some(errno) = entry.errno_ret {
        said.push_str(&format!(" {errno}"));
    }
    let conditions: Vec<String> = entry.args().iter().map(condition).collect();
    if !conditions.is_empty() {
        said.push_str(&format!(" if {}", conditions.join(" and ")));
    }
    for (filter, how) in [(&entry.includes, "with"), (&entry.excludes, "without")] {
        let of: Vec<&str> =
            filter.caps().iter().chain(filter.arches()).map(String::as_str).collect();
        if !of.is_empty() {
            said.push_str(&format!(", {how} {}", of.join(" ")));
        }
    }
    said
}

fn condition(arg: &Arg) -> String {
    let Arg { value, value_two, op, .. } = *arg;
    let at = arg.index.get();
    let sign = match op {
        Op::Ne => "!=",
        Op::Lt => "<",
        Op::Le => "<=",
        Op::Eq => "==",
        Op::Ge => ">=",
        Op::Gt => ">",
        Op::MaskedEq => return format!("arg{at} & {value:#x} == {value_two:#x}"),
    };
    format!("arg{at} {sign} {value:#x}")
}

fn word(action: Action) -> &'static str {
    match action {
        Action::Kill | Action::KillThread => "kill the thread",
        Action::KillProcess => "kill",
        Action::Trap => "SIGSYS",
        Action::Errno => "errno",
        Action::Trace => "ask the tracer",
        Action::Allow => "allow",
        Action::Log => "allow and log",
        Action::Notify => "ask the supervisor",
    }
}
