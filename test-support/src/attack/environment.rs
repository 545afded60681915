//! What an attack is run in: containers, as they are by default and with layers switched off.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde_json::{Value, json};

use super::layer::{Layer, Off};
use crate::failure::{Context, Result};
use crate::process::{self, PATIENCE, Running};
use crate::requirement::Requirement;
use crate::{World, bundle, ensure};

/// A kind of container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Environment {
    /// `bypass-cli run` as it is by default.
    Run,
    /// `bypass-cli run --udp connected` with published TCP and UDP ports.
    Published,
    /// The same of `bypass-cli serve`, for a container that crun starts with our profile.
    Crun,
    /// The same with the profile that nerdctl uses for its own agent: eight calls are trapped, all
    /// others are allowed, those of foreign architectures among them.
    Eight,
    /// No container at all, but the ordinary user on the host: shows what an attack does where
    /// nothing stops it.
    Host,
}

/// The container ports that are published, at the same number on the host.
pub const PORT: u16 = 7010;
/// A second one, on the host's loopback only.
pub const OWN_PORT: u16 = 7011;

const PUBLISHING: &[&str] = &[
    "--publish=7010:7010",
    "--publish=7010:7010/udp",
    "--publish=127.0.0.1:7011:7011",
    "--publish=[::1]:7011:7011",
];

/// What nerdctl's profile traps.
pub const EIGHT: &[&str] =
    &["bind", "close", "connect", "setsockopt", "fcntl", "_exit", "exit_group", "getpeername"];

impl Environment {
    /// Those of the table, in its order.
    pub const ALL: [Self; 4] = [Self::Run, Self::Published, Self::Crun, Self::Eight];

    /// How the table names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Published => "run -p",
            Self::Crun => "crun",
            Self::Eight => "crun, eight",
            Self::Host => "host",
        }
    }

    /// What it takes beside what every scenario does.
    #[must_use]
    pub const fn requires(self) -> &'static [Requirement] {
        match self {
            Self::Crun | Self::Eight => {
                &[Requirement::Program("gcc"), Requirement::Program("crun")]
            }
            _ => &[Requirement::Program("gcc")],
        }
    }

    /// Whether ports are published.
    #[must_use]
    pub const fn publishes(self) -> bool {
        matches!(self, Self::Published | Self::Crun | Self::Eight)
    }

    /// Whether this layer is there at all.
    #[must_use]
    pub const fn has(self, layer: Layer) -> bool {
        match (self, layer) {
            (Self::Host, _) => false,
            (Self::Run, _) => !matches!(layer, Layer::Profile),
            (_, Layer::Udp) => false,
            (Self::Published, _) => !matches!(layer, Layer::Profile),
            // Its own namespaces keep the supervisor out of its sight, confined or not.
            (_, Layer::Landlock | Layer::Init | Layer::Confine) => false,
            (
                Self::Eight,
                Layer::FastOpen
                | Layer::IoUring
                | Layer::Mptcp
                | Layer::SourceRoutes
                | Layer::Foreign
                | Layer::Sends
                | Layer::Listen
                | Layer::Control,
            ) => false,
            (Self::Crun, Layer::Profile) => false,
            _ => true,
        }
    }

    /// Starts `arguments` in it, as the ordinary user.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(self, world: &World, arrangement: &Arrangement<'_>) -> Result<Started> {
        match self {
            Self::Run | Self::Published => {
                let mut command = arrangement.program(world)?;
                command.arg("run").args(self.options(arrangement)).arg("--");
                command.args(arrangement.arguments);
                Started::new(None, &mut command)
            }
            Self::Crun | Self::Eight => self.start_crun(world, arrangement),
            Self::Host => {
                let socket = world.runtime_dir().join("attack.sock");
                let mut serve = arrangement.program(world)?;
                serve.arg("serve").arg("--socket").arg(&socket).args([
                    "--ready-fd=1",
                    "--exit-fd=0",
                    "--confine=off",
                ]);
                let serve = ready(&mut serve)?;
                let mut command = world.as_user("sh");
                // With a descriptor that was left open.
                command.args(["-c", r#"exec "$@" 7< /etc/passwd"#, "sh"]);
                command.args(arrangement.arguments).arg(format!("supervisor={}", serve.pid()));
                Started::new(Some(serve), &mut command)
            }
        }
    }

    fn start_crun(self, world: &World, arrangement: &Arrangement<'_>) -> Result<Started> {
        let socket = world.runtime_dir().join("attack.sock");
        let options = self.options(arrangement);
        let mut serve = arrangement.program(world)?;
        serve.arg("serve").arg("--socket").arg(&socket).args(["--ready-fd=1", "--exit-fd=0"]);
        let serve = ready(serve.args(&options))?;
        let profile = if self == Self::Eight {
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                "listenerPath": socket,
                "syscalls": [{ "names": EIGHT, "action": "SCMP_ACT_NOTIFY" }],
            })
        } else {
            let mut profile = arrangement.program(world)?;
            profile.arg("profile").arg("--socket").arg(&socket);
            profile.args(&options);
            let printed = process::run(&mut profile, PATIENCE)?.success()?;
            serde_json::from_str::<Value>(&printed.stdout)?
        };
        let name = format!("attack-{}", arrangement.number);
        let bundle =
            bundle::write(world, &name, &profile, &world.programs(), arrangement.arguments)?;
        let mut crun = world.as_user("crun");
        crun.arg("--root").arg(world.runtime_dir().join("crun"));
        crun.args(["run", "--bundle"]).arg(&bundle).arg(&name);
        let mut started = Started::new(Some(serve), &mut crun)?;
        started.bundle = Some(bundle);
        Ok(started)
    }

    fn options<'a>(self, arrangement: &Arrangement<'a>) -> Vec<&'a str> {
        let mut options = arrangement.options.to_vec();
        if !matches!(self, Self::Run | Self::Published) {
            options.retain(|option| *option != "--map-root");
        }
        if self.publishes() {
            options.extend(PUBLISHING);
            options.extend(["--udp", "connected"]);
        }
        for layer in arrangement.off {
            if let Off::Options(more) = layer.off()
                && !more.iter().all(|option| options.contains(option))
            {
                options.extend(more);
            }
        }
        options
    }
}

