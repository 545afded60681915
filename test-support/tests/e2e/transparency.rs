//! What a program cannot tell: the same calls natively and inside, call by call.
//!
//! `docs/transparency.md` names these, row by row.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use test_support::harness::{Group, Scenario};
use test_support::process;
use test_support::requirement::Requirement;
use test_support::world::{REMOTE_V4, REMOTE_V6, SILENT_V4, Server, UNREACHABLE_V4};
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::{LIMIT, Sequence, counted, reported};
use crate::inside::Inside;
use crate::serve::{Agent, CRUN};

pub(crate) const SCENARIOS: Group = (
    "transparency",
    &[
        Scenario { name: "duplicates_are_one_socket", requires: &[], run: duplicates },
        Scenario {
            name: "duplicates_of_a_server_are_one_socket",
            requires: &[],
            run: published_duplicates,
        },
        Scenario {
            name: "a_socket_that_a_child_has_is_left_as_one",
            requires: &[Requirement::Program("slirp4netns"), Requirement::Tun],
            run: shared,
        },
        Scenario { name: "epolls_follow_the_socket", requires: &[], run: epolls },
        Scenario { name: "an_epoll_of_another_process_follows_it", requires: &[], run: beside },
        Scenario {
            name: "epolls_are_found_where_no_filter_tells_of_them",
            requires: CRUN,
            run: untold,
        },
        Scenario {
            name: "interrupted_connects_say_so",
            requires: PYTHON,
            run: |world| calls(world, &["interrupted"]),
        },
        Scenario {
            name: "restarted_connects_end_as_natively",
            requires: PYTHON,
            run: |world| calls(world, &["restarted"]),
        },
        Scenario {
            name: "timers_fail_no_connect",
            requires: PYTHON,
            run: |world| calls(world, &["stormed"]),
        },
        Scenario {
            name: "stopped_connects_go_on",
            requires: PYTHON,
            run: |world| calls(world, &["stopped"]),
        },
        Scenario {
            name: "threads_wait_each_for_its_own",
            requires: PYTHON,
            run: |world| calls(world, &["in_threads"]),
        },
        Scenario {
            name: "connects_in_progress_say_so",
            requires: PYTHON,
            run: |world| calls(world, &["in_progress"]),
        },
        Scenario {
            name: "failed_connects_can_be_made_again",
            requires: PYTHON,
            run: |world| calls(world, &["failed"]),
        },
        Scenario {
            name: "readiness_is_the_same_at_each_step",
            requires: PYTHON,
            run: |world| calls(world, &["at_each_step"]),
        },
        Scenario {
            name: "connections_are_closed_by_halves",
            requires: PYTHON,
            run: |world| calls(world, &["half_closed"]),
        },
        Scenario {
            name: "fast_open_connects_later",
            requires: PYTHON,
            run: |world| calls(world, &["fast_open"]),
        },
        Scenario {
            name: "a_chosen_source_port_is_kept",
            requires: PYTHON,
            run: |world| calls(world, &["bound"]),
        },
        Scenario {
            name: "free_bind_and_transparent_are_as_they_were",
            requires: PYTHON,
            run: |world| calls(world, &["free_bind"]),
        },
        Scenario {
            name: "what_cannot_be_dumped_is_served",
            requires: PYTHON,
            run: |world| calls(world, &["undumpable"]),
        },
        Scenario {
            name: "filters_of_its_own_change_nothing",
            requires: PYTHON,
            run: |world| calls(world, &["filtered"]),
        },
        Scenario {
            name: "spawned_programs_connect",
            requires: PYTHON,
            run: |world| calls(world, &["spawned"]),
        },
        Scenario {
            name: "executing_ends_the_waits_of_threads",
            requires: PYTHON,
            run: |world| calls(world, &["executed"]),
        },
        Scenario { name: "a_second_listener_is_refused", requires: PYTHON, run: listener },
        Scenario { name: "a_table_may_be_shared", requires: &[], run: shared_tables },
        Scenario {
            name: "traced_programs_connect",
            requires: &[
                Requirement::Program("python3"),
                Requirement::Program("strace"),
                Requirement::Program("gdb"),
            ],
            run: traced,
        },
        Scenario { name: "what_cannot_be_kept_is_left", requires: PYTHON, run: left },
        Scenario { name: "differences_are_those_that_are_known", requires: PYTHON, run: known },
        Scenario { name: "the_table_names_tests_that_exist", requires: &[], run: table },
        Scenario {
            name: "a_socket_in_flight_is_parted_and_counted",
            requires: &[],
            run: in_flight,
        },
        Scenario {
            name: "starting_programs_meanwhile_shares_nothing",
            requires: PYTHON,
            run: spawning,
        },
    ],
);

