use bypass_core::Publish;

use super::*;

const BOTH: [bool; 2] = [false, true];

fn all_traps() -> impl Iterator<Item = Traps> {
    BOTH.into_iter().flat_map(|names| BOTH.map(|sends| Traps { names, sends }))
}

fn list(texts: &[&str]) -> PublishList {
    let all: Vec<Publish> = texts.iter().map(|text| text.parse().unwrap()).collect();
    PublishList::new(all).unwrap()
}

#[test]
fn names_are_trapped_where_a_host_port_may_differ() {
    for (texts, differ) in [
        (&[][..], false),
        (&["80:80"], false),
        (&["127.0.0.1:8000-8010:8000-8010", "53:53/udp"], false),
        (&["80:80", "8080:8081"], true),
        (&["80:80", "[::1]::80"], true),
        (&["8000-8001:8000"], true),
    ] {
        let names = |when| Traps::for_publish(when, Udp::Connected, &list(texts)).names;
        assert_eq!(names(VirtualNames::Auto), differ, "{texts:?}");
        assert!(names(VirtualNames::On) && !names(VirtualNames::Off));
    }
}

#[test]
fn sends_are_trapped_for_unconnected_senders_only() {
    let sends = |udp| Traps::for_publish(VirtualNames::Auto, udp, &list(&["53/udp"])).sends;
    assert_eq!([Udp::Off, Udp::Connected, Udp::All].map(sends), [false, false, true]);
}

#[test]
fn what_is_asked_for_is_all_that_is_added() {
    let notified = |traps| -> Vec<&str> {
        rules(traps).filter(|rule| rule.action == Action::Notify).map(|rule| rule.name).collect()
    };
    let usual = notified(Traps::default());
    for name in ["getsockname", "getpeername", "sendto", "sendmsg", "sendmmsg"] {
        assert!(!usual.contains(&name), "{name}");
    }
    let added = |traps| notified(traps).split_off(usual.len());
    assert_eq!(added(Traps { names: true, sends: false }), ["getsockname", "getpeername"]);
    assert_eq!(added(Traps { names: false, sends: true }), ["sendto", "sendmsg", "sendmmsg"]);
    assert_eq!(added(Traps { names: true, sends: true }).len(), 5);
}

/// Runtimes hand all rules to libseccomp at once, which does not say what prevails.
#[test]
fn no_call_matches_two_rules() {
    let exclude = |one: &Rule, two: &Rule| {
        one.when.iter().any(|a| {
            two.when.iter().any(|b| match (a, b) {
                (
                    When::Masked { arg: a, mask: m, value: v },
                    When::Masked { arg: b, mask: n, value: w },
                ) => a == b && m == n && v != w,
                _ => false,
            })
        })
    };
    for traps in all_traps() {
        let all: Vec<&Rule> = rules(traps).collect();
        for (index, one) in all.iter().enumerate() {
            for two in all.iter().skip(index + 1).filter(|two| two.number == one.number) {
                assert!(exclude(one, two), "{} in {traps:?}", one.name);
            }
        }
    }
}

#[test]
fn a_send_is_refused_or_asked_for_by_the_same_flag() {
    for traps in all_traps() {
        let refused: Vec<&str> = rules(traps)
            .filter(|rule| rule.action == Action::Refuse(Errno::OPNOTSUPP))
            .map(|rule| rule.name)
            .collect();
        assert_eq!(refused, ["sendto", "sendmsg", "sendmmsg"], "{traps:?}");
    }
}

#[test]
fn every_table_compiles() {
    for traps in all_traps() {
        assert!(filter(traps).export_bpf().is_ok(), "{traps:?}");
    }
}
