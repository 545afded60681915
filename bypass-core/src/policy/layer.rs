//! What one source of a policy says, and what several say together.

use ipnet::IpNet;

use super::{Action, DefaultAction, Ignored, Policy, Rule};

/// What the command line, a file or a section of a file says. What it does not say is left to the
/// next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyLayer {
    /// Rules, in the order in which they count.
    pub rules: Vec<Rule>,
    /// What becomes of what no rule names.
    pub default: Option<DefaultAction>,
    /// Networks that stay in the container.
    pub ignore: Vec<IpNet>,
    /// Whether those of the container's own interfaces do.
    pub ignore_own_networks: bool,
    /// Whether the host's loopback may be reached.
    pub allow_host_loopback: Option<bool>,
    /// Whether host sockets are bound to their device.
    pub pin: Option<bool>,
}

impl PolicyLayer {
    /// Leaves more to the container.
    pub fn ignore_also(&mut self, ignored: impl IntoIterator<Item = Ignored>) {
        for one in ignored {
            match one {
                Ignored::Network(net) => self.ignore.push(net),
                Ignored::OwnNetworks => self.ignore_own_networks = true,
            }
        }
    }

    /// All of them as one: the rules of the first come first, and what several say is as the first
    /// says. Ignored networks are those of all.
    #[must_use]
    pub fn stacked<'a>(layers: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut all = Self::default();
        for layer in layers {
            all.rules.extend(layer.rules.iter().cloned());
            all.default = all.default.or(layer.default);
            all.ignore.extend(&layer.ignore);
            all.ignore_own_networks |= layer.ignore_own_networks;
            all.allow_host_loopback = all.allow_host_loopback.or(layer.allow_host_loopback);
            all.pin = all.pin.or(layer.pin);
        }
        all
    }

    /// The policy that this is, if nothing is to come behind it.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy::builder()
            .rules(self.rules.iter().cloned())
            .default_action(self.default.unwrap_or_default())
            .ignore(self.ignore.iter().copied())
            .ignore_own_networks(self.ignore_own_networks)
            .allow_host_loopback(self.allow_host_loopback.unwrap_or(false))
            .build()
    }

    /// Looks for rules that cannot have been meant like this, if nothing is to come behind.
    ///
    /// # Errors
    /// A rule that allows something where everything is allowed: whoever writes that takes it for a
    /// list of all that is allowed.
    pub fn check(&self) -> Result<(), RuleWithoutEffect> {
        let denies = |rule: &Rule| rule.action() == Action::Deny;
        let all_allowed = self.default.unwrap_or_default() == DefaultAction::Allow;
        match self.rules.first() {
            Some(rule) if all_allowed && !self.rules.iter().any(denies) => {
                Err(RuleWithoutEffect { rule: rule.clone().into() })
            }
            _ => Ok(()),
        }
    }

    /// Whether host sockets are bound to their device; without a word on it, they are.
    #[must_use]
    pub fn pins(&self) -> bool {
        self.pin.unwrap_or(true)
    }
}

/// Rules that allow, where nothing is denied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}`{rule}` changes nothing, since what no rule denies is allowed: for a list of all that is \
     allowed, say that the default is deny (or leave)",
    rule.origin().map(|origin| format!("{origin}: ")).unwrap_or_default()
)]
pub struct RuleWithoutEffect {
    /// The first of them.
    pub rule: Box<Rule>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Pattern;

    fn rule(action: Action, pattern: &str) -> Rule {
        Rule::new(action, pattern.parse::<Pattern>().unwrap())
    }

    #[test]
    fn the_first_layer_has_the_first_word() {
        let first = PolicyLayer {
            rules: vec![rule(Action::Allow, "10.1.0.0/16")],
            ignore: vec!["10.2.0.0/16".parse().unwrap()],
            pin: Some(false),
            ..PolicyLayer::default()
        };
        let second = PolicyLayer {
            rules: vec![rule(Action::Deny, "10.0.0.0/8")],
            ignore: vec!["10.3.0.0/16".parse().unwrap()],
            default: Some(DefaultAction::Deny),
            allow_host_loopback: Some(false),
            pin: Some(true),
            ..PolicyLayer::default()
        };
        let third = PolicyLayer {
            default: Some(DefaultAction::Leave),
            allow_host_loopback: Some(true),
            ..PolicyLayer::default()
        };
        let all = PolicyLayer::stacked([&first, &second, &third]);
        assert_eq!(all.rules, [first.rules, second.rules].concat());
        assert_eq!(all.ignore.len(), 2);
        assert!(!all.ignore_own_networks);
        let mut own = PolicyLayer::default();
        own.ignore_also(["auto", "10.4.0.0/16"].map(|text| text.parse().unwrap()));
        let all = PolicyLayer::stacked([&all, &own]);
        assert!(all.ignore_own_networks && all.policy().ignores_own_networks());
        assert_eq!(all.ignore.len(), 3);
        assert_eq!(all.default, Some(DefaultAction::Deny));
        assert_eq!(all.allow_host_loopback, Some(false));
        assert!(!all.pins());
        assert!(PolicyLayer::default().pins());
    }

    #[test]
    fn a_list_of_what_is_allowed_needs_a_default() {
        let allow = PolicyLayer {
            rules: vec![rule(Action::Allow, "10.1.0.0/16").written_at("--allow")],
            ..PolicyLayer::default()
        };
        let message = allow.check().unwrap_err().to_string();
        assert!(message.starts_with("--allow: `allow 10.1.0.0/16` changes nothing"), "{message}");
        let deny = PolicyLayer { default: Some(DefaultAction::Leave), ..PolicyLayer::default() };
        assert!(PolicyLayer::stacked([&allow, &deny]).check().is_ok());
        let deny = PolicyLayer { rules: vec![rule(Action::Deny, "any")], ..PolicyLayer::default() };
        assert!(PolicyLayer::stacked([&allow, &deny]).check().is_ok());
    }
}
