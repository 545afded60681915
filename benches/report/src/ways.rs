//! The columns of the report: ways to the network.

use std::net::SocketAddr;
use std::process::Command;

use test_support::bypass4netns::{self, Bypass4netns};
use test_support::failure::{Context, Result};
use test_support::stacks::{self, BYPASS, HOST, Port, ROOTFUL, SLIRP, Stack};
use test_support::{Failure, World, fail};

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

    /// For who reads the report.
    pub(crate) fn about(&self) -> &'static str {
        match self.name() {
            HOST => "the host's own network",
            BYPASS => "`bypass-cli run`",
            SLIRP => "TCP/IP in user space, MTU 65520; ports published by its API",
            ROOTFUL => "a veth pair and the kernel's address translation, which take root",
            bypass4netns::NAME => {
                "the Go program of that name; every program is a container of crun"
            }
            _ => "TCP/IP in user space and sockets of the host, MTU 65520; ports by `-t` and `-u`",
        }
    }

    /// Why the remote cannot reach servers behind it here.
    pub(crate) fn no_server(&self) -> Option<&'static str> {
        let why = "each set of ports takes an agent of its own";
        matches!(self, Self::Bypass4netns(_)).then_some(why)
    }

    /// Why programs that connect UDP sockets have no network here.
    pub(crate) fn no_datagrams(&self) -> Option<&'static str> {
        let why = "UDP takes a network beside it, which would be measured";
        matches!(self, Self::Bypass4netns(_)).then_some(why)
    }

    /// A program and its arguments, as the ordinary user, with this way to the network.
    pub(crate) fn command(&self, world: &World, words: &[&str]) -> Result<Command> {
        match self {
            Self::Stack(stack) => with(words, |program| stack.command(world, program)),
            Self::Bypass4netns(agent) => agent.command(world, words),
        }
    }

    /// The same for a program that connects UDP sockets.
    pub(crate) fn datagrams(&self, world: &World, words: &[&str]) -> Result<Command> {
        with(words, |program| self.stack()?.datagrams(world, program))
    }

    /// The same for a server, which the remote finds at [`Way::published`].
    pub(crate) fn server(&self, world: &World, words: &[&str]) -> Result<Command> {
        with(words, |program| self.stack()?.server(world, program))
    }

    /// Where the remote reaches a server that has bound `port` at any address.
    pub(crate) fn published(&self, port: Port) -> Result<SocketAddr> {
        Ok(self.stack()?.published(port))
    }

    fn stack(&self) -> Result<&Stack> {
        match self {
            Self::Stack(stack) => Ok(stack),
            Self::Bypass4netns(_) => fail!("{} has neither ports nor UDP here", self.name()),
        }
    }
}

fn with(words: &[&str], make: impl FnOnce(&str) -> Result<Command>) -> Result<Command> {
    let (program, arguments) = words.split_first().context("no program")?;
    let mut command = make(program)?;
    command.args(arguments);
    Ok(command)
}

/// Every way that this machine has, and why others are not there.
pub(crate) fn all(world: &World) -> Result<(Vec<Way>, Vec<String>)> {
    let mut ways: Vec<_> = stacks::all(world)?.into_iter().map(Way::Stack).collect();
    let mut missing = Vec::new();
    for (name, found) in [
        (ROOTFUL, stacks::rootful(world).map(|stack| stack.map(Way::Stack))),
        (bypass4netns::NAME, go(world)),
    ] {
        match found {
            Ok(way) => ways.extend(way),
            Err(error) => missing.push(format!("{name} is left out: {}", first_line(&error))),
        }
    }
    Ok((ways, missing))
}

/// The report says what failed; the whole output is on the terminal.
pub(crate) fn first_line(error: &Failure) -> String {
    let text = error.to_string();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    // A command that ended with another status is named by the second one.
    let line = match lines.next().filter(|_| first.starts_with("exit status")) {
        Some(second) => second.to_owned(),
        None => first,
    };
    // What is run is in the middle, and may be long.
    let (length, kept) = (line.chars().count(), 80);
    if length <= 2 * kept {
        return line;
    }
    let head: String = line.chars().take(kept).collect();
    let tail: String = line.chars().skip(length - kept).collect();
    format!("{head} … {tail}")
}

fn go(world: &World) -> Result<Option<Way>> {
    let Some(program) = bypass4netns::find() else { return Ok(None) };
    let agent = Bypass4netns::start(world, &program, bypass4netns::NAME, &[])?;
    Ok(Some(Way::Bypass4netns(agent)))
}
