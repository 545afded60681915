//! Commands of a page, executed as written: a page is one shell of the ordinary user.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Page;
use super::blocks::{self, Block};
use crate::failure::{Context, Result};
use crate::process::{self, PATIENCE};
use crate::shell::Shell;
use crate::world::{PATH, World};
use crate::{ensure, fail};

/// Limit for one command.
const LIMIT: Duration = Duration::from_secs(60);

/// Executes the blocks of a page that `wanted` chooses, and compares what is shown of their output.
/// Returns how many commands there were.
///
/// # Errors
/// When a command fails, or says something else than the page shows.
pub fn page(world: &World, path: &str, wanted: impl Fn(&Block) -> bool) -> Result<usize> {
    let text = fs::read_to_string(super::repository().join(path)).context(path)?;
    let page = Page { path: PathBuf::from(path), text };
    let home = world.directory(&path.replace(['/', '.'], "-"))?;
    let mut command = world.as_user("sh");
    command.env("HOME", &home).env("PATH", format!("{}:{PATH}", world.programs().display()));
    let mut shell = Shell::start(&mut command, LIMIT)?;
    shell.expect("cd")?;
    // Left by a supervisor that was killed; its successor would have replaced it.
    let _absent = fs::remove_file(socket(world));
    let mut count = 0;
    for block in blocks::of(&page).into_iter().filter(wanted) {
        for command in block.commands {
            count += 1;
            let place = format!("{path}:{}: `{}`", block.line, command.text);
            let line = command.text.split(" #").next().unwrap_or_default().trim_end();
            let Some(started) = line.strip_suffix('&') else {
                let answer = shell.ask(&format!("{{ {}\n}} 2>&1", command.text))?;
                let said = format!("{place}: status {}\n{}", answer.status, answer.text);
                ensure!(answer.status == 0, "{said}");
                if command.text.starts_with("kill ") {
                    // Whoever was told to end may take a moment, which a person would too.
                    shell.ask("wait")?;
                }
                ensure!(
                    command.shows(&answer.text),
                    "{said}--- shown\n{}",
                    command.shown.join("\n")
                );
                continue;
            };
            shell.expect(&format!("{started} >> background.log 2>&1 &"))?;
            let ready = until_ready(world, started).and_then(|()| shell.expect("kill -0 $!"));
            if let Err(failure) = ready {
                let said = fs::read_to_string(home.join("background.log")).unwrap_or_default();
                fail!("{place}: {failure}\n{said}");
            }
        }
    }
    // What runs in the background is the shell's, and ends with the process group.
    Ok(count)
}

/// A person takes longer to type the next line.
fn until_ready(world: &World, command: &str) -> Result {
    let words: Vec<&str> = command.split_whitespace().collect();
    if words.get(1) == Some(&"serve") {
        let socket = socket(world);
        return until(|| socket.exists());
    }
    let options = words.iter().zip(words.iter().skip(1)).filter(|(option, _)| **option == "-p");
    for (_, map) in options.filter(|(_, map)| !map.ends_with("/udp")) {
        let parts: Vec<&str> = map.split(':').collect();
        let port = parts.iter().rev().nth(1).context("a host port")?;
        let port: u16 = port.parse()?;
        until(|| TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    }
    Ok(())
}

/// Where `serve` listens by default.
fn socket(world: &World) -> PathBuf {
    world.runtime_dir().join("bypass4netns.sock")
}

fn until(ready: impl Fn() -> bool) -> Result {
    let deadline = Instant::now() + PATIENCE;
    while !ready() {
        ensure!(Instant::now() < deadline, "it is not ready");
        std::thread::yield_now();
    }
    Ok(())
}

/// What the examples reach: the names and servers of a small Internet on the remote.
///
/// # Errors
/// When one of them does not start.
pub fn internet(world: &World) -> Result<Vec<process::Running>> {
    let mut names = world.in_remote(world.program("fx-dns")?);
    names.arg("198.18.0.2:53").args(["example.com=198.18.0.2", "example.org=198.18.0.2"]);
    let mut web: Command = world.in_remote("python3");
    web.args(["-u", "-m", "http.server", "80", "--directory", "/usr/share/doc/libc6"]);
    let mut throughput = world.in_remote("iperf3");
    throughput.args(["--server", "--forceflush"]);
    let mut running = Vec::new();
    for (mut command, ready) in
        [(names, "ready"), (web, "Serving HTTP"), (throughput, "Server listening")]
    {
        let mut server = process::start(&mut command)?;
        server.line(ready, PATIENCE)?;
        running.push(server);
    }
    Ok(running)
}
