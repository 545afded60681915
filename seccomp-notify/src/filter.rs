//! Which calls trap: a list of rules, compiled to a BPF program and put in force.
//!
//! Building and compiling touch nothing; only [`Filter::install`] does. Compilation is the
//! `libseccomp` library's. Installation is not: the library keeps *one* listener per process in a
//! global variable and gives later filters none, so the program is exported and handed to
//! seccomp(2) here.
//!
//! The library is trusted with one rule per call only. It merges several rules of a call into one
//! tree, where an unconditional rule swallows the others and where, with version 2.5.4, a call
//! that *one* of two conditional rules refuses can come out as allowed. So the rules are dealt to
//! layers, one rule per call in each; every layer is compiled by itself, and what a layer allows
//! goes on to the next. The order of the layers is then the order of precedence.

mod allowlist;
mod error;
mod program;

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::io;
use std::os::fd::OwnedFd;

use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;

use crate::listener::Listener;
use crate::sys;
pub use allowlist::Allowlist;
pub use error::{FilterError, InstallError};
use program::Program;

/// The rules of a filter. Whatever no rule matches is allowed.
///
/// Where several rules match one call, **an errno wins over a notification**, and of two errnos
/// the one that was given first. This is what the kernel does between stacked filters.
///
/// The filter knows the native architecture only. Calls in another calling convention (i386 and
/// x32 on x86-64, 32-bit ARM on 64-bit) number the same calls differently, and would walk past the
/// rules; all of them fail with the errno of [`foreign_arch`](Self::foreign_arch).
///
/// ```
/// use seccomp_notify::{Condition, Errno, Filter};
///
/// let filter = Filter::allow_all()
///     .notify(libc::SYS_connect as i32)
///     .errno_when(
///         libc::SYS_sendto as i32,
///         &[Condition::bits_set(3, libc::MSG_FASTOPEN as u32)],
///         Errno::OPNOTSUPP,
///     );
/// assert!(!filter.export_bpf()?.is_empty());
/// # Ok::<(), seccomp_notify::FilterError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Filter {
    rules: Vec<Rule>,
    foreign_arch: Errno,
    no_new_privs: bool,
    wait_killable_recv: bool,
    #[cfg(bypass_weaken)]
    foreign_allowed: bool,
}

/// One rule: the action on this call if all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    nr: i32,
    action: Action,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Notify,
    Errno(Errno),
}

/// A test of one argument register. Several for one call must all hold; see `SCMP_CMP` in
/// [seccomp_rule_add(3)].
///
/// [seccomp_rule_add(3)]: https://man7.org/linux/man-pages/man3/seccomp_rule_add.3.html
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub arg: u32,
    /// What must hold for it.
    pub test: Test,
}

/// What must hold for an argument, as an unsigned 64-bit register.
///
/// **Mind the upper half.** Of a parameter that C declares `int` the kernel reads 32 bits, and the
/// target may put anything into the others: [`Test::Eq`] on a flags argument is evaded by one
/// stray high bit. [`Condition::int_eq`], [`Condition::bits_set`] and [`Condition::bits_clear`] look
/// at the lower half only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Test {
    /// All 64 bits are equal.
    Eq(u64),
    /// Any of the 64 bits differs.
    Ne(u64),
    /// The bits of `mask` are those of `value`.
    MaskedEq {
        /// Which bits are looked at.
        mask: u64,
        /// What they must be; no bit outside the mask may be set.
        value: u64,
    },
}

impl Condition {
    /// A test of argument `arg`, counted from 0. More than 5 is an error when the filter is compiled.
    pub const fn new(arg: u32, test: Test) -> Self {
        Self { arg, test }
    }

    /// An `int` or `unsigned int` parameter has this value.
    pub const fn int_eq(arg: u32, value: u32) -> Self {
        Self { arg, test: Test::MaskedEq { mask: u32::MAX as u64, value: value as u64 } }
    }

    /// All of these bits are set in an `int` or `unsigned int` parameter.
    pub const fn bits_set(arg: u32, bits: u32) -> Self {
        Self { arg, test: Test::MaskedEq { mask: bits as u64, value: bits as u64 } }
    }

    /// None of these bits is set in an `int` or `unsigned int` parameter.
    pub const fn bits_clear(arg: u32, bits: u32) -> Self {
        Self { arg, test: Test::MaskedEq { mask: bits as u64, value: 0 } }
    }
}

impl Filter {
    /// A filter without rules, which sets no_new_privs and gives ENOSYS to foreign architectures.
    pub const fn allow_all() -> Self {
        Self {
            rules: Vec::new(),
            foreign_arch: Errno::NOSYS,
            no_new_privs: true,
            wait_killable_recv: false,
            #[cfg(bypass_weaken)]
            foreign_allowed: false,
        }
    }

