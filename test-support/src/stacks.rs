//! The ways to the network that are compared.

use std::ffi::OsStr;
use std::process::Command;

use crate::World;
use crate::failure::Result;
use crate::process::{self, PATIENCE, Running};
use crate::requirement::find_program;
use crate::world::CONGESTION;

/// MTU inside, for the user-space stacks: the largest that they take and what container
/// engines choose for them, since they are fastest with it.
const MTU: u32 = 65520;

/// Name of the row of `bypass-cli run`.
pub const BYPASS: &str = "bypass-cli";
/// Name of the row of slirp4netns.
pub const SLIRP: &str = "slirp4netns";

/// One way to the network.
#[derive(Debug)]
pub struct Stack {
    /// How tables name it.
    pub name: &'static str,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Host,
    Bypass,
    Attached(Box<Namespace>),
}

impl Stack {
    /// `program` as the ordinary user, with this way to the network.
    pub fn command(&self, world: &World, program: impl AsRef<OsStr>) -> Result<Command> {
        Ok(match &self.way {
            Way::Host => world.as_user(program),
            Way::Bypass => {
                let mut command = world.bypass(&["--map-root"])?;
                command.args(["sh", "-c", &format!("{}; exec \"$@\"", same_congestion()), "sh"]);
                command.arg(program);
                command
            }
            Way::Attached(namespace) => namespace.enter(world, program),
        })
    }
}

/// Every way that this machine has, the host first.
pub fn all(world: &World) -> Result<Vec<Stack>> {
    let mut stacks =
        vec![Stack { name: "host", way: Way::Host }, Stack { name: BYPASS, way: Way::Bypass }];
    if find_program("slirp4netns").is_some() {
        stacks
            .push(Stack { name: SLIRP, way: Way::Attached(Namespace::slirp4netns(world)?.into()) });
    }
    if find_program("pasta").is_some() {
        stacks.push(Stack { name: "pasta", way: Way::Attached(Namespace::pasta(world)?.into()) });
    }
    Ok(stacks)
}

/// A user and network namespace of the ordinary user with a stack attached to it.
#[derive(Debug)]
struct Namespace {
    holder: Running,
    /// Ends with its handle; pasta puts itself into the background and ends with the
    /// namespace.
    _stack: Option<Running>,
}

impl Namespace {
    fn hold(world: &World) -> Result<Running> {
        let mut holder = world.as_user("unshare");
        holder.args(["--user", "--map-root-user", "--net", "--", "sh", "-c"]);
        let mut holder = process::start_interactive(
            holder.arg(format!("{}; echo ready; read line", same_congestion())),
        )?;
        holder.line("ready", PATIENCE)?;
        Ok(holder)
    }

    fn slirp4netns(world: &World) -> Result<Self> {
        let holder = Self::hold(world)?;
        let mut stack = world.as_user("slirp4netns");
        stack.args(["--configure", &format!("--mtu={MTU}"), "--disable-host-loopback"]);
        stack.arg("--ready-fd=1");
        let stack = process::start_interactive(stack.args([&holder.pid().to_string(), "tap0"]))?;
        stack.any_output(PATIENCE)?;
        Ok(Self { holder, _stack: Some(stack) })
    }

    /// Without its alias for the host's loopback, which would be the remote's address.
    fn pasta(world: &World) -> Result<Self> {
        let holder = Self::hold(world)?;
        let mut stack = world.as_user("pasta");
        stack.args(["--config-net", &format!("--mtu={MTU}"), "--no-map-gw", "--quiet"]);
        stack.arg(holder.pid().to_string());
        process::run(&mut stack, PATIENCE)?.success()?;
        Ok(Self { holder, _stack: None })
    }

    fn enter(&self, world: &World, program: impl AsRef<OsStr>) -> Command {
        let mut command = world.as_user("nsenter");
        command.args(["--user", "--net", "--preserve-credentials"]);
        command.arg(format!("--target={}", self.holder.pid())).arg("--").arg(program);
        command
    }
}

/// A namespace starts with the machine's congestion control, not with that of the namespace
/// whose host this world plays. (On a real host the two are the same.)
fn same_congestion() -> String {
    format!("echo {CONGESTION} > /proc/sys/net/ipv4/tcp_congestion_control")
}
