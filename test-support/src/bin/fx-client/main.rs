//! A client for tests: makes the socket calls it is told to make and prints, as one
//! line of JSON, what came of them.
//!
//! ```text
//! fx-client sequence [inet|inet6] [stream|dgram] STEP...
//! fx-client cycles ADDR COUNT            connect, read one byte, close; times
//! fx-client datagrams ADDR COUNT         one datagram and its echo, in turn; times
//! fx-client threads ADDR THREADS COUNT   echo over a connection, in parallel
//! fx-client parking SILENT ADDR BLOCKED COUNT
//! fx-client blocked SILENT COUNT         threads in connect(2), until killed
//! fx-client killed SILENT COUNT          children killed in connect(2)
//! fx-client fork ADDR                    a child uses the inherited connection
//! fx-client exec ADDR                    the next program uses it
//! fx-client pass ADDR                    it is used through SCM_RIGHTS
//! fx-client race ADDR OTHER MILLIS       dup2 over the descriptor while it connects
//! fx-client moves COUNT ADDR...          UDP sockets that connect, send and dissolve
//! fx-client sends COUNT ADDR...          UDP sockets that send without being connected
//! fx-client askers ADDR COUNT            UDP clients, one datagram and its echo each
//! fx-client connections ADDR CLIENTS MILLIS   connect, read to the end, close, in parallel; how often
//! fx-client requests ADDR COUNT          64 bytes and their echo over one connection; times
//! fx-client opens FILE COUNT             open and close; times
//! fx-client commands COUNT COMMAND...    a command from start to end; times
//! fx-client killings OWN REMOTE COUNT    a server and its client, killed at any moment
//! fx-client flood KIND ADDR PROCESSES     one kind of call all the time, until killed
//! fx-client busy OWN REMOTE              that client, until it is killed
//! fx-client repl                         commands from standard input, one a line
//! ```
//!
//! The last one also keeps sockets from one line to the next: `open NAME [inet|inet6]
//! [stream|dgram] STEP...`, then `on NAME STEP...`, and `close NAME`.
//!
//! It runs inside the container under test as well as outside of it, where it
//! shows what the same calls do without us.

#![expect(clippy::print_stdout, reason = "what it prints is its interface")]

mod churn;
mod datagrams;
mod flood;
mod load;
mod paces;
mod relatives;
mod sequence;

use std::collections::BTreeMap;
use std::env;
use std::io::{self, BufRead};
use std::net::SocketAddr;

use serde_json::{Value, json};
use test_support::fail;
use test_support::failure::{Context, Result};

use crate::sequence::Subject;

fn main() -> Result {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if arguments.first() != Some(&"repl") {
        println!("{}", run(&arguments)?);
        return Ok(());
    }
    let mut kept = Kept::new();
    println!("{}", json!({ "ready": true }));
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<_> = line.split_whitespace().collect();
        let answer =
            keep(&mut kept, &words).unwrap_or_else(|error| json!({ "error": error.to_string() }));
        println!("{answer}");
    }
    Ok(())
}

type Kept = BTreeMap<String, Subject>;

fn keep(kept: &mut Kept, arguments: &[&str]) -> Result<Value> {
    match arguments {
        ["open", name, rest @ ..] => {
            let (mut subject, steps) = Subject::open(rest)?;
            let results = subject.steps(steps);
            kept.insert((*name).to_owned(), subject);
            results
        }
        ["on", name, steps @ ..] => kept.get_mut(*name).context("not open")?.steps(steps),
        ["close", name] => {
            kept.remove(*name).context("not open")?;
            Ok(json!({ "closed": name }))
        }
        _ => run(arguments),
    }
}

fn run(arguments: &[&str]) -> Result<Value> {
    match arguments {
        ["sequence", rest @ ..] => sequence::run(rest),
        ["cycles", address, count] => load::cycles(address.parse()?, count.parse()?),
        ["datagrams", address, count] => load::datagrams(address.parse()?, count.parse()?),
        ["threads", address, threads, count] => {
            load::threads(address.parse()?, threads.parse()?, count.parse()?)
        }
        ["parking", silent, address, blocked, count] => {
            load::parking(silent.parse()?, address.parse()?, blocked.parse()?, count.parse()?)
        }
        ["blocked", silent, count] => load::blocked(silent.parse()?, count.parse()?),
        ["killed", silent, count] => relatives::killed(silent, count.parse()?),
        ["fork", address] => relatives::forked(address.parse()?),
        ["exec", address] => relatives::executed(address.parse()?),
        ["adopt"] => relatives::adopt(),
        ["pass", address] => relatives::passed(address.parse()?),
        ["race", address, other, millis] => {
            load::race(address.parse()?, other.parse()?, millis.parse()?)
        }
        ["moves", count, rest @ ..] => churn::moves(count.parse()?, &addresses(rest)?),
        ["sends", count, rest @ ..] => churn::sends(count.parse()?, &addresses(rest)?),
        ["askers", address, count] => churn::askers(address.parse()?, count.parse()?),
        ["connections", address, clients, millis] => {
            paces::connections(address.parse()?, clients.parse()?, millis.parse()?)
        }
        ["requests", address, count] => paces::requests(address.parse()?, count.parse()?),
        ["opens", path, count] => paces::opens(path, count.parse()?),
        ["commands", count, words @ ..] => paces::commands(count.parse()?, words),
        ["killings", own, remote, count] => {
            churn::killings(own.parse()?, remote.parse()?, count.parse()?)
        }
        ["flood", kind, address, processes] => {
            flood::flood(kind, address.parse()?, processes.parse()?)
        }
        ["busy", own, remote] => churn::busy(own.parse()?, remote.parse()?),
        _ => fail!("no such command: {arguments:?}; see the source for the list"),
    }
}

fn addresses(words: &[&str]) -> Result<Vec<SocketAddr>> {
    words.iter().map(|word| word.parse().context(word)).collect()
}

/// An errno by name, for comparing results as text.
fn errno_name(error: &io::Error) -> String {
    let number = error.raw_os_error();
    number.map_or_else(
        || error.kind().to_string(),
        |raw| format!("{:?}", nix::errno::Errno::from_raw(raw)),
    )
}

/// Sends a few bytes and expects them back.
fn echo(stream: &mut (impl io::Read + io::Write)) -> Result {
    let (sent, mut back) = (b"once more", [0; 9]);
    stream.write_all(sent).context("send")?;
    stream.read_exact(&mut back).context("receive")?;
    test_support::ensure_eq!(back, *sent, "echo");
    Ok(())
}
