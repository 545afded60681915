//! `bypass-cli status`, `top` and the metrics, of real servers with real containers.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE};
use test_support::requirement::Requirement;
use test_support::terminal::Terminal;
use test_support::world::REMOTE_V4;
use test_support::{Result, World, ensure, ensure_eq};

use crate::daemon_fixture::Daemon;
use crate::repl::Repl;
use crate::serve::{Agent, CRUN, runtime_command};
use crate::serve_peers::keeps_strangers_out;

const SETSID: Requirement = Requirement::Program("setsid");
const CURL: Requirement = Requirement::Program("curl");

pub(crate) const SCENARIOS: Group = (
    "visibility",
    &[
        Scenario { name: "status_tells_what_serve_does", requires: CRUN, run: of_serve },
        Scenario {
            name: "status_tells_what_daemon_does",
            requires: &[Requirement::Program("crun"), CURL],
            run: of_daemon,
        },
        Scenario {
            name: "metrics_are_what_prometheus_takes",
            requires: &[Requirement::Program("crun"), CURL, Requirement::Program("promtool")],
            run: metrics,
        },
        Scenario {
            name: "queries_of_the_dashboard_are_what_prometheus_takes",
            requires: &[Requirement::Program("promtool")],
            run: dashboard,
        },
        Scenario {
            name: "only_the_user_is_told",
            requires: &[Requirement::Program("python3")],
            run: strangers,
        },
        Scenario { name: "slow_clients_hold_up_nobody", requires: CRUN, run: slow },
        Scenario {
            name: "end_of_the_teller_ends_no_container",
            requires: CRUN,
            run: teller_killed,
        },
        Scenario { name: "without_a_server_there_is_advice", requires: &[], run: nobody },
        Scenario { name: "there_is_no_socket_where_none_is_wanted", requires: &[], run: none },
        Scenario { name: "colours_are_for_terminals", requires: &[SETSID], run: colours },
        Scenario {
            name: "top_shows_containers_live",
            requires: &[Requirement::Program("crun"), SETSID],
            run: live,
        },
        Scenario { name: "top_gives_the_terminal_back", requires: &[SETSID], run: given_back },
    ],
);

/// The one of `serve`, beside its socket.
fn socket(world: &World) -> PathBuf {
    world.runtime_dir().join("bypass-status.sock")
}

fn command(world: &World, words: &[&str]) -> Result<Command> {
    let mut command = world.as_user(world.program("bypass-cli")?);
    command.args(words).arg("--socket").arg(socket(world));
    Ok(command)
}

pub(crate) fn status(world: &World) -> Result<Value> {
    let finished =
        process::run(&mut command(world, &["status", "--json"])?, PATIENCE)?.success()?;
    Ok(serde_json::from_str(&finished.stdout)?)
}

/// Asks until it is as wanted: what happens inside shows a moment later.
fn until(world: &World, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = status(world)?;
        if wanted(&status) {
            return Ok(status);
        }
        ensure!(Instant::now() < deadline, "the status is {status:#}");
    }
}

/// A container of crun that takes commands.
fn repl(world: &World, agent: &Agent, name: &str) -> Result<Repl> {
    Repl::by(&mut agent.container(world, "crun", name, "fx-client", &["repl"])?)
        .context(format!("serve said: {}", agent.running.stderr()))
}

