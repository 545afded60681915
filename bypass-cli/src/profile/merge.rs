//! Our rules within a base profile, which nothing of ours weakens.
//!
//! A call comes to what the base says of it, unless the base lets it through: then our rules are
//! asked. What the base refuses stays refused, in its way, and is not trapped either, since the
//! supervisor carries out what it is asked.
//!
//! Entries for calls that we have no rule for are copied as they are. Those of the others are
//! rewritten so that no two that say different things match one call: see [`Region`].

use bypass_core::weaken::{self, Layer};

use super::model::{Action, Arch, Entry, Filter, Profile};
use super::region::{Inexpressible, Region};
use crate::filter::{Action as Ours, Rule, Traps, When, rules};
use crate::metadata::Metadata;

/// The base cannot be added to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MergeError {
    #[error(
        "the profile hands calls to an agent already ({what}), and a container can have one only; \
         take that out of the profile, or leave this container to the other agent"
    )]
    OtherAgent { what: String },
    #[error(
        "the rules for `{call}` contradict each other: which of {one:?} and {other:?} holds differs \
         between versions of libseccomp; make their conditions exclude each other"
    )]
    Ambiguous { call: String, one: Action, other: Action },
    #[error(
        "`{call}` is handed to a tracer (SCMP_ACT_TRACE), which does not go with our trap; take that \
         rule out of the profile"
    )]
    Traced { call: String },
    #[error(
        "the profile's conditions on `{call}` cannot be combined with ours on the same argument; \
         compare it with SCMP_CMP_EQ, SCMP_CMP_NE or SCMP_CMP_MASKED_EQ and 32 bits"
    )]
    Conditions { call: String },
    #[error(
        "the profile lets `{call}` through by default and has rules for it that depend on the \
         container; name them for one container with `--format oci`"
    )]
    Depends { call: String },
}

/// A rule of ours, as far as merging is concerned.
#[derive(Clone, Copy, Debug)]
struct Added {
    name: &'static str,
    action: Ours,
    when: &'static [When],
}

/// The profile with our traps, for the agent at this socket.
pub(crate) fn merge(base: &Profile, traps: Traps, socket: &str) -> Result<Profile, MergeError> {
    refuse_other_agents(base)?;
    let added = added(traps);
    let multiplexed = without_multiplexed(base);
    let mut entries = Vec::new();
    for entry in base.entries() {
        let kept = entry.all_names().filter(|name| {
            let replaced = *name == MULTIPLEXED && multiplexed.is_some();
            !replaced && !added.iter().any(|rule| rule.name == *name)
        });
        let names: Vec<String> = kept.map(str::to_owned).collect();
        if !names.is_empty() {
            entries.push(Entry { names, name: None, ..entry.clone() });
        }
    }
    entries.extend(multiplexed);
    let mut done: Vec<&str> = Vec::new();
    for rule in &added {
        if !done.contains(&rule.name) {
            done.push(rule.name);
            entries.extend(Call::new(base, &added, rule.name).merged()?);
        }
    }
    let mut architectures = base.architectures.clone();
    let mut arch_map = base.arch_map.clone();
    if !weaken::is_off(Layer::Foreign) {
        architectures.iter_mut().for_each(|list| list.retain(is_enforceable));
        for group in arch_map.iter_mut().flatten() {
            group.sub_architectures.iter_mut().for_each(|list| list.retain(is_enforceable));
        }
    }
    Ok(Profile {
        architectures,
        arch_map,
        listener_path: Some(socket.to_owned()),
        listener_metadata: Some(Metadata(traps).to_string()),
        syscalls: Some(entries),
        ..base.clone()
    })
}

fn refuse_other_agents(base: &Profile) -> Result<(), MergeError> {
    let listener = base.listener_path.as_ref().filter(|path| !path.is_empty());
    let notified = base
        .entries()
        .iter()
        .filter(|entry| entry.action == Action::Notify)
        .flat_map(Entry::all_names);
    let by_default = (base.default_action == Action::Notify).then_some("by default");
    let what = listener.map(|path| format!("listenerPath {path}")).or_else(|| {
        Some(format!("SCMP_ACT_NOTIFY, {}", by_default.or_else(|| notified.into_iter().next())?))
    });
    match what {
        Some(what) => Err(MergeError::OtherAgent { what }),
        None => Ok(()),
    }
}

fn added(traps: Traps) -> Vec<Added> {
    let of = |rule: &Rule| Added { name: rule.name, action: rule.action, when: rule.when };
    rules(traps).map(of).collect()
}

/// x32 is the one that cannot be held to our rules. libseccomp looks at the lower halves of its
/// arguments only, and so not at pointers; and its version 2.5.4 makes filters for it, beside rules
/// for `socketcall`, that match no call at all. Nearly every kernel has it switched off.
fn is_enforceable(arch: &Arch) -> bool {
    *arch != Arch::SCMP_ARCH_X32
}

/// Multiplexes all socket calls of 32-bit x86. Its arguments are in memory, where a filter cannot
/// look: all conditions of ours would be evaded by it. An unconditional rule for it goes before
/// those that libseccomp makes of `connect` and the like, if it says something else than the default:
/// runtimes leave rules out that do not.
const MULTIPLEXED: &str = "socketcall";

