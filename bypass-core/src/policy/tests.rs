use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::pattern::any_pattern;
use super::*;
use proptest::prelude::*;
use sockaddr_inspect::Destination;

fn patterns(list: &[&str]) -> Vec<Pattern> {
    list.iter().map(|pattern| pattern.parse().unwrap()).collect()
}

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

fn decide(policy: &Policy, addr: &str) -> Verdict {
    policy.decide(&Flow::new(Protocol::Tcp, addr.parse().unwrap()))
}

const DENIED: Verdict = Verdict::Deny(Reason::DenyRule);

#[test]
fn every_spelling_of_host_loopback_is_left() {
    let policy = Policy::builder().build();
    for addr in [
        "127.0.0.1:80",
        "127.255.255.254:80",
        "[::1]:80",
        "[::ffff:127.0.0.1]:80",
        "0.0.0.0:80",
        "[::]:80",
        "[::ffff:0.0.0.0]:80",
    ] {
        assert_eq!(decide(&policy, addr), Verdict::Leave(Reason::HostLoopback), "{addr}");
    }
}

#[test]
fn host_loopback_needs_words() {
    let policy = Policy::builder().allow_host_loopback(true).build();
    assert_eq!(decide(&policy, "127.0.0.1:80"), Verdict::Bypass);
    assert_eq!(decide(&policy, "[::]:80"), Verdict::Bypass);
}

#[test]
fn a_rule_that_allows_loopback_does_not_open_the_hosts() {
    for default in DefaultAction::ALL {
        let policy = Policy::builder()
            .allow(patterns(&["127.0.0.0/8", "::1", "any"]))
            .deny(patterns(&["any"]))
            .default_action(*default)
            .build();
        for addr in ["127.0.0.1:80", "0.0.0.0:80", "[::1]:80"] {
            assert_eq!(decide(&policy, addr), Verdict::Leave(Reason::HostLoopback), "{addr}");
        }
    }
}

#[test]
fn deny_beats_ignore_and_host_loopback() {
    let policy = Policy::builder()
        .deny(patterns(&["10.1.0.0/16", "127.0.0.0/8"]))
        .ignore(nets(&["10.0.0.0/8"]))
        .allow_host_loopback(true)
        .build();
    assert_eq!(decide(&policy, "10.1.2.3:80"), DENIED);
    assert_eq!(decide(&policy, "10.2.2.3:80"), Verdict::Leave(Reason::Ignored));
    assert_eq!(decide(&policy, "0.0.0.0:80"), DENIED);
}

#[test]
fn the_first_rule_that_matches_counts() {
    let policy = Policy::builder()
        .allow(patterns(&["10.1.2.3:443/tcp"]))
        .deny(patterns(&["10.1.0.0/16"]))
        .allow(patterns(&["10.0.0.0/8"]))
        .deny(patterns(&["any"]))
        .build();
    assert_eq!(decide(&policy, "10.1.2.3:443"), Verdict::Bypass);
    assert_eq!(decide(&policy, "10.1.2.3:80"), DENIED);
    assert_eq!(decide(&policy, "10.2.2.3:80"), Verdict::Bypass);
    assert_eq!(decide(&policy, "11.0.0.1:80"), DENIED);
    let udp = Flow::new(Protocol::Udp, "10.1.2.3:443".parse().unwrap());
    assert_eq!(policy.decide(&udp), DENIED);
}

