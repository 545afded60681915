//! Where a container's sockets may go: pure decisions, no I/O.
//!
//! A [`Policy`] looks at one [`Flow`] and says what becomes of it. It is total (every destination
//! gets a verdict) and is asked again for every later address a socket is given, so it has no memory.
//!
//! It answers two questions, in this order:
//!
//! 1. *May it?* Rules in order, of which the first that matches counts, and a default.
//! 2. *By which way?* What is permitted is left to the container if its network is ignored, or if it
//!    means something else to the host: loopback, multicast, link-local. Else it is bypassed.

mod blocks;
mod file;
mod flow;
mod layer;
mod network;
mod pattern;
mod preset;
mod ranges;
mod rule;

use std::net::IpAddr;

use ipnet::IpNet;

use self::blocks::Block;
pub use self::file::{GlobParseError, PolicyFile, PolicyFileError, PolicyMistake};
pub use self::flow::Flow;
use self::flow::is_group;
pub use self::layer::{PolicyLayer, RuleWithoutEffect};
pub use self::network::{Ignored, NetworkParseError, parse_network};
pub use self::pattern::{Pattern, PatternParseError, PortRange, Target};
pub use self::preset::{Preset, PresetParseError};
use self::ranges::RangeSet;
pub use self::rule::{Action, DefaultAction, Rule, RuleConflict, check_order};
use crate::Reason;
use crate::publish::Protocol;

/// What becomes of a connection, or of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The socket is made in the host's network namespace.
    Bypass,
    /// The socket stays in the container's network namespace.
    Leave(Reason),
    /// The call fails and no socket is made.
    Deny(Reason),
}

/// A verdict and what led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// The rule that matched; with none it was the [default](Policy::default_action).
    pub rule: Option<RuleIndex>,
    /// The first ignored network that the destination is in, where the verdict rests on that.
    pub ignored: Option<IpNet>,
}

/// Which rule of its [`Policy`]: a handle for [`Policy::rule`], of no meaning to another policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleIndex(usize);

/// Which destinations are bypassed, left to the container or denied.
///
/// Rules count in the order in which they were added, and the first that matches decides. What is
/// permitted is left to the container where its network is ignored; else it is bypassed. The host's
/// loopback is left to the container unless
/// [`allow_host_loopback`](PolicyBuilder::allow_host_loopback) was called: it is
/// where a host keeps what it trusts.
///
/// ```
/// use bypass_core::{Flow, Policy, Protocol, Reason, Verdict};
///
/// let policy = Policy::builder()
///     .ignore(["10.0.2.0/24".parse().unwrap()])
///     .allow(["169.254.169.254:53".parse().unwrap()])
///     .deny(["169.254.0.0/16".parse().unwrap(), "any:25/tcp".parse().unwrap()])
///     .build();
/// let to = |addr: &str| policy.decide(&Flow::new(Protocol::Tcp, addr.parse().unwrap()));
/// assert_eq!(to("192.0.2.1:443"), Verdict::Bypass);
/// assert_eq!(to("10.0.2.3:53"), Verdict::Leave(Reason::Ignored));
/// assert_eq!(to("[::ffff:127.0.0.1]:22"), Verdict::Leave(Reason::HostLoopback));
/// assert_eq!(to("169.254.169.254:80"), Verdict::Deny(Reason::DenyRule));
/// assert_eq!(to("169.254.169.254:53"), Verdict::Bypass);
/// assert_eq!(to("192.0.2.1:25"), Verdict::Deny(Reason::DenyRule));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    rules: Box<[Rule]>,
    blocks: Box<[Block]>,
    default: DefaultAction,
    ignored: Box<[IpNet]>,
    ignore: RangeSet,
    own_networks: bool,
    host_loopback: bool,
    names_host: bool,
}

impl Policy {
    /// Starts a policy that bypasses everything but the host's loopback.
    #[must_use]
    pub fn builder() -> PolicyBuilder {
        PolicyBuilder::default()
    }

    /// The verdict on one destination, which must be the address that is used
    /// afterwards (never one that the container can still change).
    #[must_use]
    pub fn decide(&self, flow: &Flow) -> Verdict {
        let matched = self.blocks.iter().find(|block| block.matches(flow));
        self.verdict(flow, matched.map(|block| block.action))
    }

    /// As [`decide`](Self::decide), with what led to the verdict. It looks at rule by rule, so it is
    /// for those who want to know, not for every call.
    #[must_use]
    pub fn explain(&self, flow: &Flow) -> Decision {
        let matches = |rule: &Rule| rule.pattern().matches(flow, rule.action() == Action::Deny);
        let at = self.rules.iter().position(matches);
        let rule = at.and_then(|at| self.rules.get(at));
        let verdict = self.verdict(flow, rule.map(Rule::action));
        let ignored = match verdict {
            Verdict::Leave(Reason::Ignored) => {
                self.ignored.iter().find(|net| net.contains(&flow.to.ip)).copied()
            }
            _ => None,
        };
        Decision { verdict, rule: at.map(RuleIndex), ignored }
    }

    fn verdict(&self, flow: &Flow, matched: Option<Action>) -> Verdict {
        if matched == Some(Action::Deny) {
            return Verdict::Deny(Reason::DenyRule);
        }
        match self.way(flow) {
            Verdict::Bypass if matched.is_none() => match self.default {
                DefaultAction::Allow => Verdict::Bypass,
                DefaultAction::Leave => Verdict::Leave(Reason::NotAllowed),
                DefaultAction::Deny => Verdict::Deny(Reason::NotAllowed),
            },
            way => way,
        }
    }

