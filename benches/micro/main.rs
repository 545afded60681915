//! What the steps of a connect cost, one by one, and the whole of it.
//!
//! | group | what is measured | needs |
//! |---|---|---|
//! | `decode` | the bytes of an address to a destination | nothing |
//! | `policy` | one decision, with 1, 10 and 1,000 networks ignored or denied | nothing |
//! | `capture` | the options of an ordinary TCP socket | nothing |
//! | `notify` | one trapped call, from its start to its answer | Linux 5.0 |
//! | `connect` | connect, one byte, close: on the host, and through the engine | user namespaces, `ip` |
//!
//! No privilege is needed and no address outside is touched: the program enters a network
//! namespace of its own, its *host*, before it has a second thread. A group whose needs
//! are not met says so and is left out.

#![expect(clippy::print_stderr, reason = "where it says what was left out")]
#![expect(clippy::expect_used, reason = "a measurement that fails cannot go on")]

mod capture;
mod connect;
mod decode;
mod fixture;
mod notify;
mod policy;
mod sandbox;

use std::time::Duration;

use criterion::Criterion;
use seccomp_notify::Features;
use test_support::Result;

use sandbox::Sandbox;

fn main() -> Result {
    if let Some(role) = fixture::requested() {
        return fixture::run(role);
    }
    let sandbox = Sandbox::enter()?;
    let mut criterion = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    decode::bench(&mut criterion);
    policy::bench(&mut criterion);
    capture::bench(&mut criterion);
    if Features::probe().user_notif {
        notify::bench(&mut criterion)?;
    } else {
        eprintln!("notify: left out, this kernel has no seccomp user notification");
    }
    match sandbox {
        Ok(sandbox) => connect::bench(&mut criterion, &sandbox)?,
        Err(missing) => eprintln!("connect: left out, it needs {missing}"),
    }
    criterion.final_summary();
    Ok(())
}
