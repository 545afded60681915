//! The compiled program is run by a small BPF machine and held against the rules as written.

use proptest::prelude::*;

use super::*;

const CONNECT: i32 = libc::SYS_connect as i32;
const SENDTO: i32 = libc::SYS_sendto as i32;
const FASTOPEN: u32 = 0x2000_0000;

/// `SECCOMP_RET_*` with its data.
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;

const fn refused(errno: Errno) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.raw_os_error().cast_unsigned()
}

#[cfg(target_arch = "x86_64")]
pub(super) const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub(super) const NATIVE: u32 = 0xc000_00b7;

/// A `struct seccomp_data` in 32-bit words, as BPF loads see it.
pub(super) fn words(arch: u32, nr: u32, args: [u64; 6]) -> Vec<u32> {
    let mut words = vec![nr, arch, 0, 0];
    for arg in args {
        for half in arg.to_ne_bytes().as_chunks::<4>().0 {
            words.push(u32::from_ne_bytes(*half));
        }
    }
    words
}

/// Runs a program as the kernel does; covers the instructions seccomp allows and compilers use.
pub(super) fn run(program: &[libc::sock_filter], data: &[u32]) -> u32 {
    let (mut pc, mut a) = (0_usize, 0_u32);
    loop {
        let op = program[pc];
        pc += 1;
        let branch = |taken: bool| usize::from(if taken { op.jt } else { op.jf });
        match op.code {
            0x20 => a = data[op.k as usize / 4],
            0x54 => a &= op.k,
            0x05 => pc += op.k as usize,
            0x15 => pc += branch(a == op.k),
            0x25 => pc += branch(a > op.k),
            0x35 => pc += branch(a >= op.k),
            0x45 => pc += branch(a & op.k != 0),
            0x06 => return op.k,
            other => panic!("unexpected instruction {other:#x}"),
        }
    }
}

fn program(filter: &Filter) -> Vec<libc::sock_filter> {
    filter.compile().unwrap().to_raw()
}

fn verdict(filter: &Filter, nr: i32, args: [u64; 6]) -> u32 {
    run(&program(filter), &words(NATIVE, nr.cast_unsigned(), args))
}

const fn holds(test: Test, arg: u64) -> bool {
    match test {
        Test::Eq(value) => arg == value,
        Test::Ne(value) => arg != value,
        Test::MaskedEq { mask, value } => arg & mask == value,
    }
}

/// What the documentation promises, straight from the rules.
fn promised(filter: &Filter, nr: i32, args: [u64; 6]) -> u32 {
    let matching = || {
        filter.rules.iter().filter(move |rule| {
            rule.nr == nr && rule.conditions.iter().all(|c| holds(c.test, args[c.arg as usize]))
        })
    };
    let errno = matching().find_map(|rule| match rule.action {
        Action::Errno(errno) => Some(refused(errno)),
        Action::Notify => None,
    });
    errno.unwrap_or_else(|| if matching().next().is_some() { NOTIFY } else { ALLOW })
}

#[test]
fn unmatched_calls_are_allowed() {
    let filter = Filter::allow_all().notify(CONNECT);
    assert_eq!(verdict(&filter, CONNECT, [0; 6]), NOTIFY);
    assert_eq!(verdict(&filter, SENDTO, [0; 6]), ALLOW);
    assert_eq!(verdict(&Filter::allow_all(), CONNECT, [0; 6]), ALLOW);
}

