//! The policy of the options and the file together.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use bypass_core::{
    Policy, PolicyFile, PolicyFileError, PolicyLayer, Protocol, RuleConflict, RuleWithoutEffect,
    check_order,
};

use crate::args::PolicyArgs;

/// What holds for which container.
#[derive(Clone, Debug)]
pub(crate) struct Policies {
    options: PolicyLayer,
    file: PolicyFile,
    config: PolicyFile,
}

/// The policy makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyError {
    #[error("{option} {}: cannot be read; name a file that you can read", path.display())]
    Read { option: &'static str, path: PathBuf, source: io::Error },
    #[error("--policy: {0}")]
    File(PolicyFileError),
    #[error("--config: {0}")]
    Config(PolicyFileError),
    #[error("the order of the options: {0}")]
    Order(RuleConflict),
    #[error("{0}")]
    WithoutEffect(RuleWithoutEffect),
}

impl Policies {
    /// Reads the file, and checks all that it and the options say, for whichever container.
    pub(crate) fn read(args: &PolicyArgs) -> Result<Self, PolicyError> {
        let options = args.layer();
        check_order(&options.rules).map_err(PolicyError::Order)?;
        let read = |option, path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|source| PolicyError::Read {
                option,
                path: path.clone(),
                source,
            })
        };
        let (mut file, mut config) = (PolicyFile::default(), PolicyFile::default());
        if let Some(path) = args.file() {
            let text = read("--policy", path)?;
            file = PolicyFile::parse(&path.to_string_lossy(), &text).map_err(PolicyError::File)?;
        }
        if let Some(path) = args.config() {
            let text = read("--config", path)?;
            config = PolicyFile::parse_among_others(&path.to_string_lossy(), &text)
                .map_err(PolicyError::Config)?;
        }
        let policies = Self { options, file, config };
        for layer in policies.each() {
            layer.check().map_err(PolicyError::WithoutEffect)?;
        }
        Ok(policies)
    }

    /// For a container that no section of the files is about.
    pub(crate) fn general(&self) -> PolicyLayer {
        PolicyLayer::stacked([&self.options, self.file.general(), self.config.general()])
    }

    /// For this container.
    pub(crate) fn of(&self, id: &str, annotations: &BTreeMap<String, String>) -> PolicyLayer {
        let [file, config] =
            [&self.file, &self.config].map(|file| file.layers_for(id, annotations));
        PolicyLayer::stacked([&self.options].into_iter().chain(file).chain(config))
    }

    /// Whether the device that a datagram socket is bound to keeps it to the policy, whichever
    /// container it is of.
    ///
    /// What several sections say together is no stricter in this respect than what one of them says.
    pub(crate) fn devices_suffice(&self) -> bool {
        self.each().all(|layer| devices_suffice(&layer))
    }

    /// The general policy, and that with each section.
    fn each(&self) -> impl Iterator<Item = PolicyLayer> {
        let (options, file, config) = (&self.options, self.file.general(), self.config.general());
        let of_file = self.file.sections();
        let of_file = of_file.map(move |one| PolicyLayer::stacked([options, one, file, config]));
        let of_config = self.config.sections();
        let of_config =
            of_config.map(move |one| PolicyLayer::stacked([options, file, one, config]));
        [self.general()].into_iter().chain(of_file).chain(of_config)
    }
}

/// Whether the device that a datagram socket is bound to keeps it to this policy: it keeps datagrams
/// off the host's loopback, but not off destinations behind it.
pub(crate) fn devices_suffice(layer: &PolicyLayer) -> bool {
    layer.pins() && !layer.policy().restricts(Protocol::Udp)
}

