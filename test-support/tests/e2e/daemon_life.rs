//! How `bypass-cli daemon` begins and ends, and what it holds meanwhile.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Instant;

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use test_support::census::Census;
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE, Running, pid_of};
use test_support::requirement::Requirement;
use test_support::world::REMOTE_V4;
use test_support::{Result, World, ensure, ensure_eq, fail};

use crate::client::LIMIT;
use crate::confine::expect_confined;
use crate::daemon_fixture::{Daemon, is_alive, named, wait_gone};
use crate::leaks::{CACHED_TARGETS, soak};
use crate::serve::CRUN;
use crate::serve_sessions::exec;

const PYTHON: &[Requirement] = &[Requirement::Program("python3"), Requirement::Program("curl")];

pub(crate) const SCENARIOS: Group = (
    "daemon",
    &[
        Scenario { name: "containers_outlive_what_serves_the_api", requires: CRUN, run: outlived },
        Scenario { name: "its_supervisor_gives_up_what_it_can", requires: CRUN, run: confined },
        Scenario {
            name: "the_supervisors_end_is_the_daemons",
            requires: &[],
            run: supervisor_dies,
        },
        Scenario { name: "what_cannot_start_says_why", requires: &[], run: cannot_start },
        Scenario {
            name: "sockets_and_readiness_as_systemd_has_them",
            requires: PYTHON,
            run: systemd,
        },
        Scenario {
            name: "make_install_installs_names_and_units",
            requires: &[Requirement::Program("make")],
            run: installed,
        },
        Scenario { name: "slow_clients_hold_up_nobody", requires: &[], run: slow },
        Scenario { name: "a_hundred_idle_containers_take_little", requires: CRUN, run: hundred },
        Scenario { name: "containers_and_sessions_leave_nothing", requires: CRUN, run: cycles },
    ],
);

