//! The ways to the network that are compared.

mod rootful;

use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::failure::{Context, Result};
use crate::process::{self, PATIENCE, Running};
use crate::requirement::find_program;
use crate::world::{CONGESTION, HOST_V4};
use crate::{World, ensure};
use rootful::Rootful;

/// MTU inside, for the user-space stacks: the largest that they take and what container
/// engines choose for them, since they are fastest with it.
const MTU: u32 = 65520;

/// Name of the row of the host itself.
pub const HOST: &str = "host";
/// Name of the row of `bypass-cli run`.
pub const BYPASS: &str = "bypass-cli";
/// Name of the row of slirp4netns.
pub const SLIRP: &str = "slirp4netns";
/// Name of the row of what needs root.
pub const ROOTFUL: &str = "veth + NAT";

/// A port that a server may bind, and that its stack publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    protocol: Protocol,
    /// What the server binds.
    pub number: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
}

/// iperf3's own port, for its control connection and for streams.
pub const IPERF: Port = Port { protocol: Protocol::Tcp, number: 5201 };
/// For web servers.
pub const HTTP: Port = Port { protocol: Protocol::Tcp, number: 8080 };
/// For servers that nobody connects to. Elsewhere connections that have ended are still known
/// for a minute, and bind(2) looks through them.
pub const IDLE: Port = Port { protocol: Protocol::Tcp, number: 7000 };
/// For servers that answer datagrams.
pub const ECHO: Port = Port { protocol: Protocol::Udp, number: 7007 };

/// Everything that is published. These, shifted, lie below the ports that programs get when
/// they ask for none.
const PUBLISHED: [Port; 5] =
    [IPERF, Port { protocol: Protocol::Udp, number: IPERF.number }, HTTP, IDLE, ECHO];

/// One way to the network.
#[derive(Debug)]
pub struct Stack {
    /// How tables name it.
    pub name: &'static str,
    way: Way,
    shift: Shift,
}

/// From a container's port to that of the host. The stacks run beside each other, so each
/// has host ports of its own.
#[derive(Debug, Clone, Copy)]
struct Shift(u16);

#[derive(Debug)]
enum Way {
    Host,
    Bypass,
    Attached(Box<Namespace>),
    Rootful(Rootful),
}

impl Stack {
    /// The host itself: no stack.
    #[must_use]
    pub const fn host() -> Self {
        Self { name: HOST, way: Way::Host, shift: Shift(0) }
    }

    /// `program` as the ordinary user, with this way to the network.
    ///
    /// # Errors
    /// When `bypass-cli` was not built.
    pub fn command(&self, world: &World, program: impl AsRef<OsStr>) -> Result<Command> {
        self.command_with(world, &[], program)
    }

    /// The same for a program that connects UDP sockets, which are to take this way too.
    ///
    /// # Errors
    /// When `bypass-cli` was not built.
    pub fn datagrams(&self, world: &World, program: impl AsRef<OsStr>) -> Result<Command> {
        self.command_with(world, &["--udp=connected".to_owned()], program)
    }

    /// The same for a server, which the remote finds at [`Stack::published`].
    ///
    /// # Errors
    /// When `bypass-cli` was not built.
    pub fn server(&self, world: &World, program: impl AsRef<OsStr>) -> Result<Command> {
        let maps = PUBLISHED.map(|port| format!("--publish={}", self.shift.map(port)));
        self.command_with(world, &maps, program)
    }

    fn command_with(
        &self,
        world: &World,
        options: &[String],
        program: impl AsRef<OsStr>,
    ) -> Result<Command> {
        Ok(match &self.way {
            Way::Host => world.as_user(program),
            Way::Bypass => {
                let options = options.iter().map(String::as_str).chain(["--map-root"]);
                let mut command = world.bypass(&options.collect::<Vec<_>>())?;
                command.args(["sh", "-c", &format!("{}; exec \"$@\"", same_congestion()), "sh"]);
                command.arg(program);
                command
            }
            Way::Attached(namespace) => namespace.enter(world, program),
            Way::Rootful(namespace) => namespace.enter(world, program),
        })
    }

    /// Where the remote reaches a server that has bound `port` at any address.
    #[must_use]
    pub fn published(&self, port: Port) -> SocketAddr {
        let host = if matches!(self.way, Way::Rootful(_)) { rootful::HOST } else { HOST_V4 };
        SocketAddr::new(host.into(), self.shift.host(port))
    }
}

/// Every way that this machine has, the host first.
///
/// # Errors
/// When one of them cannot be set up.
pub fn all(world: &World) -> Result<Vec<Stack>> {
    let mut stacks =
        vec![Stack::host(), Stack { name: BYPASS, way: Way::Bypass, shift: Shift(1_000) }];
    if find_program("slirp4netns").is_some() {
        let shift = Shift(2_000);
        let way = Way::Attached(Namespace::slirp4netns(world, shift)?.into());
        stacks.push(Stack { name: SLIRP, way, shift });
    }
    if find_program("pasta").is_some() {
        let shift = Shift(3_000);
        let way = Way::Attached(Namespace::pasta(world, shift)?.into());
        stacks.push(Stack { name: "pasta", way, shift });
    }
    Ok(stacks)
}