fn of_serve(world: &World) -> Result {
    let server = world.serve_remote(&["--quiet", "[::]:0"])?;
    let agent = Agent::start(world, &["--ignore", "203.0.113.0/24"], &["-p", "8070:8080"])?;
    let idle = status(world)?;
    ensure_eq!(idle["role"], "serve", "{idle}");
    ensure_eq!(idle["pid"], agent.running.pid(), "{idle}");
    ensure_eq!(idle["containers"], Value::Array(vec![]), "containers");
    ensure!(idle["published"][0]["state"] == "reserved", "before anybody binds it: {idle}");
    for layer in ["seccomp", "not_dumpable", "no_capabilities"] {
        ensure_eq!(idle["enforced"][layer], true, "{layer}: {idle}");
    }
    let mut container = repl(world, &agent, "seen")?;
    for _ in 0..3 {
        container
            .succeed(&format!("sequence inet connect={} send=hello recv", server.at(REMOTE_V4)))?;
    }
    container.succeed("open listening inet bind=0.0.0.0:8080 listen=5")?;
    container.results("sequence inet connect=203.0.113.1:80")?;
    let seen = until(world, |status| status["published"][0]["state"] == "direct")?;
    let one = &seen["containers"][0];
    ensure_eq!(one["id"], "seen", "{seen}");
    ensure_eq!(one["reasons"]["switched"]["allowed"], 3, "{one}");
    ensure_eq!(one["reasons"]["switched"]["published"], 1, "{one}");
    ensure_eq!(one["reasons"]["left"]["ignored"], 1, "{one}");
    ensure_eq!(one["enforced"]["pin"], true, "{one}");
    ensure_eq!(one["enforced"]["own_profile"], true, "{one}");
    let page = process::run(&mut command(world, &["status"])?, PATIENCE)?.success()?.stdout;
    for part in
        ["containers: 1 now, 1 since the start", "seen", "allowed 3", "direct", "of a list only"]
    {
        ensure!(page.contains(part), "{part} is not in\n{page}");
    }
    ensure!(!page.contains('\u{1b}'), "escape sequences where there is no terminal:\n{page}");
    drop(container);
    let gone = until(world, |status| {
        status["containers"] == Value::Array(vec![])
            && status["published"][0]["state"] == "reserved"
    })?;
    ensure_eq!(gone["containers_admitted"], 1, "{gone}");
    ensure_eq!(gone["calls"]["reasons"]["switched"]["allowed"], 3, "what is past counts: {gone}");
    Ok(())
}

/// Of what was found by default; published ports are those of their container.
fn of_daemon(world: &World) -> Result {
    let server = world.serve_remote(&["--quiet", "[::]:0"])?;
    let daemon = Daemon::with(world, &["--metrics-listen", "127.0.0.1:9469"])?;
    let ask = || -> Result<Value> {
        let mut command = world.as_user(world.program("bypass-cli")?);
        let finished = process::run(command.args(["status", "--json"]), PATIENCE)?.success()?;
        Ok(serde_json::from_str(&finished.stdout)?)
    };
    ensure_eq!(ask()?["pid"], daemon.supervisor()?, "whose status it is");
    let mut container = daemon.repl(world, "of-daemon", &[(8071, 8080)])?;
    container
        .succeed(&format!("sequence inet connect={} send=hello recv", server.at(REMOTE_V4)))?;
    let seen = ask()?;
    ensure_eq!(seen["role"], "daemon", "{seen}");
    ensure_eq!(seen["containers"][0]["id"], "of-daemon", "{seen}");
    ensure_eq!(seen["containers"][0]["verdicts"]["switched"], 1, "{seen}");
    ensure_eq!(seen["published"][0]["container"], "of-daemon", "{seen}");
    // Metrics are for whoever can connect, and nothing else is.
    let fetch = |path: &str| -> Result<(String, String)> {
        let mut curl = world.on_host("curl");
        curl.args(["--silent", "--max-time", "20", "--write-out", "%{stderr}%{http_code}"]);
        let finished = process::run(curl.arg(format!("http://127.0.0.1:9469{path}")), PATIENCE)?;
        Ok((finished.stderr, finished.stdout))
    };
    let (code, text) = fetch("/metrics")?;
    ensure_eq!(code, "200", "{text}");
    let sample = r#"bypass_container_calls_total{container="of-daemon",outcome="switched",reason="allowed"} 1"#;
    ensure!(text.contains(sample), "{text}");
    ensure_eq!(fetch("/v1/status")?.0, "404", "the status over TCP");
    // The API of bypass4netnsd does not have it.
    daemon.expect("GET", "/v1/status", &Value::Null, 404)?;
    drop(container);
    daemon.delete("of-daemon")?;
    let gone = ask()?;
    ensure_eq!(gone["published"], Value::Array(vec![]), "{gone}");
    ensure_eq!(gone["calls"]["verdicts"]["switched"], 1, "{gone}");
    let path = world.runtime_dir().join("bypass4netnsd-status.sock");
    ensure!(path.exists(), "the socket");
    daemon.stop()?;
    ensure!(!path.exists(), "the socket is left behind");
    Ok(())
}

/// What a socket of ours answers to `GET /metrics`.
fn scraped(world: &World) -> Result<String> {
    let mut curl = world.as_user("curl");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "20", "--unix-socket"]);
    curl.arg(socket(world)).arg("http://bypass/metrics");
    Ok(process::run(&mut curl, PATIENCE)?.success()?.stdout)
}