#[test]
fn errno_wins_over_notification_in_either_order() {
    let flag = [Condition::bits_set(3, FASTOPEN)];
    let address = [Condition::new(4, Test::Ne(0))];
    for filter in [
        Filter::allow_all()
            .errno_when(SENDTO, &flag, Errno::OPNOTSUPP)
            .notify_when(SENDTO, &address),
        Filter::allow_all().notify_when(SENDTO, &address).errno_when(
            SENDTO,
            &flag,
            Errno::OPNOTSUPP,
        ),
    ] {
        let flags = u64::from(FASTOPEN) | 0x4000;
        assert_eq!(verdict(&filter, SENDTO, [0; 6]), ALLOW);
        assert_eq!(verdict(&filter, SENDTO, [0, 0, 0, 0, 1, 0]), NOTIFY);
        assert_eq!(verdict(&filter, SENDTO, [0, 0, 0, 0, 1 << 32, 0]), NOTIFY);
        assert_eq!(verdict(&filter, SENDTO, [0, 0, 0, 0x4000, 1, 0]), NOTIFY);
        assert_eq!(verdict(&filter, SENDTO, [0, 0, 0, flags, 1, 0]), refused(Errno::OPNOTSUPP));
        assert_eq!(verdict(&filter, SENDTO, [0, 0, 0, flags, 0, 0]), refused(Errno::OPNOTSUPP));
        // The upper half of an int is the target's to choose.
        let dirty = flags | 0xdead_beef_0000_0000;
        assert_eq!(verdict(&filter, SENDTO, [0, 0, 0, dirty, 1, 0]), refused(Errno::OPNOTSUPP));
    }
}

#[test]
fn conditional_errno_survives_an_unconditional_notification() {
    let filter = Filter::allow_all().notify(SENDTO).errno_when(
        SENDTO,
        &[Condition::int_eq(2, 262)],
        Errno::PROTONOSUPPORT,
    );
    for arg in [0, 261, 262, 263, 262 | 1 << 40, 262 | 1 << 20] {
        let args = [0, 0, arg, 0, 0, 0];
        assert_eq!(verdict(&filter, SENDTO, args), promised(&filter, SENDTO, args), "{arg:#x}");
    }
    assert_eq!(
        verdict(&filter, SENDTO, [0, 0, 262 | 1 << 40, 0, 0, 0]),
        refused(Errno::PROTONOSUPPORT)
    );
}

/// OCI runtimes give the library all rules of a profile at once. What it makes of rules that
/// overlap depends on its version; rules that do not overlap must mean what they say.
#[test]
fn disjoint_rules_of_one_call_need_no_layers() {
    let refuse = Rule {
        nr: SENDTO,
        action: Action::Errno(Errno::OPNOTSUPP),
        conditions: vec![Condition::bits_set(3, FASTOPEN)],
    };
    let ask = Rule {
        nr: SENDTO,
        action: Action::Notify,
        conditions: vec![Condition::bits_clear(3, FASTOPEN), Condition::new(4, Test::Ne(0))],
    };
    for rules in [[&refuse, &ask], [&ask, &refuse]] {
        let filter = Filter { rules: rules.into_iter().cloned().collect(), ..Filter::allow_all() };
        let program = filter.compile_layer(&rules).unwrap().to_raw();
        for flags in [0, 0x4000, u64::from(FASTOPEN), u64::from(FASTOPEN) | 0x4000] {
            for high in [0, 1 << 32, 0xffff_ffff << 32, u64::from(FASTOPEN) << 32] {
                for address in [0, 1, 1 << 31, 1 << 32, 1 << 63, u64::MAX] {
                    let args = [0, 0, 0, flags | high, address, 0];
                    let got = run(&program, &words(NATIVE, SENDTO.cast_unsigned(), args));
                    assert_eq!(got, promised(&filter, SENDTO, args), "{args:x?}");
                }
            }
        }
    }
}

#[test]
fn first_of_two_errnos_wins() {
    let filter = Filter::allow_all()
        .errno_when(SENDTO, &[Condition::new(0, Test::Eq(1))], Errno::PERM)
        .errno(SENDTO, Errno::ACCESS);
    assert_eq!(verdict(&filter, SENDTO, [1, 0, 0, 0, 0, 0]), refused(Errno::PERM));
    assert_eq!(verdict(&filter, SENDTO, [2, 0, 0, 0, 0, 0]), refused(Errno::ACCESS));
}

