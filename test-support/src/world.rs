//! The namespaces, and commands that run in one of them.

use std::env;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::User;

use crate::ensure;
use crate::failure::{Context, Result};
use crate::process::{self, PATIENCE, Running};

/// The ordinary user that rootless programs run as.
pub const USER: &str = "bypass-test";

/// `PATH` of every command in the world.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The host's address on its uplink.
pub const HOST_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The host's IPv6 address on its uplink.
pub const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, 1);
/// The remote's address.
pub const REMOTE_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// The remote's IPv6 address.
pub const REMOTE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, 2);
/// An address that never answers: the remote is its gateway and forwards nothing.
pub const SILENT_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
/// An IPv6 address that never answers.
pub const SILENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
/// An address to which the host has an `unreachable` route: connect gives EHOSTUNREACH.
pub const UNREACHABLE_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);
/// The congestion control of all that is measured: one that every kernel has and every user
/// may choose. Those that pace (some machines' default is BBR) are bounded by the timers of a
/// virtual machine, not by what carries the data.
pub const CONGESTION: &str = "reno";
/// MTU of the link between host and remote: that of Ethernet.
pub const LINK_MTU: u32 = 1500;

/// A host and a remote; see the crate's documentation.
#[derive(Debug)]
pub struct World {
    user: User,
}

