//! Connects that take long: nobody else waits for them, and they end as natively.

use test_support::harness::{Group, Scenario};
use test_support::world::{REMOTE_V4, SILENT_V4, SILENT_V6};
use test_support::{Result, World, ensure, ensure_eq};

use crate::client::{Sequence, bypassed};
use crate::repl::Repl;

pub(crate) const SCENARIOS: Group = (
    "parking",
    &[
        Scenario { name: "blocked_connects_delay_nobody", requires: &[], run: undelayed },
        Scenario { name: "timeouts_are_the_native_ones", requires: &[], run: timeouts },
        Scenario { name: "connect_goes_on_after_its_timeout", requires: &[], run: goes_on },
        Scenario { name: "killed_connects_are_forgotten", requires: &[], run: killed },
    ],
);

fn undelayed(world: &World) -> Result {
    let server = world.serve_remote(&["--mode", "byte", "--quiet", "[::]:0"])?;
    let (silent, address) = (format!("{SILENT_V4}:9"), server.at(REMOTE_V4));
    let answer = bypassed(world, &[], &["parking", &silent, &address, "200", "500"])?;
    let p50 = |when: &str| answer[when]["p50_us"].as_f64().unwrap_or(f64::INFINITY);
    ensure_eq!(answer["beside"]["done"], 500, "connects: {answer}");
    // Generous, for machines with other work; one connect that waits for another takes
    // seconds, since the silent peer's are retried for two minutes.
    ensure!(p50("beside") < 2.0 * p50("before") + 200.0, "others are delayed: {answer}");
    Ok(())
}

fn timeouts(world: &World) -> Result {
    for (family, to) in [("inet", format!("{SILENT_V4}:9")), ("inet6", format!("[{SILENT_V6}]:9"))]
    {
        for option in ["so_sndtimeo=400", "tcp_syncnt=1"] {
            let steps = format!("set:{option} connect={to}");
            Sequence { family, steps: &steps }.same_as_native(world, &[])?;
        }
        let steps = format!("set:so_sndtimeo=400 connect={to}");
        let ours = Sequence { family, steps: &steps }.bypassed(world, &[])?;
        let took = ours.get(1).and_then(|step| step["ms"].as_u64()).unwrap_or(0);
        ensure!((400..2_400).contains(&took), "SO_SNDTIMEO of 400 ms ended after {took} ms");
    }
    Ok(())
}

fn goes_on(world: &World) -> Result {
    let steps = format!("set:so_sndtimeo=400 connect={SILENT_V4}:9 connect={SILENT_V4}:9 peer");
    Sequence { family: "inet", steps: &steps }.same_as_native(world, &[])
}

fn killed(world: &World) -> Result {
    let server = world.serve_remote(&["--mode", "byte", "--quiet", "[::]:0"])?;
    let mut inside = Repl::bypassed(world, &[])?;
    inside.expect(&format!("killed {SILENT_V4}:9 20"), "killed", 20)?;
    inside.expect(&format!("killed [{SILENT_V6}]:9 5"), "killed", 5)?;
    inside.expect(&format!("cycles {} 50", server.at(REMOTE_V4)), "done", 50)?;
    Ok(())
}
