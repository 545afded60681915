//! The rules in a form that decides fast.
//!
//! Only where an `allow` follows a `deny`, or the reverse, does the order of two rules matter. So
//! neighbours with the same action become one block, and within a block the networks of all rules
//! about the same ports and protocol become one set. A list of a thousand networks is looked through
//! in one binary search.

use ipnet::IpNet;

use super::ranges::RangeSet;
use super::{Action, Flow, PortRange, Preset, Rule, Target};
use crate::publish::Protocol;

/// Rules with the same action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) action: Action,
    groups: Box<[Group]>,
}

/// Those among them about the same ports and protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    protocol: Option<Protocol>,
    ports: PortRange,
    any: bool,
    host: bool,
    nets: RangeSet,
}

impl Block {
    pub(super) fn of(rules: &[Rule]) -> Box<[Self]> {
        let same = rules.chunk_by(|a, b| a.action() == b.action());
        same.filter_map(|rules| {
            let action = rules.first()?.action();
            Some(Self { action, groups: Group::of(rules) })
        })
        .collect()
    }

    pub(super) fn matches(&self, flow: &Flow) -> bool {
        self.groups.iter().any(|group| group.matches(flow, self.action))
    }
}

impl Group {
    fn of(rules: &[Rule]) -> Box<[Self]> {
        struct Draft {
            ports: PortRange,
            protocol: Option<Protocol>,
            targets: Vec<Target>,
        }
        let mut drafts: Vec<Draft> = Vec::new();
        for rule in rules {
            let (target, ports, protocol) = rule.pattern().parts();
            match drafts.iter_mut().find(|one| one.ports == ports && one.protocol == protocol) {
                Some(draft) => draft.targets.push(target),
                None => drafts.push(Draft { ports, protocol, targets: vec![target] }),
            }
        }
        drafts
            .into_iter()
            .map(|Draft { ports, protocol, targets }| {
                let nets: Vec<IpNet> = targets.iter().flat_map(networks).copied().collect();
                Self {
                    protocol,
                    ports,
                    any: targets.contains(&Target::Any),
                    host: targets.contains(&Target::Preset(Preset::Host)),
                    nets: RangeSet::new(&nets),
                }
            })
            .collect()
    }

    fn matches(&self, flow: &Flow, action: Action) -> bool {
        (self.protocol.is_none() || self.protocol == flow.protocol)
            && self.ports.contains(flow.to.port)
            && (self.any || self.nets.contains(flow.to.ip) || self.matches_host(flow, action))
    }

    fn matches_host(&self, flow: &Flow, action: Action) -> bool {
        self.host && flow.is_of_host().unwrap_or(action == Action::Deny)
    }
}

fn networks(target: &Target) -> &[IpNet] {
    match target {
        Target::Net(net) => std::slice::from_ref(net),
        Target::Preset(preset) => preset.networks(),
        Target::Any => &[],
    }
}
