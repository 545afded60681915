//! Things that are broken on a machine, and what the user is told to do about each.
//!
//! One broken thing at a time. The program must fail with its own status, or go on with less, and its
//! message must name the thing and the remedy. docs/troubleshooting.md has the same list for people.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

use test_support::harness::{Group, Scenario};
use test_support::process::{self, Finished, PATIENCE};
use test_support::requirement::Requirement;
use test_support::world::PATH;
use test_support::{Result, World, bundle, ensure};

pub(crate) const SCENARIOS: Group = (
    "broken",
    &[
        Scenario { name: "user_namespaces_are_off", requires: &[], run: user_namespaces },
        Scenario { name: "other_namespaces_are_off", requires: &[], run: other_namespaces },
        Scenario { name: "no_stack_in_path", requires: &[], run: no_stack },
        Scenario { name: "no_tun_device", requires: STACKS, run: no_tun },
        Scenario { name: "a_port_is_in_use", requires: &[], run: port_in_use },
        Scenario { name: "a_port_is_privileged", requires: &[], run: port_privileged },
        Scenario { name: "an_address_is_not_ours", requires: &[], run: port_elsewhere },
        Scenario { name: "no_supervisor_listens", requires: CRUN, run: no_supervisor },
        Scenario { name: "nobody_serves_a_profile", requires: CRUN, run: nobody_serves },
        Scenario { name: "no_runtime_in_path", requires: &[], run: no_runtime },
        Scenario { name: "no_newuidmap", requires: &[], run: no_newuidmap },
        Scenario { name: "no_runtime_directory", requires: &[], run: no_runtime_dir },
        Scenario { name: "the_socket_cannot_be_made", requires: &[], run: no_socket },
        Scenario { name: "policy_files_are_wrong", requires: &[], run: policy },
        Scenario { name: "files_cannot_be_written", requires: &[], run: files },
        Scenario { name: "no_such_program", requires: &[], run: no_program },
        Scenario { name: "one_run_within_another", requires: &[], run: nested },
        Scenario { name: "hardly_any_descriptors", requires: &[], run: descriptors },
        Scenario { name: "what_was_said_is_in_the_docs", requires: &[], run: documented },
    ],
);

const STACKS: &[Requirement] =
    &[Requirement::Program("slirp4netns"), Requirement::Program("pasta")];
const CRUN: &[Requirement] = &[Requirement::Program("crun")];

/// Our own failure; see docs/run.md.
const OWN: i32 = 125;

/// That the command ends with this status, and that what it says has all of these words.
fn told(mut command: Command, code: i32, words: &[&str]) -> Result<Finished> {
    let finished = process::run(&mut command, PATIENCE)?.expect_code(code)?;
    let said = format!("{}{}", finished.stdout, finished.stderr);
    for word in words {
        ensure!(said.contains(word), "nothing is said of `{word}`: {finished}");
    }
    Ok(finished)
}

fn run(world: &World, options: &[&str]) -> Result<Command> {
    let mut command = world.bypass(options)?;
    command.arg("true");
    Ok(command)
}

fn cli(world: &World, words: &[&str]) -> Result<Command> {
    let mut command = world.as_user(world.program("bypass-cli")?);
    command.args(words);
    Ok(command)
}

/// `run`, in a user namespace whose limit on these namespaces is 0: such a machine to those in it.
fn without(world: &World, limit: &str) -> Result<Command> {
    let mut command = world.as_user("unshare");
    command.args(["--user", "--map-root-user", "--", "sh", "-c"]);
    command.arg(format!("echo 0 > /proc/sys/user/{limit}; exec \"$0\" run -- true"));
    command.arg(world.program("bypass-cli")?);
    Ok(command)
}

fn user_namespaces(world: &World) -> Result {
    let words = ["user.max_user_namespaces is 0", "sysctl user.max_user_namespaces=15000"];
    told(without(world, "max_user_namespaces")?, OWN, &words)?;
    Ok(())
}

fn other_namespaces(world: &World) -> Result {
    for kind in ["net", "mnt", "pid"] {
        let limit = format!("max_{kind}_namespaces");
        let words = [format!("user.{limit} is 0"), format!("sysctl user.{limit}=15000")];
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let finished = told(without(world, &limit)?, OWN, &words)?;
        ensure!(!finished.stderr.contains("max_user"), "another is blamed: {finished}");
    }
    Ok(())
}

fn no_stack(world: &World) -> Result {
    for (stack, package) in [("slirp4netns", "slirp4netns"), ("pasta", "passt")] {
        let mut command = world.as_user("env");
        command.arg("PATH=/nonexistent").arg(world.program("bypass-cli")?);
        command.args(["run", "--net", stack, "--", "/bin/true"]);
        let package = format!("install it (Debian: {package})");
        told(command, OWN, &[&format!("--net {stack}"), &package, "do without --net"])?;
    }
    Ok(())
}