fn metrics(world: &World) -> Result {
    let server = world.serve_remote(&["--quiet", "[::]:0"])?;
    let agent = Agent::start(world, &[], &["-p", "8072:8080", "-p", "127.0.0.1:8073:8080"])?;
    let mut container = repl(world, &agent, "measured")?;
    container
        .succeed(&format!("sequence inet connect={} send=hello recv", server.at(REMOTE_V4)))?;
    let text = scraped(world)?;
    for part in [
        "bypass_containers 1\n",
        r#"bypass_supervisor_confined{layer="seccomp"} 1"#,
        "bypass_connect_handling_seconds_count ",
        r#"bypass_published_port_in_use{protocol="tcp",host="127.0.0.1:8073",container_port="8080",container=""} 0"#,
    ] {
        ensure!(text.contains(part), "{part} is not in\n{text}");
    }
    let mut promtool = world.on_host("promtool");
    let finished =
        process::run_with_input(promtool.args(["check", "metrics"]), text.as_bytes(), PATIENCE)?;
    // Its advice is a failure, too.
    let finished = finished.success()?;
    ensure!(finished.stderr.is_empty() && finished.stdout.is_empty(), "promtool: {finished}");
    Ok(())
}

/// Each query becomes a rule, whose expression promtool parses.
fn dashboard(world: &World) -> Result {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/grafana/bypass.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    let mut count = 0;
    for panel in dashboard["panels"].as_array().context("panels")? {
        for target in panel["targets"].as_array().context("targets")? {
            let query = target["expr"].as_str().context("a query")?;
            let query = query.replace("$__rate_interval", "5m");
            rules += &format!("  - record: q{count}\n    expr: {}\n", Value::from(query));
            count += 1;
        }
    }
    ensure!(count > 15, "{count} queries");
    let path = world.runtime_dir().join("dashboard.yml");
    fs::write(&path, rules)?;
    let checked =
        process::run(world.on_host("promtool").args(["check", "rules"]).arg(&path), PATIENCE)?;
    let said = checked.success()?;
    ensure!(said.stdout.contains(&format!("{count} rules found")), "{said}");
    Ok(())
}

/// The directory keeps others out, and so does the socket's mode: both are opened for this.
fn strangers(world: &World) -> Result {
    const TRY: &str = "import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.settimeout(5)
try:
    s.sendall(b'GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
    print('refused' if s.recv(1) == b'' else 'heard')
except (BrokenPipeError, ConnectionResetError):
    print('refused')";
    let agent = Agent::start(world, &[], &[])?;
    let path = socket(world);
    keeps_strangers_out(world, &path, TRY)?;
    agent.running.told("the peer is user 65534", PATIENCE)?;
    status(world)?;
    drop(agent);
    // Nor is another user believed.
    let listen = "import socket, sys, time
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print('ready', flush=True); s.accept(); time.sleep(60)";
    let path = std::env::temp_dir().join("stranger.sock");
    let mut command = world.on_host("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--",
        "python3",
        "-c",
        listen,
    ]);
    let mut stranger = process::start(command.arg(&path))?;
    stranger.line("ready", PATIENCE)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
    let mut command = world.as_user(world.program("bypass-cli")?);
    command.arg("status").arg("--socket").arg(&path);
    let asked = process::run(&mut command, PATIENCE)?.expect_code(125)?;
    fs::remove_file(&path)?;
    ensure!(asked.stderr.contains("not believed"), "{asked}");
    Ok(())
}

fn slow(world: &World) -> Result {
    let server = world.serve_remote(&["--quiet", "[::]:0"])?;
    let agent = Agent::start(world, &[], &[])?;
    let mut container = repl(world, &agent, "beside")?;
    let connect = |words: &str| -> Result<UnixStream> {
        let mut stream = UnixStream::connect(socket(world))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // It may have been cut off already.
        let _unheard = stream.write_all(words.as_bytes());
        Ok(stream)
    };
    let begun = Instant::now();
    // Some say nothing, some half of it, and some do not take the answer.
    let words =
        ["", "GET /metrics HTTP/1.1\r\nHost:", "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"];
    let peers: Vec<_> =
        words.iter().cycle().take(60).map(|words| connect(words)).collect::<Result<_>>()?;
    for _ in 0..3 {
        container
            .succeed(&format!("sequence inet connect={} send=hello recv", server.at(REMOTE_V4)))?;
        status(world)?;
    }
    let took = begun.elapsed();
    ensure!(took < Duration::from_secs(8), "beside slow clients it took {took:?}");
    // Too much, or nonsense, is an error of the client.
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(60_000));
    for words in [
        &*long,
        "\0\0\0\0\r\n\r\n",
        "POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        let mut said = String::new();
        // Some are cut off before they have said all.
        let _cut_off = connect(words)?.read_to_string(&mut said);
        ensure!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{words:.20}: {said}");
    }
    // In the end all of them are gone.
    for mut peer in peers {
        let _cut_off = peer.read_to_end(&mut Vec::new());
    }
    ensure!(begun.elapsed() < Duration::from_secs(16), "a slow client is still heard");
    let seen = status(world)?;
    ensure_eq!(seen["containers"][0]["verdicts"]["switched"], 3, "{seen}");
    Ok(())
}