    /// Notify the listener of this call (a number of the native architecture).
    pub fn notify(self, nr: i32) -> Self {
        self.notify_when(nr, &[])
    }

    /// Notify the listener of this call if all conditions hold.
    pub fn notify_when(self, nr: i32, conditions: &[Condition]) -> Self {
        self.rule(nr, conditions, Action::Notify)
    }

    /// Let this call fail without asking anyone.
    pub fn errno(self, nr: i32, errno: Errno) -> Self {
        self.errno_when(nr, &[], errno)
    }

    /// Let this call fail without asking anyone if all conditions hold.
    pub fn errno_when(self, nr: i32, conditions: &[Condition], errno: Errno) -> Self {
        self.rule(nr, conditions, Action::Errno(errno))
    }

    /// What every call in a foreign calling convention fails with (default ENOSYS).
    pub const fn foreign_arch(mut self, errno: Errno) -> Self {
        self.foreign_arch = errno;
        self
    }

    /// Lets all of them through: so the attack suite shows what it is that stops them.
    #[cfg(bypass_weaken)]
    pub const fn allow_foreign_arch(mut self) -> Self {
        self.foreign_allowed = true;
        self
    }

    /// Whether [`install`](Self::install) sets no_new_privs on the thread first (default: yes).
    ///
    /// Without that bit only a thread with CAP_SYS_ADMIN in its user namespace may install.
    pub const fn no_new_privs(mut self, on: bool) -> Self {
        self.no_new_privs = on;
        self
    }

    /// Whether a received notification shields its target from all but fatal signals (default: no;
    /// since Linux 5.19, `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`).
    ///
    /// It spares calls the restart after each signal, at the price of calls that no signal
    /// handler can cut short. Kernels before 6.18 have a race in it.
    pub const fn wait_killable_recv(mut self, on: bool) -> Self {
        self.wait_killable_recv = on;
        self
    }

    /// The compiled program: `struct sock_filter`s of 8 bytes each, in native byte order.
    ///
    /// # Errors
    ///
    /// [`FilterError`] if a rule cannot be compiled as given.
    pub fn export_bpf(&self) -> Result<Vec<u8>, FilterError> {
        Ok(self.compile()?.to_bytes())
    }

    /// Puts the filter in force for the *calling thread*, and for every thread and process it
    /// makes from now on, across exec, for good.
    ///
    /// The caller must see to it that somebody serves the listener: from here on a trapped call of
    /// this very thread waits for an answer. The listener's descriptor is close-on-exec.
    ///
    /// # Errors
    ///
    /// [`InstallError::ListenerExists`] if a filter of this thread has a listener already, which
    /// the kernel allows once per chain; the others as they say.
    #[doc(alias = "SECCOMP_FILTER_FLAG_NEW_LISTENER")]
    pub fn install(&self) -> Result<Listener, InstallError> {
        let program = self.compile()?.to_raw();
        let flags =
            if self.wait_killable_recv { libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV } else { 0 };
        if self.no_new_privs {
            rustix::thread::set_no_new_privs(true)
                .map_err(|source| InstallError::NoNewPrivsCall { source })?;
        }
        let fd = sys::install_filter(&program, flags).map_err(|source| match source {
            Errno::BUSY => InstallError::ListenerExists,
            source => InstallError::SeccompCall { source },
        })?;
        Ok(Listener::from_fd(fd)?)
    }

    fn rule(mut self, nr: i32, conditions: &[Condition], action: Action) -> Self {
        self.rules.push(Rule { nr, action, conditions: conditions.to_vec() });
        self
    }

    fn compile(&self) -> Result<Program, FilterError> {
        let layers = layers(&self.rules);
        let (last, before) = match layers.split_last() {
            Some((last, before)) => (last.as_slice(), before),
            None => (&[][..], &[][..]),
        };
        let mut program = self.compile_layer(last)?;
        for layer in before.iter().rev() {
            program = self.compile_layer(layer)?.then(program);
        }
        if program.len() > MAX_INSTRUCTIONS {
            return Err(FilterError::TooLong { instructions: program.len() });
        }
        Ok(program)
    }

