//! Profiles are compiled by libseccomp, as a runtime does it, and run by a small BPF machine.

use std::io::{Read as _, Seek as _};

use clap::Parser as _;
use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::model::{Action, Arg, ArgIndex, Entry, Filter, Op};
use super::*;
use crate::args::{Cli, Command};
use crate::filter::rules;

/// The profile that is printed without a base.
fn merged(traps: Traps) -> Value {
    let base = Profile::allow_all(architectures());
    serde_json::to_value(merge(&base, traps, "/run/user/1000/b.sock").unwrap()).unwrap()
}

/// The entries for a call, in their order.
fn of(traps: Traps, name: &str) -> Vec<Value> {
    let profile = merged(traps);
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
    assert_eq!(merged(traps)["listenerMetadata"], "bypass messages");
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
                { "index": 4, "value": 0, "valueTwo": 0, "op": "SCMP_CMP_NE" },
            ],
        })
    );
}

/// Whoever reads a profile as a runtime does: a rule that says what the default says is left out, and
/// conditions on one argument twice are rules of their own.
///
/// # Errors
/// Rules that contradict each other, which a runtime refuses too.
fn compile(profile: &Profile) -> Result<Vec<u8>, String> {
    let default = action(profile.default_action, profile.default_errno_ret);
    let mut context = ScmpFilterContext::new(default).unwrap();
    for arch in profile.arches() {
        let arch = match arch {
            Arch::SCMP_ARCH_X86 => ScmpArch::X86,
            Arch::SCMP_ARCH_X32 => ScmpArch::X32,
            Arch::SCMP_ARCH_ARM => ScmpArch::Arm,
            _ => ScmpArch::Native,
        };
        if !context.is_arch_present(arch).unwrap() {
            context.add_arch(arch).unwrap();
        }
    }
    for entry in profile.entries() {
        let action = action(entry.action, entry.errno_ret);
        for name in entry.all_names() {
            let Ok(call) = ScmpSyscall::from_name(name) else { continue };
            let compare: Vec<ScmpArgCompare> = entry.args().iter().map(compare).collect();
            let twice = entry.args().iter().enumerate().any(|(at, arg)| {
                entry.args().iter().skip(at + 1).any(|other| other.index == arg.index)
            });
            let added = match compare.as_slice() {
                _ if action == default => Ok(()),
                compare if twice => compare.iter().try_for_each(|one| {
                    context.add_rule_conditional(action, call, &[*one]).map(drop)
                }),
                compare => context.add_rule_conditional(action, call, compare).map(drop),
            };
            added.map_err(|error| format!("{name}: {error}"))?;
        }
    }
    let mut file = tempfile::tempfile().unwrap();
    context.export_bpf(&file).unwrap();
    file.rewind().unwrap();
    let mut program = Vec::new();
    file.read_to_end(&mut program).unwrap();
    Ok(program)
}

fn action(action: Action, errno: Option<u32>) -> ScmpAction {
    match action {
        Action::Kill | Action::KillThread => ScmpAction::KillThread,
        Action::KillProcess => ScmpAction::KillProcess,
        Action::Trap => ScmpAction::Trap,
        Action::Errno => ScmpAction::Errno(errno.unwrap_or(1).try_into().unwrap()),
        Action::Trace => ScmpAction::Trace(0),
        Action::Allow => ScmpAction::Allow,
        Action::Log => ScmpAction::Log,
        Action::Notify => ScmpAction::Notify,
    }
}

fn compare(arg: &Arg) -> ScmpArgCompare {
    let (op, datum) = match arg.op {
        Op::Ne => (ScmpCompareOp::NotEqual, arg.value),
        Op::Lt => (ScmpCompareOp::Less, arg.value),
        Op::Le => (ScmpCompareOp::LessOrEqual, arg.value),
        Op::Eq => (ScmpCompareOp::Equal, arg.value),
        Op::Ge => (ScmpCompareOp::GreaterEqual, arg.value),
        Op::Gt => (ScmpCompareOp::Greater, arg.value),
        Op::MaskedEq => (ScmpCompareOp::MaskedEqual(arg.value), arg.value_two),
    };
    ScmpArgCompare::new(arg.index.get(), op, datum)
}