/// The child of `serve`.
fn teller(agent: &Agent) -> Result<u32> {
    let pid = agent.running.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    children.trim().parse().context(format!("children of {pid}: {children:?}"))
}

fn teller_killed(world: &World) -> Result {
    let server = world.serve_remote(&["--quiet", "[::]:0"])?;
    let mut agent = Agent::start(world, &[], &[])?;
    let mut container = repl(world, &agent, "goes-on")?;
    let pid = teller(&agent)?;
    let of_teller = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field =
        |name: &str| of_teller.lines().find(|line| line.starts_with(name)).unwrap_or("").to_owned();
    ensure!(field("Seccomp:").ends_with("2"), "{}", field("Seccomp:"));
    ensure!(field("CapEff:").ends_with("\t0000000000000000"), "{}", field("CapEff:"));
    ensure!(field("NoNewPrivs:").ends_with('1'), "{}", field("NoNewPrivs:"));
    rustix::process::kill_process(process::pid_of(pid)?, Signal::KILL)?;
    agent.running.told("no status is told any more", PATIENCE)?;
    let asked = process::run(&mut command(world, &["status"])?, PATIENCE)?.expect_code(125)?;
    ensure!(asked.stderr.contains("no server answers there"), "{asked}");
    container
        .succeed(&format!("sequence inet connect={} send=hello recv", server.at(REMOTE_V4)))?;
    drop(container);
    agent.running.close_input();
    agent.running.finish(PATIENCE)?.success()?;
    ensure!(!socket(world).exists(), "the socket is left behind");
    Ok(())
}

fn nobody(world: &World) -> Result {
    let mut command = world.as_user(world.program("bypass-cli")?);
    let asked = process::run(command.arg("status"), PATIENCE)?.expect_code(125)?;
    ensure!(asked.stderr.contains("nobody serves"), "{asked}");
    ensure!(asked.stderr.contains("bypass-cli serve"), "{asked}");
    let mut command = world.as_user(world.program("bypass-cli")?);
    let asked = process::run(command.arg("top"), PATIENCE)?.expect_code(125)?;
    ensure!(asked.stderr.contains("have to be a terminal"), "{asked}");
    Ok(())
}

fn none(world: &World) -> Result {
    // One that was killed may have left its own.
    let _nothing_left = fs::remove_file(socket(world));
    let mut agent = Agent::start(world, &["--status-socket", "none"], &[])?;
    ensure!(!socket(world).exists(), "there is a socket");
    ensure!(teller(&agent).is_err(), "there is a process for it");
    agent.running.close_input();
    agent.running.finish(PATIENCE)?.success()?;
    // One that others could replace.
    let open = world.directory("open")?;
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777))?;
    let mut command = world.as_user(world.program("bypass-cli")?);
    command.arg("serve").arg("--status-socket").arg(open.join("s.sock"));
    let refused = process::run(&mut command, PATIENCE)?.expect_code(125)?;
    ensure!(refused.stderr.contains("can replace files"), "{refused}");
    Ok(())
}

fn colours(world: &World) -> Result {
    let _agent = Agent::start(world, &["--confine", "off"], &[])?;
    let looked = |setting: Option<(&str, &str)>| -> Result<Terminal> {
        let mut command = command(world, &["status"])?;
        command.envs(setting);
        let mut terminal = Terminal::start(&command)?;
        terminal.shows(PATIENCE, |text| text.contains("since the start"))?;
        ensure!(terminal.wait(PATIENCE)?.success(), "status failed");
        Ok(terminal)
    };
    let coloured = looked(None)?;
    ensure!(coloured.is_coloured(), "no colours on a terminal");
    coloured.shows(PATIENCE, |text| text.contains("ALL SYSTEM CALLS"))?;
    ensure!(looked(Some(("NO_COLOR", "1")))?.is_plain(), "colours in spite of NO_COLOR");
    Ok(())
}

