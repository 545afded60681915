//! Allow-lists: all that a process may do from here on.

use std::collections::BTreeMap;

use libseccomp::{ScmpAction, ScmpArgCompare, ScmpFilterContext, ScmpSyscall};
use rustix::io::Errno;

use super::program::Program;
use super::{
    Condition, FilterError, InstallError, MAX_INSTRUCTIONS, check, compare, export, library,
};
use crate::sys;

/// The calls that a process needs, for a filter that refuses it every other.
///
/// This is the opposite of a [`Filter`](super::Filter): it is for one's own process, all threads of
/// it, and has no listener. What is not on the list fails with one errno; a call in a foreign calling
/// convention, which no library makes by itself, ends the process.
///
/// ENOSYS is the errno to choose. Libraries learn new calls with each version, and fall back from
/// this one as on a kernel that is older than they are.
///
/// ```
/// use seccomp_notify::{Allowlist, Condition, Errno};
///
/// let list = Allowlist::refuse_others_with(Errno::NOSYS)
///     .allow(libc::SYS_read as i32)
///     .allow_when(libc::SYS_socket as i32, &[Condition::int_eq(0, libc::AF_INET as u32)]);
/// assert!(!list.export_bpf()?.is_empty());
/// # Ok::<(), seccomp_notify::FilterError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Allowlist {
    rules: Vec<Rule>,
    otherwise: Errno,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    nr: i32,
    conditions: Vec<Condition>,
}

impl Allowlist {
    /// Allows nothing yet; what is not allowed later fails with `errno`, such as ENOSYS.
    pub const fn refuse_others_with(errno: Errno) -> Self {
        Self { rules: Vec::new(), otherwise: errno }
    }

    /// Allows this call, a number of the native architecture.
    pub fn allow(self, nr: i32) -> Self {
        self.allow_when(nr, &[])
    }

    /// Allows this call if all conditions hold. Of several rules for one call any will do.
    pub fn allow_when(mut self, nr: i32, conditions: &[Condition]) -> Self {
        self.rules.push(Rule { nr, conditions: conditions.to_vec() });
        self
    }

    /// The compiled program, as [`Filter::export_bpf`](super::Filter::export_bpf) gives it.
    ///
    /// # Errors
    ///
    /// [`FilterError`] if a rule cannot be compiled as given.
    pub fn export_bpf(&self) -> Result<Vec<u8>, FilterError> {
        Ok(self.compile()?.to_bytes())
    }

    /// Holds every thread of this process to the list, and all that they start, for good. Sets
    /// no_new_privs on all of them.
    ///
    /// Refusals go to the audit log, if the kernel keeps one of them
    /// (`/proc/sys/kernel/seccomp/actions_logged`).
    ///
    /// # Errors
    ///
    /// [`InstallError::ThreadDiffers`] if the threads are not all under the same filters already,
    /// and the others as they say. The list then holds nobody.
    #[doc(alias = "SECCOMP_FILTER_FLAG_TSYNC")]
    pub fn confine_process(&self) -> Result<(), InstallError> {
        let program = self.compile()?.to_raw();
        rustix::thread::set_no_new_privs(true)
            .map_err(|source| InstallError::NoNewPrivsCall { source })?;
        match sys::filter_all_threads(&program) {
            Ok(None) => Ok(()),
            Ok(Some(tid)) => Err(InstallError::ThreadDiffers { tid }),
            Err(source) => Err(InstallError::SeccompCall { source }),
        }
    }

    /// The library gets one rule per call only, as for [`Filter`](super::Filter). What one layer
    /// does not allow goes on to the next.
    pub(super) fn compile(&self) -> Result<Program, FilterError> {
        let refused = libc::SECCOMP_RET_ERRNO | self.otherwise.raw_os_error().cast_unsigned();
        let layers = layers(&self.rules);
        let (last, before) = match layers.split_last() {
            Some((last, before)) => (last.as_slice(), before),
            None => (&[][..], &[][..]),
        };
        let mut program = self.compile_layer(last)?;
        for layer in before.iter().rev() {
            program = self.compile_layer(layer)?.instead_of(refused, program);
        }
        if program.len() > MAX_INSTRUCTIONS {
            return Err(FilterError::TooLong { instructions: program.len() });
        }
        Ok(program)
    }

    fn compile_layer(&self, rules: &[&Rule]) -> Result<Program, FilterError> {
        let otherwise = ScmpAction::Errno(self.otherwise.raw_os_error());
        let mut context = ScmpFilterContext::new(otherwise).map_err(library("seccomp_init"))?;
        context.set_act_badarch(ScmpAction::KillProcess).map_err(library("seccomp_attr_set"))?;
        // A tree in place of a list: there are many calls. Libraries before 2.5 know only lists.
        context.set_ctl_optimize(2).ok();
        for Rule { nr, conditions } in rules {
            check(*nr, conditions)?;
            let compares: Vec<ScmpArgCompare> = conditions.iter().filter_map(compare).collect();
            context
                .add_rule_conditional_exact(ScmpAction::Allow, ScmpSyscall::from(*nr), &compares)
                .map_err(library("seccomp_rule_add_exact"))?;
        }
        export(&context)
    }
}

/// The rules, dealt so that no layer has two for one call.
fn layers(rules: &[Rule]) -> Vec<Vec<&Rule>> {
    let mut layers: Vec<Vec<&Rule>> = Vec::new();
    let mut dealt: BTreeMap<i32, usize> = BTreeMap::new();
    for rule in rules {
        let depth = dealt.entry(rule.nr).or_default();
        match layers.get_mut(*depth) {
            Some(layer) => layer.push(rule),
            None => layers.push(vec![rule]),
        }
        *depth += 1;
    }
    layers
}

