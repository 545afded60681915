//! Where attacks take place, and what watches there.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::canary::{Canary, Hit};
use super::environment::{Arrangement, Environment, OWN_PORT, PORT};
use super::layer::Layer;
use super::{Attack, Goal};
use crate::World;
use crate::failure::{Context, Result};
use crate::process::{self, PATIENCE};
use crate::world::{REMOTE_V4, REMOTE_V6, SILENT_V4, SILENT_V6};

/// The world, with canaries.
#[derive(Debug)]
pub struct Field<'a> {
    world: &'a World,
    loopback: Canary,
    denied: Canary,
    allowed: Canary,
    runs: Cell<u32>,
}

/// Addresses of the remote that the policy denies.
const DENIED_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 3);
const DENIED_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, 3);
/// The canaries' port.
const CANARY: u16 = 7007;
/// That of the server which may be reached.
const ALLOWED: u16 = 7009;
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
    /// Ports of the host are open that were not before.
    Ports(Vec<String>),
}

impl Reach {
    /// For the table.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Connection => "connection".to_owned(),
            Self::OneWay => "datagrams, one way".to_owned(),
            Self::TwoWay => "datagrams, both ways".to_owned(),
            Self::Ports(_) => "open port".to_owned(),
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
    /// Gives the remote addresses that will be denied, and sets the canaries up.
    ///
    /// # Errors
    /// When a step fails.
    pub fn new(world: &'a World) -> Result<Self> {
        let mut addresses = world.in_remote("sh");
        addresses.arg("-c").arg(format!(
            "ip addr add {DENIED_V4}/24 dev up0; ip addr add {DENIED_V6}/64 dev up0 nodad"
        ));
        process::run(&mut addresses, PATIENCE)?.success()?;
        let remote = Some(Path::new("/run/netns/remote"));
        let at = |ip: IpAddr, port: u16| SocketAddr::new(ip, port);
        let loopbacks = [
            at(Ipv4Addr::LOCALHOST.into(), CANARY),
            at(Ipv4Addr::new(127, 9, 9, 9).into(), CANARY),
            at(Ipv6Addr::LOCALHOST.into(), CANARY),
        ];
        let denied = [at(DENIED_V4.into(), CANARY), at(DENIED_V6.into(), CANARY)];
        let allowed = [at(REMOTE_V4.into(), ALLOWED), at(REMOTE_V6.into(), ALLOWED)];
        Ok(Self {
            world,
            loopback: Canary::open(None, &loopbacks)?,
            denied: Canary::open(remote, &denied)?,
            allowed: Canary::open(remote, &allowed)?,
            runs: Cell::new(0),
        })
    }