/// Starts `serve`, and waits until it is ready.
fn ready(serve: &mut Command) -> Result<Running> {
    let serve = process::start_interactive(serve)?;
    serve.any_output(PATIENCE).map_err(|failure| failure.context(serve.stderr()))?;
    Ok(serve)
}

/// How an attack is run.
#[derive(Debug)]
pub struct Arrangement<'a> {
    /// Options for `bypass-cli`.
    pub options: &'a [&'a str],
    /// What is switched off.
    pub off: &'a [Layer],
    /// The program and its arguments.
    pub arguments: &'a [&'a str],
    /// No two runs in one world have the same.
    pub number: u32,
}

/// The build in which layers can be switched off, and what tells it which.
const WEAKENED: &str = "bypass-weakened";
const SWITCHES: &str = "BYPASS_WEAKEN";

/// Copies the build in which layers can be switched off to where the ordinary user may run it.
///
/// # Errors
/// When it was not built.
pub fn install_weakened(world: &World) -> Result {
    let this = std::env::current_exe()?;
    let built = this.ancestors().map(|directory| directory.join("weakened/debug/bypass-cli"));
    let built = built.into_iter().find(|path| path.exists());
    let built = built.context("no weakened build: `make attack` builds it")?;
    std::fs::copy(&built, world.programs().join(WEAKENED)).context(built.display())?;
    ensure!(mentions(world, WEAKENED)?, "the weakened build has no switches");
    Ok(())
}

/// The program that everybody gets must have none of the switches.
///
/// # Errors
/// When it has.
pub fn without_switches(world: &World) -> Result {
    ensure!(!mentions(world, "bypass-cli")?, "bypass-cli can be weakened by {SWITCHES}");
    Ok(())
}

fn mentions(world: &World, program: &str) -> Result<bool> {
    let bytes = std::fs::read(world.program(program)?)?;
    Ok(bytes.windows(SWITCHES.len()).any(|part| part == SWITCHES.as_bytes()))
}

impl Arrangement<'_> {
    /// `bypass-cli`, or the build in which these layers can be switched off.
    fn program(&self, world: &World) -> Result<Command> {
        let names: Vec<_> = self
            .off
            .iter()
            .filter(|layer| layer.off() == Off::Weakened)
            .map(|layer| layer.name())
            .collect();
        if names.is_empty() {
            return Ok(world.as_user(world.program("bypass-cli")?));
        }
        let mut command = world.as_user(world.program(WEAKENED)?);
        command.env(SWITCHES, names.join(","));
        Ok(command)
    }
}

/// An attack under way.
#[derive(Debug)]
pub struct Started {
    /// The attack; or what it is run by.
    pub running: Running,
    serve: Option<Running>,
    bundle: Option<PathBuf>,
}

impl Started {
    fn new(serve: Option<Running>, command: &mut Command) -> Result<Self> {
        Ok(Self { running: process::start_interactive(command)?, serve, bundle: None })
    }

    /// Whether the supervisor dies within a moment.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn loses_supervisor(&self) -> Result<bool> {
        let supervisor = self.serve.as_ref().unwrap_or(&self.running);
        supervisor.ends_within(MOMENT)
    }

    /// Whether the supervisor was killed by an attack that has ended like this.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn has_lost_supervisor(&self, status: ExitStatus) -> Result<bool> {
        match &self.serve {
            Some(serve) => serve.ends_within(MOMENT),
            None => Ok(status.signal().is_some()),
        }
    }

    /// What all of its programs have to say.
    #[must_use]
    pub fn complaints(&self) -> String {
        let serve = self.serve.as_ref().map(Running::stderr).unwrap_or_default();
        let all = self.running.stderr() + &serve;
        let grave = |line: &&str| !line.contains(" INFO ");
        all.lines().filter(grave).collect::<Vec<_>>().join("\n")
    }
}

/// Killed processes end well within it.
const MOMENT: Duration = Duration::from_millis(200);

impl Drop for Started {
    fn drop(&mut self) {
        // `serve` ends by itself, and gives its ports back.
        if let Some(serve) = &mut self.serve {
            serve.close_input();
            let _killed_otherwise = serve.wait(PATIENCE);
        }
        if let Some(bundle) = &self.bundle {
            std::fs::remove_dir_all(bundle).ok();
        }
    }
}
