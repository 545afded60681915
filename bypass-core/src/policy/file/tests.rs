use super::*;
use crate::policy::{Action, DefaultAction};
use proptest::prelude::*;

fn parse(text: &str) -> PolicyFile {
    PolicyFile::parse("f", text).unwrap()
}

fn said(text: &str) -> String {
    PolicyFile::parse("f", text).unwrap_err().to_string()
}

fn rules(layer: &PolicyLayer) -> Vec<String> {
    let line = |rule: &crate::policy::Rule| format!("{}: {rule}", rule.origin().unwrap());
    layer.rules.iter().map(line).collect()
}

const WHOLE: &str = r#"
default = "deny"
ignore = ["10.88.0.0/16", "fd88::/64"]
allow-host-loopback = true
pin = "off"
rules = [
  { deny = "metadata" },
  { allow = [
      "192.0.2.0/24:443/tcp",
      "any:53",
  ] },
]

[[container]]
id = "web-*"
default = "leave"
rules = [{ deny = "10.0.0.0/8" }]

[[container]]
annotations = { "org/name" = "db-?", "org/stage" = "*" }
ignore = "10.89.0.0/16"
"#;

#[test]
fn everything_that_can_be_said() {
    let file = parse(WHOLE);
    let general = file.general();
    assert_eq!(
        rules(general),
        ["f:7: deny metadata", "f:9: allow 192.0.2.0/24:443/tcp", "f:10: allow any:53"]
    );
    assert_eq!(general.default, Some(DefaultAction::Deny));
    assert_eq!(general.ignore.len(), 2);
    assert_eq!((general.allow_host_loopback, general.pin), (Some(true), Some(false)));
    assert_eq!(file.sections().count(), 2);
    assert_eq!(parse(""), PolicyFile::default());
}

#[test]
fn a_section_is_about_the_containers_that_it_names() {
    let file = parse(WHOLE);
    let annotations = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    };
    let db = annotations(&[("org/name", "db-1"), ("org/stage", "")]);
    for (id, given, layers) in [
        ("web-1", &annotations(&[]), 2),
        ("web", &annotations(&[]), 1),
        ("other", &db, 2),
        ("web-1", &db, 3),
        ("other", &annotations(&[("org/name", "db-1")]), 1),
        ("other", &annotations(&[("org/name", "db-10"), ("org/stage", "x")]), 1),
    ] {
        assert_eq!(file.layers_for(id, given).count(), layers, "{id} {given:?}");
    }
    let all = PolicyLayer::stacked(file.layers_for("web-1", &db));
    assert_eq!(all.rules[0].action(), Action::Deny);
    assert_eq!(rules(&all)[0], "f:17: deny 10.0.0.0/8");
    assert_eq!(all.default, Some(DefaultAction::Leave));
    assert_eq!(all.ignore.len(), 3);
}

#[test]
fn every_mistake_is_told_with_its_line_and_a_remedy() {
    for (text, line, remedy) in [
        ("\nrules = [", 2, "not TOML"),
        ("default = 'deny'\ndefault = 'allow'", 2, "duplicate key"),
        ("pin = 'on'\ndenny = []", 2, "\"denny\" is not known here: write one of default, rules"),
        ("default = 'block'", 1, "default: write \"allow\", \"leave\" or \"deny\""),
        ("default = true", 1, "default: write"),
        ("\n\nallow-host-loopback = 'yes'", 3, "allow-host-loopback: write true or false"),
        ("allow_host_loopback = true", 1, "not known here"),
        ("pin = true", 1, "pin: write \"on\" or \"off\""),
        ("ignore = [1]", 1, "ignore: write a string, or a list of strings"),
        ("ignore = [\n'10.0.0.0/8',\n'10.0.0/8']", 3, "not a network; write it like"),
        ("ignore = []", 1, "ignore: the list is empty"),
        ("rules = 'deny any'", 1, "rules: write a list, like [{ deny"),
        ("rules = ['any']", 1, "a rule is one action with what it is about"),
        ("rules = [{}]", 1, "a rule is one action"),
        ("rules = [{ deny = 'any', allow = 'host' }]", 1, "a rule is one action"),
        ("rules = [{ denny = 'any' }]", 1, "\"denny\" is not known here: write one of allow, deny"),
        ("rules = [\n{ deny = [] }]", 2, "deny: the list is empty"),
        ("rules = [\n{ deny = ['any:22',\n'*:23'] }]", 3, "\"*:23\": `*` is not a target"),
        (
            "rules = [\n{ deny = 'any' },\n{ allow = 'host:22' }]",
            3,
            "`allow host:22` never decides, since `deny any` stands in front of it",
        ),
        ("[container]\nid = 'x'", 1, "container: write [[container]] above each section"),
        ("container = ['x']", 1, "container: write [[container]] above each section"),
        ("[container.'web-*']\ndefault = 'deny'", 1, "write [[container]] above each section"),
        ("pin = 'on'\n[[container]]\ndefault = 'deny'", 2, "does not say which containers"),
        ("[[container]]\nid = ''", 2, "no name is given"),
        ("[[container]]\nid = 'web-[12]'", 2, "only * and ? stand for other characters"),
        ("[[container]]\nid = 3", 2, "id: write a string"),
        ("[[container]]\nannotations = {}", 1, "does not say which containers"),
        ("[[container]]\nannotations = 'x'", 2, "annotations: write a table"),
        ("[[container]]\nid = 'x'\nname = 'y'", 3, "write one of id, annotations, default"),
        ("[[container]]\nid = 'x'\n[[container.container]]\nid = 'y'", 3, "not known here"),
    ] {
        let said = said(text);
        assert!(said.starts_with(&format!("f:{line}: ")), "{text:?}: {said}");
        assert!(said.contains(remedy), "{text:?}: {said}");
        assert!(!said.contains('\n'), "{text:?}: {said}");
    }
}

#[test]
fn rules_that_follow_a_section_are_not_taken_for_general_ones() {
    let file = parse("[[container]]\nid = 'x'\nrules = [{ deny = 'any' }]");
    assert!(file.general().rules.is_empty());
    assert_eq!(file.sections().next().unwrap().rules.len(), 1);
}

#[test]
fn among_others_only_the_keys_of_a_policy_are_read() {
    let text = "udp = 'all'\npin = 'off'\n[run]\nnet = 'pasta'\n";
    let file = PolicyFile::parse_among_others("f", text).unwrap();
    assert_eq!(file.general().pin, Some(false));
    assert!(PolicyFile::parse("f", text).is_err());
    // What is a policy's is read as strictly as elsewhere.
    for text in ["udp = 'all'\npin = 'of'", "[[container]]\nid = 'x'\nudp = 'all'"] {
        assert!(PolicyFile::parse_among_others("f", text).is_err(), "{text:?}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(rules|default|ignore|pin|=|\\[|\\]|\\{|\\}|container|'any'|'deny'|deny|id|\n| |,|\"|ä|1)*") {
        if let Err(error) = PolicyFile::parse("f", &text) {
            prop_assert!(error.to_string().starts_with("f:"));
        }
    }
}