    /// Runs an attack with these layers switched off.
    ///
    /// # Errors
    /// When it cannot be run; not when it achieves nothing.
    pub fn run(&self, attack: &Attack, environment: Environment, off: &[Layer]) -> Result<Run> {
        let number = self.runs.get() + 1;
        self.runs.set(number);
        // What is late from the run before is not of this one.
        self.hits()?;
        let token = format!("token-{number}");
        let program = self.world.program(attack.program)?;
        let mut words = vec![
            format!("token={token}"),
            format!("remote4={}", at(REMOTE_V4.into(), ALLOWED)),
            format!("remote6={}", at(REMOTE_V6.into(), ALLOWED)),
            format!("closed4={}", at(REMOTE_V4.into(), 1)),
            format!("closed6={}", at(REMOTE_V6.into(), 1)),
            format!("silent4={}", at(SILENT_V4.into(), 9)),
            format!("silent6={}", at(SILENT_V6.into(), 9)),
            format!("own4={}", at(Ipv4Addr::LOCALHOST.into(), OWN_PORT)),
            format!("own6={}", at(Ipv6Addr::LOCALHOST.into(), OWN_PORT)),
        ];
        if environment.publishes() {
            words.push(format!("port={PORT}"));
        }
        if environment == Environment::Host {
            words.push("native=yes".to_owned());
        }
        words.extend(targets(attack.goal).iter().map(|to| format!("to={to}")));
        let mut arguments = vec![program.to_str().context("a path in UTF-8")?];
        arguments.extend(words.iter().map(String::as_str));
        let deny = format!("--deny={DENIED_V4},{DENIED_V6}");
        let denies = attack.goal == Goal::Denied && !off.contains(&Layer::Policy);
        let options: &[&str] = if denies { &[deny.as_str()] } else { &[] };
        let arrangement = Arrangement { options, off, arguments: &arguments, number };
        let before = open_ports()?;
        let mut started = environment.start(self.world, &arrangement)?;
        let mut ports = Vec::new();
        if attack.goal == Goal::Port {
            // Once for each address.
            while started.running.line("hold", LIMIT).is_ok() {
                ports.extend(open_ports()?.into_iter().filter(|port| !before.contains(port)));
                started.running.write(b"\n")?;
            }
        }
        started.running.close_input();
        started.running.wait(LIMIT).context(attack.program)?;
        let complaints = started.complaints();
        let said = started.running.stdout();
        let said: Vec<Value> =
            said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        drop(started);
        let (loopback, denied) = self.hits()?;
        let hits = if attack.goal == Goal::Denied { denied } else { loopback };
        let reach = match reach(&hits, &token) {
            None if !ports.is_empty() => Some(Reach::Ports(ports)),
            reach => reach,
        };
        let run = Run { reach, said, hits: hits.iter().map(Hit::json).collect(), complaints };
        if std::env::var_os("ATTACK_VERBOSE").is_some() {
            let off: Vec<_> = off.iter().map(|layer| layer.name()).collect();
            eprintln!(
                "  {} {} without {off:?}: {}",
                attack.program,
                environment.name(),
                run.json()
            );
        }
        Ok(run)
    }

    /// Of the host's loopback, and of the denied addresses.
    fn hits(&self) -> Result<(Vec<Hit>, Vec<Hit>)> {
        self.allowed.hits()?;
        Ok((self.loopback.hits()?, self.denied.hits()?))
    }
}

impl Run {
    /// Why it achieved nothing, as far as it can tell.
    #[must_use]
    pub fn excuse(&self) -> String {
        let whys: Vec<_> = self
            .said
            .iter()
            .filter(|said| said.get("outcome").is_some_and(|outcome| outcome != "reached"))
            .map(|said| {
                let word = |key| said.get(key).and_then(Value::as_str).unwrap_or_default();
                format!("{} {}", word("outcome"), word("why"))
            })
            .collect();
        whys.first().map_or_else(|| "it says nothing".to_owned(), |why| why.trim().to_owned())
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

fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

/// What came from this attack, the worst of it.
fn reach(hits: &[Hit], token: &str) -> Option<Reach> {
    let any = |wanted: fn(&Hit) -> bool| hits.iter().any(wanted);
    if any(|hit| matches!(hit, Hit::Connection(_))) {
        Some(Reach::Connection)
    } else if any(|hit| matches!(hit, Hit::Answer(_))) {
        Some(Reach::TwoWay)
    } else if hits.iter().any(|hit| matches!(hit, Hit::Datagram(_, said) if said == token)) {
        Some(Reach::OneWay)
    } else {
        None
    }
}

/// TCP sockets that listen in this namespace, as the kernel lists them, but for the published ports.
fn open_ports() -> Result<Vec<String>> {
    let mut ports = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table)?.lines() {
            let fields: Vec<_> = line.split_whitespace().collect();
            if let [_, local, _, "0A", ..] = fields.as_slice()
                && let Some((_, port)) = local.rsplit_once(':')
                && ![PORT, OWN_PORT].contains(&u16::from_str_radix(port, 16)?)
            {
                ports.push(format!("{table} {local}"));
            }
        }
    }
    Ok(ports)
}

fn targets(goal: Goal) -> Vec<String> {
    let canary = |host: &str| format!("{host}:{CANARY}");
    match goal {
        Goal::Loopback => vec![canary("127.0.0.1"), canary("[::1]")],
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
            vec![at(DENIED_V4.into(), CANARY).to_string(), at(DENIED_V6.into(), CANARY).to_string()]
        }
        Goal::Port => vec!["0.0.0.0:7020".to_owned(), "[::]:7020".to_owned()],
    }
}