fn outlived(world: &World) -> Result {
    let server = world.serve_remote(&["--mode", "byte", "--quiet", "[::]:0"])?;
    let cycles = format!("cycles {} 5", server.at(REMOTE_V4));
    for (round, signal) in [Signal::TERM, Signal::KILL].into_iter().enumerate() {
        let mut daemon = Daemon::start(world, &[])?;
        let supervisor = daemon.supervisor()?;
        let id = format!("outliving-{round}");
        let mut container = daemon.repl(world, &id, &[(8096, 80)])?;
        daemon.post("idle", &[])?;
        daemon.running.signal(signal)?;
        daemon.running.wait(PATIENCE)?;
        daemon.running.told("the API is served no longer", PATIENCE)?;
        let at = |end: &str| world.runtime_dir().join(format!("{id}{end}"));
        ensure!(!world.runtime_dir().join("idle.sock").exists(), "nobody is served there");
        container.expect(&cycles, "done", 5)?;
        // Health checks go on.
        let mut session = exec(world, &id, &["cycles", &server.at(REMOTE_V4), "5"])?;
        ensure!(
            process::run(&mut session, LIMIT)?.success()?.stdout.contains(r#""done":5"#),
            "exec"
        );

        let next = Daemon::start(world, &[])?;
        let other = format!("outliving-beside-{round}");
        let mut beside = next.repl(world, &other, &[])?;
        for one in [&mut container, &mut beside] {
            one.expect(&cycles, "done", 5)?;
        }
        next.expect("DELETE", &format!("/v1/bypass/{id}"), &Value::Null, 400)?;
        drop(container);
        wait_gone(supervisor)?;
        ensure!(!at(".sock").exists(), "the socket is left behind");
        // It may start again, with its port.
        next.post(&id, &[(8096, 80)])?;
        drop(beside);
        next.stop()?;
    }
    Ok(())
}

/// What makes files and UNIX sockets is the other process.
fn confined(world: &World) -> Result {
    let daemon = Daemon::start(world, &[])?;
    expect_confined(daemon.supervisor()?, 1)?;
    let _container = daemon.repl(world, "daemon-confined", &[(8098, 80)])?;
    expect_confined(daemon.supervisor()?, 2)
}

fn supervisor_dies(world: &World) -> Result {
    let mut daemon = Daemon::start(world, &[])?;
    daemon.post("orphan", &[])?;
    kill_process(pid_of(daemon.supervisor()?)?, Signal::KILL)?;
    let status = daemon.running.wait(PATIENCE)?;
    ensure!(!status.success(), "{status}: a service manager would not start it again");
    daemon.running.told("the supervisor ended", PATIENCE)?;
    for name in ["bypass4netnsd.sock", "bypass4netnsd-com.sock", "orphan.pid"] {
        ensure!(!world.runtime_dir().join(name).exists(), "{name} is left behind");
    }
    // A socket that nobody serves is no obstacle.
    let next = Daemon::start(world, &[])?;
    next.post("orphan", &[])?;
    next.stop()
}

fn cannot_start(world: &World) -> Result {
    let daemon = Daemon::start(world, &[])?;
    let run = |options: &[&str]| {
        let mut command = world.as_user(world.program("bypass-cli")?);
        process::run(command.arg("daemon").args(options), PATIENCE)
    };
    let second = run(&[])?.expect_code(125)?;
    ensure!(second.stderr.contains("another process serves there"), "{second}");
    let at = |name: &str| world.runtime_dir().join(name).display().to_string();
    let (api, com) = (at("other.sock"), at("other-com.sock"));
    let sockets = ["--socket", &api, "--com-socket", &com];
    let wrong = run(&[&sockets[..], &["--policy", "/nonexistent"]].concat())?.expect_code(125)?;
    ensure!(wrong.stderr.contains("/nonexistent"), "{wrong}");
    ensure!(!world.runtime_dir().join("other.sock").exists(), "a socket is left behind");
    daemon.stop()
}

/// As systemd starts a service with sockets: they are there first, and it waits for a word.
fn systemd(world: &World) -> Result {
    const START: &str = "import os, socket, sys
for fd, path in enumerate(sys.argv[2:], 3):
    s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen(); n = s.detach()
    os.dup2(n, fd + 10); os.close(n)
for fd in range(3, 1 + len(sys.argv)): os.dup2(fd + 10, fd, True); os.close(fd + 10)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(sys.argv) - 2))
os.execv(sys.argv[1], [sys.argv[1]])";
    let at = |name: &str| world.runtime_dir().join(name);
    let told = UnixDatagram::bind(at("notify.sock"))?;
    std::os::unix::fs::chown(at("notify.sock"), Some(world.uid()), Some(world.gid()))?;
    told.set_read_timeout(Some(PATIENCE))?;
    let next = || -> Result<String> {
        let mut text = [0; 512];
        let len = told.recv(&mut text).context("a word to the service manager")?;
        Ok(String::from_utf8_lossy(&text[..len]).into_owned())
    };
    let start = |sockets: &[&str]| -> Result<Running> {
        let mut command = world.as_user("python3");
        command.args(["-c", START]).arg(named(world, "bypass4netnsd")?);
        command.args(sockets.iter().map(|name| at(name)));
        process::start(command.env("NOTIFY_SOCKET", at("notify.sock")))
    };
    let sockets = ["bypass4netnsd.sock", "bypass4netnsd-com.sock"];
    for passed in [&sockets[..], &[sockets[1]]] {
        let mut running = start(passed)?;
        ensure_eq!(next()?.trim(), "READY=1", "the first word");
        let mut ping = std::process::Command::new("curl");
        ping.args(["-sS", "--max-time", "10", "--unix-socket"]).arg(at(sockets[1]));
        let pong = process::run(ping.arg("http://d/v1/ping"), PATIENCE)?.success()?;
        ensure_eq!(pong.stdout, r#""pong""#, "of a socket that was passed");
        running.signal(Signal::TERM)?;
        ensure_eq!(next()?.trim(), "STOPPING=1", "the last word");
        ensure!(running.wait(PATIENCE)?.success(), "{}", running.stderr());
        // Those that were passed are the service manager's.
        for name in sockets {
            ensure_eq!(at(name).exists(), passed.contains(&name), "{name} at the end");
            let _not_there = fs::remove_file(at(name));
        }
    }
    let mut unknown = start(&["unknown.sock"])?;
    ensure!(!unknown.wait(PATIENCE)?.success(), "it started with a socket that it does not know");
    unknown.told("unknown.sock", PATIENCE)?;
    fs::remove_file(at("unknown.sock"))?;
    fs::remove_file(at("notify.sock"))?;
    Ok(())
}