    /// How a permitted destination is reached.
    fn way(&self, flow: &Flow) -> Verdict {
        let to = &flow.to;
        if self.ignore.contains(to.ip) {
            Verdict::Leave(Reason::Ignored)
        } else if to.is_loopback() && !self.host_loopback {
            Verdict::Leave(Reason::HostLoopback)
        } else if is_group(to.ip) {
            Verdict::Leave(Reason::Multicast)
        } else if matches!(to.ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            Verdict::Leave(Reason::LinkLocal)
        } else if self.own_networks && !to.is_loopback() {
            match flow.is_in_own_network() {
                Some(false) => Verdict::Bypass,
                Some(true) => Verdict::Leave(Reason::OwnNetwork),
                None => Verdict::Leave(Reason::NetworksUnknown),
            }
        } else {
            Verdict::Bypass
        }
    }

    /// The rules, in the order in which they count.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule of a [`Decision`] of this policy.
    #[must_use]
    pub fn rule(&self, index: RuleIndex) -> Option<&Rule> {
        self.rules.get(index.0)
    }

    /// What becomes of what no rule names.
    #[must_use]
    pub fn default_action(&self) -> DefaultAction {
        self.default
    }

    /// Whether the user asked for the host's loopback to be reachable.
    #[must_use]
    pub fn allows_host_loopback(&self) -> bool {
        self.host_loopback
    }

    /// Whether a rule names [the host's addresses](Preset::Host), so that a [`Flow`] has to say
    /// whether it leads to one.
    #[must_use]
    pub fn names_host(&self) -> bool {
        self.names_host
    }

    /// Whether the networks of the container's own interfaces are ignored, so that a [`Flow`] has to
    /// say whether it leads into one.
    #[must_use]
    pub fn ignores_own_networks(&self) -> bool {
        self.own_networks
    }

    /// Whether some destinations beyond loopback may not be reached from the host by this protocol:
    /// then a socket of the host that could send there has to be watched.
    #[must_use]
    pub fn restricts(&self, protocol: Protocol) -> bool {
        let denies = |rule: &Rule| {
            let (_, _, of) = rule.pattern().parts();
            rule.action() == Action::Deny && of.is_none_or(|of| of == protocol)
        };
        self.default != DefaultAction::Allow || self.rules.iter().any(denies)
    }
}

/// Collects what a [`Policy`] is made of.
#[derive(Clone, Debug, Default)]
pub struct PolicyBuilder {
    rules: Vec<Rule>,
    default: DefaultAction,
    ignore: Vec<IpNet>,
    own_networks: bool,
    host_loopback: bool,
}

impl PolicyBuilder {
    /// Leaves these networks to the container's own network.
    #[must_use]
    pub fn ignore(mut self, nets: impl IntoIterator<Item = IpNet>) -> Self {
        self.ignore.extend(nets.into_iter().map(normalised));
        self
    }

    /// Leaves the networks of the container's own interfaces to it, whichever these are at the time.
    #[must_use]
    pub fn ignore_own_networks(mut self, ignore: bool) -> Self {
        self.own_networks = ignore;
        self
    }

    /// Refuses these destinations, unless an earlier rule allows them.
    #[must_use]
    pub fn deny(self, patterns: impl IntoIterator<Item = Pattern>) -> Self {
        let deny = |pattern| Rule::new(Action::Deny, pattern);
        self.rules(patterns.into_iter().map(deny))
    }

    /// Permits these destinations, unless an earlier rule denies them.
    ///
    /// Loopback stays the container's own nevertheless: see
    /// [`allow_host_loopback`](Self::allow_host_loopback).
    #[must_use]
    pub fn allow(self, patterns: impl IntoIterator<Item = Pattern>) -> Self {
        let allow = |pattern| Rule::new(Action::Allow, pattern);
        self.rules(patterns.into_iter().map(allow))
    }

    /// Adds rules behind those that are there, in their order. Nothing is checked: [`check_order`] finds
    /// those that never decide.
    #[must_use]
    pub fn rules(mut self, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.rules.extend(rules);
        self
    }

    /// What becomes of what no rule names; without this it is permitted.
    #[must_use]
    pub fn default_action(mut self, action: DefaultAction) -> Self {
        self.default = action;
        self
    }

    /// Lets containers reach services on the host's loopback addresses.
    ///
    /// # Warning
    /// Many services take a connection from loopback for one from a trusted user
    /// of the host. With this, every program in the container is such a user.
    #[must_use]
    pub fn allow_host_loopback(mut self, allow: bool) -> Self {
        self.host_loopback = allow;
        self
    }

    /// Makes the policy. Looking a destination up takes a binary search over the blocks that all rules
    /// divide the addresses into, so the number of rules hardly matters.
    #[must_use]
    pub fn build(self) -> Policy {
        let names_host = |rule: &Rule| {
            let (target, _, _) = rule.pattern().parts();
            target == Target::Preset(Preset::Host)
        };
        Policy {
            blocks: Block::of(&self.rules),
            default: self.default,
            ignore: RangeSet::new(&self.ignore),
            ignored: self.ignore.into(),
            own_networks: self.own_networks,
            host_loopback: self.host_loopback,
            names_host: self.rules.iter().any(names_host),
            rules: self.rules.into(),
        }
    }
}

/// Destinations are normalised before they are looked up, so what names IPv4-mapped addresses must
/// name the IPv4 ones instead, or it would never match.
fn normalised(net: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= MAPPED_BITS => v6
            .network()
            .to_ipv4_mapped()
            .and_then(|ip| ipnet::Ipv4Net::new(ip, v6.prefix_len() - MAPPED_BITS).ok())
            .map_or(net, IpNet::V4),
        _ => net,
    }
}

#[cfg(test)]
mod tests;
