//! `bypass-cli daemon`, by the name of bypass4netnsd: the API, and containers as nerdctl starts them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use test_support::failure::Context;
use test_support::harness::{Group, Scenario};
use test_support::process::{self, PATIENCE, pid_of};
use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, REMOTE_V4};
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::LIMIT;
use crate::daemon_fixture::{Daemon, is_alive, named, wait_gone};
use crate::networks;
use crate::publish::expect_all;
use crate::repl::Repl;
use crate::serve::{CRUN, runtime_command};
use crate::serve_sessions::exec;

const RUNC: &[Requirement] = &[Requirement::Program("runc"), Requirement::Program("curl")];
const CURL: &[Requirement] = &[Requirement::Program("curl")];
const GO: &[Requirement] = &[Requirement::Built("fx-go-client"), Requirement::Program("crun")];
const UPSTREAM: &[Requirement] = &[Requirement::Built("fx-go-upstream")];

pub(crate) const SCENARIOS: Group = (
    "daemon",
    &[
        Scenario {
            name: "serves_crun_as_nerdctl_asks",
            requires: CRUN,
            run: |world| as_nerdctl(world, "crun", 8090),
        },
        Scenario {
            name: "serves_runc_as_nerdctl_asks",
            requires: RUNC,
            run: |world| as_nerdctl(world, "runc", 8091),
        },
        Scenario { name: "answers_to_the_letter", requires: CURL, run: letter },
        Scenario { name: "what_cannot_be_done_leaves_nothing", requires: CURL, run: refusals },
        Scenario { name: "containers_have_their_own_policies", requires: CRUN, run: policies },
        Scenario { name: "auto_is_the_containers_own_networks", requires: CRUN, run: own_networks },
        Scenario { name: "a_container_can_be_announced_again", requires: CRUN, run: again },
        Scenario { name: "whoever_kills_the_pid_ends_nothing", requires: CRUN, run: killed_pid },
        Scenario { name: "go_client_works_unmodified", requires: GO, run: go_client },
        Scenario { name: "upstreams_own_test_passes", requires: UPSTREAM, run: upstream },
        Scenario { name: "takes_the_flags_of_bypass4netns", requires: CRUN, run: drop_in },
    ],
);

fn as_nerdctl(world: &World, runtime: &str, port: u16) -> Result {
    let mut server = world.serve_remote(&["[::]:0"])?;
    let daemon = Daemon::start(world, &[])?;
    let id = format!("{runtime}-nerdctl");
    let status = daemon.post(&id, &[(port, 8080)])?;
    let pid = u32::try_from(status["pid"].as_u64().context("a pid")?)?;
    let at = |end: &str| world.runtime_dir().join(format!("{id}{end}"));
    ensure!(is_alive(pid), "process {pid}, of which the API told, is not there");
    ensure_eq!(fs::read_to_string(at(".pid"))?, pid.to_string(), "the pid file");
    ensure_eq!(fs::metadata(at(".sock"))?.permissions().mode() & 0o077, 0, "mode for others");
    ensure_eq!(daemon.expect("GET", "/v1/bypass", &Value::Null, 200)?, json!([status]), "list");

    let mut container = daemon.container(world, runtime, &id, "fx-client", &["repl"])?;
    let mut container = Repl::by(&mut container)?;
    let connect = format!("sequence inet connect={} send=hello recv", server.at(REMOTE_V4));
    ensure_eq!(container.succeed(&connect)?, "hello", "an echo");
    ensure_eq!(server.next_peer()?.ip(), HOST_V4, "whom the remote saw");
    container.succeed("open listener inet bind=0.0.0.0:8080 listen=5")?;
    let mut remote = Repl::remote(world)?;
    remote.succeed(&format!("sequence inet connect={HOST_V4}:{port}"))?;
    drop(container);
    let log = fs::read_to_string(at(".log"))?;
    ensure!(log.contains("attached"), "the container's log: {log}");

    daemon.delete(&id)?;
    ensure!(!is_alive(pid), "process {pid} is there after the end");
    ensure!(!at(".sock").exists() && !at(".pid").exists(), "files are left behind");
    ensure_eq!(daemon.expect("GET", "/v1/bypass", &Value::Null, 200)?, json!([]), "list");
    expect_all(&mut remote, "stream", port, &[(HOST_V4.into(), "ECONNREFUSED")])?;
    daemon.stop()
}