#[test]
fn defaults_are_about_what_would_be_bypassed() {
    let with = |default| {
        let builder = Policy::builder().ignore(nets(&["10.0.0.0/8"])).default_action(default);
        builder.allow(patterns(&["192.0.2.0/24:443"])).build()
    };
    for (default, other) in [
        (DefaultAction::Allow, Verdict::Bypass),
        (DefaultAction::Leave, Verdict::Leave(Reason::NotAllowed)),
        (DefaultAction::Deny, Verdict::Deny(Reason::NotAllowed)),
    ] {
        let policy = with(default);
        assert_eq!(decide(&policy, "192.0.2.1:443"), Verdict::Bypass);
        assert_eq!(decide(&policy, "192.0.2.1:80"), other);
        assert_eq!(decide(&policy, "198.51.100.1:443"), other);
        assert_eq!(decide(&policy, "10.1.1.1:80"), Verdict::Leave(Reason::Ignored));
        assert_eq!(decide(&policy, "127.0.0.1:80"), Verdict::Leave(Reason::HostLoopback));
        assert_eq!(decide(&policy, "[fe80::1%1]:80"), Verdict::Leave(Reason::LinkLocal));
        assert_eq!(decide(&policy, "224.0.0.1:80"), Verdict::Leave(Reason::Multicast));
    }
    // With the host's loopback opened, it is subject to the default like everything.
    let opened = Policy::builder().allow_host_loopback(true).default_action(DefaultAction::Deny);
    assert_eq!(decide(&opened.build(), "127.0.0.1:80"), Verdict::Deny(Reason::NotAllowed));
}

#[test]
fn rules_written_for_mapped_addresses_match() {
    let policy = Policy::builder().deny(patterns(&["::ffff:10.0.0.0/104"])).build();
    assert_eq!(decide(&policy, "10.9.9.9:1"), DENIED);
    assert_eq!(decide(&policy, "[::ffff:10.9.9.9]:1"), DENIED);
    let net = nets(&["::ffff:10.0.0.0/104"]).remove(0);
    let policy = Policy::builder().deny([net.into()]).build();
    assert_eq!(decide(&policy, "10.9.9.9:1"), DENIED);
}

#[test]
fn groups_are_left() {
    let policy = Policy::builder().build();
    for addr in ["224.0.0.1:1", "255.255.255.255:1", "[ff02::1]:1"] {
        assert_eq!(decide(&policy, addr), Verdict::Leave(Reason::Multicast), "{addr}");
    }
}

#[test]
fn a_scope_of_the_container_means_nothing_to_the_host() {
    let policy = Policy::builder().build();
    assert_eq!(decide(&policy, "[fe80::1%2]:80"), Verdict::Leave(Reason::LinkLocal));
    assert_eq!(decide(&policy, "169.254.1.1:80"), Verdict::Bypass);
}

#[test]
fn what_is_not_known_of_the_hosts_addresses_is_to_nobodys_advantage() {
    let to = |host| Flow::new(Protocol::Tcp, "192.0.2.1:80".parse().unwrap()).of_host(host);
    let deny = Policy::builder().deny(patterns(&["host"])).build();
    let allow =
        Policy::builder().allow(patterns(&["host"])).default_action(DefaultAction::Deny).build();
    for (host, denied, allowed) in
        [(Some(true), true, true), (Some(false), false, false), (None, true, false)]
    {
        assert_eq!(deny.decide(&to(host)) != Verdict::Bypass, denied, "{host:?}");
        assert_eq!(allow.decide(&to(host)) == Verdict::Bypass, allowed, "{host:?}");
    }
    assert!(deny.names_host() && allow.names_host());
    assert!(!Policy::builder().deny(patterns(&["private", "any"])).build().names_host());
    // These are the container's own, though the kernel counts them among the host's addresses.
    for (addr, reason) in [
        ("0.0.0.0:80", Reason::HostLoopback),
        ("224.0.0.251:5353", Reason::Multicast),
        ("255.255.255.255:67", Reason::Multicast),
    ] {
        for host in [Some(true), None] {
            let own = Flow::new(Protocol::Udp, addr.parse().unwrap()).of_host(host);
            assert_eq!(deny.decide(&own), Verdict::Leave(reason), "{addr}");
        }
    }
}

