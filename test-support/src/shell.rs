//! A shell that is told what to run, one script after another: inside a container, mostly.

use std::process::Command;
use std::time::Duration;

use crate::fail;
use crate::failure::{Context, Result};
use crate::process::{self, Running};

/// It runs until its standard input ends.
#[derive(Debug)]
pub struct Shell {
    /// The program that it was started by.
    pub running: Running,
    asked: usize,
    limit: Duration,
}

/// What came of a script.
#[derive(Debug)]
pub struct Answer {
    /// Its exit status.
    pub status: i32,
    /// Its standard output, and that of whatever runs in the background meanwhile.
    pub text: String,
}

impl Shell {
    /// Starts one by a command that ends in `sh`, and waits until it runs. `limit`: how long a script
    /// may say nothing.
    ///
    /// # Errors
    /// When it does not come to run.
    pub fn start(command: &mut Command, limit: Duration) -> Result<Self> {
        let mut shell = Self { running: process::start_interactive(command)?, asked: 0, limit };
        shell.expect(":")?;
        Ok(shell)
    }

    /// Runs a script to its end.
    ///
    /// # Errors
    /// When the shell has gone, or says nothing for too long.
    pub fn ask(&mut self, script: &str) -> Result<Answer> {
        self.asked += 1;
        let marker = format!("@{} ", self.asked);
        // What runs in the foreground must not read the next script.
        let line = format!("{{ {script}\n}} < /dev/null; echo \"{marker}$?\"\n");
        self.running.write(line.as_bytes())?;
        let mut text = String::new();
        loop {
            let line = self.running.line("", self.limit).context(script)?;
            if let Some((before, status)) = line.split_once(&marker) {
                text.push_str(before);
                return Ok(Answer { status: status.parse()?, text });
            }
            text.push_str(&line);
            text.push('\n');
        }
    }

    /// Runs a script that must end with 0; returns its output.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), and when it ends otherwise.
    pub fn expect(&mut self, script: &str) -> Result<String> {
        let Answer { status, text } = self.ask(script)?;
        if status == 0 {
            return Ok(text);
        }
        fail!("`{script}` inside: status {status}\n{text}--- stderr\n{}", self.running.stderr())
    }
}
