//! Options that say where sockets may go.

use std::path::PathBuf;

use bypass_core::{Action, DefaultAction, Ignored, Pattern, PolicyLayer, Preset, Rule};
use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum};

use super::{ConfigArgs, Switch};

/// What the command line says about the policy, and which file says more.
#[derive(Args, Debug)]
#[command(next_help_heading = "Policy")]
pub(crate) struct PolicyArgs {
    #[command(flatten)]
    rules: RuleArgs,

    /// What becomes of destinations that no rule names [default: allow].
    #[arg(long, value_name = "ACTION")]
    default: Option<Default>,

    /// Networks whose connections stay in the container; `auto` means those of the container's own
    /// interfaces at the time. The host's loopback always does, unless --allow-host-loopback is
    /// given.
    #[arg(long, value_name = "CIDR|auto", value_delimiter = ',')]
    ignore: Vec<Ignored>,

    /// Let the container reach services on the host's loopback addresses. Such services
    /// often trust whoever connects.
    #[arg(long)]
    allow_host_loopback: bool,

    /// Bind host sockets to the device that leads to their destination, so that no later
    /// call can turn them round. Switch it off only where live connections change devices
    /// [default: on].
    #[arg(long, value_name = "WHEN")]
    pin: Option<Switch>,

    /// Read more of the policy from this file, in TOML; what these options say comes first.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    #[command(flatten)]
    config: ConfigArgs,
}

impl PolicyArgs {
    pub(crate) fn layer(&self) -> PolicyLayer {
        let mut layer = PolicyLayer {
            rules: self.rules.0.clone(),
            default: self.default.map(DefaultAction::from),
            allow_host_loopback: self.allow_host_loopback.then_some(true),
            pin: self.pin.map(|pin| pin == Switch::On),
            ..PolicyLayer::default()
        };
        layer.ignore_also(self.ignore.iter().copied());
        layer
    }

    pub(crate) fn file(&self) -> Option<&PathBuf> {
        self.policy.as_ref()
    }

    /// The file that has options of all kinds, among them a policy.
    pub(crate) fn config(&self) -> Option<&PathBuf> {
        self.config.file()
    }
}

/// What becomes of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Default {
    /// It is bypassed.
    Allow,
    /// It stays in the container's own network: the rules say what is bypassed.
    Leave,
    /// It is refused, but for ignored networks and the container's own loopback.
    Deny,
}

impl From<Default> for DefaultAction {
    fn from(default: Default) -> Self {
        match default {
            Default::Allow => Self::Allow,
            Default::Leave => Self::Leave,
            Default::Deny => Self::Deny,
        }
    }
}

/// The rules of all options, in the order in which these were written: the first that matches
/// counts. Each option by itself would have lost how it stood to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RuleArgs(Vec<Rule>);

/// One option that adds rules.
struct RuleOption {
    name: &'static str,
    action: Action,
    value: &'static str,
    parser: fn() -> ValueParser,
    help: &'static str,
}

const RULE_OPTIONS: [RuleOption; 4] = [
    RuleOption {
        name: "deny",
        action: Action::Deny,
        value: "RULE",
        parser: pattern,
        help: "Refuse connections to these destinations: an address, a network or `any`, with a port \
               or a range of ports and a protocol if need be, like `10.0.0.0/8`, `any:25/tcp`, \
               `[fd00::/8]:8000-8010`. Of --deny and --allow the first that matches counts, in the \
               order written",
    },
    RuleOption {
        name: "allow",
        action: Action::Allow,
        value: "RULE",
        parser: pattern,
        help: "Permit these destinations, where a later --deny or another --default would not",
    },
    RuleOption {
        name: "deny-preset",
        action: Action::Deny,
        value: "PRESET",
        parser: preset,
        help: "Refuse connections to cloud metadata services (`metadata`), to networks that are not \
               of the Internet (`private`) or to the host's own addresses (`host`). The same words \
               are known to --deny, where a port can follow: `host:22`",
    },
    RuleOption {
        name: "allow-preset",
        action: Action::Allow,
        value: "PRESET",
        parser: preset,
        help: "Permit one of these",
    },
];

fn pattern() -> ValueParser {
    ValueParser::from(|text: &str| text.parse::<Pattern>())
}

