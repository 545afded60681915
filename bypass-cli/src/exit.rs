//! Exit statuses, and how an error is told.

use std::error::Error;
use std::process::ExitCode;

/// Our own failure, as env(1), timeout(1) and docker-run(1) have it.
pub(crate) const OWN_FAILURE: u8 = 125;
/// The command was found but could not be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The command was not found.
pub(crate) const NOT_FOUND: u8 = 127;
/// Added to the number of the signal that ended the command.
pub(crate) const SIGNAL_BASE: u8 = 128;

/// An error on its way to the user.
#[derive(Debug)]
pub(crate) struct Failure(Box<dyn Error>);

impl Failure {
    pub(crate) fn new(error: impl Error + 'static) -> Self {
        Self(Box::new(error))
    }

    #[expect(clippy::print_stderr, reason = "the last word of a program goes to stderr")]
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("bypass-cli: {}", chain(self.0.as_ref()));
        ExitCode::from(OWN_FAILURE)
    }
}

/// An error and what caused it, on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}