#[test]
fn what_is_not_known_of_the_containers_networks_is_left_to_it() {
    let policy = Policy::builder().ignore_own_networks(true).deny(patterns(&["10.0.0.66"])).build();
    let decide = |addr: &str, own| {
        policy.decide(&Flow::new(Protocol::Tcp, addr.parse().unwrap()).in_own_network(own))
    };
    for (own, verdict) in [
        (Some(true), Verdict::Leave(Reason::OwnNetwork)),
        (Some(false), Verdict::Bypass),
        (None, Verdict::Leave(Reason::NetworksUnknown)),
    ] {
        assert_eq!(decide("10.0.0.1:80", own), verdict);
        assert_eq!(decide("10.0.0.66:80", own), DENIED);
        assert_eq!(decide("127.0.0.1:80", own), Verdict::Leave(Reason::HostLoopback));
    }
    // Who says that loopback is the host's means it, and `lo` has a network as well.
    let open = Policy::builder().ignore_own_networks(true).allow_host_loopback(true).build();
    let loopback = Flow::new(Protocol::Tcp, "127.0.0.1:80".parse().unwrap());
    assert_eq!(open.decide(&loopback.in_own_network(Some(true))), Verdict::Bypass);
    // Nobody else wants to know.
    assert!(policy.ignores_own_networks() && !Policy::builder().build().ignores_own_networks());
    let flow = Flow::new(Protocol::Tcp, "10.0.0.1:80".parse().unwrap());
    assert_eq!(Policy::builder().build().decide(&flow), Verdict::Bypass);
}

#[test]
fn protocols_that_are_never_bypassed_are_denied_by_rules_about_every_protocol() {
    let policy = Policy::builder().deny(patterns(&["10.0.0.0/8", "11.0.0.0/8/tcp"])).build();
    let to = |addr: &str| Flow::new(None, addr.parse().unwrap());
    assert_eq!(policy.decide(&to("10.0.0.1:0")), DENIED);
    assert_eq!(policy.decide(&to("11.0.0.1:0")), Verdict::Bypass);
}

#[test]
fn a_protocol_is_restricted_by_what_can_refuse_it() {
    let restricted =
        |policy: &Policy| (policy.restricts(Protocol::Tcp), policy.restricts(Protocol::Udp));
    let plain = || Policy::builder().ignore(nets(&["10.0.0.0/8"]));
    assert_eq!(restricted(&plain().build()), (false, false));
    assert_eq!(restricted(&plain().deny(patterns(&["any:25"])).build()), (true, true));
    assert_eq!(restricted(&plain().deny(patterns(&["any/tcp"])).build()), (true, false));
    assert_eq!(restricted(&plain().deny(patterns(&["any/udp"])).build()), (false, true));
    for default in [DefaultAction::Leave, DefaultAction::Deny] {
        assert_eq!(restricted(&plain().default_action(default).build()), (true, true));
    }
}

#[test]
fn a_decision_says_what_it_rests_on() {
    let policy = Policy::builder()
        .rules([Rule::new(Action::Allow, patterns(&["10.1.2.3"]).remove(0)).written_at("--allow")])
        .deny(patterns(&["10.0.0.0/8:22", "metadata"]))
        .ignore(nets(&["10.1.0.0/16", "10.1.2.0/24", "172.16.0.0/12"]))
        .default_action(DefaultAction::Deny)
        .build();
    let explain = |addr: &str| {
        let decision = policy.explain(&Flow::new(Protocol::Tcp, addr.parse().unwrap()));
        let rule = decision.rule.and_then(|index| policy.rule(index)).map(ToString::to_string);
        (decision.verdict, rule, decision.ignored.map(|net| net.to_string()))
    };
    let text = |text: &str| Some(text.to_owned());
    for (addr, expected) in [
        (
            "10.1.2.3:22",
            (Verdict::Leave(Reason::Ignored), text("allow 10.1.2.3"), text("10.1.0.0/16")),
        ),
        ("10.1.2.4:22", (DENIED, text("deny 10.0.0.0/8:22"), None)),
        ("169.254.169.254:80", (DENIED, text("deny metadata"), None)),
        ("172.16.0.1:80", (Verdict::Leave(Reason::Ignored), None, text("172.16.0.0/12"))),
        ("8.8.8.8:53", (Verdict::Deny(Reason::NotAllowed), None, None)),
    ] {
        assert_eq!(explain(addr), expected, "{addr}");
    }
    assert_eq!(policy.rules()[0].origin(), Some("--allow"));
}

