//! Makes sequences of socket calls and tells what came of each, so that the same sequence can be
//! compared where it is run natively and where it is not.
//!
//! ```text
//! fx-parity run PEERS    sequences from standard input, one a line; a line of results for each
//! fx-parity peer         whom they talk to; prints `PEERS` first
//! ```
//!
//! A sequence is `PORT` and, after it, calls that are separated by `;`: [`machine`] has the list.
//! The answer is `trace`, a tab, and what each call gave, separated by tabs.
//!
//! After each call the machine asks the peer, over a connection of its own, whether it has seen to
//! everything that reached it. So what the next call finds does not depend on who was faster.

#![expect(clippy::print_stdout, reason = "what it prints is its interface")]

mod machine;
mod peer;

use std::env;
use std::io::{self, BufRead};

use test_support::fail;
use test_support::failure::Result;

use crate::machine::Machine;

fn main() -> Result {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["peer"] => peer::serve(),
        ["run", peers] => {
            let mut machine = Machine::new(&peers.parse()?)?;
            println!("ready");
            for line in io::stdin().lock().lines() {
                println!("trace\t{}", machine.run(&line?)?.join("\t"));
            }
            Ok(())
        }
        _ => fail!("fx-parity run PEERS | peer"),
    }
}