/// RootlessKit, which forwards ports for rootless Docker; outwards its container has
/// slirp4netns. `None` if one of them is not installed.
///
/// # Errors
/// When it cannot be set up.
pub fn rootlesskit(world: &World) -> Result<Option<Stack>> {
    if find_program("rootlesskit").is_none() || find_program("slirp4netns").is_none() {
        return Ok(None);
    }
    let shift = Shift(4_000);
    let way = Way::Attached(Namespace::rootlesskit(world, shift)?.into());
    Ok(Some(Stack { name: "RootlessKit", way, shift }))
}

/// What needs root: veth pairs, and the kernel's address translation. `None` if `iptables` is not
/// installed.
///
/// # Errors
/// When it cannot be set up.
pub fn rootful(world: &World) -> Result<Option<Stack>> {
    if find_program("iptables").is_none() {
        return Ok(None);
    }
    let way = Way::Rootful(Rootful::new(world)?);
    Ok(Some(Stack { name: ROOTFUL, way, shift: Shift(0) }))
}

impl Shift {
    const fn host(self, port: Port) -> u16 {
        port.number.saturating_add(self.0)
    }

    /// As `--publish` has it.
    fn map(self, port: Port) -> String {
        format!("{}:{}/{}", self.host(port), port.number, port.protocol)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A user and network namespace of the ordinary user with a stack attached to it.
#[derive(Debug)]
struct Namespace {
    /// A process inside.
    pid: u32,
    /// Holds the namespace; ends with its handle.
    _holder: Running,
    /// The same; pasta puts itself into the background and ends with the namespace.
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

    fn of(holder: Running, stack: Option<Running>) -> Self {
        Self { pid: holder.pid(), _holder: holder, _stack: stack }
    }

    fn slirp4netns(world: &World, shift: Shift) -> Result<Self> {
        let holder = Self::hold(world)?;
        let api = world.runtime_dir().join("slirp4netns.sock");
        let mut stack = world.as_user("slirp4netns");
        stack.args(["--configure", &format!("--mtu={MTU}"), "--disable-host-loopback"]);
        stack.arg("--ready-fd=1").arg("--api-socket").arg(&api);
        let stack = process::start_interactive(stack.args([&holder.pid().to_string(), "tap0"]))?;
        stack.any_output(PATIENCE)?;
        for port in PUBLISHED {
            forward(&api, port, shift).context("slirp4netns")?;
        }
        Ok(Self::of(holder, Some(stack)))
    }

    /// Without its alias for the host's loopback, which would be the remote's address; and
    /// without its forwarding to the host, for which it takes every port inside that somebody
    /// listens at on the host.
    fn pasta(world: &World, shift: Shift) -> Result<Self> {
        let holder = Self::hold(world)?;
        let mut stack = world.as_user("pasta");
        stack.args(["--config-net", &format!("--mtu={MTU}"), "--no-map-gw", "--quiet"]);
        stack.args(["--tcp-ns=none", "--udp-ns=none"]);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let ports = PUBLISHED.into_iter().filter(|port| port.protocol == protocol);
            let maps = ports.map(|port| format!("{}:{}", shift.host(port), port.number));
            let maps = maps.collect::<Vec<_>>().join(",");
            stack.arg(format!("--{protocol}-ports={maps}"));
        }
        stack.arg(holder.pid().to_string());
        process::run(&mut stack, PATIENCE)?.success()?;
        Ok(Self::of(holder, None))
    }

    /// With the driver that is the faster one for it.
    fn rootlesskit(world: &World, shift: Shift) -> Result<Self> {
        let mut holder = world.as_user("rootlesskit");
        holder.args(["--net=slirp4netns", &format!("--mtu={MTU}"), "--disable-host-loopback"]);
        holder.arg("--port-driver=builtin");
        for port in PUBLISHED {
            holder.arg(format!("--publish={}:{}", Ipv4Addr::UNSPECIFIED, shift.map(port)));
        }
        holder.args(["sh", "-c", &format!("{}; echo ready $$; read line", same_congestion())]);
        let mut holder = process::start_interactive(&mut holder)?;
        let line = holder.line("ready", PATIENCE)?;
        let pid = line.trim_start_matches("ready").trim().parse().context(line)?;
        Ok(Self { pid, _holder: holder, _stack: None })
    }

    fn enter(&self, world: &World, program: impl AsRef<OsStr>) -> Command {
        let mut command = world.as_user("nsenter");
        command.args(["--user", "--net", "--preserve-credentials"]);
        command.arg(format!("--target={}", self.pid)).arg("--").arg(program);
        command
    }
}

/// Asks slirp4netns, at its socket `api`, to forward one port.
fn forward(api: &Path, port: Port, shift: Shift) -> Result {
    let request = json!({
        "execute": "add_hostfwd",
        "arguments": {
            "proto": port.protocol.to_string(),
            "host_addr": Ipv4Addr::UNSPECIFIED,
            "host_port": shift.host(port),
            "guest_port": port.number,
        },
    });
    let mut stream = connect(api).context(api.display())?;
    stream.write_all(request.to_string().as_bytes())?;
    // One request per connection, and it ends where this does.
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let answer: Value = serde_json::from_str(&answer)?;
    ensure!(answer.get("return").is_some(), "{request}: {answer}");
    Ok(())
}

/// It says that it is ready before it listens there.
fn connect(api: &Path) -> Result<UnixStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(api) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_not_yet) => std::thread::yield_now(),
        }
    }
}

/// A namespace starts with the machine's congestion control, not with that of the namespace
/// whose host this world plays. (On a real host the two are the same.)
fn same_congestion() -> String {
    format!("echo {CONGESTION} > /proc/sys/net/ipv4/tcp_congestion_control")
}