/// The language as its reference defines it.
fn defined(
    rules: &[(Action, Pattern)],
    default: DefaultAction,
    ignore: &[IpNet],
    loopback: bool,
    flow: &Flow,
) -> Verdict {
    let ip = flow.to.ip;
    let is_loopback = match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 127,
        IpAddr::V6(ip) => ip == std::net::Ipv6Addr::LOCALHOST,
    };
    let group = ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::new(255, 255, 255, 255));
    let mut matched = None;
    for (action, pattern) in rules {
        let (target, ports, protocol) = pattern.parts();
        let host = match (is_loopback || group, *action) {
            (true, _) => false,
            (false, Action::Deny) => flow.is_of_host() != Some(false),
            (false, Action::Allow) => flow.is_of_host() == Some(true),
        };
        let there = match target {
            Target::Any => true,
            Target::Net(net) => net.contains(&ip),
            Target::Preset(Preset::Host) => host,
            Target::Preset(preset) => preset.networks().iter().any(|net| net.contains(&ip)),
        };
        let by = protocol.is_none_or(|protocol| flow.protocol == Some(protocol));
        if there && by && ports.contains(flow.to.port) {
            matched = Some(*action);
            break;
        }
    }
    let link_local = matches!(ip, IpAddr::V6(ip) if ip.segments()[0] & 0xffc0 == 0xfe80);
    match matched {
        Some(Action::Deny) => Verdict::Deny(Reason::DenyRule),
        _ if ignore.iter().any(|net| net.contains(&ip)) => Verdict::Leave(Reason::Ignored),
        _ if is_loopback && !loopback => Verdict::Leave(Reason::HostLoopback),
        _ if group => Verdict::Leave(Reason::Multicast),
        _ if link_local => Verdict::Leave(Reason::LinkLocal),
        Some(Action::Allow) => Verdict::Bypass,
        None => match default {
            DefaultAction::Allow => Verdict::Bypass,
            DefaultAction::Leave => Verdict::Leave(Reason::NotAllowed),
            DefaultAction::Deny => Verdict::Deny(Reason::NotAllowed),
        },
    }
}

fn any_rules() -> impl Strategy<Value = Vec<(Action, Pattern)>> {
    let action = prop_oneof![Just(Action::Allow), Just(Action::Deny)];
    prop::collection::vec((action, any_pattern()), 0..12)
}

fn any_default() -> impl Strategy<Value = DefaultAction> {
    prop::sample::select(DefaultAction::ALL)
}

fn any_net() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<u32>(), 0u8..=32)
        .prop_map(|(ip, len)| IpNet::new(IpAddr::V4(ip.into()), len).unwrap());
    let v6 = (any::<u128>(), 0u8..=95)
        .prop_map(|(ip, len)| IpNet::new(IpAddr::V6(ip.into()), len).unwrap());
    prop_oneof![v4, v6]
}

/// Random addresses and ports rarely meet a rule, so those at the edges of one are taken as well.
fn any_flow(rules: &[(Action, Pattern)]) -> impl Strategy<Value = Flow> + use<> {
    let mut ips = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    let mut ports = vec![80];
    for (_, pattern) in rules {
        let (target, range, _) = pattern.parts();
        match target {
            Target::Net(net) => ips.extend([net.network(), net.broadcast()]),
            Target::Preset(preset) => ips.extend(preset.networks().iter().map(IpNet::network)),
            Target::Any => {}
        }
        let (first, last) = range.ends();
        ports.extend([first, last, first.saturating_sub(1), last.saturating_add(1)]);
    }
    let ip = prop_oneof![
        4 => prop::sample::select(ips),
        1 => any::<u32>().prop_map(|ip| IpAddr::V4(ip.into())),
        1 => any::<u128>().prop_map(|ip| IpAddr::V6(ip.into())),
    ];
    let port = prop_oneof![4 => prop::sample::select(ports), 1 => any::<u16>()];
    let protocol = prop::option::of(prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]);
    (ip, port, protocol, any::<Option<bool>>()).prop_map(|(ip, port, protocol, host)| {
        Flow::to(protocol, Destination::of(SocketAddr::new(ip, port))).of_host(host)
    })
}

fn rules_and_flow() -> impl Strategy<Value = (Vec<(Action, Pattern)>, Flow)> {
    any_rules().prop_flat_map(|rules| (any_flow(&rules), Just(rules)).prop_map(|(a, b)| (b, a)))
}

