use super::*;

fn all_traps() -> impl Iterator<Item = Traps> {
    (0..8).map(|bits| Traps { names: bits & 1 != 0, messages: bits & 2 != 0, sends: bits & 4 != 0 })
}

#[test]
fn traps_cover_themselves_and_less() {
    for traps in all_traps() {
        for others in all_traps() {
            let more = (others.names && !traps.names)
                || (others.messages && !traps.messages)
                || (others.sends && !traps.sends);
            assert_eq!(traps.cover(others), !more, "{traps:?} {others:?}");
        }
    }
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
    for traps in all_traps() {
        let mut expected: Vec<&str> = Vec::new();
        for (on, names) in [
            (traps.names, &["getsockname", "getpeername"][..]),
            (traps.messages, &["sendmsg", "sendmmsg"]),
            (traps.sends, &["sendto"]),
        ] {
            expected.extend(names.iter().filter(|_| on));
        }
        assert_eq!(added(traps), expected, "{traps:?}");
    }
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
fn every_way_to_an_ipv6_source_route_is_refused() {
    let value = |rule: &Rule, at: u32| {
        rule.when.iter().find_map(|when| match when {
            When::Masked { arg, mask: INT, value } if *arg == at => Some(*value),
            _ => None,
        })
    };
    let refused: Vec<_> = rules(Traps::default())
        .filter(|rule| rule.number == libc::SYS_setsockopt)
        .map(|rule| (rule.action, value(rule, 1), value(rule, 2)))
        .collect();
    let option = |number| (Action::Refuse(Errno::PERM), Some(41), Some(number));
    // IPV6_RTHDR, IPV6_2292PKTOPTIONS, IPV6_FLOWLABEL_MGR
    assert_eq!(refused, [57, 6, 32].map(option));
}

#[test]
fn every_table_compiles() {
    for traps in all_traps() {
        assert!(filter(traps).export_bpf().is_ok(), "{traps:?}");
    }
}