fn no_tun(world: &World) -> Result {
    let closed = world.directory("broken-tun")?.join("tun");
    fs::write(&closed, "")?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o600))?;
    for stack in ["slirp4netns", "pasta"] {
        let command = world.with_file(&closed, "/dev/net/tun", &run(world, &["--net", stack])?);
        told(command, OWN, &["/dev/net/tun cannot be opened", "chmod 666 /dev/net/tun"])?;
        // It is for what is not bypassed only.
    }
    let command = world.with_file(&closed, "/dev/net/tun", &run(world, &[])?);
    told(command, 0, &[])?;
    Ok(())
}

fn port_in_use(world: &World) -> Result {
    let server = world.serve_host(&["0.0.0.0:0"])?;
    let (port, next) = (server.port(), server.port());
    let words = [&format!("port {port} of"), "is in use", "ss -lnp", "publish another port"];
    let map = format!("{port}:80");
    told(run(world, &["-p", &map])?, OWN, &words)?;
    let socket = world.runtime_dir().join("broken.sock");
    let serve = cli(world, &["serve", "-p", &map, "--socket", &socket.to_string_lossy()])?;
    told(serve, OWN, &words)?;
    let range = format!("{port}-{next}:80");
    told(run(world, &["-p", &range])?, OWN, &["in use", "ss -lnp"])?;
    Ok(())
}

fn port_privileged(world: &World) -> Result {
    let words = ["host port 80 is privileged", "sysctl net.ipv4.ip_unprivileged_port_start=80"];
    told(run(world, &["-p", "80:80"])?, OWN, &words)?;
    Ok(())
}

fn port_elsewhere(world: &World) -> Result {
    let words = ["192.0.2.77 is not an address of this host", "ip address", "publish on one"];
    told(run(world, &["-p", "192.0.2.77:8080:80"])?, OWN, &words)?;
    Ok(())
}

/// A bundle for what comes before a container is made.
fn config_only(world: &World, name: &str) -> Result<PathBuf> {
    let bundle = world.directory(name)?;
    let config = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": { "args": ["true"], "cwd": "/" },
        "root": { "path": "/" },
        "linux": {},
    });
    fs::write(bundle.join("config.json"), config.to_string())?;
    Ok(bundle)
}

fn no_supervisor(world: &World) -> Result {
    let bundle = config_only(world, "broken-bundle")?;
    let mut command = cli(world, &["oci-runtime", "--runtime", "crun", "create", "--bundle"])?;
    command.arg(&bundle).arg("broken");
    let words = ["no supervisor listens on", "bypass4netns.sock", "start `bypass-cli serve`"];
    told(command, 1, &words)?;
    told(cli(world, &["doctor"])?, 0, &["none listens on", "start `bypass-cli serve`"])?;
    Ok(())
}

/// What crun says by itself, which is in the docs since no word of it is ours.
fn nobody_serves(world: &World) -> Result {
    let absent = world.runtime_dir().join("nobody.sock").to_string_lossy().into_owned();
    let mut profile = cli(world, &["profile", "--base", "allow", "--socket", &absent])?;
    let profile = process::run(&mut profile, PATIENCE)?.success()?.stdout;
    let profile = serde_json::from_str(&profile)?;
    let programs = world.programs();
    let bundle = bundle::write(world, "broken-profile", &profile, &programs, &["true"])?;
    let mut crun = world.as_user("crun");
    crun.arg("--root").arg(world.runtime_dir().join("broken-crun"));
    crun.args(["run", "--bundle"]).arg(&bundle).arg("broken-profile");
    told(crun, 1, &["open seccomp receiver: connect socket to"])?;
    Ok(())
}

fn no_runtime(world: &World) -> Result {
    let mut command = world.as_user("env");
    command.arg("PATH=/nonexistent").arg(world.program("bypass-cli")?);
    command.args(["oci-runtime", "create", "broken"]);
    told(command, 1, &["neither runc nor crun in PATH", "--runtime"])?;
    let named = cli(world, &["oci-runtime", "--runtime", "no-such-runtime", "state", "broken"])?;
    told(named, 1, &["no-such-runtime could not be started", "--runtime"])?;
    Ok(())
}

fn no_newuidmap(world: &World) -> Result {
    let mut command = world.as_user("env");
    command.arg("PATH=/nonexistent").arg(world.program("bypass-cli")?).arg("doctor");
    told(command, 0, &["newuidmap or newgidmap is not in PATH", "Debian: uidmap"])?;
    // `run` maps one id, which takes neither.
    let mut command = world.as_user("env");
    command.arg("PATH=/nonexistent").arg(world.program("bypass-cli")?);
    command.args(["run", "--map-root", "--", "/bin/true"]);
    told(command, 0, &[])?;
    Ok(())
}

fn no_runtime_dir(world: &World) -> Result {
    for words in [&["serve"][..], &["daemon"], &["profile", "--base", "allow"]] {
        let mut command = cli(world, words)?;
        command.env_remove("XDG_RUNTIME_DIR");
        let words = ["XDG_RUNTIME_DIR is not set", "log in as this user", "--socket"];
        told(command, OWN, &words)?;
    }
    let mut command = run(world, &[])?;
    command.env_remove("XDG_RUNTIME_DIR");
    told(command, 0, &[])?;
    Ok(())
}