fn build(
    rules: &[(Action, Pattern)],
    default: DefaultAction,
    ignore: &[IpNet],
    loopback: bool,
) -> Policy {
    Policy::builder()
        .rules(rules.iter().map(|(action, pattern)| Rule::new(*action, *pattern)))
        .default_action(default)
        .ignore(ignore.iter().copied())
        .allow_host_loopback(loopback)
        .build()
}

proptest! {
    #[test]
    fn verdicts_are_as_the_language_defines_them(
        (rules, flow) in rules_and_flow(),
        default in any_default(),
        ignore in prop::collection::vec(any_net(), 0..3),
        loopback in any::<bool>(),
    ) {
        let policy = build(&rules, default, &ignore, loopback);
        let verdict = policy.decide(&flow);
        prop_assert_eq!(verdict, defined(&rules, default, &ignore, loopback, &flow));
        let decision = policy.explain(&flow);
        prop_assert_eq!(decision.verdict, verdict);
        let action = decision.rule.and_then(|index| policy.rule(index)).map(Rule::action);
        prop_assert_eq!(action == Some(Action::Deny), verdict == DENIED);
    }

    #[test]
    fn a_deny_in_front_never_adds_a_bypass(
        (rules, flow) in rules_and_flow(),
        pattern in any_pattern(),
        default in any_default(),
    ) {
        let before = build(&rules, default, &[], false).decide(&flow);
        let more = [&[(Action::Deny, pattern)][..], &rules].concat();
        let after = build(&more, default, &[], false).decide(&flow);
        prop_assert!(after == before || after == DENIED, "{:?}, then {:?}", before, after);
    }

    #[test]
    fn an_ignored_network_never_adds_a_bypass(
        (rules, flow) in rules_and_flow(),
        net in any_net(),
        default in any_default(),
    ) {
        let before = build(&rules, default, &[], false).decide(&flow);
        let after = build(&rules, default, &[net], false).decide(&flow);
        if after == Verdict::Bypass {
            prop_assert_eq!(before, Verdict::Bypass);
        }
    }

    #[test]
    fn a_stricter_default_never_adds_a_bypass((rules, flow) in rules_and_flow()) {
        let with = |default| build(&rules, default, &[], false).decide(&flow) == Verdict::Bypass;
        prop_assert!(with(DefaultAction::Leave) == with(DefaultAction::Deny));
        prop_assert!(with(DefaultAction::Leave) <= with(DefaultAction::Allow));
    }

    #[test]
    fn a_protocol_that_is_not_restricted_is_never_refused(
        (rules, flow) in rules_and_flow(),
        default in any_default(),
    ) {
        let policy = build(&rules, default, &[], false);
        if let Some(protocol) = flow.protocol && !policy.restricts(protocol) {
            prop_assert!(!matches!(policy.decide(&flow), Verdict::Deny(_)));
        }
    }

    #[test]
    fn a_rule_that_another_covers_matches_nothing_else(
        (rules, flow) in rules_and_flow(),
        pattern in any_pattern(),
    ) {
        for (action, earlier) in &rules {
            for later in rules.iter().map(|(_, later)| later).chain([&pattern]) {
                if earlier.covers(later) && later.matches(&flow, *action == Action::Deny) {
                    prop_assert!(earlier.matches(&flow, *action == Action::Deny));
                }
            }
        }
    }

    #[test]
    fn mapped_and_plain_addresses_get_the_same_verdict(
        ip in any::<u32>(), bits in any::<u32>(), len in 0u8..=32,
    ) {
        let net: IpNet = ipnet::Ipv4Net::new(bits.into(), len).unwrap().into();
        let policy = Policy::builder().deny([net.into()]).build();
        let plain = Ipv4Addr::from(ip);
        let at = |ip| policy.decide(&Flow::new(Protocol::Tcp, SocketAddr::new(ip, 80)));
        prop_assert_eq!(at(IpAddr::V4(plain)), at(IpAddr::V6(plain.to_ipv6_mapped())));
    }
}
