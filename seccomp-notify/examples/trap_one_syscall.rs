//! Traps getppid(2) in a thread of this program and answers it. Needs no privilege.
//!
//! ```sh
//! cargo run -p seccomp-notify --example trap_one_syscall
//! ```

#![expect(clippy::print_stdout, reason = "this is what an example is for")]

use std::error::Error;
use std::os::unix::process::parent_id;
use std::sync::mpsc;
use std::thread;

use seccomp_notify::{Errno, Features, Filter, Listener, Received, Reply};

fn main() -> Result<(), Box<dyn Error>> {
    println!("{:#?}", Features::probe());
    let (sender, receiver) = mpsc::channel();
    let target = thread::spawn(move || {
        let getppid = i32::try_from(libc::SYS_getppid).unwrap_or_default();
        let installed = Filter::allow_all().notify(getppid).install();
        if sender.send(installed).is_err() {
            return;
        }
        for attempt in 1..=3 {
            println!("target: attempt {attempt} says {}", parent_id().cast_signed());
        }
    });
    let listener = receiver.recv()??;
    answer(&listener, |_| Reply::value(4711))?;
    answer(&listener, |_| Reply::errno(Errno::PERM))?;
    answer(&listener, |_| Reply::continue_call())?;
    target.join().or(Err("target panicked"))?;
    Ok(())
}

/// Answers one call. Only this thread receives, so a blocking receive is fine here.
fn answer(
    listener: &Listener,
    decide: impl FnOnce([u64; 6]) -> Reply,
) -> Result<(), Box<dyn Error>> {
    loop {
        match listener.recv()? {
            Received::Notification(call) => {
                println!("supervisor: {call:?}");
                let reply = decide(call.args());
                println!("supervisor: {reply:?} was {:?}", call.reply(reply)?);
                return Ok(());
            }
            Received::TargetGone => return Err("target has gone".into()),
            Received::Interrupted => {}
        }
    }
}
