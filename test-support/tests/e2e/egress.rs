//! Connections to the outside: made by the host, and otherwise as they always were.

use std::net::IpAddr;

use test_support::harness::{Group, Scenario};
use test_support::process;
use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6, SILENT_V4, UNREACHABLE_V4};
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::{LIMIT, Sequence, bypassed, counted, reported};

pub(crate) const SCENARIOS: Group = (
    "egress",
    &[
        Scenario { name: "remote_sees_the_host", requires: &[], run: addresses },
        Scenario { name: "calls_have_their_native_outcome", requires: &[], run: as_natively },
        Scenario { name: "epoll_registrations_survive", requires: &[], run: polled },
        Scenario { name: "options_survive", requires: &[], run: options },
        Scenario { name: "pin_off_changes_no_outcome", requires: &[], run: unpinned },
        Scenario { name: "threads_connect_in_parallel", requires: &[], run: threads },
        Scenario { name: "relatives_use_the_connection", requires: &[], run: relatives },
        Scenario { name: "curl_works", requires: &[Requirement::Program("curl")], run: curl },
        Scenario {
            name: "python_works",
            requires: &[Requirement::Program("python3")],
            run: python,
        },
    ],
);

fn addresses(world: &World) -> Result {
    let mut server = world.serve_remote(&["[::]:0"])?;
    let mapped = format!("[::ffff:{REMOTE_V4}]:{}", server.port());
    let cases = [
        ("inet", server.at(REMOTE_V4), IpAddr::from(HOST_V4)),
        ("inet6", server.at(REMOTE_V6), IpAddr::from(HOST_V6)),
        ("inet6", mapped, IpAddr::from(HOST_V4)),
    ];
    for (family, to, from) in cases {
        let connect = format!("connect={to}");
        let words = ["sequence", family, &connect, "send=hello", "recv"];
        let (steps, report) = reported(world, &[], &words)?;
        ensure_eq!(steps[0]["result"], "ok", "connect to {to}");
        ensure_eq!(steps[2]["value"], "hello", "echo from {to}");
        ensure_eq!(server.next_peer()?.ip(), from, "address that {to} sees");
        ensure_eq!(counted(&report, "switched"), Some(1), "switched sockets, {to}: {report}");
    }
    Ok(())
}

/// Calls on a socket that is registered with an epoll before it connects, as event loops do.
const POLLED: &[&str] = &[
    "nonblocking epoll-add connect=ECHO epoll-wait wait peer",
    "epoll-add connect=ECHO epoll-wait send=hello recv",
    "nonblocking epoll-add connect=CLOSED epoll-wait wait",
    "nonblocking epoll-add epoll-dup connect=ECHO epoll-wait wait peer",
    "nonblocking epoll-add connect=ECHO epoll-wait unspec connect=ECHO epoll-wait wait peer",
];

/// Steps for one socket; `ECHO`, `RESET`, `CLOSED`, `SILENT`, `NOROUTE` stand for addresses.
const OUTCOMES: &[&str] = &[
    "connect=ECHO send=hello recv local peer flags",
    "connect=CLOSED local peer flags",
    "connect=NOROUTE",
    "connect=RESET send=x recv",
    "connect=ECHO connect=ECHO send=still-here recv",
    "connect=CLOSED connect=ECHO send=second recv",
    "connect=CLOSED connect=CLOSED connect=ECHO send=third recv",
    "connect=ECHO unspec peer connect=ECHO send=again recv",
    "unspec connect=ECHO send=hello recv",
    "nonblocking connect=ECHO wait connect=ECHO send=hello flags",
    "nonblocking connect=CLOSED wait connect=CLOSED",
    "nonblocking connect=SILENT connect=SILENT peer",
    "cloexec connect=ECHO flags",
    "dup connect=ECHO send=hello recv flags",
    "connect=ECHO shutdown recv",
    "new connect=ECHO new connect=ECHO send=hello recv",
    "recv send=nobody",
    "peer connect=ECHO peer",
    "sendto=ECHO connect=ECHO sendto=ECHO recv",
    "listen=1 connect=ECHO",
];

