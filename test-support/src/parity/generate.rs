//! Random sequences of socket calls, as `fx-parity` takes them.
//!
//! Most sequences are about one family, so that they get somewhere; a few mix them. What is
//! left out on purpose stands in docs/parity.md.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;

/// Calls in the order in which they are made.
pub type Sequence = Vec<String>;

/// What sequences are made of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kinds {
    /// `dup` as well.
    pub duplicates: bool,
}

/// All sequences of these kinds.
pub fn sequences(kinds: Kinds) -> impl Strategy<Value = Sequence> {
    (vec(opening(), 1..4), vec(call(kinds), 1..16)).prop_map(|(openings, calls)| {
        // A number for each that is opened; the epoll is there from the start, or from a call on.
        let openings = openings.into_iter().enumerate();
        openings.map(|(slot, kind)| format!("socket {slot} {kind}")).chain(calls).collect()
    })
}

fn opening() -> impl Strategy<Value = String> {
    let words = |words: &'static [&'static str]| select(words);
    (words(&["4", "4", "6"]), words(&["stream", "stream", "dgram"]), words(&["", " nonblocking"]))
        .prop_map(|(family, kind, mode)| format!("{family} {kind}{mode}"))
}

fn call(kinds: Kinds) -> impl Strategy<Value = String> {
    let slot = || 0..3_u8;
    let plain = |weight: u32, names: &'static [&'static str]| {
        let calls = (select(names), slot()).prop_map(|(name, slot)| {
            let (name, rest) = name.split_once(' ').unwrap_or((name, ""));
            format!("{name} {slot} {rest}").trim_end().to_owned()
        });
        (weight, calls.boxed())
    };
    let with = |weight: u32, name: &'static str, words: &'static [&'static str]| {
        let calls = (slot(), select(words)).prop_map(move |(slot, w)| format!("{name} {slot} {w}"));
        (weight, calls.boxed())
    };
    let between = |weight: u32, name: &'static str| {
        let calls = (slot(), slot()).prop_map(move |(from, to)| format!("{name} {from} {to}"));
        (weight, calls.boxed())
    };
    let opened = (slot(), opening()).prop_map(|(slot, kind)| format!("socket {slot} {kind}"));
    let mut calls = vec![
        (3, opened.boxed()),
        with(14, "connect", DESTINATIONS),
        with(5, "sendto", DESTINATIONS),
        with(7, "bind", PLACES),
        plain(5, &["listen"]),
        between(4, "accept"),
        plain(4, &["close"]),
        with(4, "shutdown", &["rd", "wr", "both"]),
        plain(16, &["send", "recv", "recv", "waiting"]),
        plain(14, &["local", "peer", "error", "error", "state", "flags"]),
        with(5, "set", OPTIONS),
        with(5, "get", OPTIONS),
        plain(3, &["blocking", "nonblocking", "nonblocking", "cloexec"]),
        plain(8, &["poll", "poll wait"]),
        (5, Just("epoll".to_owned()).boxed()),
        with(10, "add", EVENTS),
        with(3, "mod", EVENTS),
        plain(2, &["del"]),
        (12, select(&["wait", "wait", "wait 10"][..]).prop_map(ToOwned::to_owned).boxed()),
    ];
    if kinds.duplicates {
        calls.push(between(6, "dup"));
    }
    Union::new_weighted(calls)
}

const DESTINATIONS: &[&str] = &[
    "echo",
    "echo",
    "echo",
    "echo",
    "bye",
    "reset",
    "refuse",
    "refuse",
    "silent",
    "silent",
    "unreachable4",
    "own0",
    "own1",
    "own2",
    "zero0",
    "zero1",
    "unspec",
    "echo4",
    "echo6",
    "echom",
    "refusem",
    "silentm",
    "unreachablem",
];

const PLACES: &[&str] =
    &["any", "any", "loop", "loop", "any:fixed", "loop:fixed", "any4", "any6", "anym", "loopm"];

const OPTIONS: &[&str] = &[
    "so_reuseaddr",
    "so_keepalive",
    "so_linger",
    "so_rcvbuf",
    "so_rcvlowat",
    "so_priority",
    "tcp_nodelay",
    "tcp_keepidle",
    "tcp_syncnt",
    "ip_tos",
    "ip_ttl",
    "ipv6_v6only",
];

const EVENTS: &[&str] = &["i", "o", "io", "ior", "ie", "ioe", "iore", "o1", "io1", "r"];