fn no_socket(world: &World) -> Result {
    let directory = world.directory("broken-socket")?;
    let file = directory.join("file");
    fs::write(&file, "")?;
    let live = directory.join("live");
    let _live = UnixListener::bind(&live)?;
    // The ordinary user is to be able to find out that somebody listens.
    fs::set_permissions(&live, fs::Permissions::from_mode(0o777))?;
    let long = directory.join("x".repeat(120));
    for (socket, words) in [
        (&file, &["something else than a socket", "remove it"][..]),
        (&live, &["another process serves there", "end it first or choose another path"]),
        (&directory.join("missing/socket"), &["cannot listen there", "a directory that exists"]),
        (&long, &["cannot listen there", "at most 107 bytes"]),
    ] {
        told(cli(world, &["serve", "--socket", &socket.to_string_lossy()])?, OWN, words)?;
    }
    Ok(())
}

fn policy(world: &World) -> Result {
    let directory = world.directory("broken-policy")?;
    let path = directory.join("policy.toml");
    for (text, words) in [
        ("rules = [{ ", &["policy.toml:1", "not TOML"][..]),
        ("ruls = []", &["\"ruls\" is not known here", "write one of default, rules"]),
        ("rules = [{ deny = '10.1.2.3/8' }]", &["bits beyond its prefix", "write 10.0.0.0/8"]),
        ("rules = [{ deny = 'example.org' }]", &["policy.toml:1"]),
        ("default = 'maybe'", &["policy.toml:1", "allow"]),
    ] {
        fs::write(&path, text)?;
        told(run(world, &["--policy", &path.to_string_lossy()])?, OWN, words)?;
    }
    let absent = directory.join("absent").to_string_lossy().into_owned();
    told(run(world, &["--policy", &absent])?, OWN, &[&absent, "name a file that you can read"])?;
    let words = ["changes nothing", "say that the default is deny"];
    told(run(world, &["--allow", "10.0.0.0/8"])?, OWN, &words)?;
    Ok(())
}

fn files(world: &World) -> Result {
    let socket = world.runtime_dir().join("broken-files.sock");
    let socket = socket.to_string_lossy();
    let closed = "/etc/bypass-broken";
    for words in [
        &["run", "--report", closed, "--", "true"][..],
        &["run", "--audit", closed, "--", "true"],
        &["serve", "--socket", &socket, "--audit", closed],
        &["serve", "--socket", &socket, "--log-file", closed],
        &["serve", "--socket", &socket, "--pid-file", closed],
    ] {
        told(cli(world, words)?, OWN, &[closed, "a directory that you can write to"])?;
    }
    let closed = ["--ready-fd 77", "77>FILE"];
    told(cli(world, &["serve", "--socket", &socket, "--ready-fd", "77"])?, OWN, &closed)?;
    Ok(())
}

fn no_program(world: &World) -> Result {
    let mut command = world.bypass(&[])?;
    command.arg("no-such-program").env("PATH", PATH);
    told(command, 127, &["no-such-program", "no such program in PATH"])?;
    let mut command = world.bypass(&[])?;
    command.arg("/etc/passwd");
    told(command, 126, &["/etc/passwd", "make it executable"])?;
    Ok(())
}

/// The kernel has one listener for a chain of filters.
fn nested(world: &World) -> Result {
    let mut command = world.bypass(&[])?;
    command.arg(world.program("bypass-cli")?).args(["run", "--", "true"]);
    told(command, OWN, &["under a supervisor already", "leave `run` out"])?;
    Ok(())
}

fn descriptors(world: &World) -> Result {
    let mut command = world.as_user("sh");
    command.args(["-c", "ulimit -n 8; exec \"$0\" run -- true"]);
    command.arg(world.program("bypass-cli")?);
    told(command, OWN, &["ulimit"])?;
    Ok(())
}

/// What people look for when they have met a message.
fn documented(_: &World) -> Result {
    let page = include_str!("../../../docs/troubleshooting.md");
    for message in [
        "no namespaces can be made here",
        "cannot be started; install it",
        "/dev/net/tun cannot be opened",
        "is in use on the host",
        "is privileged",
        "is not an address of this host",
        "no supervisor listens on",
        "open seccomp receiver: connect socket to",
        "neither runc nor crun in PATH",
        "newuidmap or newgidmap is not in PATH",
        "XDG_RUNTIME_DIR is not set",
        "another process serves there",
        "something else than a socket",
        "cannot listen there",
        "not TOML",
        "is not known here",
        "changes nothing",
        "no such descriptor was inherited",
        "no such program in PATH",
        "under a supervisor already",
        "failed; `ulimit -a`",
    ] {
        ensure!(page.contains(message), "docs/troubleshooting.md does not have `{message}`");
    }
    Ok(())
}