fn as_natively(world: &World) -> Result {
    every_outcome(world, OUTCOMES, &[])
}

fn polled(world: &World) -> Result {
    every_outcome(world, POLLED, &[])
}

fn unpinned(world: &World) -> Result {
    every_outcome(world, OUTCOMES, &["--pin", "off"])
}

fn every_outcome(world: &World, templates: &[&str], options: &[&str]) -> Result {
    let echo = world.serve_remote(&["--quiet", "[::]:0"])?;
    let reset = world.serve_remote(&["--quiet", "--mode", "reset", "[::]:0"])?;
    let mut wrong = Vec::new();
    for template in templates {
        for (family, remote) in [("inet", IpAddr::from(REMOTE_V4)), ("inet6", REMOTE_V6.into())] {
            if family == "inet6" && (template.contains("SILENT") || template.contains("NOROUTE")) {
                continue;
            }
            let steps = template
                .replace("ECHO", &echo.at(remote))
                .replace("RESET", &reset.at(remote))
                .replace("CLOSED", &std::net::SocketAddr::new(remote, 1).to_string())
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

fn options(world: &World) -> Result {
    let echo = world.serve_remote(&["--quiet", "[::]:0"])?;
    for (family, to) in [("inet", echo.at(REMOTE_V4)), ("inet6", echo.at(REMOTE_V6))] {
        for steps in [
            format!("set-all get-all connect={to} get-all send=hello recv"),
            format!("connect={to} set-all get-all"),
            format!("get-all connect={to} get-all"),
        ] {
            Sequence { family, steps: &steps }.same_as_native(world, &[])?;
        }
    }
    Ok(())
}

fn threads(world: &World) -> Result {
    let echo = world.serve_remote(&["--quiet", "[::]:0"])?;
    for to in [echo.at(REMOTE_V4), echo.at(REMOTE_V6)] {
        let answer = bypassed(world, &[], &["threads", &to, "8", "25"])?;
        ensure_eq!(answer["done"], 200, "connections to {to}: {answer}");
    }
    Ok(())
}

fn relatives(world: &World) -> Result {
    let echo = world.serve_remote(&["--quiet", "[::]:0"])?;
    for (command, done) in [("fork", "forked"), ("exec", "executed"), ("pass", "passed")] {
        let answer = bypassed(world, &[], &[command, &echo.at(REMOTE_V4)])?;
        ensure_eq!(answer[done], true, "{command}");
    }
    Ok(())
}

fn curl(world: &World) -> Result {
    let server = world.serve_remote(&["--mode", "http", "[::]:0"])?;
    for to in [server.at(REMOTE_V4), server.at(REMOTE_V6)] {
        let mut command = world.bypass(&[])?;
        command.args(["curl", "--silent", "--show-error", "--max-time", "20"]);
        command.args(["--globoff", &format!("http://{to}/")]);
        let finished = process::run(&mut command, LIMIT)?.success()?;
        ensure_eq!(finished.stdout, "hello\n", "page from {to}");
    }
    Ok(())
}

fn python(world: &World) -> Result {
    let server = world.serve_remote(&["--mode", "http", "[::]:0"])?;
    let script = "import sys, asyncio, urllib.request\n\
        url = sys.argv[1]\n\
        print(urllib.request.urlopen(url, timeout=20).read().decode().strip())\n\
        async def main():\n\
        \x20   host, port = sys.argv[2], int(sys.argv[3])\n\
        \x20   reader, writer = await asyncio.open_connection(host, port)\n\
        \x20   writer.write(b'GET / HTTP/1.0\\r\\n\\r\\n')\n\
        \x20   print((await reader.read()).decode().split('\\n')[-2])\n\
        asyncio.run(main())\n";
    let (host, port) = (REMOTE_V6.to_string(), server.port().to_string());
    let mut command = world.bypass(&[])?;
    command.args(["python3", "-c", script, &format!("http://{}/", server.at(REMOTE_V4))]);
    let finished = process::run(command.args([&host, &port]), LIMIT)?.success()?;
    ensure_eq!(finished.stdout, "hello\nhello\n", "pages");
    Ok(())
}
