//! A running `bypass4netnsd` of ours, clients of its API, and containers of it.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use test_support::failure::Context;
use test_support::process::{self, PATIENCE, Running};
use test_support::{Result, World, bundle, ensure};

use crate::repl::Repl;
use crate::serve::runtime_command;

/// Calls that nerdctl has its runtime trap, as it is compiled in.
const NERDCTL: [&str; 8] =
    ["bind", "close", "connect", "setsockopt", "fcntl", "_exit", "exit_group", "getpeername"];

/// Our program by another name.
pub(crate) fn named(world: &World, name: &str) -> Result<PathBuf> {
    let link = world.programs().join(name);
    if !link.exists() {
        symlink("bypass-cli", &link)?;
    }
    Ok(link)
}

#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) running: Running,
    directory: PathBuf,
}

impl Daemon {
    /// `bypass4netnsd FLAGS`
    pub(crate) fn start(world: &World, flags: &[&str]) -> Result<Self> {
        Self::by(world, world.as_user(named(world, "bypass4netnsd")?).args(flags))
    }

    /// `bypass-cli daemon OPTIONS`
    pub(crate) fn with(world: &World, options: &[&str]) -> Result<Self> {
        let mut command = world.as_user(world.program("bypass-cli")?);
        Self::by(world, command.arg("daemon").args(options))
    }

    pub(crate) fn by(world: &World, command: &mut Command) -> Result<Self> {
        let running = process::start(command)?;
        running.told("the API is served", PATIENCE)?;
        Ok(Self { running, directory: world.runtime_dir() })
    }

    /// The process that serves containers.
    pub(crate) fn supervisor(&self) -> Result<u32> {
        self.child("<supervisor>")
    }

    fn child(&self, name: &str) -> Result<u32> {
        let pid = self.running.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let is = |child: &&str| {
            std::fs::read(format!("/proc/{child}/cmdline"))
                .is_ok_and(|line| line.starts_with(name.as_bytes()))
        };
        let child = children.split_ascii_whitespace().find(is);
        Ok(child.context(format!("no process {name} in {children:?}"))?.parse()?)
    }

    /// The status and the body of a request.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        self.ask_at("bypass4netnsd.sock", method, path, body)
    }

    pub(crate) fn ask_at(
        &self,
        socket: &str,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<(u16, String)> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "20", "--path-as-is"]);
        command.args(["--write-out", "\n%{http_code}", "--request", method, "--data-binary", "@-"]);
        command.arg("--unix-socket").arg(self.directory.join(socket));
        command.arg(format!("http://bypass4netnsd{path}"));
        let limit = PATIENCE + Duration::from_secs(5);
        let finished = process::run_with_input(&mut command, body.as_bytes(), limit)?.success()?;
        let (body, status) = finished.stdout.rsplit_once('\n').context("a status")?;
        Ok((status.parse()?, body.to_owned()))
    }

    /// A request that must be answered with this status.
    pub(crate) fn expect(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        status: u16,
    ) -> Result<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (told, answer) = self.ask(method, path, &body)?;
        ensure!(
            told == status,
            "{method} {path} {body}: {told} {answer}\n{}",
            self.running.stderr()
        );
        if answer.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&answer)?) }
    }

    /// Announces a container as nerdctl does; `ports` by host port.
    pub(crate) fn post(&self, id: &str, ports: &[(u16, u16)]) -> Result<Value> {
        self.expect("POST", "/v1/bypass", &self.spec(id, ports), 201)
    }

    pub(crate) fn spec(&self, id: &str, ports: &[(u16, u16)]) -> Value {
        let at = |end: &str| self.directory.join(format!("{id}{end}"));
        let ports: Vec<Value> = ports
            .iter()
            .map(|(parent, child)| {
                json!({
                    "protos": ["tcp"], "parentIP": "0.0.0.0", "parentPort": parent, "childIP": "",
                    "childPort": child,
                })
            })
            .collect();
        json!({
            "id": id, "socketPath": at(".sock"), "pidFilePath": at(".pid"),
            "logFilePath": at(".log"), "portMapping": ports,
            "ignoreSubnets": ["127.0.0.0/8", "10.0.2.0/24", "auto"], "ignoreBind": false,
        })
    }

    pub(crate) fn delete(&self, id: &str) -> Result<Value> {
        self.expect("DELETE", &format!("/v1/bypass/{id}"), &Value::Null, 200)
    }

    /// A command that runs `PROGRAM WORDS` in a container under the profile that nerdctl makes.
    pub(crate) fn container(
        &self,
        world: &World,
        runtime: &str,
        id: &str,
        program: &str,
        words: &[&str],
    ) -> Result<Command> {
        self.container_at(world, runtime, id, &format!("{id}.sock"), program, words)
    }

    pub(crate) fn container_at(
        &self,
        world: &World,
        runtime: &str,
        id: &str,
        socket: &str,
        program: &str,
        words: &[&str],
    ) -> Result<Command> {
        let profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": self.directory.join(socket),
            "syscalls": [{ "names": NERDCTL, "action": "SCMP_ACT_NOTIFY" }],
        });
        let program = world.program(program)?;
        let directory = program.parent().context("a program is in a directory")?;
        let mut line = vec![program.to_str().context("a path in UTF-8")?];
        line.extend(words);
        let bundle = bundle::write(world, id, &profile, directory, &line)?;
        let mut command = runtime_command(world, runtime);
        command.args(["run", "--bundle"]).arg(&bundle).arg(id);
        Ok(command)
    }

    /// A container of crun that runs `fx-client repl`, announced and started.
    pub(crate) fn repl(&self, world: &World, id: &str, ports: &[(u16, u16)]) -> Result<Repl> {
        self.post(id, ports)?;
        Repl::by(&mut self.container(world, "crun", id, "fx-client", &["repl"])?)
            .context(format!("the daemon said: {}", self.running.stderr()))
    }

    /// Ends it as a service manager does.
    pub(crate) fn stop(mut self) -> Result {
        self.running.signal(Signal::TERM)?;
        let status = self.running.wait(PATIENCE)?;
        ensure!(status.success(), "it ended with {status}: {}", self.running.stderr());
        Ok(())
    }
}

/// Whether there is such a process, and not only what is left of it.
pub(crate) fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

/// Waits for its end, which is not ours to wait for.
pub(crate) fn wait_gone(pid: u32) -> Result {
    let deadline = Instant::now() + PATIENCE;
    while is_alive(pid) {
        ensure!(Instant::now() < deadline, "process {pid} is still there");
        std::thread::yield_now();
    }
    Ok(())
}
