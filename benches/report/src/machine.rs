//! What is measured on, and with.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

use test_support::failure::{Context, Result};
use test_support::process::{self, PATIENCE};
use test_support::requirement::find_program;
use test_support::{bypass4netns, world};

use crate::schema::Machine;

/// Describes this machine, and the programs that will be measured. `load`: the load average, if it is known
/// from a better time than this.
pub(crate) fn describe(load: Option<f64>) -> Result<Machine> {
    let now = read("/proc/loadavg")?;
    let now = now.split(' ').next().context("no load average")?.parse()?;
    let load = load.unwrap_or(now);
    let memory = read("/proc/meminfo")?;
    let memory = field(&memory, "MemTotal:").context("MemTotal")?;
    let memory: u64 = memory.trim_end_matches(" kB").trim().parse()?;
    let system = read("/etc/os-release").unwrap_or_default();
    let system = field(&system, "PRETTY_NAME=").unwrap_or_default().trim_matches('"').to_owned();
    Ok(Machine {
        model: model()?,
        cpus: available_parallelism()?.get(),
        memory: memory / 1024,
        kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        system,
        load,
        programs: programs(),
        program_size: size()?,
    })
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).context(path)
}

fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// `AMD EPYC, KVM`
fn model() -> Result<String> {
    let mut lscpu = Command::new("lscpu");
    let said = process::run(lscpu.env("LANG", "C"), PATIENCE)?.success()?.stdout;
    let names = ["Model name:", "Hypervisor vendor:"].map(|name| field(&said, name));
    Ok(names.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// The first line of what each says of its version.
fn programs() -> Vec<String> {
    let mut programs: Vec<_> =
        PROGRAMS.iter().filter_map(|(name, flag)| version(name, flag)).collect();
    if let Some(path) = bypass4netns::find() {
        programs.extend(version(&path.to_string_lossy(), "--version"));
    }
    programs
}

fn version(name: &str, flag: &str) -> Option<String> {
    find_program(name)?;
    let mut command = Command::new(name);
    command.env("PATH", world::PATH).arg(flag);
    let finished = process::run(&mut command, PATIENCE).ok()?;
    let said = [finished.stdout, finished.stderr].concat();
    let mut line = said.lines().next()?.trim_start_matches("nginx version: ").to_owned();
    for chatter in [" Copyright", " (cJSON", " sha="] {
        line.truncate(line.find(chatter).unwrap_or(line.len()));
    }
    // Debian's pasta does not know.
    if line.ends_with("unknown version") {
        let mut package = Command::new("dpkg-query");
        package.args(["--show", "--showformat=${source:Package} ${Version}"]).arg("passt");
        line = process::run(&mut package, PATIENCE).ok()?.stdout;
    }
    Some(line.trim().to_owned())
}

/// Of `bypass-cli` beside this program, which a release build has stripped of all but its symbols.
fn size() -> Result<u64> {
    let program = std::env::current_exe()?.with_file_name("bypass-cli");
    Ok(fs::metadata(&program).context(program.display())?.len())
}

const PROGRAMS: &[(&str, &str)] = &[
    ("slirp4netns", "--version"),
    ("pasta", "--version"),
    ("crun", "--version"),
    ("iptables", "--version"),
    ("iperf3", "--version"),
    ("nginx", "-v"),
    ("wrk", "-v"),
    ("redis-server", "--version"),
    ("pgbench", "--version"),
    ("gcc", "--version"),
    ("tar", "--version"),
];