fn without_multiplexed(base: &Profile) -> Option<Entry> {
    if !base.arches().contains(&Arch::SCMP_ARCH_X86) || weaken::is_off(Layer::Foreign) {
        return None;
    }
    let default = (base.default_action == Action::Errno)
        .then(|| base.default_errno_ret.unwrap_or(libc::EPERM.unsigned_abs()));
    let nosys = libc::ENOSYS.unsigned_abs();
    let errno = if default == Some(nosys) { libc::EPERM.unsigned_abs() } else { nosys };
    Some(rule(MULTIPLEXED, Action::Errno, Some(errno), &Region::default()))
}

fn rule(name: &str, action: Action, errno_ret: Option<u32>, region: &Region) -> Entry {
    Entry {
        names: vec![name.to_owned()],
        name: None,
        action,
        errno_ret,
        errno: None,
        args: Some(region.args()),
        comment: None,
        includes: Filter::default(),
        excludes: Filter::default(),
    }
}

/// What a base says about one call, and what we do.
struct Call<'a> {
    name: &'static str,
    base: &'a Profile,
    entries: Vec<&'a Entry>,
    added: Vec<Added>,
}

impl<'a> Call<'a> {
    fn new(base: &'a Profile, added: &[Added], name: &'static str) -> Self {
        let entries = base.entries().iter().filter(|e| e.all_names().any(|one| one == name));
        let added = added.iter().copied().filter(|rule| rule.name == name);
        Self { name, base, entries: entries.collect(), added: added.collect() }
    }

    fn merged(&self) -> Result<Vec<Entry>, MergeError> {
        self.check()?;
        let mut merged = Vec::new();
        for entry in &self.entries {
            if !entry.action.lets_through() {
                let names = vec![self.name.to_owned()];
                merged.push(Entry { names, name: None, ..(*entry).clone() });
                continue;
            }
            for region in Region::of(entry.args()) {
                self.divide(region, entry.action, entry, &mut merged)?;
            }
        }
        if self.base.default_action.lets_through() {
            if self.entries.iter().any(|e| !e.includes.is_empty() || !e.excludes.is_empty()) {
                return Err(MergeError::Depends { call: self.name.to_owned() });
            }
            // What no rule of the base matches.
            let mut rest = vec![Region::default()];
            for taken in self.entries.iter().flat_map(|entry| Region::of(entry.args())) {
                let parts = rest.into_iter().map(|region| region.minus(&taken));
                rest =
                    parts.collect::<Result<Vec<_>, _>>().map_err(|e| self.conditions(e))?.concat();
            }
            let like = rule(self.name, Action::Allow, None, &Region::default());
            for region in rest {
                self.divide(region, self.base.default_action, &like, &mut merged)?;
            }
        }
        let mut distinct: Vec<Entry> = Vec::new();
        for entry in merged {
            if !distinct.contains(&entry) {
                distinct.push(entry);
            }
        }
        Ok(distinct)
    }

    /// Gives the parts of a region, which the base lets through by `action`, to our rules and to the
    /// base again.
    fn divide(
        &self,
        region: Region,
        action: Action,
        like: &Entry,
        merged: &mut Vec<Entry>,
    ) -> Result<(), MergeError> {
        let filtered = |mut entry: Entry| {
            entry.includes.clone_from(&like.includes);
            entry.excludes.clone_from(&like.excludes);
            entry
        };
        let mut rest = vec![region];
        for ours in &self.added {
            for part in region.within(ours.when).map_err(|e| self.conditions(e))? {
                let (action, errno) = match ours.action {
                    Ours::Notify => (Action::Notify, None),
                    Ours::Refuse(errno) => {
                        (Action::Errno, Some(errno.raw_os_error().unsigned_abs()))
                    }
                };
                merged.push(filtered(rule(self.name, action, errno, &part)));
            }
            let parts = rest.into_iter().map(|region| region.without(ours.when));
            rest = parts.collect::<Result<Vec<_>, _>>().map_err(|e| self.conditions(e))?.concat();
        }
        // The default says so already, and a rule that says the same is left out by runtimes.
        if action != self.base.default_action {
            merged.extend(rest.iter().map(|part| filtered(rule(self.name, action, None, part))));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), MergeError> {
        let call = || self.name.to_owned();
        let actions = self.entries.iter().map(|entry| entry.action);
        if actions.chain([self.base.default_action]).any(|action| action == Action::Trace) {
            return Err(MergeError::Traced { call: call() });
        }
        for (at, one) in self.entries.iter().enumerate() {
            for other in self.entries.iter().skip(at + 1) {
                if one.action != other.action && may_meet(one, other) {
                    let (one, other) = (one.action, other.action);
                    return Err(MergeError::Ambiguous { call: call(), one, other });
                }
            }
        }
        Ok(())
    }

    fn conditions(&self, Inexpressible: Inexpressible) -> MergeError {
        MergeError::Conditions { call: self.name.to_owned() }
    }
}

/// Whether two entries may hold for one call of one container.
fn may_meet(one: &Entry, other: &Entry) -> bool {
    let apart =
        |one: &Filter, other: &Filter| one.caps().iter().any(|cap| other.caps().contains(cap));
    if apart(&one.includes, &other.excludes) || apart(&other.includes, &one.excludes) {
        return false;
    }
    let others = Region::of(other.args());
    Region::of(one.args()).iter().any(|a| others.iter().any(|b| a.may_meet(b)))
}
