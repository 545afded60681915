//! Where attacks take place, and what watches there.

use std::cell::Cell;
use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::canary::{BROADCAST, Canary, Hit};
use super::environment::{Arrangement, Environment, OWN_PORT, PORT, Started};
use super::layer::Layer;
use super::ports;
use super::sniffer::Sniffer;
use super::squatter::Squatter;
use super::{Attack, Goal};
use crate::failure::{Context, Result};
use crate::process::{self, PATIENCE};
use crate::sys;
use crate::world::{HOST_V4, REMOTE_V4, REMOTE_V6, SILENT_V4, SILENT_V6};
use crate::{World, ensure};

/// The world, with all that watches.
#[derive(Debug)]
pub struct Field<'a> {
    world: &'a World,
    loopback: Canary,
    uplink: Canary,
    denied: Canary,
    allowed: Canary,
    sniffer: Sniffer,
    unix: [UnixListener; 2],
    landlock: Landlock,
    runs: Cell<u32>,
    tell: Option<fn(String)>,
}

/// Addresses of the remote that the policy denies.
const DENIED_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 3);
const DENIED_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, 3);
/// A group that has a member on the host's loopback device.
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 198, 18, 7);
/// The canaries' port.
const CANARY: u16 = 7007;
/// That of the server which may be reached.
const ALLOWED: u16 = 7009;
/// The name of the abstract UNIX socket.
const ABSTRACT: &str = "bypass-canary";
/// No attack takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// What an attack has achieved, as seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// A connection was made.
    Connection,
    /// A datagram arrived.
    OneWay,
    /// A datagram arrived, and the answer to it came back.
    TwoWay,
    /// A datagram arrived that seems to come from loopback.
    FromLoopback,
    /// Packets arrived that nobody there took.
    Packets,
    /// Ports of the host are open that were not before.
    Ports(Vec<String>),
    /// The supervisor is dead.
    Killed,
    /// What nobody outside can see: its own word.
    Word(String),
}

impl Reach {
    /// For the table.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Connection => "connection".to_owned(),
            Self::OneWay => "datagrams, one way".to_owned(),
            Self::TwoWay => "datagrams, both ways".to_owned(),
            Self::FromLoopback => "datagrams from loopback".to_owned(),
            Self::Packets => "packets".to_owned(),
            Self::Ports(_) => "open port".to_owned(),
            Self::Killed => "killed".to_owned(),
            Self::Word(how) => how.clone(),
        }
    }
}

/// One run of an attack.
#[derive(Debug, Clone)]
pub struct Run {
    /// What it achieved.
    pub reach: Option<Reach>,
    /// What it says itself, address by address.
    pub said: Vec<Value>,
    /// What came in.
    pub hits: Vec<Value>,
    /// What the programs said beside.
    pub complaints: String,
}

impl<'a> Field<'a> {
    /// Gives the remote addresses that will be denied, and sets up all that watches.
    ///
    /// # Errors
    /// When a step fails.
    pub fn new(world: &'a World) -> Result<Self> {
        // Programs are to find no descriptor of ours, nor of whoever started us.
        sys::close_all_on_exec()?;
        let mut addresses = world.in_remote("sh");
        addresses.arg("-c").arg(format!(
            "ip addr replace {DENIED_V4}/24 dev up0; ip addr replace {DENIED_V6}/64 dev up0 nodad preferred_lft 0"
        ));
        process::run(&mut addresses, PATIENCE)?.success()?;
        let remote = Path::new("/run/netns/remote");
        let loopbacks = [
            at(Ipv4Addr::LOCALHOST, CANARY),
            at(Ipv4Addr::new(127, 9, 9, 9), CANARY),
            at(Ipv6Addr::LOCALHOST, CANARY),
            at(BROADCAST, CANARY),
            at(GROUP, CANARY),
        ];
        let denied = [at(DENIED_V4, CANARY), at(DENIED_V6, CANARY)];
        let allowed = [at(REMOTE_V4, ALLOWED), at(REMOTE_V6, ALLOWED)];
        let name = std::os::unix::net::SocketAddr::from_abstract_name(ABSTRACT)?;
        let path = unix_path(world);
        std::fs::remove_file(&path).ok();
        let unix = [UnixListener::bind_addr(&name)?, UnixListener::bind(&path)?];
        std::fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        for listener in &unix {
            listener.set_nonblocking(true)?;
        }
        Ok(Self {
            world,
            loopback: Canary::open(None, &loopbacks)?,
            uplink: Canary::open(None, &[at(HOST_V4, CANARY)])?,
            denied: Canary::open(Some(remote), &denied)?,
            allowed: Canary::open(Some(remote), &allowed)?,
            sniffer: Sniffer::open(remote, &denied.map(|at| at.ip()))?,
            unix,
            landlock: Landlock::of(world)?,
            runs: Cell::new(0),
            tell: None,
        })
    }