/// What the kernel would return for a call; the instructions are those of seccomp(2) that the library
/// uses.
fn verdict(program: &[u8], arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let mut data = vec![number, arch, 0, 0];
    let halves = args.iter().flat_map(|arg| [arg & u64::from(u32::MAX), arg >> 32]);
    data.extend(halves.map(|half| u32::try_from(half).unwrap()));
    let (mut at, mut a) = (0_usize, 0_u32);
    loop {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = program.as_chunks::<8>().0[at];
        let (code, k) = (u16::from_ne_bytes([c0, c1]), u32::from_ne_bytes([k0, k1, k2, k3]));
        let mut branch = |taken: bool| at += usize::from(if taken { jt } else { jf });
        match code {
            0x20 => a = data[k as usize / 4],
            0x54 => a &= k,
            0x05 => at += k as usize,
            0x15 => branch(a == k),
            0x25 => branch(a > k),
            0x35 => branch(a >= k),
            0x45 => branch(a & k != 0),
            0x06 => return k,
            other => panic!("unexpected instruction {other:#x}"),
        }
        at += 1;
    }
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
const LOG: u32 = libc::SECCOMP_RET_LOG;

fn errno(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()
}

/// What our rules say of a call by themselves.
fn ours(name: &str, traps: Traps, args: [u64; 6], bits32: bool) -> Option<u32> {
    use crate::filter::{Action, When};
    let of = |arg: u32| args[arg as usize] & if bits32 { u32::MAX.into() } else { u64::MAX };
    let holds = |when: &When| match *when {
        When::Masked { arg, mask, value } => of(arg) & mask == value,
        When::NonZero { arg } => of(arg) != 0,
    };
    let rule = rules(traps).find(|rule| rule.name == name && rule.when.iter().all(holds))?;
    Some(match rule.action {
        Action::Notify => NOTIFY,
        Action::Refuse(errno) => self::errno(errno.raw_os_error()),
    })
}

/// What a merged profile must say where the base says this.
fn expected(base: u32, ours: Option<u32>) -> u32 {
    match ours {
        Some(ours) if matches!(base, ALLOW | LOG) => ours,
        _ => base,
    }
}

const TRAPPED: &[&str] = &[
    "connect",
    "bind",
    "listen",
    "epoll_create1",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "io_uring_setup",
    "socket",
    "setsockopt",
    "getsockname",
    "getpeername",
];

#[cfg(target_arch = "x86_64")]
const ARCHES: &[(ScmpArch, u32)] =
    &[(ScmpArch::X8664, 0xc000_003e), (ScmpArch::X32, 0xc000_003e), (ScmpArch::X86, 0x4000_0003)];
#[cfg(target_arch = "aarch64")]
const ARCHES: &[(ScmpArch, u32)] = &[(ScmpArch::Aarch64, 0xc000_00b7)];

/// Numbers that conditions of bases and of ours are about, with and without dirt above.
fn argument() -> impl Strategy<Value = u64> {
    let small = prop_oneof![
        Just(0_u64),
        Just(9),
        Just(16),
        Just(41),
        Just(57),
        Just(6),
        Just(32),
        Just(262),
        0..300_u64,
        Just(0x2000_0000),
        Just(0x2000_4000),
        any::<u32>().prop_map(u64::from),
    ];
    (small, prop_oneof![4 => Just(0), 1 => any::<u32>()])
        .prop_map(|(low, high)| low | u64::from(high) << 32)
}

fn traps_of(bits: u8) -> Traps {
    Traps { names: bits & 1 != 0, messages: bits & 2 != 0, sends: bits & 4 != 0 }
}

/// Holds a merged profile against its base on some calls.
fn hold_against(base: &Profile, merged: &Profile, traps: Traps, calls: &[(usize, [u64; 6])]) {
    let Ok(before) = compile(base) else { return };
    let after = compile(merged).unwrap();
    for &(at, args) in calls {
        let name = TRAPPED[at % TRAPPED.len()];
        for &(arch, audit) in ARCHES {
            let Ok(call) = ScmpSyscall::from_name_by_arch(name, arch) else { continue };
            let Ok(number) = u32::try_from(i32::from(call)) else { continue };
            let was = verdict(&before, audit, number, args);
            let is = verdict(&after, audit, number, args);
            let wanted = if arch == ScmpArch::X32 {
                libc::SECCOMP_RET_KILL_THREAD
            } else {
                expected(was, ours(name, traps, args, arch == ScmpArch::X86))
            };
            // Dirt above a value that the base compares with is taken for the value itself.
            let stricter = was == ALLOW
                && matches!(is & !0xffff, libc::SECCOMP_RET_ERRNO)
                && args.iter().any(|arg| arg >> 32 != 0);
            assert!(
                is == wanted || stricter,
                "{name} of {arch:?} {args:x?}: {was:#x}, then {is:#x} and not {wanted:#x}"
            );
        }
        // A call that none of our rules is about.
        let number = u32::try_from(libc::SYS_personality).unwrap();
        let native = ARCHES[0].1;
        assert_eq!(verdict(&before, native, number, args), verdict(&after, native, number, args));
    }
    if let Some((_, audit)) = ARCHES.get(2) {
        let was = verdict(&before, *audit, 102, [3, 0, 0, 0, 0, 0]);
        let is = verdict(&after, *audit, 102, [3, 0, 0, 0, 0, 0]);
        assert!(!matches!(is, ALLOW | NOTIFY | LOG), "socketcall: {was:#x}, then {is:#x}");
    }
}

fn base_rule() -> impl Strategy<Value = (usize, Action, Vec<Arg>)> {
    let arg = (0..6_u32, argument(), any::<bool>()).prop_map(|(index, value, not)| Arg {
        index: ArgIndex::try_from(index).unwrap(),
        value: value & u64::from(u32::MAX),
        value_two: 0,
        op: if not { Op::Ne } else { Op::Eq },
    });
    let action = prop_oneof![3 => Just(Action::Allow), 1 => Just(Action::Errno)];
    (0..TRAPPED.len(), action, prop::collection::vec(arg, 0..3))
}

fn base_of(default: Action, rules: &[(usize, Action, Vec<Arg>)]) -> Profile {
    let mut base = Profile::allow_all(vec![
        Arch::NATIVE,
        #[cfg(target_arch = "x86_64")]
        Arch::SCMP_ARCH_X86,
        #[cfg(target_arch = "x86_64")]
        Arch::SCMP_ARCH_X32,
    ]);
    base.default_action = default;
    base.default_errno_ret = (default == Action::Errno).then_some(38);
    let entries = rules.iter().map(|(name, action, args)| Entry {
        names: vec![TRAPPED[*name].to_owned()],
        name: None,
        action: *action,
        errno_ret: (*action == Action::Errno).then_some(22),
        errno: None,
        args: Some(args.clone()),
        comment: None,
        includes: Filter::default(),
        excludes: Filter::default(),
    });
    base.syscalls = Some(entries.collect());
    base
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    #[cfg_attr(miri, ignore = "Miri calls no C library")]
    fn nothing_that_a_base_refuses_gets_through(
        rules in prop::collection::vec(base_rule(), 0..6),
        default in prop_oneof![Just(Action::Errno), Just(Action::Allow)],
        traps in 0..8_u8,
        calls in prop::collection::vec((0..TRAPPED.len(), prop::array::uniform6(argument())), 40),
    ) {
        let (base, traps) = (base_of(default, &rules), traps_of(traps));
        if let Ok(merged) = merge(&base, traps, "/s") {
            hold_against(&base, &merged, traps, &calls);
        }
    }

    /// The profile that Podman has, where it is installed; its form is that of Docker's.
    #[test]
    #[cfg_attr(miri, ignore = "Miri calls no C library")]
    fn podmans_default_is_kept(
        traps in 0..8_u8,
        capabilities in prop_oneof![Just(vec![]), Just(vec!["CAP_AUDIT_WRITE".to_owned()])],
        calls in prop::collection::vec((0..TRAPPED.len(), prop::array::uniform6(argument())), 40),
    ) {
        let (base, _) = match Base::Podman.load() {
            Err(BaseError::NoPodman) => return Ok(()),
            loaded => loaded.unwrap(),
        };
        let (base, traps) = (base::resolve(&base, &capabilities, (6, 18)), traps_of(traps));
        let merged = merge(&base, traps, "/s").unwrap();
        hold_against(&base, &merged, traps, &calls);
    }
}

#[test]
fn what_the_base_refuses_is_not_trapped() {
    let deny =
        |name: &str| (TRAPPED.iter().position(|one| *one == name).unwrap(), Action::Errno, vec![]);
    let allow =
        |name: &str| (TRAPPED.iter().position(|one| *one == name).unwrap(), Action::Allow, vec![]);
    let of = |profile: &Profile, name: &str| -> Vec<Action> {
        let entries = profile.entries().iter().filter(|e| e.names == [name]);
        entries.map(|e| e.action).collect()
    };
    let base = base_of(Action::Allow, &[deny("connect")]);
    let merged = merge(&base, Traps::default(), "/s").unwrap();
    assert_eq!(of(&merged, "connect"), [Action::Errno]);
    assert_eq!(of(&merged, "bind"), [Action::Notify]);
    let base = base_of(Action::Errno, &[allow("connect")]);
    let merged = merge(&base, Traps::default(), "/s").unwrap();
    assert_eq!(of(&merged, "connect"), [Action::Notify]);
    assert!(of(&merged, "bind").is_empty());
}

#[test]
fn contradictions_are_told() {
    let eq = |value| Arg { index: ArgIndex::try_from(0).unwrap(), value, value_two: 0, op: Op::Eq };
    let rules = |second| [(8, Action::Errno, vec![eq(1)]), (8, Action::Allow, second)];
    let merged = |rules: &[_]| merge(&base_of(Action::Errno, rules), Traps::default(), "/s");
    let ambiguous = MergeError::Ambiguous {
        call: "socket".to_owned(),
        one: Action::Errno,
        other: Action::Allow,
    };
    assert_eq!(merged(&rules(vec![])), Err(ambiguous));
    assert!(merged(&rules(vec![eq(2)])).is_ok());
    let ordered = Arg { index: ArgIndex::try_from(2).unwrap(), op: Op::Lt, ..eq(9) };
    let conditions = MergeError::Conditions { call: "socket".to_owned() };
    assert_eq!(merged(&[(8, Action::Allow, vec![ordered])]), Err(conditions));
    let traced = MergeError::Traced { call: "connect".to_owned() };
    assert_eq!(merged(&[(0, Action::Trace, vec![])]), Err(traced));

    let mut other = base_of(Action::Allow, &[]);
    other.listener_path = Some("/run/other.sock".to_owned());
    let error = merge(&other, Traps::default(), "/s").unwrap_err().to_string();
    assert!(error.contains("/run/other.sock"), "{error}");
    let notified = base_of(Action::Allow, &[(3, Action::Notify, vec![])]);
    let error = merge(&notified, Traps::default(), "/s").unwrap_err().to_string();
    assert!(error.contains("epoll_create1"), "{error}");
}

#[test]
fn entries_of_one_format_stay_in_it() {
    let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"syscalls":[
        {"names":["read","connect"],"action":"SCMP_ACT_ALLOW","comment":"x"},
        {"names":["socket"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_X"]},
         "args":[{"index":0,"value":16,"op":"SCMP_CMP_NE"}]},
        {"names":["socket"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_X"]}}]}"#;
    let base: Profile = serde_json::from_str(text).unwrap();
    let merged = merge(&base, Traps::default(), "/s").unwrap();
    assert_eq!(merged.entries()[0].names, ["read"]);
    let sockets = || merged.entries().iter().filter(|e| e.names == ["socket"]);
    assert!(sockets().all(|e| e.includes.is_empty() != e.excludes.is_empty()));
    let refused: Vec<_> = sockets().filter(|e| e.action == Action::Errno).collect();
    assert_eq!(refused.len(), 2);
    assert_eq!(refused[0].args().len(), 2, "the base's condition and ours: {refused:?}");
}
