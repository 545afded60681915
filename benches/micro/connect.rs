//! The whole of it, as a program sees it: connect, one byte, close.
//!
//! The program is the same on the host and in the container, whose namespace holds no
//! device that leads anywhere: a connect that succeeds there was made by the host.

use bypass_core::{Policy, Settings, Supervisor};
use criterion::Criterion;
use test_support::failure::Result;

use crate::fixture::{Fixture, Role, Watching};
use crate::sandbox::Sandbox;

pub(crate) fn bench(criterion: &mut Criterion, sandbox: &Sandbox) -> Result {
    let mut on_host = Fixture::start(Role::OnHost(sandbox.server))?;
    let mut in_container = Fixture::start(Role::InContainer(sandbox.server))?;
    let settings = Settings::new("bench", Policy::builder().build());
    let supervisor = Supervisor::new()?;
    let _container = supervisor.attach(in_container.listener()?, settings)?;
    let mut group = criterion.benchmark_group("connect");
    for (name, client) in [("host", &mut on_host), ("bypass", &mut in_container)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                client.order(iterations).expect("the client waits for orders");
                client.took().expect("every connect succeeds")
            });
        });
    }
    for (name, watching) in [
        ("bypass-10000-descriptors", Watching::Nothing),
        ("bypass-10000-descriptors-epoll", Watching::Others),
        ("bypass-10000-descriptors-watched", Watching::Each),
    ] {
        let mut client = Fixture::start(Role::Crowded(sandbox.server, watching))?;
        let settings = Settings::new(name, Policy::builder().build()).epolls_told(true);
        let _container = supervisor.attach(client.listener()?, settings)?;
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                client.order(iterations).expect("the client waits for orders");
                client.took().expect("every connect succeeds")
            });
        });
    }
    group.finish();
    Ok(())
}
