//! Rules as users write them, a line each and as a file, and destinations that are judged by them.
//!
//! Input: a destination (18 bytes: address, port), of what protocol and whether of the host (1), then
//! the text.

#![no_main]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "which is how a target says that it found something"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bypass_core::{
    Action, DefaultAction, Flow, Pattern, Policy, PolicyFile, PolicyLayer, Protocol, Reason, Rule,
    Verdict, check_order, parse_network,
};
use ipnet::IpNet;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((address, rest)) = input.split_first_chunk::<16>() else { return };
    let Some(([p0, p1, about], text)) = rest.split_first_chunk() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let to = SocketAddr::new(Ipv6Addr::from(*address).into(), u16::from_be_bytes([*p0, *p1]));
    let about = About {
        protocol: [None, Some(Protocol::Tcp), Some(Protocol::Udp)][usize::from(about % 3)],
        host: [None, Some(false), Some(true)][usize::from(about / 3 % 3)],
    };
    for layer in [lines(text), file(text)].into_iter().flatten() {
        judged(&layer, to, about);
    }
});

/// What else a destination has to it.
#[derive(Clone, Copy)]
struct About {
    protocol: Option<Protocol>,
    host: Option<bool>,
}

/// As options have it: `deny PATTERN`, `allow PATTERN`, `ignore NET`, `default WORD`, `loopback`.
fn lines(text: &str) -> Option<PolicyLayer> {
    let mut layer = PolicyLayer::default();
    for line in text.lines().take(16) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "deny" => layer.rules.extend(rule(Action::Deny, rest)),
            "allow" => layer.rules.extend(rule(Action::Allow, rest)),
            "ignore" => match parse_network(rest) {
                Ok(net) => layer.ignore.push(net),
                Err(error) => assert!(!error.to_string().is_empty()),
            },
            "default" => {
                layer.default = DefaultAction::ALL.iter().find(|one| one.name() == rest).copied();
            }
            "loopback" => layer.allow_host_loopback = Some(true),
            _ => {}
        }
    }
    Some(layer)
}

fn rule(action: Action, text: &str) -> Option<Rule> {
    match text.parse::<Pattern>() {
        Ok(pattern) => {
            let again = pattern.to_string().parse::<Pattern>();
            assert_eq!(again, Ok(pattern), "{pattern}");
            // What is written is all of the network that is meant.
            if let Ok(net) = target(text).parse::<IpNet>() {
                assert_eq!(net, net.trunc(), "{text}");
            }
            Some(Rule::new(action, pattern))
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// A pattern without ports and protocol, where it has an address.
fn target(text: &str) -> &str {
    match text.strip_prefix('[') {
        Some(inner) => inner.split(']').next().unwrap_or(inner),
        None if text.matches(':').count() > 1 => text.split("/tcp").next().unwrap_or(text),
        None => text.split([':']).next().unwrap_or(text),
    }
}

/// Everything that a file says about a container.
fn file(text: &str) -> Option<PolicyLayer> {
    match PolicyFile::parse("f", text) {
        Ok(file) => {
            let annotations = BTreeMap::from([("org/name".to_owned(), "web-1".to_owned())]);
            let about: Vec<_> = file.layers_for("web-1", &annotations).collect();
            assert!(about.len() <= file.sections().count() + 1);
            for layer in file.sections().chain([file.general()]) {
                // No rule stands behind one that takes everything from it.
                assert_eq!(check_order(&layer.rules), Ok(()));
                for rule in &layer.rules {
                    let origin = rule.origin().and_then(|at| at.strip_prefix("f:"));
                    let line = origin.and_then(|line| line.parse::<usize>().ok());
                    assert!(line.is_some_and(|line| in_text(line, text)), "{rule:?}");
                }
            }
            Some(PolicyLayer::stacked(about))
        }
        Err(error) => {
            assert!(in_text(error.line, text), "{error}");
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

fn in_text(line: usize, text: &str) -> bool {
    (1..=text.split('\n').count()).contains(&line)
}

fn judged(layer: &PolicyLayer, to: SocketAddr, about: About) {
    let policy = layer.policy();
    layer.check().map_err(|error| assert!(!error.to_string().is_empty())).ok();
    // A destination by chance is behind no rule: take some that meet what the rules are about.
    let mut all = vec![to];
    for rule in layer.rules.iter().take(8) {
        let text = rule.pattern().to_string();
        let address = target(&text).split('/').next().unwrap_or_default();
        if let Ok(ip) = address.parse::<IpAddr>() {
            all.extend([to.port(), 80].map(|port| SocketAddr::new(ip, port)));
        }
    }
    for to in all {
        let flow = Flow::new(about.protocol, to).of_host(about.host);
        let decision = policy.explain(&flow);
        let verdict = policy.decide(&flow);
        assert_eq!(verdict, decision.verdict, "{flow:?}");
        let rule = decision.rule.map(|index| policy.rule(index).map(Rule::action));
        consistent(&policy, &flow, verdict, rule.flatten());
        // The same place by its other name.
        if let IpAddr::V4(ip) = flow.to.ip {
            let mapped = SocketAddr::new(ip.to_ipv6_mapped().into(), flow.to.port);
            let mapped = Flow::new(about.protocol, mapped).of_host(about.host);
            assert_eq!(policy.decide(&mapped), verdict, "{mapped:?}");
        }
    }
}

fn consistent(policy: &Policy, flow: &Flow, verdict: Verdict, rule: Option<Action>) {
    let default = policy.default_action();
    match verdict {
        Verdict::Deny(Reason::DenyRule) => assert_eq!(rule, Some(Action::Deny)),
        Verdict::Deny(Reason::NotAllowed) => {
            assert_eq!((rule, default), (None, DefaultAction::Deny));
        }
        Verdict::Leave(Reason::NotAllowed) => {
            assert_eq!((rule, default), (None, DefaultAction::Leave));
        }
        Verdict::Deny(other) => panic!("{other:?} for {flow:?}"),
        Verdict::Leave(_) => assert_ne!(rule, Some(Action::Deny)),
        Verdict::Bypass => {
            let allowed = rule == Some(Action::Allow);
            assert!(allowed || (rule.is_none() && default == DefaultAction::Allow), "{flow:?}");
            assert!(!flow.to.is_loopback() || policy.allows_host_loopback(), "{flow:?}");
        }
    }
    if verdict != Verdict::Bypass && rule == Some(Action::Deny) {
        let restricted = flow.protocol.is_none_or(|protocol| policy.restricts(protocol));
        assert!(restricted, "{flow:?}");
    }
}
