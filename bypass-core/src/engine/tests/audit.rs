//! What an auditor is told.

use std::sync::Mutex;

use super::*;
use crate::audit::{AuditLimits, AuditRecord, AuditSink, Auditor};
use crate::call::Message;

#[derive(Debug, Default)]
struct Lines(Mutex<Vec<String>>);

impl AuditSink for Lines {
    fn record(&self, record: &AuditRecord<'_>) {
        let AuditRecord { container, process, call, destination, outcome, suppressed, .. } = record;
        let pid = process.map_or(0, |process| process.pid);
        let rule = record.rule.map_or_else(|| "no rule".into(), ToString::to_string);
        let outcome = outcome.map_or("waits", |outcome| outcome.name());
        let (call, reason) = (call.name(), record.reason.name());
        let line = format!("{container}/{pid} {call} {destination} {outcome} {reason} ({rule})");
        let missing = if *suppressed == 0 { "" } else { ", some before it missing" };
        self.0.lock().unwrap().push(line + missing);
    }
}

fn audited(per_second: u32) -> (Scene, Arc<Lines>) {
    let lines = Arc::new(Lines::default());
    let mut scene = Scene::new();
    let limits = AuditLimits { per_second };
    let sink = Arc::clone(&lines) as Arc<dyn AuditSink>;
    scene.engine.set_auditor(Auditor::new("web".into(), sink, limits));
    (scene, lines)
}

fn told(lines: &Lines) -> Vec<String> {
    std::mem::take(&mut *lines.0.lock().unwrap())
}

#[test]
fn every_connect_is_told_with_its_rule_and_end() {
    let (mut scene, lines) = audited(100);
    for (to, expected) in [
        (DENIED, "web/7 connect 192.0.2.66:80 denied deny_rule (deny 192.0.2.66)"),
        (IGNORED, "web/7 connect 10.1.2.3:80 left ignored (no rule)"),
        ("0.0.0.0:80", "web/7 connect 127.0.0.1:80 left host_loopback (no rule)"),
        (
            "[::ffff:192.0.2.66]:80",
            "web/7 connect 192.0.2.66:80 denied deny_rule (deny 192.0.2.66)",
        ),
    ] {
        let domain = if to.starts_with('[') { Domain::Inet6 } else { Domain::Inet };
        scene.k.open(FD, CONTAINER, domain, TCP);
        scene.connect(to);
        assert_eq!(told(&lines), [expected], "{to}");
    }
    scene.k.open(FD, CONTAINER, Domain::Inet, TCP);
    scene.connect(REMOTE);
    assert_eq!(told(&lines), ["web/7 connect 192.0.2.1:80 switched allowed (no rule)"]);
    scene.peer(OTHER, Peer::Silent);
    scene.k.open(FD, CONTAINER, Domain::Inet, TCP);
    scene.connect(OTHER);
    assert_eq!(told(&lines), ["web/7 connect 192.0.2.2:80 waits allowed (no rule)"]);
}

#[test]
fn a_denied_send_is_told() {
    let (mut scene, lines) = audited(100);
    scene.engine.facts.udp = Udp::All;
    scene.k.open(FD, CONTAINER, Domain::Inet, libc::IPPROTO_UDP);
    let name = SockAddr::from(DENIED.parse::<SocketAddr>().unwrap()).encode();
    scene.k.memory.insert(64, name);
    let message = Message::To {
        data: ForeignAddr::new(128),
        len: 4,
        name: ForeignAddr::new(64),
        name_len: name.as_bytes().len() as u64,
        flags: 0,
    };
    scene.call(7, Call::Send { fd: FD, message });
    assert_eq!(told(&lines), ["web/7 send 192.0.2.66:80 denied deny_rule (deny 192.0.2.66)"]);
}

#[test]
#[cfg_attr(miri, ignore = "real time passes too fast for Miri")]
fn a_flood_does_not_hide_what_is_denied() {
    let (mut scene, lines) = audited(1);
    for _ in 0..100 {
        scene.k.open(FD, CONTAINER, Domain::Inet, TCP);
        scene.connect(REMOTE);
    }
    assert!((10..20).contains(&told(&lines).len()));
    scene.k.open(FD, CONTAINER, Domain::Inet, TCP);
    scene.connect(DENIED);
    let expected = "web/7 connect 192.0.2.66:80 denied deny_rule (deny 192.0.2.66)";
    assert_eq!(told(&lines), [expected]);
}

#[test]
fn nothing_is_told_of_other_families_or_of_the_dead() {
    let (mut scene, lines) = audited(100);
    scene.k.open(FD, CONTAINER, Domain::Other(libc::AF_UNIX), 0);
    scene.connect(REMOTE);
    scene.k.open(FD, CONTAINER, Domain::Inet, TCP);
    scene.k.faults.insert(Fault::Dead);
    scene.connect(REMOTE);
    assert_eq!(told(&lines), [""; 0]);
}