#[cfg(test)]
// All of them with libseccomp, which Miri cannot run.
#[cfg(not(miri))]
#[expect(clippy::cast_possible_truncation, reason = "call numbers are small")]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{NATIVE, run, words};
    use super::super::{FIRST_FOREIGN, Test};
    use super::*;

    const SOCKET: i32 = libc::SYS_socket as i32;
    const READ: i32 = libc::SYS_read as i32;
    const IOCTL: i32 = libc::SYS_ioctl as i32;
    const ALLOWED: u32 = libc::SECCOMP_RET_ALLOW;
    const REFUSED: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    fn verdict(list: &Allowlist, nr: i32, args: [u64; 6]) -> u32 {
        run(&list.compile().unwrap().to_raw(), &words(NATIVE, nr.cast_unsigned(), args))
    }

    fn holds(condition: Condition, args: [u64; 6]) -> bool {
        let arg = args[condition.arg as usize];
        match condition.test {
            Test::Eq(value) => arg == value,
            Test::Ne(value) => arg != value,
            Test::MaskedEq { mask, value } => arg & mask == value,
        }
    }

    #[test]
    fn what_is_not_on_the_list_is_refused() {
        let list = Allowlist::refuse_others_with(Errno::NOSYS).allow(READ);
        assert_eq!(verdict(&list, READ, [7; 6]), ALLOWED);
        assert_eq!(verdict(&list, SOCKET, [7; 6]), REFUSED);
        let nothing = Allowlist::refuse_others_with(Errno::NOSYS);
        assert_eq!(verdict(&nothing, READ, [7; 6]), REFUSED);
    }

    #[test]
    fn any_rule_of_a_call_will_do() {
        let family = |family| [Condition::int_eq(0, family)];
        let list = Allowlist::refuse_others_with(Errno::NOSYS)
            .allow_when(SOCKET, &family(2))
            .allow_when(SOCKET, &family(10))
            .allow_when(SOCKET, &[Condition::int_eq(0, 16), Condition::int_eq(2, 4)])
            .allow(READ);
        for (args, expected) in [
            ([2, 1, 0], ALLOWED),
            ([0xdead_0000_0000 | 10, 1, 0], ALLOWED),
            ([16, 3, 4], ALLOWED),
            ([16, 3, 0], REFUSED),
            ([1, 1, 0], REFUSED),
        ] {
            let [a, b, c] = args;
            assert_eq!(verdict(&list, SOCKET, [a, b, c, 0, 0, 0]), expected, "{args:?}");
        }
    }

    #[test]
    fn a_foreign_call_ends_the_process() {
        let list = Allowlist::refuse_others_with(Errno::NOSYS).allow(READ);
        let program = list.compile().unwrap().to_raw();
        let other = NATIVE ^ 1;
        assert_eq!(run(&program, &words(other, 3, [0; 6])), libc::SECCOMP_RET_KILL_PROCESS);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(
            run(&program, &words(NATIVE, FIRST_FOREIGN.cast_unsigned(), [0; 6])),
            libc::SECCOMP_RET_KILL_PROCESS
        );
        #[cfg(not(target_arch = "x86_64"))]
        let _ = FIRST_FOREIGN;
    }

    #[test]
    fn nonsense_does_not_compile() {
        let list = || Allowlist::refuse_others_with(Errno::NOSYS);
        let never = Condition::new(0, Test::MaskedEq { mask: 1, value: 2 });
        assert!(matches!(
            list().allow_when(READ, &[never]).export_bpf(),
            Err(FilterError::NeverMatches { .. })
        ));
        assert!(matches!(list().allow(-1).export_bpf(), Err(FilterError::CallNumber { .. })));
    }

    fn condition() -> impl Strategy<Value = Condition> {
        let test = prop_oneof![
            (0_u64..4).prop_map(Test::Eq),
            (0_u64..4).prop_map(Test::Ne),
            (0_u64..4, 0_u64..4)
                .prop_map(|(mask, value)| Test::MaskedEq { mask, value: value & mask }),
        ];
        (0_u32..3, test).prop_map(|(arg, test)| Condition { arg, test })
    }

    proptest! {
        #[test]
        fn a_call_passes_if_and_only_if_a_rule_holds(
            rules in prop::collection::vec(
                (prop::sample::select(vec![READ, SOCKET, IOCTL]),
                 prop::collection::vec(condition(), 0..3)),
                0..8,
            ),
            nr in prop::sample::select(vec![READ, SOCKET, IOCTL, IOCTL + 1]),
            args in prop::array::uniform6(0_u64..4),
        ) {
            let unique = |conditions: &[Condition]| {
                let mut args: Vec<u32> = conditions.iter().map(|c| c.arg).collect();
                args.sort_unstable();
                args.windows(2).all(|pair| pair[0] != pair[1])
            };
            prop_assume!(rules.iter().all(|(_, conditions)| unique(conditions)));
            let list = rules.iter().fold(
                Allowlist::refuse_others_with(Errno::NOSYS),
                |list, (nr, conditions)| list.allow_when(*nr, conditions),
            );
            let passes = rules
                .iter()
                .any(|(of, conditions)| *of == nr && conditions.iter().all(|c| holds(*c, args)));
            let expected = if passes { ALLOWED } else { REFUSED };
            prop_assert_eq!(verdict(&list, nr, args), expected);
        }
    }
}
