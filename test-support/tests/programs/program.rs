//! One program under test: how it is set up, what a round of work with it is, and what must be
//! true of its sockets and its supervisor.

use test_support::process::Running;
use test_support::requirement::Requirement;
use test_support::{Result, World, ensure};

use crate::container::{Container, Report};
use crate::place::Place;

/// A program that people run.
#[derive(Debug)]
pub(crate) struct Program {
    /// Name of the test.
    pub(crate) name: &'static str,
    /// What the machine must have.
    pub(crate) requires: &'static [Requirement],
    /// Starts the container, the program in it, and its peers on the remote.
    pub(crate) start: for<'w> fn(&Place<'w>) -> Result<Subject<'w>>,
    pub(crate) expected: Expected,
}

/// What the report must say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// Sockets that were switched, at least, by the start and by each round.
    pub(crate) switched: (u64, u64),
    /// How else calls may end: `left/local` and the like.
    pub(crate) otherwise: &'static [&'static str],
}

/// Work with the program, which can be done any number of times; it fails at the first thing
/// that is not as it should be.
pub(crate) type Round<'w> = Box<dyn FnMut(&mut Container) -> Result + Send + 'w>;

/// A program that has been started.
pub(crate) struct Subject<'w> {
    pub(crate) container: Container,
    /// On the remote; they end with it.
    pub(crate) peers: Vec<Running>,
    pub(crate) round: Round<'w>,
}

impl Subject<'_> {
    pub(crate) fn round(&mut self) -> Result {
        (self.round)(&mut self.container)
    }

    /// Ends it after so many rounds, and looks at the report.
    pub(crate) fn end(self, expected: &Expected, rounds: u64) -> Result<Report> {
        let report = self.container.end()?;
        drop(self.peers);
        let (start, each) = expected.switched;
        let least = start + rounds * each;
        ensure!(report.switched() >= least, "fewer than {least} were switched: {}", report.0);
        report.expect_only(expected.otherwise)?;
        report.expect_direct()?;
        Ok(report)
    }
}

/// One program by itself.
pub(crate) fn alone(world: &World, program: &Program) -> Result {
    let place = Place::new(world, program.name)?;
    let mut subject = (program.start)(&place)?;
    // What the supervisor takes once, it has after a round of the same kind.
    subject.round()?;
    let before = subject.container.census()?;
    for _ in 1..ROUNDS {
        subject.round()?;
    }
    subject.container.returns_to(&before)?;
    subject.end(&program.expected, ROUNDS)?;
    Ok(())
}

/// The first of them is to warm up.
const ROUNDS: u64 = 3;