    /// Compiles rules of which no two are for the same call.
    fn compile_layer(&self, rules: &[&Rule]) -> Result<Program, FilterError> {
        let mut context =
            ScmpFilterContext::new(ScmpAction::Allow).map_err(library("seccomp_init"))?;
        let foreign = ScmpAction::Errno(self.foreign_arch.raw_os_error());
        #[cfg(bypass_weaken)]
        let foreign = if self.foreign_allowed { ScmpAction::Allow } else { foreign };
        context.set_act_badarch(foreign).map_err(library("seccomp_attr_set"))?;
        for rule in rules {
            check(rule.nr, &rule.conditions)?;
            let action = match rule.action {
                Action::Notify => ScmpAction::Notify,
                Action::Errno(errno) => ScmpAction::Errno(errno.raw_os_error()),
            };
            let compares: Vec<_> = rule.conditions.iter().filter_map(compare).collect();
            context
                .add_rule_conditional_exact(action, ScmpSyscall::from(rule.nr), &compares)
                .map_err(library("seccomp_rule_add_exact"))?;
        }
        export(&context)
    }
}

fn export(context: &ScmpFilterContext) -> Result<Program, FilterError> {
    let file = rustix::fs::memfd_create("seccomp-filter", MemfdFlags::CLOEXEC)
        .map_err(|source| FilterError::ScratchFile { source: source.into() })?;
    context.export_bpf(&file).map_err(library("seccomp_export_bpf"))?;
    let bytes = read_all(file).map_err(|source| FilterError::ScratchFile { source })?;
    Ok(Program::from_bytes(&bytes))
}

/// Refuses what the library would take without a word, or refuse without saying why.
fn check(nr: i32, conditions: &[Condition]) -> Result<(), FilterError> {
    // Negative numbers are the library's own, for calls this architecture does not have; and
    // with the bit that marks x32, the filter never gets as far as this rule.
    if !(0..FIRST_FOREIGN).contains(&nr) {
        return Err(FilterError::CallNumber { nr });
    }
    let mut seen = 0_u8;
    for &Condition { arg, test } in conditions {
        if arg > 5 {
            return Err(FilterError::ArgumentIndex { nr, arg });
        }
        if seen & (1 << arg) != 0 {
            return Err(FilterError::ArgumentTwice { nr, arg });
        }
        seen |= 1 << arg;
        if let Test::MaskedEq { mask, value } = test
            && value & !mask != 0
        {
            return Err(FilterError::NeverMatches { nr, arg });
        }
    }
    Ok(())
}

/// The rules in order of precedence, dealt so that no layer has two for one call.
fn layers(rules: &[Rule]) -> Vec<Vec<&Rule>> {
    let (notifications, errnos): (Vec<_>, Vec<_>) =
        rules.iter().partition(|rule| rule.action == Action::Notify);
    let mut layers: Vec<Vec<&Rule>> = Vec::new();
    let mut dealt: BTreeMap<i32, usize> = BTreeMap::new();
    for rule in errnos.into_iter().chain(notifications) {
        let depth = dealt.entry(rule.nr).or_default();
        match layers.get_mut(*depth) {
            Some(layer) => layer.push(rule),
            None => layers.push(vec![rule]),
        }
        *depth += 1;
    }
    layers
}

/// `None` for a test that always holds, which the library does not take.
fn compare(condition: &Condition) -> Option<ScmpArgCompare> {
    let (op, datum) = match condition.test {
        Test::Eq(value) => (ScmpCompareOp::Equal, value),
        Test::Ne(value) => (ScmpCompareOp::NotEqual, value),
        Test::MaskedEq { mask: 0, .. } => return None,
        Test::MaskedEq { mask, value } => (ScmpCompareOp::MaskedEqual(mask), value),
    };
    Some(ScmpArgCompare::new(condition.arg, op, datum))
}

fn library<E>(call: &'static str) -> impl FnOnce(E) -> FilterError
where
    E: StdError + Send + Sync + 'static,
{
    move |source| FilterError::LibraryCall { call, source: Box::new(source) }
}

/// Version of the libseccomp that filters are compiled with: major, minor, micro. `None` if it does
/// not tell.
#[must_use]
pub fn libseccomp_version() -> Option<(u32, u32, u32)> {
    let version = libseccomp::ScmpVersion::current().ok()?;
    Some((version.major, version.minor, version.micro))
}

fn read_all(file: OwnedFd) -> io::Result<Vec<u8>> {
    use io::{Read, Seek};

    let mut file = std::fs::File::from(file);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `BPF_MAXINSNS` of `linux/bpf_common.h`.
const MAX_INSTRUCTIONS: usize = 4096;

/// `__X32_SYSCALL_BIT`; native numbers are far below it everywhere.
const FIRST_FOREIGN: i32 = 0x4000_0000;

#[cfg(test)]
// All of them with libseccomp, which Miri cannot run.
#[cfg(not(miri))]
#[expect(clippy::cast_possible_truncation, reason = "call numbers are small")]
mod tests;