impl World {
    /// Gives host and remote the congestion control that is measured with.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn set_congestion(&self) -> Result {
        let congestion = "/proc/sys/net/ipv4/tcp_congestion_control";
        fs::write(congestion, CONGESTION).context(congestion)?;
        let mut remote = self.in_remote("sh");
        remote.args(["-c", &format!("echo {CONGESTION} > {congestion}")]);
        process::run(&mut remote, PATIENCE)?.success()?;
        Ok(())
    }

    /// Makes the world; call it inside [`crate::stage::enter`] and once.
    ///
    /// # Errors
    /// When a step fails; the namespaces it was made in are of no use then.
    pub fn new() -> Result<Self> {
        let user = User::from_name(USER)?.context(format!("no user {USER}: run scripts/setup"))?;
        let world = Self { user };
        world.make_directories()?;
        world.copy_programs()?;
        own_resolver()?;
        hide_cgroup2()?;
        make_network()?;
        Ok(world)
    }

    /// Numeric id of the ordinary user.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.user.uid.as_raw()
    }

    /// Numeric id of the ordinary user's group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.user.gid.as_raw()
    }

    /// The ordinary user's `XDG_RUNTIME_DIR`.
    #[must_use]
    pub fn runtime_dir(&self) -> PathBuf {
        Path::new(ROOT).join("run")
    }

    /// A new empty directory that belongs to the ordinary user.
    ///
    /// # Errors
    /// When `name` was used before.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = Path::new(ROOT).join("home").join(name);
        self.own_directory(&path, 0o755)?;
        Ok(path)
    }

    /// Path of one of our programs, where the ordinary user may run it.
    ///
    /// # Errors
    /// When it was not built.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = Path::new(ROOT).join("bin").join(name);
        ensure!(path.exists(), "{name} is not built: `make e2e` builds it");
        Ok(path)
    }

    /// Where [`Self::program`] finds them.
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        Path::new(ROOT).join("bin")
    }

    /// `program` on the host as root.
    pub fn on_host(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", PATH).env("HOME", "/root").current_dir("/");
        command
    }

    /// `program` in the remote's network namespace as root.
    pub fn in_remote(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.on_host("nsenter");
        command.arg("--net=/run/netns/remote").arg("--").arg(program);
        command
    }

    /// `program` on the host as the ordinary user, as a fresh login would have it.
    pub fn as_user(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.on_host("setpriv");
        command
            .arg(format!("--reuid={}", self.uid()))
            .arg(format!("--regid={}", self.gid()))
            .args(["--init-groups", "--inh-caps=-all", "--"])
            .arg(program)
            .env("HOME", Path::new(ROOT).join("home"))
            .env("USER", USER)
            .env("LOGNAME", USER)
            .env("LANG", "C.UTF-8")
            // A panic of ours is to say where it came from.
            .env("RUST_BACKTRACE", "1")
            .env("XDG_RUNTIME_DIR", self.runtime_dir());
        command
    }

    /// `program` as the ordinary user in a network namespace by its name, such as `remote`.
    pub fn as_user_in(&self, namespace: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let inner = self.as_user(program);
        let mut command = self.on_host("nsenter");
        command.arg(format!("--net=/run/netns/{namespace}")).arg("--").arg(inner.get_program());
        command.args(inner.get_args());
        command.envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command
    }

    /// `bypass-cli run OPTIONS --` as the ordinary user; add the command.
    ///
    /// # Errors
    /// When it was not built.
    pub fn bypass(&self, options: &[&str]) -> Result<Command> {
        let mut command = self.as_user(self.program("bypass-cli")?);
        command.arg("run").args(options).arg("--");
        Ok(command)
    }

    /// `command`, in a mount namespace where `file` is seen in place of `over`.
    #[must_use]
    pub fn with_file(&self, file: &Path, over: &str, command: &Command) -> Command {
        let mut outer = self.on_host("unshare");
        outer
            .args(["--mount", "--", "sh", "-c", r#"mount --bind "$0" "$1"; shift; exec "$@""#])
            .arg(file)
            .arg(over)
            .arg(command.get_program())
            .args(command.get_args())
            .envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        outer
    }

    /// Starts `fx-server` on the remote and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub fn serve_remote(&self, arguments: &[&str]) -> Result<Server> {
        Server::start(self.in_remote(self.program("fx-server")?).args(arguments))
    }

    /// Starts `fx-server` on the host and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub fn serve_host(&self, arguments: &[&str]) -> Result<Server> {
        Server::start(self.on_host(self.program("fx-server")?).args(arguments))
    }

    fn make_directories(&self) -> Result {
        for path in ["/run/netns", ROOT] {
            fs::create_dir_all(path).context(path)?;
            command("mount", &format!("-t tmpfs -o mode=755 bypass-test {path}"))?;
        }
        fs::create_dir(Path::new(ROOT).join("bin"))?;
        self.own_directory(&Path::new(ROOT).join("home"), 0o755)?;
        self.own_directory(&self.runtime_dir(), 0o700)
    }

    fn own_directory(&self, path: &Path, mode: u32) -> Result {
        fs::create_dir(path).context(path.display())?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        chown(path, Some(self.uid()), Some(self.gid()))?;
        Ok(())
    }

    /// Copies what was built beside this program, since the ordinary user may not
    /// be allowed into the directory where it was built.
    fn copy_programs(&self) -> Result {
        let this = env::current_exe()?;
        let built = this.ancestors().skip(1).find(|dir| dir.join("fx-server").exists());
        let built = built.context("fx-server is not built: `make e2e` builds it")?;
        for name in PROGRAMS {
            let from = built.join(name);
            if from.exists() {
                fs::copy(&from, Path::new(ROOT).join("bin").join(name)).context(name)?;
            }
        }
        Ok(())
    }
}

/// A running `fx-server`.
#[derive(Debug)]
pub struct Server {
    running: Running,
    listening: Vec<SocketAddr>,
}

impl Server {
    fn start(command: &mut Command) -> Result<Self> {
        let mut running = process::start(command)?;
        running.line("ready", PATIENCE)?;
        let listening = parsed(&running.stdout(), "listening ");
        ensure!(!listening.is_empty(), "fx-server names no address: {}", running.stdout());
        Ok(Self { running, listening })
    }

    /// Port of its first address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.listening.first().map_or(0, SocketAddr::port)
    }

    /// Its port at another address, in the form that fixtures take.
    #[must_use]
    pub fn at(&self, address: impl Into<IpAddr>) -> String {
        SocketAddr::new(address.into(), self.port()).to_string()
    }

    /// Who has connected so far.
    #[must_use]
    pub fn peers(&self) -> Vec<SocketAddr> {
        parsed(&self.running.stdout(), "peer ")
    }

    /// Waits until a further peer has connected.
    ///
    /// # Errors
    /// When none comes.
    pub fn next_peer(&mut self) -> Result<SocketAddr> {
        let line = self.running.line("peer ", PATIENCE)?;
        let address = line.trim_start_matches("peer ");
        address.parse().context("a peer's address")
    }
}

