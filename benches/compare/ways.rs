//! The ways to the network that are compared.

use std::net::SocketAddr;
use std::process::Command;

use test_support::bypass4netns::{self, Bypass4netns};
use test_support::failure::{Context, Result};
use test_support::stacks::{self, BYPASS, HOST, Port, Stack};
use test_support::{World, fail};

use crate::measure::Setting;

/// One way to the network.
pub(crate) enum Way {
    Stack(Role, Stack),
    Bypass4netns(Bypass4netns),
}

/// What a stack is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// To be compared in everything.
    Network,
    /// The host once more, which shows by how much the host differs from itself.
    Again,
    /// The host under a filter that allows everything, for the calls that are measured one by
    /// one: containers have a filter, and the kernel makes every call pay for having one.
    Filtered,
    /// Publishes, and has the network of another.
    Forwarder,
}

impl Way {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Stack(Role::Again, _) => "host again",
            Self::Stack(Role::Filtered, _) => "host, any filter",
            Self::Stack(Role::Network | Role::Forwarder, stack) => stack.name,
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
        let is_host = self.is_host() || self.has_role(Role::Again) || self.has_role(Role::Filtered);
        !is_host && !self.is_ours()
    }

    /// Whether programs run under a seccomp filter.
    pub(crate) fn has_filter(&self) -> bool {
        self.is_ours() || self.has_role(Role::Filtered) || self.is_bypass4netns()
    }

    /// Whether it is a network of its own.
    pub(crate) fn is_network(&self) -> bool {
        self.has_role(Role::Network) || self.is_bypass4netns()
    }

    /// Whether the remote reaches servers behind it. (bypass4netns would, by an agent for each
    /// set of ports.)
    pub(crate) fn publishes(&self) -> bool {
        !self.has_role(Role::Filtered) && !self.is_bypass4netns()
    }

    pub(crate) fn has_role(&self, role: Role) -> bool {
        matches!(self, Self::Stack(its, _) if *its == role)
    }

    fn is_bypass4netns(&self) -> bool {
        matches!(self, Self::Bypass4netns(_))
    }

    /// A program and its arguments, as the ordinary user, with this way to the network.
    pub(crate) fn command(&self, world: &World, words: &[&str]) -> Result<Command> {
        let (program, arguments) = words.split_first().context("no program")?;
        let mut command = match self {
            Self::Stack(_, stack) => stack.command(world, program)?,
            Self::Bypass4netns(agent) => return agent.command(world, words),
        };
        command.args(arguments);
        Ok(command)
    }

    /// The same for a program that connects UDP sockets.
    pub(crate) fn datagrams(&self, world: &World, words: &[&str]) -> Result<Command> {
        let (program, arguments) = words.split_first().context("no program")?;
        let mut command = self.stack()?.datagrams(world, program)?;
        command.args(arguments);
        Ok(command)
    }

    /// The same for a server, which the remote finds at [`Way::published`].
    pub(crate) fn server(&self, world: &World, words: &[&str]) -> Result<Command> {
        let (program, arguments) = words.split_first().context("no program")?;
        let mut command = self.stack()?.server(world, program)?;
        command.args(arguments);
        Ok(command)
    }

    /// Where the remote reaches a server that has bound `port` at any address.
    pub(crate) fn published(&self, port: Port) -> Result<SocketAddr> {
        Ok(self.stack()?.published(port))
    }

    fn stack(&self) -> Result<&Stack> {
        match self {
            Self::Stack(_, stack) => Ok(stack),
            Self::Bypass4netns(_) => fail!("{} publishes nothing here", self.name()),
        }
    }
}

/// Every way that this machine has.
pub(crate) fn all(setting: &Setting<'_>) -> Result<Vec<Way>> {
    let mut ways = Vec::new();
    for stack in stacks::all(setting.world)? {
        let is_host = stack.name == HOST;
        ways.push(Way::Stack(Role::Network, stack));
        if is_host {
            ways.extend([Role::Again, Role::Filtered].map(|role| Way::Stack(role, Stack::host())));
        }
    }
    let rootlesskit = stacks::rootlesskit(setting.world);
    let rootlesskit = rootlesskit.map(|found| found.map(|it| Way::Stack(Role::Forwarder, it)));
    for (name, way) in
        [("RootlessKit", rootlesskit), (bypass4netns::NAME, usable_bypass4netns(setting))]
    {
        match way {
            Ok(way) => ways.extend(way),
            // It is not ours to keep working; the other figures are worth having without it.
            Err(error) => eprintln!("comparison: {name} is left out: {error}"),
        }
    }
    Ok(ways)
}

/// The agent, if it is installed and connects.
fn usable_bypass4netns(setting: &Setting<'_>) -> Result<Option<Way>> {
    let Some(program) = bypass4netns::find() else { return Ok(None) };
    let agent = Bypass4netns::start(setting.world, &program, bypass4netns::NAME, &[])?;
    let way = Way::Bypass4netns(agent);
    setting.client(&way, &["cycles", &setting.byte_address(), "1"]).context("a first container")?;
    Ok(Some(way))
}