fn installed(world: &World) -> Result {
    let at = world.directory("installed")?;
    let make = |target: &str| -> Result {
        let mut command = world.on_host("make");
        command.args(["--no-print-directory", "--directory", REPOSITORY, target, "PREFIX=/usr"]);
        let (to, program) = (at.display(), world.program("bypass-cli")?);
        command.arg(format!("DESTDIR={to}")).arg(format!("PROGRAM={}", program.display()));
        process::run(&mut command, PATIENCE)?.success()?;
        Ok(())
    };
    make("install-built")?;
    for name in ["bypass4netns", "bypass4netnsd"] {
        let mut command = world.as_user(at.join("usr/bin").join(name));
        let finished = process::run(command.arg("--version"), PATIENCE)?.success()?;
        ensure!(finished.stdout.starts_with(&format!("{name} version ")), "{finished}");
    }
    let units = at.join("usr/lib/systemd/user");
    let service = fs::read_to_string(units.join("bypass4netnsd.service"))?;
    for line in ["ExecStart=/usr/bin/bypass4netnsd", "Type=notify", "KillMode=mixed"] {
        ensure!(service.lines().any(|one| one == line), "no {line} in {service}");
    }
    ensure!(units.join("bypass4netnsd.socket").exists(), "no unit for the sockets");
    let share = at.join("usr/share");
    let places = [
        ("man/man1", "bypass-cli-run.1"),
        ("bash-completion/completions", "bypass-cli"),
        ("zsh/site-functions", "_bypass4netns"),
        ("fish/vendor_completions.d", "bypass4netnsd.fish"),
    ];
    for (directory, file) in places {
        ensure!(share.join(directory).join(file).exists(), "no {file} in {directory}");
    }
    make("uninstall")?;
    let emptied = places.map(|(directory, _)| share.join(directory));
    for directory in [at.join("usr/bin"), units].into_iter().chain(emptied) {
        ensure_eq!(fs::read_dir(&directory)?.count(), 0, "files in {directory:?}");
    }
    Ok(())
}

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn slow(world: &World) -> Result {
    let daemon = Daemon::start(world, &[])?;
    let connect = || -> Result<UnixStream> {
        let stream = UnixStream::connect(world.runtime_dir().join("bypass4netnsd.sock"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    };
    let begun = Instant::now();
    let mut heads = Vec::new();
    for words in [
        "",
        "GET /v1/bypass HT",
        "POST /v1/bypass HTTP/1.1\r\nHost: d\r\nContent-Length: 9\r\n\r\n{",
    ] {
        let mut stream = connect()?;
        stream.write_all(words.as_bytes())?;
        heads.push(stream);
    }
    let idle: Vec<UnixStream> = (0..80).map(|_| connect()).collect::<Result<_>>()?;
    daemon.running.told("the oldest makes room", PATIENCE)?;
    for round in 0..3 {
        daemon.post(&format!("slow-{round}"), &[])?;
        daemon.delete(&format!("slow-{round}"))?;
    }
    ensure!(begun.elapsed().as_secs() < 4, "they waited for those that idle");
    for mut stream in heads.into_iter().chain(idle) {
        let mut said = Vec::new();
        match stream.read_to_end(&mut said) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => fail!("a connection is still open: {error}"),
        }
    }
    daemon.stop()
}

/// Memory of a process that is its own, in KiB.
fn anonymous(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("a process")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("RssAnon")?;
    Ok(line.trim_end_matches(" kB").trim().parse()?)
}

fn hundred(world: &World) -> Result {
    let daemon = Daemon::start(world, &[])?;
    let processes = [daemon.running.pid(), daemon.supervisor()?];
    let memory = || processes.iter().map(|pid| anonymous(*pid)).sum::<Result<u64>>();
    let mut containers = vec![daemon.repl(world, "idle-0", &[])?];
    let first = memory()?;
    for at in 1..100 {
        containers.push(daemon.repl(world, &format!("idle-{at}"), &[])?);
    }
    let list = daemon.expect("GET", "/v1/bypass", &Value::Null, 200)?;
    ensure_eq!(list.as_array().map(Vec::len), Some(100), "containers");
    let all = memory()?;
    let each = all.saturating_sub(first) / 99;
    ensure!(first <= FIRST && each <= EACH, "{first} KiB with one, {each} for each more");
    for at in 0..100 {
        daemon.delete(&format!("idle-{at}"))?;
    }
    drop(containers);
    daemon.stop()
}

/// In KiB, beside what the program and its libraries take, which all processes share, and for a
/// program that is built without optimisation; a release takes two thirds.
const FIRST: u64 = 4096;
const EACH: u64 = 72;

fn cycles(world: &World) -> Result {
    let server = world.serve_remote(&["--mode", "byte", "--quiet", "[::]:0"])?;
    let daemon = Daemon::start(world, &[])?;
    let address = server.at(REMOTE_V4);
    let cycle = format!("cycles {address} 2");
    let pids = [daemon.running.pid(), daemon.supervisor()?];
    let mut before = None;
    // A thousand with the 20 of `make soak`.
    let rounds = if soak() == 1 { 12 } else { 50 * soak() };
    for round in 0..rounds {
        let id = format!("cycle-{round}");
        let mut container = daemon.repl(world, &id, &[(8097, 80)])?;
        container.expect(&cycle, "done", 2)?;
        let mut session = exec(world, &id, &["cycles", &address, "1"])?;
        process::run(&mut session, LIMIT)?.success()?;
        drop(container);
        daemon.delete(&id)?;
        if round == 5 {
            before = Some(Census::of_all(&pids)?.with_cache(CACHED_TARGETS));
        }
    }
    let before = before.context("there was a sixth round")?;
    let after = before.settles(&pids, PATIENCE)?;
    ensure!(after.rss_kib <= before.rss_kib + 512, "memory grew: {before:?}, then {after:?}");
    ensure_eq!(daemon.expect("GET", "/v1/bypass", &Value::Null, 200)?, json!([]), "list");
    let files: Vec<_> =
        fs::read_dir(world.runtime_dir())?.flatten().map(|e| e.file_name()).collect();
    let left = files.iter().filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("cycle-") && !name.ends_with(".log")
    });
    ensure_eq!(left.count(), 0, "files that are left: {files:?}");
    for pid in pids {
        ensure!(is_alive(pid), "process {pid} ended");
    }
    daemon.stop()
}
