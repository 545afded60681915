//! One trapped call: the target stops, the supervisor is woken, receives and answers, and
//! the target goes on. getppid(2), which does next to nothing itself.

use std::os::unix::process::parent_id;

use criterion::Criterion;
use rustix::event::{PollFd, PollFlags, poll};
use seccomp_notify::{Listener, Received, Reply, Support};
use test_support::failure::{Context, Result};
use test_support::{ensure, fail};

use crate::fixture::{ANSWER, Fixture, Role};

pub(crate) fn bench(criterion: &mut Criterion) -> Result {
    let mut group = criterion.benchmark_group("notify");
    group.bench_function("untrapped", |bencher| bencher.iter(parent_id));
    for (name, sync) in [("round-trip", false), ("round-trip-sync-wake-up", true)] {
        let mut target = Fixture::start(Role::Getppid)?;
        let listener = target.listener()?;
        if sync && listener.set_sync_wake_up(true)? == Support::Unsupported {
            eprintln!("notify/{name}: left out, this kernel has no synchronous wake-up");
            continue;
        }
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                target.order(iterations).expect("the target waits for orders");
                for _ in 0..iterations {
                    answer(&listener).expect("the call can be answered");
                }
                target.took().expect("the target has had its answers")
            });
        });
    }
    group.finish();
    Ok(())
}

/// As an event loop does it, which waits in poll(2) and not in the ioctl.
fn answer(listener: &Listener) -> Result {
    let mut polled = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut polled, None)?;
    let [polled] = polled;
    ensure!(polled.revents().contains(PollFlags::IN), "the target has ended");
    match listener.recv()? {
        Received::Notification(call) => {
            let _delivered = call.reply(Reply::value(ANSWER.into())).context("reply")?;
            Ok(())
        }
        other => fail!("no notification but {other:?}"),
    }
}