#[test]
fn foreign_architectures_get_the_errno() {
    let filter = Filter::allow_all().notify(CONNECT).foreign_arch(Errno::NOANO);
    let program = program(&filter);
    for arch in [0x4000_0003, 0x4000_0028, 0xc000_00f3, 0] {
        assert_eq!(run(&program, &words(arch, 0, [0; 6])), refused(Errno::NOANO), "{arch:#x}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn x32_numbers_get_the_errno() {
    let filter = Filter::allow_all().notify(CONNECT);
    let program = program(&filter);
    for nr in [0x4000_0000, 0x4000_0000 | 42, 0x4000_0200, 0x7fff_ffff] {
        assert_eq!(run(&program, &words(NATIVE, nr, [0; 6])), refused(Errno::NOSYS), "{nr:#x}");
    }
}

#[test]
fn rules_that_cannot_be_meant_are_refused() {
    let error = |nr, conditions: &[Condition]| {
        Filter::allow_all().notify_when(nr, conditions).export_bpf().unwrap_err()
    };
    let outside = Condition::new(0, Test::MaskedEq { mask: 1, value: 2 });
    let twice = Condition::new(0, Test::Ne(1));
    assert!(matches!(error(CONNECT, &[outside]), FilterError::NeverMatches { arg: 0, .. }));
    assert!(matches!(error(CONNECT, &[twice, twice]), FilterError::ArgumentTwice { arg: 0, .. }));
    let seventh = Condition::new(6, Test::Eq(0));
    assert!(matches!(error(CONNECT, &[seventh]), FilterError::ArgumentIndex { arg: 6, .. }));
    for nr in [-1, -10_000, 0x4000_0000 | CONNECT] {
        assert!(matches!(error(nr, &[]), FilterError::CallNumber { .. }), "{nr}");
    }
}

#[test]
fn programs_beyond_the_kernels_limit_are_refused() {
    let mut filter = Filter::allow_all();
    for value in 0..1000 {
        filter = filter.notify_when(CONNECT, &[Condition::new(0, Test::Eq(value))]);
    }
    assert!(matches!(filter.export_bpf(), Err(FilterError::TooLong { .. })));
}

#[test]
fn the_same_rule_twice_is_one() {
    let filter = Filter::allow_all().notify(CONNECT).notify(CONNECT);
    assert_eq!(verdict(&filter, CONNECT, [0; 6]), NOTIFY);
}

/// Few values and few bits, so that rules overlap and arguments hit them.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![0..4_u64, Just(1 << 32), Just(u64::from(FASTOPEN)), Just((1 << 32) | 1)]
}

fn test() -> impl Strategy<Value = Test> {
    prop_oneof![
        value().prop_map(Test::Eq),
        value().prop_map(Test::Ne),
        (value(), value()).prop_map(|(mask, v)| Test::MaskedEq { mask, value: v & mask }),
        (0..4_u32).prop_map(|v| Condition::int_eq(0, v).test),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn program_means_what_the_rules_say(
        rules in prop::collection::vec(
            (prop::collection::btree_map(0..3_u32, test(), 0..4), 0..3_u8, any::<bool>()),
            1..5,
        ),
        inputs in prop::collection::vec([value(), value(), value()], 64),
    ) {
        let mut filter = Filter::allow_all();
        for (conditions, action, other) in rules {
            let conditions: Vec<_> =
                conditions.into_iter().map(|(arg, test)| Condition { arg, test }).collect();
            let nr = if other { CONNECT } else { SENDTO };
            filter = match action {
                0 => filter.errno_when(nr, &conditions, Errno::PERM),
                1 => filter.errno_when(nr, &conditions, Errno::ACCESS),
                _ => filter.notify_when(nr, &conditions),
            };
        }
        let program = program(&filter);
        for [a, b, c] in inputs {
            for nr in [CONNECT, SENDTO] {
                let args = [a, b, c, 0, 0, 0];
                let got = run(&program, &words(NATIVE, nr.cast_unsigned(), args));
                prop_assert_eq!(got, promised(&filter, nr, args), "{:?} {:?}", filter.rules, args);
            }
        }
    }
}