    /// Has each run told to somebody.
    #[must_use]
    pub fn telling(self, tell: fn(String)) -> Self {
        Self { tell: Some(tell), ..self }
    }

    /// Whether this layer is there at all: in the environment, and in the kernel.
    #[must_use]
    pub fn has(&self, attack: &Attack, environment: Environment, layer: Layer) -> bool {
        environment.has(layer) && (layer != Layer::Landlock || self.landlock(attack))
    }

    /// Whether the running kernel has what Landlock does about an attack like this.
    #[must_use]
    pub fn landlock(&self, attack: &Attack) -> bool {
        if attack.goal == Goal::Kill { self.landlock.signals } else { self.landlock.tcp }
    }

    /// Runs an attack with these layers switched off.
    ///
    /// # Errors
    /// When it cannot be run; not when it achieves nothing.
    pub fn run(&self, attack: &Attack, environment: Environment, off: &[Layer]) -> Result<Run> {
        let number = self.runs.get() + 1;
        self.runs.set(number);
        let token = format!("token-{number}");
        let program = self.world.program(attack.program)?;
        let words = self.words(attack, environment, &token);
        let mut arguments = vec![program.to_str().context("a path in UTF-8")?];
        arguments.extend(words.iter().map(String::as_str));
        let deny = format!("--deny={DENIED_V4},{DENIED_V6}");
        let denies = attack.goal == Goal::Denied && !off.contains(&Layer::Policy);
        let mut options = attack.options.to_vec();
        options.extend(denies.then_some(deny.as_str()));
        let arrangement = Arrangement { options: &options, off, arguments: &arguments, number };

        // What is late from the run before is not of this one.
        self.hits(attack.goal)?;
        let expected = [PORT, OWN_PORT];
        let before = ports::open(&expected)?;
        let mut started = environment.start(self.world, &arrangement)?;
        let (mut held, mut squatter) = (None, None);
        // Until it has said everything; each time it is our turn.
        while started.running.line("hold", LIMIT).is_ok() {
            if attack.goal == Goal::Taken {
                squatter = Some(Squatter::start(at(Ipv4Addr::LOCALHOST, OWN_PORT)));
            } else {
                held = held.or(look(&started, attack.goal, &before, &expected)?);
            }
            // The dead do not read.
            started.running.write(b"\n").ok();
        }
        started.running.close_input();
        let status = started.running.wait(LIMIT).context(attack.program)?;
        if attack.goal == Goal::Kill && started.has_lost_supervisor(status)? {
            held = Some(Reach::Killed);
        }
        let (complaints, said) = (started.complaints(), started.running.stdout());
        drop(started);

        let said: Vec<Value> =
            said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        // One that never ran was stopped by nothing.
        ensure!(!said.is_empty(), "{} did not run: {complaints}", attack.program);
        let hits = self.hits(attack.goal)?;
        let heard = squatter.is_some_and(|one| one.heard().contains(&token));
        let reach = held
            .or_else(|| heard.then_some(Reach::Connection))
            .or_else(|| reach(attack.goal, &hits, &token))
            .or_else(|| self.other_reach(attack.goal, &said, &token));
        let hits = hits.iter().map(Hit::json).collect();
        let run = Run { reach, said, hits, complaints };
        if let Some(tell) = self.tell {
            let off: Vec<_> = off.iter().map(|layer| layer.name()).collect();
            let (attack, environment) = (attack.program, environment.name());
            tell(format!("{attack} in {environment} without {off:?}: {}", run.json()));
        }
        Ok(run)
    }

    fn words(&self, attack: &Attack, environment: Environment, token: &str) -> Vec<String> {
        let mut words = vec![format!("token={token}")];
        for (name, address) in [
            ("remote4", at(REMOTE_V4, ALLOWED)),
            ("remote6", at(REMOTE_V6, ALLOWED)),
            ("closed4", at(REMOTE_V4, 1)),
            ("closed6", at(REMOTE_V6, 1)),
            ("silent4", at(SILENT_V4, 9)),
            ("silent6", at(SILENT_V6, 9)),
            ("own4", at(Ipv4Addr::LOCALHOST, OWN_PORT)),
            ("own6", at(Ipv6Addr::LOCALHOST, OWN_PORT)),
        ] {
            words.push(format!("{name}={address}"));
        }
        words.push(format!("path={}", unix_path(self.world).display()));
        if environment.publishes() {
            words.push(format!("port={PORT}"));
        }
        if environment == Environment::Host {
            words.push("native=yes".to_owned());
        }
        // A race takes its time; whether the address is of IPv4 or IPv6 makes no difference to it.
        let count = if attack.races { 1 } else { usize::MAX };
        words.extend(targets(attack.goal).iter().take(count).map(|to| format!("to={to}")));
        words
    }

    /// What has come in where those with this goal are not to get.
    fn hits(&self, goal: Goal) -> Result<Vec<Hit>> {
        let (_, loopback) = (self.allowed.hits()?, self.loopback.hits()?);
        let (uplink, denied) = (self.uplink.hits()?, self.denied.hits()?);
        Ok(match goal {
            Goal::Denied => denied,
            Goal::FromLoopback => uplink,
            _ => loopback,
        })
    }