fn parsed(output: &str, prefix: &str) -> Vec<SocketAddr> {
    output.lines().filter_map(|line| line.strip_prefix(prefix)?.parse().ok()).collect()
}

/// Runs a set-up command given as words separated by spaces.
fn command(program: &str, arguments: &str) -> Result {
    let mut command = Command::new(program);
    command.env("PATH", PATH).args(arguments.split(' '));
    process::run(&mut command, PATIENCE)?.success()?;
    Ok(())
}

/// Lets `/etc/resolv.conf` name the remote, for processes of this mount namespace.
fn own_resolver() -> Result {
    let own = Path::new(ROOT).join("resolv.conf");
    fs::write(&own, format!("nameserver {REMOTE_V4}\noptions timeout:2 attempts:1\n"))?;
    command("mount", &format!("--bind {} /etc/resolv.conf", own.display()))
}

/// crun refuses to start beside a cgroup v2 hierarchy with controllers of its own when v1
/// hierarchies are mounted too; in our mount namespace nobody misses it.
fn hide_cgroup2() -> Result {
    let hybrid = Path::new("/sys/fs/cgroup/unified/cgroup.controllers");
    if fs::read_to_string(hybrid).is_ok_and(|controllers| !controllers.trim().is_empty()) {
        command("umount", "/sys/fs/cgroup/unified")?;
    }
    Ok(())
}

fn make_network() -> Result {
    command("ip", "netns add remote")?;
    let link =
        format!("link add up0 mtu {LINK_MTU} type veth peer name up0 mtu {LINK_MTU} netns remote");
    command("ip", &link)?;
    for (flag, v4, v6) in [(None, HOST_V4, HOST_V6), (Some("-n remote "), REMOTE_V4, REMOTE_V6)] {
        let flag = flag.unwrap_or_default();
        command("ip", &format!("{flag}link set lo up"))?;
        command("ip", &format!("{flag}addr add {v4}/24 dev up0"))?;
        command("ip", &format!("{flag}addr add {v6}/64 dev up0 nodad"))?;
        command("ip", &format!("{flag}link set up0 up"))?;
    }
    command("ip", &format!("route add default via {REMOTE_V4}"))?;
    command("ip", &format!("-6 route add default via {REMOTE_V6}"))?;
    command("ip", &format!("route add unreachable {UNREACHABLE_V4}"))?;
    // Linux 6.5 and newer retry a few SYNs without backing off, on top of what TCP_SYNCNT
    // says. Without those, a connect that nobody answers ends when older kernels end it.
    let linear = "/proc/sys/net/ipv4/tcp_syn_linear_timeouts";
    if Path::new(linear).exists() {
        fs::write(linear, "0").context(linear)?;
    }
    // The tests ask for many closed UDP ports in a row, and wait for each refusal.
    for limit in ["ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"] {
        let limit = format!("/proc/sys/net/{limit}");
        fs::write(&limit, "0").context(&limit)?;
    }
    // A new namespace inherits this from the machine; the silent addresses rest on it.
    // Without a route it would answer IPv6 with an ICMP message instead of silence.
    command("ip", "-n remote -6 route add blackhole default")?;
    let silence = "--net=/run/netns/remote -- sh -c";
    let mut remote = Command::new("nsenter");
    remote.env("PATH", PATH).args(silence.split(' ')).arg(
        "echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding",
    );
    process::run(&mut remote, PATIENCE)?.success()?;
    Ok(())
}

/// Where the world keeps its files: a tmpfs that only its processes see.
const ROOT: &str = "/run/bypass-test";

/// Programs of this workspace that run in the world.
const PROGRAMS: &[&str] = &[
    "bypass-cli",
    "embed",
    "fx-server",
    "fx-client",
    "fx-dns",
    "fx-quic",
    "fx-parity",
    "fx-go-client",
    "fx-go-upstream",
    "nerdctl",
    "containerd-rootless.sh",
];
