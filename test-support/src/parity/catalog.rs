//! The suites that there are, and what it takes to run them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::suites::{Form, Format, Suite};
use crate::failure::{Context, Result};
use crate::world::World;

/// CPython's modules: a suite for each.
const PYTHON: [&str; 10] = [
    "test_socket",
    "test_asyncio",
    "test_select",
    "test_selectors",
    "test_ssl",
    "test_httplib",
    "test_ftplib",
    "test_socketserver",
    "test_xmlrpc",
    "test_epoll",
];

/// Names of all suites, in the order in which they are run.
pub fn names() -> impl Iterator<Item = &'static str> {
    PYTHON.into_iter().chain(["go-net", "go-net-http", "libuv"])
}

/// A suite by its name. What `scripts/parity-suites` built is in `built`; it is copied to where an
/// ordinary user may run it.
///
/// # Errors
/// When there is none, or a file of it is missing.
pub fn suite(world: &World, name: &str, built: &Path) -> Result<Suite> {
    match name {
        "go-net" => go(world, name, built, "net"),
        "go-net-http" => go(world, name, built, "net/http"),
        "libuv" => libuv(world, built),
        _ => python(world, name),
    }
}

fn python(world: &World, name: &str) -> Result<Suite> {
    let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/python-suite");
    let runner = installed(world, &runner, "python-suite")?;
    let words = |words: &[&str]| {
        let words = words.iter().map(|word| (*word).to_owned());
        [PYTHON_PROGRAM.to_owned(), runner.clone()].into_iter().chain(words).collect()
    };
    Ok(Suite {
        name: name.to_owned(),
        all: words(&[name]),
        one: words(&["--only", "TEST"]),
        form: Form::Word,
        format: Format::Lines,
        env: Vec::new(),
        directory: None,
        together: true,
        limit: Duration::from_secs(420),
    })
}

fn go(world: &World, name: &str, built: &Path, package: &str) -> Result<Suite> {
    let built = built.join("go");
    let root = fs::read_to_string(built.join("root")).context("where the library of Go is")?;
    let file = format!("{}.test", package.replace('/', "-"));
    let program = installed(world, &built.join(&file), &file)?;
    let words = |words: &[&str]| {
        let words = words.iter().map(|word| (*word).to_owned());
        std::iter::once(program.clone()).chain(words).collect()
    };
    let common = ["-test.v", "-test.short", "-test.timeout=240s", "-test.run"];
    Ok(Suite {
        name: name.to_owned(),
        all: words(&[common.as_slice(), &["^Test"]].concat()),
        one: words(&[common.as_slice(), &["TEST"]].concat()),
        form: Form::Pattern,
        format: Format::Go,
        env: Vec::new(),
        directory: Some(Path::new(root.trim()).join(package)),
        together: true,
        limit: Duration::from_secs(250),
    })
}

fn libuv(world: &World, built: &Path) -> Result<Suite> {
    let built = built.join("libuv");
    let program = installed(world, &built.join("uv_run_tests_a"), "uv_run_tests_a")?;
    let directory = world.directory("libuv")?;
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(built.join("test")).arg(&directory);
    crate::process::run(&mut copy, crate::process::PATIENCE)?.success()?;
    let owner = format!("{}:{}", world.uid(), world.gid());
    let mut own = Command::new("chown");
    own.args(["-R", &owner]).arg(&directory);
    crate::process::run(&mut own, crate::process::PATIENCE)?.success()?;
    Ok(Suite {
        name: "libuv".to_owned(),
        all: vec![program.clone()],
        one: vec![program, "TEST".to_owned()],
        form: Form::Word,
        format: Format::Tap,
        env: Vec::new(),
        directory: Some(directory),
        // Its port is 9123.
        together: false,
        limit: Duration::from_secs(300),
    })
}

/// Copies a program to where the world's are.
fn installed(world: &World, from: &Path, name: &str) -> Result<String> {
    let to: PathBuf = world.programs().join(name);
    fs::copy(from, &to).context(format!("{}: scripts/parity-suites makes it", from.display()))?;
    to.to_str().map(ToOwned::to_owned).context("a path in Unicode")
}

const PYTHON_PROGRAM: &str = "/usr/bin/python3";