/// Whether a network that is attached to the container may lead to the host's loopback, of which it
/// knows nothing of rules.
pub(crate) fn opens_all_loopback(policy: &Policy) -> bool {
    let free = !policy.restricts(Protocol::Tcp) && !policy.restricts(Protocol::Udp);
    policy.allows_host_loopback() && free
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    /// The options, with a file of this text.
    fn read(options: &[&str], text: &str) -> Result<Policies, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.toml");
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let line =
            ["bypass-cli", "serve", "--policy", path].into_iter().chain(options.iter().copied());
        let Command::Serve(args) = Cli::parse_from(line).command else { panic!("not serve") };
        Policies::read(&args.policy).map_err(|error| error.to_string())
    }

    #[test]
    fn options_come_first_then_sections_then_the_general_part() {
        let text = r#"
            default = "deny"
            rules = [{ deny = "10.0.0.0/8" }]
            [[container]]
            id = "web"
            default = "leave"
            rules = [{ allow = "10.1.0.0/16" }]
        "#;
        let policies = read(&["--deny=10.1.2.3"], text).unwrap();
        let rules =
            |layer: &PolicyLayer| layer.rules.iter().map(ToString::to_string).collect::<Vec<_>>();
        let none = BTreeMap::new();
        let web = policies.of("web", &none);
        assert_eq!(rules(&web), ["deny 10.1.2.3", "allow 10.1.0.0/16", "deny 10.0.0.0/8"]);
        assert_eq!(web.default.unwrap().name(), "leave");
        assert_eq!(policies.of("db", &none), policies.general());
        assert_eq!(rules(&policies.general()), ["deny 10.1.2.3", "deny 10.0.0.0/8"]);
        let policies = read(&["--default=deny", "--pin=off"], text).unwrap();
        assert_eq!(policies.of("web", &none).default.unwrap().name(), "deny");
        assert!(!policies.general().pins());
    }

    #[test]
    fn devices_suffice_only_where_no_datagram_can_be_refused_in_any_container() {
        let section = |text: &str| format!("[[container]]\nid = 'x'\n{text}");
        for (options, text, suffice) in [
            (&[][..], String::new(), true),
            (&["--ignore=10.0.0.0/8"], String::new(), true),
            (&["--pin=off"], String::new(), false),
            (&["--deny=10.0.0.0/8"], String::new(), false),
            (&["--deny-preset=host"], String::new(), false),
            (&["--deny=10.0.0.0/8/tcp"], String::new(), true),
            (&["--default=leave"], String::new(), false),
            (&[], "default = 'deny'".into(), false),
            (&[], "rules = [{ deny = 'metadata' }]".into(), false),
            (&["--default=allow"], "default = 'deny'".into(), true),
            (&["--pin=on"], "pin = 'off'".into(), true),
            (&[], section("rules = [{ deny = 'any:53' }]"), false),
            (&[], section("default = 'leave'"), false),
            (&[], section("pin = 'off'"), false),
            (&[], section("ignore = '10.0.0.0/8'"), true),
        ] {
            let policies = read(options, &text).unwrap();
            assert_eq!(policies.devices_suffice(), suffice, "{options:?} {text}");
        }
    }

    #[test]
    fn what_cannot_have_been_meant_is_refused() {
        for (options, text, part) in [
            (&["--deny=any", "--allow=10.0.0.0/8"][..], "", "`allow 10.0.0.0/8` never decides"),
            (&["--allow=10.0.0.0/8"], "", "--allow: `allow 10.0.0.0/8` changes nothing"),
            (&[], "\nrules = [{ allow = 'any' }]", "policy.toml:2: `allow any` changes nothing"),
            (&[], "[[container]]\nid = 'x'\nrules = [{ allow = 'any' }]", "policy.toml:3: `allow"),
            (&[], "\npin = 'of'", "policy.toml:2: pin: write \"on\" or \"off\""),
        ] {
            let message = read(options, text).unwrap_err();
            assert!(message.contains(part), "{message}");
        }
        // Of two sources, one may override the other.
        assert!(read(&["--allow=10.0.0.0/8"], "rules = [{ deny = '10.1.0.0/16' }]").is_ok());
        let section =
            "rules = [{ deny = 'any' }]\n[[container]]\nid = 'x'\nrules = [{ allow = 'any' }]";
        assert!(read(&[], section).is_ok());
    }

    #[test]
    fn an_attached_network_does_not_lead_past_rules_about_loopback() {
        for (options, opens) in [
            (&[][..], false),
            (&["--allow-host-loopback"], true),
            (&["--allow-host-loopback", "--deny=127.0.0.1:22"], false),
            (&["--allow-host-loopback", "--default=deny"], false),
        ] {
            let policy = read(options, "").unwrap().general().policy();
            assert_eq!(opens_all_loopback(&policy), opens, "{options:?}");
        }
    }
}
