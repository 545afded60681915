//! Why rules do not compile, and why a compiled filter is not in force.

use std::error::Error as StdError;
use std::io;

use rustix::io::Errno;
use thiserror::Error;

use crate::error::OpenError;

/// A filter's rules cannot be compiled.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FilterError {
    /// Not the number of a call of this architecture.
    #[error("no system call has the number {nr}")]
    CallNumber {
        /// The number given.
        nr: i32,
    },
    /// A condition names an argument beyond the sixth.
    #[error("call {nr}: no argument has the index {arg}")]
    ArgumentIndex {
        /// The call.
        nr: i32,
        /// The index given.
        arg: u32,
    },
    /// A rule tests one argument twice, which a single comparison cannot do.
    #[error("call {nr}: argument {arg} is tested twice in one rule")]
    ArgumentTwice {
        /// The call.
        nr: i32,
        /// The argument.
        arg: u32,
    },
    /// A masked comparison with a value outside its mask: it can never hold, so that the rule
    /// would silently guard nothing.
    #[error("call {nr}: test of argument {arg} can never hold")]
    NeverMatches {
        /// The call.
        nr: i32,
        /// The argument.
        arg: u32,
    },
    /// More instructions than the kernel takes.
    #[error("program has {instructions} instructions, more than 4096")]
    TooLong {
        /// How many.
        instructions: usize,
    },
    /// A function of the library failed.
    #[error("{call} failed")]
    LibraryCall {
        /// Its C name.
        call: &'static str,
        /// What it gave.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The memory file through which the library exports could not be used.
    #[error("memory file for the program is unusable")]
    ScratchFile {
        /// What the call gave.
        #[source]
        source: io::Error,
    },
}

/// A filter could not be put in force.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The rules cannot be compiled.
    #[error("filter does not compile")]
    Compile {
        /// Why.
        #[from]
        source: FilterError,
    },
    /// prctl(2) did not set the bit.
    #[error("setting no_new_privs failed")]
    NoNewPrivsCall {
        /// What prctl(2) gave.
        #[source]
        source: Errno,
    },
    /// This thread is under a filter with a listener already.
    #[error("a filter of this thread has a listener already")]
    ListenerExists,
    /// seccomp(2) failed: EACCES without privilege and no_new_privs, EINVAL for a kernel that lacks
    /// notification or a flag asked for.
    #[error("seccomp(SECCOMP_SET_MODE_FILTER) failed")]
    SeccompCall {
        /// What seccomp(2) gave.
        #[source]
        source: Errno,
    },
    /// A thread is under a filter that the calling one is not under, so that the new one cannot be put
    /// above it. It is in force for no thread.
    #[error("thread {tid} is under a filter of its own")]
    ThreadDiffers {
        /// The thread.
        tid: i32,
    },
    /// The filter is in force, but its listener does not suit this crate.
    #[error("new listener is unusable")]
    Open {
        /// Why.
        #[from]
        source: OpenError,
    },
}