    /// What is seen in other ways, or not at all.
    fn other_reach(&self, goal: Goal, said: &[Value], token: &str) -> Option<Reach> {
        let packets = self.sniffer.packets(token);
        let connected = self.unix.iter().any(|listener| listener.accept().is_ok());
        match goal {
            Goal::Denied if packets > 0 => Some(Reach::Packets),
            Goal::Unix if connected => Some(Reach::Connection),
            Goal::Theft => said
                .iter()
                .find(|said| said.get("outcome").is_some_and(|outcome| outcome == "reached"))
                .map(|said| Reach::Word(word(said, "why").to_owned())),
            _ => None,
        }
    }
}

impl Run {
    /// Why it achieved nothing, as far as it can tell.
    #[must_use]
    pub fn excuse(&self) -> String {
        let failed =
            self.said.iter().find(|said| !["reached", "hold"].contains(&word(said, "outcome")));
        failed.map_or_else(
            || "it says nothing".to_owned(),
            |said| format!("{} {}", word(said, "outcome"), word(said, "why")).trim().to_owned(),
        )
    }

    /// For people.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "reach": self.reach.as_ref().map(Reach::words),
            "said": self.said,
            "hits": self.hits,
            "complaints": self.complaints,
        })
    }
}

fn word<'a>(said: &'a Value, key: &str) -> &'a str {
    said.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn at(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(ip.into(), port)
}

/// What Landlock does in the running kernel.
#[derive(Debug, Clone, Copy)]
struct Landlock {
    /// Since 6.7.
    tcp: bool,
    /// Since 6.12.
    signals: bool,
}

impl Landlock {
    fn of(world: &World) -> Result<Self> {
        let mut command = world.bypass(&["--report", "-"])?;
        let finished = process::run(command.arg("true"), PATIENCE)?.success()?;
        let report: Value = serde_json::from_str(&finished.stderr)?;
        let enforced = |what| report.pointer(what).is_some_and(|state: &Value| state == "enforced");
        Ok(Self { tcp: enforced("/enforced/landlock"), signals: enforced("/enforced/signals") })
    }
}

fn unix_path(world: &World) -> PathBuf {
    world.runtime_dir().join("canary.sock")
}

/// Looks at the host while an attack holds what it has.
fn look(
    started: &Started,
    goal: Goal,
    before: &[String],
    expected: &[u16],
) -> Result<Option<Reach>> {
    if goal == Goal::Kill {
        return Ok(started.loses_supervisor()?.then_some(Reach::Killed));
    }
    let mut open = ports::open(expected)?;
    open.retain(|port| !before.contains(port));
    Ok((!open.is_empty()).then_some(Reach::Ports(open)))
}

/// What came from this attack, the worst of it.
fn reach(goal: Goal, hits: &[Hit], token: &str) -> Option<Reach> {
    let datagrams = || {
        hits.iter().filter_map(|hit| match hit {
            Hit::Datagram(_, said, from) if said == token => Some(from.ip()),
            _ => None,
        })
    };
    if goal == Goal::FromLoopback {
        return datagrams().any(|from| from.is_loopback()).then_some(Reach::FromLoopback);
    }
    if goal == Goal::Answers {
        return hits.iter().any(|hit| matches!(hit, Hit::Answer(_))).then_some(Reach::TwoWay);
    }
    if hits.iter().any(|hit| matches!(hit, Hit::Connection(_))) {
        Some(Reach::Connection)
    } else if hits.iter().any(|hit| matches!(hit, Hit::Answer(_))) {
        Some(Reach::TwoWay)
    } else {
        datagrams().next().map(|_from| Reach::OneWay)
    }
}

/// The addresses that an attack is told to reach.
fn targets(goal: Goal) -> Vec<String> {
    let canary = |host: &str| format!("{host}:{CANARY}");
    match goal {
        Goal::Loopback | Goal::Answers => vec![canary("127.0.0.1"), canary("[::1]")],
        Goal::EverySpelling => [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:0.0.0.0]",
        ]
        .map(canary)
        .to_vec(),
        Goal::Denied => {
            [at(DENIED_V4, CANARY), at(DENIED_V6, CANARY)].map(|to| to.to_string()).to_vec()
        }
        Goal::Broadcast => vec![at(BROADCAST, CANARY).to_string()],
        Goal::Multicast => vec![at(GROUP, CANARY).to_string()],
        Goal::FromLoopback => vec![at(HOST_V4, CANARY).to_string()],
        Goal::Port => vec!["0.0.0.0:7020".to_owned(), "[::]:7020".to_owned()],
        // They go elsewhere.
        Goal::Taken | Goal::Unix | Goal::Theft | Goal::Kill => vec![canary("127.0.0.1")],
    }
}