/// What Go's `encoding/json` would have written, byte for byte.
fn letter(world: &World) -> Result {
    let daemon = Daemon::start(world, &[])?;
    let answers = |method: &str, path: &str, body: &str, status: u16, answer: &str| -> Result {
        let (told, said) = daemon.ask(method, path, body)?;
        ensure!((told, said.as_str()) == (status, answer), "{method} {path} {body}: {told} {said}");
        Ok(())
    };
    answers("GET", "/v1/bypass", "", 200, "[]")?;
    let (status, said) = daemon.ask("POST", "/v1/bypass", r#"{"id":"l1","later":1} trailing"#)?;
    ensure_eq!(status, 201, "of {said}");
    let pid = serde_json::from_str::<Value>(&said)?["pid"].to_string();
    let own = format!(
        r#"{{"id":"l1","pid":{pid},"spec":{{"id":"l1","socketPath":"","pidFilePath":"","logFilePath":"","portMapping":null,"ignoreSubnets":null,"ignoreBind":false}}}}"#
    );
    ensure_eq!(said, own, "the answer to POST");
    answers("GET", "/v1/bypass", "", 200, &format!("[{own}]"))?;
    ensure!(world.runtime_dir().join("bypass4netns.sock").exists(), "no socket at the default");
    answers("DELETE", "/v1/bypass/l1", "", 200, "")?;
    answers("DELETE", "/v1/bypass/l1", "", 400, r#"{"message":"child l1 not found"}"#)?;
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/v2/bypass", 404),
        ("DELETE", "/v1/bypass/", 404),
        ("GET", "/v1/bypass/l1", 405),
        ("PUT", "/v1/bypass", 405),
    ] {
        let (told, said) = daemon.ask(method, path, "")?;
        ensure_eq!(told, status, "{method} {path}: {said}");
        ensure!(said.contains(r#"{"message":"#), "{method} {path}: {said}");
    }

    let com = |method: &str, path: &str, body: &str| {
        daemon.ask_at("bypass4netnsd-com.sock", method, path, body)
    };
    ensure_eq!(com("GET", "/v1/ping", r#""ping""#)?, (200, r#""pong""#.into()), "ping");
    ensure_eq!(com("GET", "/v1/interfaces", "")?, (200, "{}".into()), "no interfaces");
    let of = r#"{"containerID":"c1","interfaces":[{"name":"eth0","hwAddr":"6h7VzeLq","addresses":[{"IP":"10.4.0.53","Mask":"////AA=="}],"isLoopback":false}],"forwardingPorts":{"5201":5202}}"#;
    ensure_eq!(com("POST", "/v1/interface/c1", of)?, (200, of.into()), "told");
    ensure_eq!(com("GET", "/v1/interface/c1", "")?, (200, of.into()), "asked");
    ensure_eq!(com("GET", "/v1/interfaces", "")?, (200, format!(r#"{{"c1":{of}}}"#)), "all");
    ensure_eq!(com("DELETE", "/v1/interface/c1", "")?, (200, String::new()), "deleted");
    ensure_eq!(com("DELETE", "/v1/interface/c1", "")?, (200, String::new()), "deleted again");
    let missing = (404, r#"{"message":"not found"}"#.to_owned());
    ensure_eq!(com("GET", "/v1/interface/c1", "")?, missing, "gone");
    daemon.stop()
}

fn refusals(world: &World) -> Result {
    let _holder = world.serve_host(&["127.0.0.1:8092"])?;
    let daemon = Daemon::start(world, &[])?;
    let live = UnixListener::bind(world.runtime_dir().join("live.sock"))?;
    let files = || -> Result<Vec<String>> {
        let entries = fs::read_dir(world.runtime_dir())?;
        let mut names: Vec<String> = entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        names.sort();
        Ok(names)
    };
    let before = files()?;
    let at = |name: &str| world.runtime_dir().join(name);
    let ports = |port: Value| json!([{ "protos": ["tcp"], "parentPort": port, "childPort": 80 }]);
    for (member, value, part) in [
        ("id", json!(""), "id"),
        ("id", json!(7), "invalid type"),
        ("socketPath", json!(at("live.sock")), "another process serves there"),
        ("socketPath", json!(at("missing/s.sock")), "cannot listen there"),
        ("socketPath", json!(format!("/tmp/{}", "x".repeat(200))), "cannot listen there"),
        ("logFilePath", json!(at("missing/log")), "cannot be opened"),
        ("pidFilePath", json!(at("missing/pid")), "cannot be written"),
        ("portMapping", ports(json!(8092)), "8092"),
        ("portMapping", ports(json!(0)), "not 0"),
        ("portMapping", ports(json!(70000)), "70000"),
        ("portMapping", json!([["tcp"]]), "an object"),
        ("ignoreSubnets", json!(["10.0.0.0/99"]), "10.0.0.0/99"),
    ] {
        let mut spec = json!({ "id": "refused", "socketPath": at("refused.sock") });
        spec[member] = value;
        let answer = daemon.expect("POST", "/v1/bypass", &spec, 400)?;
        let message = answer["message"].as_str().unwrap_or_default();
        ensure!(message.contains(part), "{member}: {answer}");
        ensure_eq!(files()?, before, "files after {member}: {message}");
    }
    for (body, status) in [("", 400), ("{", 400), ("[]", 400), (&"[".repeat(60_000), 400)] {
        ensure_eq!(daemon.ask("POST", "/v1/bypass", body)?.0, status, "of a body");
    }
    let large = format!(r#"{{"id":"{}"}}"#, "x".repeat(70_000));
    ensure_eq!(daemon.ask("POST", "/v1/bypass", &large)?.0, 413, "of a large body");
    ensure_eq!(daemon.expect("GET", "/v1/bypass", &Value::Null, 200)?, json!([]), "list");
    drop(live);
    fs::remove_file(at("live.sock"))?;
    daemon.stop()
}

/// The networks of a container's own, and the policy of all, which is read anew.
fn policies(world: &World) -> Result {
    let mut server = world.serve_remote(&["[::]:0"])?;
    let file = world.directory("daemon-policy")?.join("policy.toml");
    fs::write(&file, "")?;
    let daemon = Daemon::with(world, &["--policy", file.to_str().context("UTF-8")?])?;
    let mut spec = daemon.spec("daemon-ignoring", &[]);
    spec["ignoreSubnets"] = json!(["198.18.0.7/15"]);
    daemon.expect("POST", "/v1/bypass", &spec, 201)?;
    let mut command = daemon.container(world, "crun", "daemon-ignoring", "fx-client", &["repl"])?;
    let mut ignoring = Repl::by(&mut command)?;
    let mut other = daemon.repl(world, "daemon-other", &[])?;
    let connect = format!("sequence inet connect={}", server.at(REMOTE_V4));
    let result = |container: &mut Repl| -> Result<Value> {
        Ok(container.results(&connect)?[0]["result"].clone())
    };
    // Its own namespace leads nowhere.
    ensure_eq!(result(&mut ignoring)?, "ENETUNREACH", "of what is ignored");
    ensure_eq!(result(&mut other)?, "ok", "of another container");
    server.next_peer()?;

    fs::write(&file, "rules = [{ deny = '198.18.0.0/15' }]")?;
    daemon.running.signal(Signal::HUP)?;
    daemon.running.told("read anew", PATIENCE)?;
    ensure_eq!(result(&mut other)?, "ENETUNREACH", "of a container that runs");
    let mut third = daemon.repl(world, "daemon-third", &[])?;
    ensure_eq!(result(&mut third)?, "ENETUNREACH", "of a container that came later");
    fs::write(&file, "rules = 1")?;
    daemon.running.signal(Signal::HUP)?;
    daemon.running.told("stays as it is", PATIENCE)?;
    fs::write(&file, "")?;
    daemon.running.signal(Signal::HUP)?;
    // What is announced afterwards is served after it.
    let mut fourth = daemon.repl(world, "daemon-fourth", &[])?;
    for container in [&mut other, &mut third, &mut fourth] {
        ensure_eq!(result(container)?, "ok", "under no policy again");
    }
    ensure_eq!(result(&mut ignoring)?, "ENETUNREACH", "of what is ignored");
    Ok(())
}

/// `auto` among the ignored networks, which nerdctl always names.
fn own_networks(world: &World) -> Result {
    let server = world.serve_remote(&["--quiet", "0.0.0.0:0"])?;
    let daemon = Daemon::start(world, &[])?;
    let connect = format!("sequence inet nonblocking connect={}", server.at(REMOTE_V4));
    let named = json!(["127.0.0.0/8", "10.0.2.0/24"]);
    for (id, subnets, attached) in [
        ("daemon-auto", json!(["127.0.0.0/8", "auto"]), "ENETUNREACH"),
        ("daemon-named", named, "EINPROGRESS"),
    ] {
        let mut spec = daemon.spec(id, &[]);
        spec["ignoreSubnets"] = subnets;
        daemon.expect("POST", "/v1/bypass", &spec, 201)?;
        let mut command = daemon.container(world, "crun", id, "fx-client", &["repl"])?;
        let mut client = Repl::by(&mut command)?;
        let pid = networks::pid_of(world, "crun", id)?;
        ensure_eq!(client.results(&connect)?[1]["result"], "EINPROGRESS", "{id}: before");
        // A device that is not up, so that what is left has nowhere to go.
        for words in ["link add d0 type veth peer name e0", "addr add 198.18.0.77/24 dev d0"] {
            networks::ip_in(world, pid, words)?;
        }
        ensure_eq!(client.results(&connect)?[1]["result"], attached, "{id}: attached");
        networks::ip_in(world, pid, "link del d0")?;
        ensure_eq!(client.results(&connect)?[1]["result"], "EINPROGRESS", "{id}: removed");
    }
    daemon.stop()
}

/// Whoever did not see a container end announces it anew, with the ports that it had.
fn again(world: &World) -> Result {
    let server = world.serve_remote(&["--mode", "byte", "--quiet", "[::]:0"])?;
    let daemon = Daemon::start(world, &[])?;
    let cycles = format!("cycles {} 5", server.at(REMOTE_V4));
    for round in 0..3 {
        daemon.post("again", &[(8093, 80)])?;
        let id = format!("again-{round}");
        let mut command =
            daemon.container_at(world, "crun", &id, "again.sock", "fx-client", &["repl"])?;
        Repl::by(&mut command)?.expect(&cycles, "done", 5)?;
    }
    daemon.delete("again")?;
    daemon.stop()
}

fn killed_pid(world: &World) -> Result {
    let server = world.serve_remote(&["--mode", "byte", "--quiet", "[::]:0"])?;
    let daemon = Daemon::start(world, &[])?;
    let cycles = format!("cycles {} 5", server.at(REMOTE_V4));
    let mut container = daemon.repl(world, "killed", &[])?;
    let told = |list: &Value| -> Result<u32> {
        Ok(u32::try_from(list[0]["pid"].as_u64().context("a pid")?)?)
    };
    let pid = told(&daemon.expect("GET", "/v1/bypass", &Value::Null, 200)?)?;
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        kill_process(pid_of(pid)?, signal)?;
        container.expect(&cycles, "done", 5)?;
        ensure!(is_alive(pid), "{signal:?} ended it");
    }
    kill_process(pid_of(pid)?, Signal::KILL)?;
    container.expect(&cycles, "done", 5)?;
    wait_gone(pid)?;
    let next = told(&daemon.expect("GET", "/v1/bypass", &Value::Null, 200)?)?;
    ensure!(next != pid && is_alive(next), "process {next} after {pid}");
    let file = fs::read_to_string(world.runtime_dir().join("killed.pid"))?;
    ensure_eq!(file, next.to_string(), "the pid file");
    container.expect(&cycles, "done", 5)?;
    daemon.delete("killed")?;
    wait_gone(next)?;
    daemon.stop()
}

fn go_client(world: &World) -> Result {
    let mut server = world.serve_remote(&["[::]:0"])?;
    let daemon = Daemon::start(world, &[])?;
    let go = |words: &[&str]| -> Result<process::Finished> {
        process::run(world.as_user(world.program("fx-go-client")?).args(words), PATIENCE)
    };
    let directory = world.runtime_dir();
    let directory = directory.to_str().context("UTF-8")?;
    let status = go(&["post", "go", directory, "8094", "8080"])?.success()?;
    let status: Value = serde_json::from_str(&status.stdout)?;
    let list: Value = serde_json::from_str(&go(&["list"])?.success()?.stdout)?;
    ensure_eq!(list, json!([status]), "list");
    let mut command = daemon.container(world, "crun", "go", "fx-client", &["repl"])?;
    let mut container = Repl::by(&mut command)?;
    container.succeed(&format!("sequence inet connect={}", server.at(REMOTE_V4)))?;
    ensure_eq!(server.next_peer()?.ip(), HOST_V4, "whom the remote saw");
    container.succeed("open listener inet bind=0.0.0.0:8080 listen=5")?;
    Repl::remote(world)?.succeed(&format!("sequence inet connect={HOST_V4}:8094"))?;
    drop(container);
    go(&["delete", "go"])?.success()?;
    let failed = go(&["delete", "go"])?.expect_code(1)?;
    ensure_eq!(failed.stderr.trim(), "child go not found", "what Go says of the error");

    let told = go(&["interfaces", "go"])?.success()?;
    let told: Value = serde_json::from_str(&told.stdout)?;
    ensure_eq!(told["one"], told["told"], "one container's interfaces");
    ensure_eq!(told["all"], json!({ "go": told["told"] }), "all interfaces");
    ensure_eq!(told["gone"], "not found", "what Go says of the error");
    daemon.stop()
}

/// The test of the API that bypass4netns is published with.
fn upstream(world: &World) -> Result {
    let daemon = Daemon::start(world, &[])?;
    let mut command = world.as_user(world.program("fx-go-upstream")?);
    let finished = process::run(command.arg("-test.v"), PATIENCE)?.success()?;
    for test in ["TestNerdctlAPI", "TestBypass4netnsAPI"] {
        ensure!(finished.stdout.contains(&format!("--- PASS: {test}")), "{finished}");
    }
    daemon.stop()
}

fn drop_in(world: &World) -> Result {
    let program = named(world, "bypass4netns")?;
    let run = |words: &[&str]| process::run(world.as_user(&program).args(words), PATIENCE);
    let version = run(&["--version"])?.success()?.stdout;
    ensure!(version.starts_with("bypass4netns version "), "{version}");
    let without = process::run(world.as_user(&program).env_remove("XDG_RUNTIME_DIR"), PATIENCE)?;
    ensure!(without.expect_code(2)?.stderr.contains("$XDG_RUNTIME_DIR needs to be set"), "unset");
    run(&["--no-such-flag"])?.expect_code(2)?;
    run(&["serve"])?.expect_code(1)?;

    let mut server = world.serve_remote(&["[::]:0"])?;
    let at = |name: &str| world.runtime_dir().join(name);
    let option = |name: &str, file: &str| format!("--{name}={}", at(file).display());
    fs::write(at("drop-in.log"), "of an earlier one\n")?;
    std::os::unix::fs::chown(at("drop-in.log"), Some(world.uid()), Some(world.gid()))?;
    let mut command = world.as_user(&program);
    command.args([option("pid-file", "drop-in.pid"), option("log-file", "drop-in.log")]);
    command.args(["--ready-fd=1", "--exit-fd=0", "-p=8095:8080", "--debug=false"]);
    let mut running = process::start_interactive(&mut command)?;
    running.any_output(PATIENCE)?;
    ensure_eq!(fs::read_to_string(at("drop-in.pid"))?, running.pid().to_string(), "the pid file");

    let daemon = Daemon::start(world, &[])?;
    let socket = "bypass4netns.sock";
    let mut command =
        daemon.container_at(world, "crun", "drop-in", socket, "fx-client", &["repl"])?;
    let mut container = Repl::by(&mut command)?;
    container.succeed(&format!("sequence inet connect={}", server.at(REMOTE_V4)))?;
    ensure_eq!(server.next_peer()?.ip(), HOST_V4, "whom the remote saw");
    container.succeed("open listener inet bind=0.0.0.0:8080 listen=5")?;
    Repl::remote(world)?.succeed(&format!("sequence inet connect={HOST_V4}:8095"))?;
    let session = exec(world, "drop-in", &["sequence", "inet"])?;
    process::run(&mut { session }, LIMIT)?.success()?;
    let mut kill = runtime_command(world, "crun");
    process::run(kill.args(["kill", "drop-in", "KILL"]), PATIENCE)?.success()?;
    running.told("ended", PATIENCE)?;
    // A word is no end.
    running.write(b"word")?;
    ensure!(running.is_running()?, "it ended by a word");
    running.close_input();
    let finished = running.finish(PATIENCE)?.success()?;
    let log = fs::read_to_string(at("drop-in.log"))?;
    ensure!(!log.contains("earlier") && log.contains("attached"), "the log: {log}");
    ensure!(finished.stderr.contains("attached"), "the log goes to both: {finished}");
    ensure!(!at(socket).exists() && !at("drop-in.pid").exists(), "files are left behind");
    Ok(())
}