fn preset() -> ValueParser {
    ValueParser::from(|text: &str| text.parse::<Preset>().map(Pattern::from))
}

impl Args for RuleArgs {
    fn augment_args(command: Command) -> Command {
        RULE_OPTIONS.iter().fold(command, |command, option| {
            command.arg(
                Arg::new(option.name)
                    .long(option.name)
                    .value_name(option.value)
                    .value_delimiter(',')
                    .value_parser((option.parser)())
                    .action(ArgAction::Append)
                    .help(option.help),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for RuleArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut rules: Vec<(usize, Rule)> = Vec::new();
        for RuleOption { name, action, .. } in &RULE_OPTIONS {
            let places = matches.indices_of(name).into_iter().flatten();
            let patterns = matches.get_many::<Pattern>(name).into_iter().flatten();
            rules.extend(places.zip(patterns).map(|(place, pattern)| {
                (place, Rule::new(*action, *pattern).written_at(format!("--{name}")))
            }));
        }
        rules.sort_by_key(|(place, _)| *place);
        Ok(Self(rules.into_iter().map(|(_, rule)| rule).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.extend(Self::from_arg_matches(matches)?.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn layer(options: &[&str]) -> Result<PolicyLayer, String> {
        let line = ["bypass-cli", "serve"].iter().chain(options);
        match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
            Command::Serve(args) => Ok(args.policy.layer()),
            _ => panic!("not serve"),
        }
    }

    fn rules(options: &[&str]) -> Vec<String> {
        let layer = layer(options).unwrap();
        let line = |rule: &Rule| format!("{}: {rule}", rule.origin().unwrap());
        layer.rules.iter().map(line).collect()
    }

    #[test]
    fn rules_keep_the_order_in_which_they_are_written() {
        assert_eq!(
            rules(&[
                "--allow",
                "10.1.0.0/16:443/tcp,any:53",
                "--deny-preset=metadata,host",
                "--ignore=10.88.0.0/16,fd88::/64",
                "--deny=10.0.0.0/8",
                "--allow-preset",
                "private",
                "--deny=[fd00::/8]:22,any",
            ]),
            [
                "--allow: allow 10.1.0.0/16:443/tcp",
                "--allow: allow any:53",
                "--deny-preset: deny metadata",
                "--deny-preset: deny host",
                "--deny: deny 10.0.0.0/8",
                "--allow-preset: allow private",
                "--deny: deny [fd00::/8]:22",
                "--deny: deny any",
            ]
        );
    }

    #[test]
    fn what_is_not_said_is_left_to_others() {
        assert_eq!(layer(&[]), Ok(PolicyLayer::default()));
        let said = layer(&["--default=leave", "--pin=off", "--allow-host-loopback"]).unwrap();
        assert_eq!(said.default, Some(DefaultAction::Leave));
        assert_eq!((said.pin, said.allow_host_loopback), (Some(false), Some(true)));
    }

    #[test]
    fn networks_come_in_lists_and_single_addresses_count() {
        let said = layer(&["--ignore", "10.0.0.0/8,fd00::/8", "--ignore", "192.0.2.1"]).unwrap();
        let nets: Vec<String> = said.ignore.iter().map(ToString::to_string).collect();
        assert_eq!(nets, ["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"]);
        assert!(!said.ignore_own_networks);
        let said = layer(&["--ignore", "127.0.0.0/8,auto"]).unwrap();
        assert!(said.ignore_own_networks && said.ignore.len() == 1);
    }

    #[test]
    fn a_mistake_is_named_with_its_option_and_a_remedy() {
        for (options, parts) in [
            (["--deny", "10.0.0/8"], ["--deny", "10.0.0/8", "write one like 10.1.2.3"]),
            (["--allow", "any,10.1.2.3/8"], ["--allow", "10.1.2.3/8", "write 10.0.0.0/8"]),
            (["--deny-preset", "hots"], ["--deny-preset", "hots", "write metadata, private or"]),
            (["--ignore", "10.0.0/8"], ["--ignore", "10.0.0/8", "write it like"]),
            (["--default", "block"], ["--default", "block", "allow, leave, deny"]),
        ] {
            let message = layer(&options).unwrap_err();
            for part in parts {
                assert!(message.contains(part), "{message}");
            }
        }
    }
}