fn live(world: &World) -> Result {
    let server = world.serve_remote(&["--quiet", "[::]:0"])?;
    let agent = Agent::start(world, &[], &["-p", "8074:8080"])?;
    let mut first = repl(world, &agent, "alpha")?;
    let mut terminal = Terminal::start(&command(world, &["top", "--interval", "0.2"])?)?;
    terminal.shows(PATIENCE, |text| text.contains("alpha") && text.contains("tcp 0.0.0.0:8074"))?;
    ensure!(terminal.is_taken_over() && terminal.is_raw()?, "the terminal is as before");
    // One that comes while it is looked at, and does more.
    let mut second = repl(world, &agent, "beta")?;
    terminal.shows(PATIENCE, |text| text.contains("2 containers"))?;
    let connect = format!("sequence inet connect={} send=hello recv", server.at(REMOTE_V4));
    first.succeed(&connect)?;
    for _ in 0..5 {
        second.succeed(&connect)?;
    }
    let total = |text: &str, id: &str| -> Option<String> {
        let line = text.lines().find(|line| line.starts_with(id))?;
        line.split_ascii_whitespace().nth(7).map(str::to_owned)
    };
    terminal.shows(PATIENCE, |text| {
        total(text, "alpha").as_deref() == Some("1") && total(text, "beta").as_deref() == Some("5")
    })?;
    // While it goes on, there is a rate of it.
    let deadline = Instant::now() + PATIENCE;
    loop {
        second.succeed(&connect)?;
        let shown = terminal.shows(PATIENCE, |_| true)?;
        if shown.contains("per second: switched") && !shown.contains("per second: switched 0 ") {
            break;
        }
        ensure!(Instant::now() < deadline, "there is no rate:\n{shown}");
    }
    terminal.press("s")?;
    terminal.shows(PATIENCE, |text| {
        let at = |id: &str| text.find(&format!("\n{id} "));
        text.contains("order (total)") && at("beta") < at("alpha")
    })?;
    terminal.press("j")?;
    terminal.shows(PATIENCE, |text| text.contains("verdicts of"))?;
    first.succeed("open listening inet bind=0.0.0.0:8080 listen=5")?;
    terminal.shows(PATIENCE, |text| text.contains("8080  direct"))?;
    drop(second);
    terminal.shows(PATIENCE, |text| text.contains("1 containers"))?;
    // A small window has the table at least.
    terminal.resize(12, 80)?;
    terminal.shows(PATIENCE, |text| {
        // The last line is where the window ends.
        text.contains("alpha") && text.contains("q quit") && !text.contains("verdicts of")
    })?;
    terminal.resize(30, 110)?;
    terminal.shows(PATIENCE, |text| text.contains("verdicts of alpha"))?;
    // Without the server the last figures stay, and it says why.
    let pid = agent.running.pid();
    drop(agent);
    terminal.shows(PATIENCE, |text| {
        text.contains("no server answers") && text.contains(&format!("process {pid}"))
    })?;
    terminal.press("q")?;
    ensure!(terminal.wait(PATIENCE)?.success(), "top failed");
    let mut kill = runtime_command(world, "crun");
    // It may have ended with its standard input.
    let _ended = process::run(kill.args(["kill", "alpha", "KILL"]), PATIENCE)?;
    Ok(())
}

/// However it ends: by its key, by Ctrl-C, or by a signal.
fn given_back(world: &World) -> Result {
    let _agent = Agent::start(world, &[], &[])?;
    for (key, signal) in [(Some("q"), None), (Some("\u{3}"), None), (None, Some(Signal::TERM))] {
        let mut command = command(world, &["top"])?;
        command.env("NO_COLOR", "1");
        let mut terminal = Terminal::start(&command)?;
        terminal.shows(PATIENCE, |text| text.contains("0 containers"))?;
        ensure!(terminal.is_taken_over(), "no screen of its own");
        if let Some(key) = key {
            terminal.press(key)?;
        }
        if let Some(signal) = signal {
            terminal.signal(signal)?;
        }
        ensure!(terminal.wait(PATIENCE)?.success(), "{key:?} {signal:?}: top failed");
        // What it wrote last is read a moment later.
        let deadline = Instant::now() + PATIENCE;
        while terminal.is_taken_over() {
            ensure!(Instant::now() < deadline, "{key:?} {signal:?}: the screen is still its own");
            std::thread::yield_now();
        }
        ensure!(!terminal.is_raw()?, "{key:?} {signal:?}: the terminal is raw");
        ensure!(!terminal.is_coloured(), "colours in spite of NO_COLOR");
    }
    Ok(())
}
