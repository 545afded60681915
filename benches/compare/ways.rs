//! The ways to the network that are compared.

use std::process::Command;

use test_support::World;
use test_support::failure::{Context, Result};

use crate::bypass4netns::{self, Bypass4netns};
use crate::measure::Setting;
use test_support::stacks::{self, BYPASS, Stack};

/// One way to the network.
pub(crate) enum Way {
    Stack(Stack),
    Bypass4netns(Bypass4netns),
}

impl Way {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Stack(stack) => stack.name,
            Self::Bypass4netns(_) => bypass4netns::NAME,
        }
    }

    /// Whether it is what all others are compared with.
    pub(crate) fn is_host(&self) -> bool {
        self.name() == HOST
    }

    /// Whether it is ours, of which the targets speak.
    pub(crate) fn is_ours(&self) -> bool {
        self.name() == BYPASS
    }

    /// Whether it is a program of others, which may fail without our being at fault.
    pub(crate) fn is_foreign(&self) -> bool {
        !self.is_host() && !self.is_ours()
    }

    /// Whether programs run under a seccomp filter.
    pub(crate) fn has_filter(&self) -> bool {
        self.is_ours() || matches!(self, Self::Bypass4netns(_))
    }

    /// A program and its arguments, as the ordinary user, with this way to the network.
    pub(crate) fn command(&self, world: &World, words: &[&str]) -> Result<Command> {
        match self {
            Self::Stack(stack) => {
                let (program, arguments) = words.split_first().context("no program")?;
                let mut command = stack.command(world, program)?;
                command.args(arguments);
                Ok(command)
            }
            Self::Bypass4netns(agent) => agent.command(world, words),
        }
    }
}

/// Every way that this machine has.
pub(crate) fn all(setting: &Setting<'_>) -> Result<Vec<Way>> {
    let mut ways: Vec<_> = stacks::all(setting.world)?.into_iter().map(Way::Stack).collect();
    match bypass4netns::usable(setting) {
        Ok(Some(way)) => ways.push(way),
        Ok(None) => {}
        // It is not ours to keep working; the other figures are worth having without it.
        Err(error) => eprintln!("comparison: {} is left out: {error}", bypass4netns::NAME),
    }
    Ok(ways)
}

const HOST: &str = "host";