const PYTHON: &[Requirement] = &[Requirement::Program("python3")];

/// Runs each template natively and inside, with both families where it has no address of one.
fn all_as_natively(world: &World, templates: &[&str], options: &[&str]) -> Result {
    as_natively(world, &["inet", "inet6"], templates, options)
}

fn as_natively(world: &World, families: &[&str], templates: &[&str], options: &[&str]) -> Result {
    let echo = world.serve_remote(&["--quiet", "[::]:0"])?;
    let reset = world.serve_remote(&["--quiet", "--mode", "reset", "[::]:0"])?;
    let mut wrong = Vec::new();
    for template in templates {
        for family in families.iter().copied() {
            let remote = if family == "inet" { IpAddr::from(REMOTE_V4) } else { REMOTE_V6.into() };
            if family == "inet6" && (template.contains("SILENT") || template.contains("NOROUTE")) {
                continue;
            }
            let steps = template
                .replace("ECHO", &echo.at(remote))
                .replace("RESET", &reset.at(remote))
                .replace("CLOSED", &SocketAddr::new(remote, 1).to_string())
                .replace("SILENT", &format!("{SILENT_V4}:9"))
                .replace("NOROUTE", &format!("{UNREACHABLE_V4}:9"));
            let sequence = Sequence { family, steps: &steps };
            if let Err(difference) = sequence.same_as_native(world, options) {
                wrong.push(format!("{template} ({family}): {difference}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{} sequences differ\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// One run, of which the report is looked at as well.
fn run(world: &World, options: &[&str], steps: &str) -> Result<(Vec<Value>, Value)> {
    let mut words = vec!["sequence", "inet"];
    words.extend(steps.split(' '));
    let (steps, report) = reported(world, options, &words)?;
    Ok((crate::client::steps(steps)?, report))
}

fn value<'a>(steps: &'a [Value], name: &str) -> &'a Value {
    steps.iter().find(|step| step["step"] == name).map_or(&Value::Null, |step| &step["value"])
}

/// Descriptors of one process, before and after.
const DUPLICATES: &[&str] = &[
    "dup connect=ECHO same peer send=hello recv swap peer send=x recv",
    "dup dup dup swap connect=ECHO same drop same peer",
    "dup cloexec connect=ECHO flags swap flags",
    "dup swap cloexec connect=ECHO flags swap flags",
    "dup nonblocking connect=ECHO wait same swap peer flags",
    "dup connect=CLOSED same swap connect=ECHO same peer",
    "nonblocking dup connect=CLOSED wait same connect=ECHO wait same peer swap peer",
    "connect=ECHO dup unspec same swap connect=ECHO same peer swap peer",
    "dup listen=1 same swap connect=ECHO",
    "nonblocking ep:new ep:add=out+et dup connect=ECHO ep:wait same swap drop ep:poll",
    "nonblocking dup ep:new ep:add=out connect=ECHO ep:wait swap ep:add=out ep:wait same",
    "nonblocking ep:new ep:add=out dup ep:add=out swap connect=ECHO wait ep:poll ep:del ep:poll",
];

fn duplicates(world: &World) -> Result {
    all_as_natively(world, DUPLICATES, &[])?;
    let server = world.serve_remote(&["--quiet", "[::]:0"])?;
    let (steps, report) = run(world, &[], &format!("dup connect={} same", server.at(REMOTE_V4)))?;
    ensure_eq!(value(&steps, "same"), &Value::Bool(true), "{steps:?}");
    ensure_eq!(counted(&report, "switched"), Some(1), "switched: {report}");
    ensure_eq!(counted(&report, "parted"), Some(0), "parted: {report}");
    Ok(())
}

fn published_duplicates(world: &World) -> Result {
    let mut inside = Inside::start(world, &["-p", "8079:8080"])?;
    let steps =
        inside.client(world, "inet stream dup bind=0.0.0.0:8080 same listen=1 swap local")?;
    for step in &steps {
        ensure_eq!(step["result"], "ok", "{steps:?}");
    }
    ensure_eq!(value(&steps, "same"), &Value::Bool(true), "{steps:?}");
    // It is the host's, by both.
    let local = value(&steps, "local").as_str().unwrap_or_default().to_owned();
    ensure!(local.ends_with(":8080") || local.ends_with(":8079"), "{steps:?}");
    Ok(())
}

/// Registrations that were made before the socket was replaced.
const EPOLLS: &[&str] = &[
    // Level, edge, one-shot, exclusive; waited for before, and not.
    "nonblocking ep:new ep:add=out connect=ECHO ep:wait ep:poll ep:poll",
    "nonblocking ep:new ep:add=out+et ep:poll connect=ECHO ep:wait ep:poll",
    "nonblocking ep:new ep:add=in+out+rdhup+et ep:poll connect=ECHO ep:wait ep:poll",
    "nonblocking ep:new ep:add=out+oneshot connect=ECHO ep:wait ep:poll ep:mod=out+oneshot ep:wait",
    "nonblocking ep:new ep:add=out+exclusive connect=ECHO ep:wait ep:poll ep:mod=out ep:del ep:poll",
    "nonblocking ep:new ep:add=out+wakeup connect=ECHO ep:wait ep:poll",
    "nonblocking ep:new ep:add=out connect=CLOSED ep:wait wait ep:poll",
    "nonblocking ep:new ep:add=out+et connect=CLOSED ep:wait wait ep:poll connect=ECHO ep:wait peer",
    "ep:new ep:add=out connect=ECHO ep:poll send=hello recv",
    "ep:new ep:add=in+et ep:poll connect=ECHO ep:poll send=hello ep:wait recv ep:poll",
    // Fired before it connects, and armed again afterwards.
    "nonblocking ep:new ep:add=out+oneshot ep:poll connect=ECHO wait ep:poll ep:mod=out ep:wait",
    // Changed, removed and made again afterwards.
    "nonblocking ep:new ep:add=out connect=ECHO wait ep:mod=in ep:poll ep:mod=out ep:poll ep:del",
    "nonblocking ep:new ep:add=out connect=ECHO wait ep:add=out ep:del ep:del ep:add=out ep:poll",
    "nonblocking ep:new ep:add=out connect=ECHO wait ep:del ep:mod=out ep:poll",
    "nonblocking ep:new ep:add=out ep:del connect=ECHO wait ep:poll ep:add=out ep:poll",
    // Several, nested, duplicated.
    "nonblocking ep:new ep:add=out ep:new ep:add=out+et connect=ECHO ep:wait ep:use=0 ep:wait",
    "nonblocking ep:new ep:add=out ep:nest connect=ECHO wait ep:wait ep:use=0 ep:wait",
    "nonblocking ep:new ep:add=out ep:nest ep:nest connect=ECHO wait ep:wait",
    "nonblocking ep:new ep:add=out ep:dup ep:use=0 ep:close connect=ECHO ep:wait",
    // Of another descriptor of the same socket, and through every further exchange.
    "nonblocking dup ep:new ep:add=out swap connect=ECHO wait ep:poll swap ep:del ep:poll",
    "nonblocking ep:new ep:add=out connect=ECHO ep:wait unspec connect=ECHO ep:wait peer",
];

fn epolls(world: &World) -> Result {
    as_natively(world, &["inet"], EPOLLS, &[])
}

/// An epoll that a child made and registered the socket with, which the child then closed: it waits
/// for what the parent connects. And one that both have.
const BESIDE: &[&str] = &[
    "nonblocking keeper keeper:ep:new keeper:ep:add=out keeper:new keeper:drop connect=ECHO wait \
     keeper:ep:wait keeper-end",
    "nonblocking ep:new ep:add=out keeper keeper:new keeper:drop connect=ECHO ep:wait \
     keeper:ep:wait keeper-end",
];

fn beside(world: &World) -> Result {
    as_natively(world, &["inet"], BESIDE, &[])
}

/// Under a profile that is not ours, which does not say when an epoll is made.
fn untold(world: &World) -> Result {
    let echo = world.serve_remote(&["--quiet", "[::]:0"])?;
    let mut agent = Agent::start(world, &[], &[])?;
    agent.forget_epolls()?;
    let connect = format!("connect={}", echo.at(REMOTE_V4));
    for (name, before) in
        [("untold-fresh", ""), ("untold-again", "nonblocking connect=127.0.0.1:1 new ")]
    {
        let words =
            format!("sequence inet {before}nonblocking ep:new ep:add=out {connect} ep:wait");
        let words: Vec<&str> = words.split(' ').collect();
        let steps = crate::client::steps(agent.client(world, "crun", name, &words)?)?;
        let expected = serde_json::json!([[4, 0xfeed_0000_0000_0007_u64]]);
        ensure_eq!(value(&steps, "ep:wait"), &expected, "{steps:?}");
    }
    Ok(())
}

/// A child that was forked before has the socket too. All descriptors go on as one.
const SHARED: &[&str] = &[
    "keeper connect=ECHO keeper:peer keeper:send=hello recv keeper-end peer",
    "keeper keeper:connect=ECHO peer send=hello keeper:recv keeper-end",
    "keeper dup connect=ECHO same keeper:send=hello swap recv keeper-end",
    "nonblocking keeper connect=ECHO wait keeper:peer keeper-end",
    "nonblocking ep:new ep:add=out keeper connect=ECHO ep:wait keeper:ep:wait keeper-end",
    "keeper keeper-end connect=ECHO send=hello recv",
];

fn shared(world: &World) -> Result {
    let options = ["--net", "slirp4netns"];
    // There is no IPv6 by that.
    as_natively(world, &["inet"], SHARED, &options)?;
    let server = world.serve_remote(&["--quiet", "[::]:0"])?;
    let connect = format!("connect={}", server.at(REMOTE_V4));
    let (steps, report) = run(world, &options, &format!("keeper {connect} keeper:peer"))?;
    ensure_eq!(value(&steps, "keeper:peer")["result"], "ok", "{steps:?}");
    ensure_eq!(report["reasons"]["left"]["shared"], 1, "left: {report}");
    ensure_eq!(counted(&report, "parted"), Some(0), "parted: {report}");
    // One that has gone shares nothing.
    let (_, report) = run(world, &options, &format!("keeper keeper-end {connect}"))?;
    ensure_eq!(counted(&report, "switched"), Some(1), "switched: {report}");
    Ok(())
}

fn in_flight(world: &World) -> Result {
    let server = world.serve_remote(&["--quiet", "[::]:0"])?;
    let steps =
        format!("send-fd connect={} recv-fd same swap send=hello recv", server.at(REMOTE_V4));
    let (steps, report) = run(world, &[], &steps)?;
    ensure_eq!(value(&steps, "same"), &Value::Bool(false), "{steps:?}");
    ensure_eq!(value(&steps, "recv"), "hello", "{steps:?}");
    ensure_eq!(counted(&report, "parted"), Some(1), "parted: {report}");
    Ok(())
}

/// A thread that starts programs while another connects: each of their children has, for a moment,
/// every socket.
const SPAWNER: &str = r#"
import socket, subprocess, sys, threading
to = (sys.argv[1], int(sys.argv[2]))
done = threading.Event()
def spawn():
    while not done.is_set():
        subprocess.run(['true'], check=True)
spawners = [threading.Thread(target=spawn) for _ in range(2)]
for thread in spawners: thread.start()
try:
    for _ in range(200):
        with socket.socket() as s:
            s.connect(to)
            s.sendall(b'hello')
            assert s.recv(5) == b'hello'
finally:
    done.set()
for thread in spawners: thread.join()
print('{"spawned": true}')
"#;

fn spawning(world: &World) -> Result {
    let server = world.serve_remote(&["--quiet", "[::]:0"])?;
    let mut command = world.bypass(&["--report", "-"])?;
    command.args(["python3", "-c", SPAWNER, &REMOTE_V4.to_string(), &server.port().to_string()]);
    let finished = process::run(&mut command, LIMIT)?.success()?;
    let start = finished.stderr.find('{').unwrap_or_default();
    let report: Value = serde_json::from_str(finished.stderr.get(start..).unwrap_or_default())?;
    // Calls that a signal of a child interrupted after the switch were answered when they were made
    // again.
    let of = |outcome: &str| report["verdicts"][outcome].as_u64().unwrap_or(0);
    ensure_eq!(of("switched") + of("host"), 200, "switched: {report}");
    ensure_eq!(of("left"), 0, "left: {report}");
    ensure_eq!(counted(&report, "parted"), Some(0), "parted: {report}");
    Ok(())
}

/// Many calls in turn, made by a program whose every line tells what came of them.
const CALLS: &str = include_str!("transparency/calls.py");

/// The words that run these cases, once the program is where it can be read.
fn program(world: &World, server: &Server, cases: &[&str]) -> Result<Vec<String>> {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let file = world.directory(&format!("calls-{run}"))?.join("calls.py");
    std::fs::write(&file, CALLS)?;
    let words = [
        "python3".to_owned(),
        file.display().to_string(),
        REMOTE_V4.to_string(),
        server.port().to_string(),
        SILENT_V4.to_string(),
    ];
    Ok(words.into_iter().chain(cases.iter().map(|case| (*case).to_owned())).collect())
}

fn said(mut command: Command) -> Result<String> {
    Ok(process::run(&mut command, LIMIT)?.success()?.stdout)
}

fn calls(world: &World, cases: &[&str]) -> Result {
    let server = world.serve_remote(&["--quiet", "[::]:0"])?;
    let words = program(world, &server, cases)?;
    let mut native = world.as_user(&words[0]);
    native.args(&words[1..]);
    let mut bypassed = world.bypass(&[])?;
    bypassed.args(&words);
    let (native, bypassed) = if cases.contains(&"bound") {
        // The port is one and the same.
        (said(native)?, said(bypassed)?)
    } else {
        let native = process::start(&mut native)?;
        let bypassed = said(bypassed)?;
        (native.finish(LIMIT)?.success()?.stdout, bypassed)
    };
    ensure!(native == bypassed, "natively\n{native}\nbypassed\n{bypassed}");
    Ok(())
}

/// Only one listener can be had for a process.
fn listener(world: &World) -> Result {
    let server = world.serve_remote(&["--quiet", "[::]:0"])?;
    let mut command = world.bypass(&[])?;
    command.args(program(world, &server, &["listening"])?);
    ensure_eq!(said(command)?, "-- listening\nEBUSY\n0\n", "inside");
    Ok(())
}

/// A child that has the same descriptor table, and no memory in common.
const TABLES: &[&str] = &[
    "sharer connect=ECHO keeper:peer keeper:send=hello recv keeper-end peer",
    "sharer keeper:connect=ECHO peer send=hello keeper:recv keeper-end",
    "dup sharer keeper:connect=ECHO same send=hello recv swap peer keeper-end",
    "nonblocking ep:new ep:add=out sharer keeper:connect=ECHO ep:wait wait peer keeper-end",
];

fn shared_tables(world: &World) -> Result {
    as_natively(world, &["inet"], TABLES, &[])?;
    let server = world.serve_remote(&["--quiet", "[::]:0"])?;
    let connect = format!("connect={}", server.at(REMOTE_V4));
    let (_, report) = run(world, &[], &format!("sharer {connect} keeper-end"))?;
    ensure_eq!(counted(&report, "switched"), Some(1), "switched: {report}");
    Ok(())
}

/// What traces, and which calls: a debugger follows one child, and ends with it.
const TRACERS: &[(&[&str], &[&str])] = &[
    (&["strace", "-f", "-o", "/dev/null"], &["in_progress", "failed", "half_closed", "in_threads"]),
    (
        &["gdb", "-q", "-batch", "-ex", "set follow-fork-mode child", "-ex", "run", "--args"],
        &["in_threads"],
    ),
];

fn traced(world: &World) -> Result {
    let server = world.serve_remote(&["--quiet", "[::]:0"])?;
    for (tracer, cases) in TRACERS {
        let words = program(world, &server, cases)?;
        let mut untraced = world.bypass(&[])?;
        untraced.args(&words);
        let expected = said(untraced)?;
        let mut command = world.bypass(&[])?;
        command.args(*tracer).args(&words);
        let said = said(command)?;
        // Debuggers say something themselves.
        let mut lines = said.lines();
        for line in expected.lines().filter(|line| !line.starts_with("--") && *line != "0") {
            ensure!(lines.any(|said| said == line), "{tracer:?}: no {line:?} in\n{said}");
        }
    }
    Ok(())
}

/// Properties that a host socket cannot have, or must not: the socket stays, and the report says why.
const LEFT: &[(&str, &[&str], &str)] = &[
    ("s.setsockopt(1, 25, b'lo')", &[], "option"),
    ("s.setsockopt(0, 19, 1)", &["--map-root"], "option"),
    ("s.bind(('127.0.0.1', 0))", &[], "source_address"),
    ("s.setsockopt(0, 15, 1); s.bind(('203.0.113.77', 0))", &[], "source_address"),
    ("s.bind(('', TAKEN))", &[], "source_port"),
];

fn left(world: &World) -> Result {
    let server = world.serve_remote(&["--quiet", "[::]:0"])?;
    let taken = world.serve_host(&["--quiet", "0.0.0.0:0"])?;
    for (before, options, reason) in LEFT {
        let before = before.replace("TAKEN", &taken.port().to_string());
        let script = format!(
            "import socket; s = socket.socket(); s.settimeout(1); {before}; s.connect_ex(('{REMOTE_V4}', {}))",
            server.port()
        );
        let mut command = world.bypass(&[&["--report", "-"], *options].concat())?;
        let finished = process::run(command.args(["python3", "-c", &script]), LIMIT)?.success()?;
        let start = finished.stderr.find('{').unwrap_or_default();
        let report: Value = serde_json::from_str(finished.stderr.get(start..).unwrap_or_default())?;
        ensure_eq!(report["reasons"]["left"][*reason], 1, "{before}: {report}");
    }
    Ok(())
}

/// What differs, and how: the last step natively, and inside.
const KNOWN: &[(&str, &str, &str)] = &[
    // A one-shot registration that has fired hears of errors.
    (
        "nonblocking ep:new ep:add=out+oneshot ep:poll connect=CLOSED wait ep:poll",
        "ok []",
        "ok [[16,18369338455114121223]]",
    ),
    ("shutdown=wr connect=ECHO send=x", "EPIPE null", "ok 1"),
    ("connect=ECHO unspec wait", "ECONNRESET null", "ok null"),
    (
        "set:so_reuseaddr=1 bind=0.0.0.0:27200 connect=ECHO new bind=0.0.0.0:27200",
        "EADDRINUSE null",
        "ok null",
    ),
];

fn known(world: &World) -> Result {
    let server = world.serve_remote(&["--quiet", "[::]:0"])?;
    let last = |steps: Vec<Value>| {
        let step = steps.last().cloned().unwrap_or_default();
        format!("{} {}", step["result"].as_str().unwrap_or_default(), step["value"])
    };
    for (steps, native, inside) in KNOWN {
        let steps = steps
            .replace("ECHO", &server.at(REMOTE_V4))
            .replace("CLOSED", &format!("{REMOTE_V4}:1"));
        let sequence = Sequence { family: "inet", steps: &steps };
        ensure_eq!(last(sequence.native(world)?), *native, "natively: {steps}");
        ensure_eq!(last(sequence.bypassed(world, &[])?), *inside, "inside: {steps}");
    }
    let mut native = world.as_user("python3");
    native.args(&program(world, &server, &["restarted_limit"])?[1..]);
    ensure_eq!(said(native)?, "-- restarted_limit\nEINTR 1\n0\n", "natively");
    let mut inside = world.bypass(&[])?;
    inside.args(program(world, &server, &["restarted_limit", "device"])?);
    let inside = said(inside)?;
    let expected = "-- restarted_limit\nEALREADY 1\n0\n-- device\n";
    ensure!(inside.starts_with(expected) && !inside.contains("b''"), "inside: {inside}");
    Ok(())
}

/// Every test that `docs/transparency.md` calls a proof.
fn table(_: &World) -> Result {
    let document = include_str!("../../../docs/transparency.md");
    let is_name = |text: &&str| {
        text.contains("::") && text.bytes().all(|b| b.is_ascii_lowercase() || b"_:".contains(&b))
    };
    let named: Vec<&str> = document.split('`').skip(1).step_by(2).filter(is_name).collect();
    ensure!(named.len() > 20, "the table names few tests: {named:?}");
    let known: Vec<String> = crate::GROUPS
        .iter()
        .flat_map(|(group, scenarios)| {
            scenarios.iter().map(move |s| format!("{group}::{}", s.name))
        })
        .collect();
    let missing: Vec<_> = named.iter().filter(|name| !known.iter().any(|k| k == **name)).collect();
    ensure!(missing.is_empty(), "named, but there are no such tests: {missing:?}");
    // And none of these proves nothing.
    let idle: Vec<_> = known
        .iter()
        .filter(|name| name.starts_with("transparency::") && !named.contains(&name.as_str()))
        .collect();
    ensure!(idle.is_empty(), "they prove no row: {idle:?}");
    Ok(())
}
