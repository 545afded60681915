//! What a file makes of a command line.

use clap::Parser as _;

use super::*;
use crate::args::Command;
use crate::explain::doc::{Block, blocks, commands};
use crate::explain::tests::answers;
use crate::policy::Policies;

/// The words of a line with a file of this text, behind the name of the program.
fn complete_with(text: &str, line: &str) -> Result<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    let config = format!("--config={}", path.display());
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words = ["bypass-cli", command, &config].into_iter().chain(rest.split_ascii_whitespace());
    let line = complete(words.map(OsString::from).collect()).map_err(|error| error.to_string());
    let shown = |text: String| text.replace(directory.path().to_str().unwrap(), "D");
    let line = line.map_err(shown)?;
    assert_eq!(line.from.as_deref(), Some(&*path));
    Cli::try_parse_from(&line.words).map_err(|error| error.to_string())?;
    let words = line.words.iter().skip(1).map(|word| word.to_str().unwrap());
    let words: Vec<&str> = words.filter(|word| *word != config).collect();
    Ok(shown(words.join(" ")))
}

#[test]
fn the_line_comes_before_the_file_and_a_table_before_what_is_above_it() {
    let text = r#"
        udp = "connected"
        publish = ["8080:80", "9090:90"]
        debug = true
        audit-rate = 0x10
        policy = "policy.toml"
        audit = "-"
        [run]
        net = "pasta"
        udp = "all"
        map-root = false
        report = "/r.json"
        [serve]
        socket = "s.sock"
        status-socket = "none"
        [daemon]
        status-socket = "./none"
        metrics-listen = "127.0.0.1:9469"
    "#;
    for (line, expected) in [
        (
            "serve",
            "serve --socket=D/s.sock --status-socket=none --udp=connected --publish=8080:80 --publish=9090:90 --debug \
             --audit-rate=16 --policy=D/policy.toml --audit=-",
        ),
        (
            "run --udp off -p 1:1 --audit x ls --debug",
            "run --net=pasta --report=/r.json --debug --audit-rate=16 --policy=D/policy.toml --udp off \
             -p 1:1 --audit x ls --debug",
        ),
        (
            "daemon",
            "daemon --status-socket=D/./none --metrics-listen=127.0.0.1:9469 --udp=connected --debug \
             --audit-rate=16 --policy=D/policy.toml --audit=-",
        ),
        // Of what stands above the tables each command takes what it has.
        ("explain tcp://10.1.2.3:1", "explain --policy=D/policy.toml tcp://10.1.2.3:1"),
        (
            "oci-runtime --runtime crun --root /r create id",
            "oci-runtime --udp=connected --publish=8080:80 --publish=9090:90 --policy=D/policy.toml \
             --runtime crun --root /r create id",
        ),
    ] {
        assert_eq!(complete_with(text, line).as_deref(), Ok(expected));
    }
}

#[test]
fn a_mistake_is_told_with_its_line_and_a_remedy() {
    for (text, line, remedy) in [
        ("udp = ", 1, "not TOML"),
        ("\nupd = 'all'", 2, "\"upd\" is not known here: write one of default, rules, ignore"),
        ("upd = 'all'", 1, "udp-sends"),
        ("[rnu]\nnet = 'pasta'", 1, "[run]"),
        ("[doctor]\njson = true", 1, "not known here"),
        ("[run]\n\nnett = 'pasta'", 3, "write one of net, dns"),
        ("[run]\nsocket = 's'", 2, "not known here"),
        ("net = 'pasta'", 1, "like [run]"),
        ("socket = '/s'", 1, "like [serve]"),
        ("deny = 'any'", 1, "write rules = [{ deny"),
        ("[run]\ndefault = 'deny'", 2, "above the first table"),
        ("[run]\npolicy = 'x'", 2, "above the first table"),
        ("[serve]\nready-fd = 3", 2, "on the command line"),
        ("config = 'x'", 1, "on the command line"),
        ("udp = 'al'", 1, "possible values: off, connected, all"),
        ("\naudit-rate = -1", 2, "--audit-rate"),
        ("debug = 'yes'", 1, "debug: write true or false"),
        ("udp = true", 1, "udp: write a string"),
        ("publish = [80]", 1, ""),
        ("publish = ['80', 'localhost:1:1']", 1, "write the IP address"),
        ("pin = 'of'", 1, "write \"on\" or \"off\""),
        ("rules = [{ deny = '*:25' }]", 1, "write any"),
        ("\n[[container]]\nid = ''", 3, "no name is given"),
    ] {
        match complete_with(text, "run ls") {
            Ok(_) => assert!(remedy.is_empty(), "{text:?}"),
            Err(said) => {
                assert!(said.starts_with(&format!("D/config.toml:{line}: ")), "{text:?}: {said}");
                assert!(said.contains(remedy) && !remedy.is_empty(), "{text:?}: {said}");
                assert!(!said.contains('\n'), "{text:?}: {said}");
            }
        }
    }
}

#[test]
fn every_example_of_the_reference_is_what_it_says() {
    const NAME: &str = "config.toml";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(NAME);
    let place = path.to_str().unwrap();
    let read = |text: &str| File::read(&path, text).map_err(|error| error.to_string());
    let (mut files, mut answered, mut refused) = (0, 0, None);
    for Block { kind, text } in blocks(include_str!("../../../docs/config.md")) {
        match kind {
            "toml" => {
                files += 1;
                read(&text).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            "toml refused" => refused = Some(read(&text).unwrap_err().replace(place, NAME)),
            "text" => assert_eq!(refused.take().unwrap() + "\n", text),
            "console" => {
                for (words, printed) in commands(&text) {
                    let words = words.iter().map(|word| if word == NAME { place } else { word });
                    let line = complete(words.map(OsString::from).collect()).unwrap();
                    let words: Vec<&str> =
                        line.words.iter().map(|word| word.to_str().unwrap()).collect();
                    let said: Vec<String> =
                        answers(&words).iter().map(|answer| answer.replace(place, NAME)).collect();
                    assert_eq!(said, printed);
                    answered += said.len();
                }
            }
            kind => panic!("a block of kind {kind:?}"),
        }
    }
    assert!(files >= 2 && answered >= 4, "{files} files, {answered} answers");
}

#[test]
fn an_option_of_the_file_contradicts_as_one_of_the_line() {
    let said = complete_with("[run]\nhost-binds = true", "run -p 80:80 ls").unwrap_err();
    assert!(said.contains("--host-binds") && said.contains("--publish"), "{said}");
}

#[test]
fn the_policy_of_the_file_comes_last() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    write("policy.toml", "rules = [{ deny = '10.2.0.0/16' }]\npin = 'off'");
    let config = write(
        "config.toml",
        "policy = 'policy.toml'\npin = 'on'\ndefault = 'deny'\nrules = [{ allow = '10.3.0.0/16' }]\n\
         [[container]]\nid = 'web'\nrules = [{ allow = '10.4.0.0/16' }]",
    );
    let line = ["bypass-cli", "serve", "--config", &config, "--deny=10.1.0.0/16"];
    let line = complete(line.map(OsString::from).to_vec()).unwrap();
    let Command::Serve(args) = Cli::parse_from(line.words).command else { panic!("not serve") };
    let policies = Policies::read(&args.policy).unwrap();
    let web = policies.of("web", &std::collections::BTreeMap::new());
    let rules: Vec<String> = web.rules.iter().map(ToString::to_string).collect();
    assert_eq!(
        rules,
        ["deny 10.1.0.0/16", "deny 10.2.0.0/16", "allow 10.4.0.0/16", "allow 10.3.0.0/16"]
    );
    let place = web.rules.last().unwrap().origin().unwrap().to_owned();
    assert_eq!(place, format!("{config}:4"));
    assert_eq!((web.pins(), web.default.unwrap().name()), (false, "deny"));
    assert_eq!(policies.general().rules.len(), 3);
}

#[test]
fn a_file_is_read_where_it_should_be_and_only_there() {
    let path = |config_home: &str, home: &str| {
        default_path(Some(config_home.into()), Some(home.into()))
            .map(|path| path.to_str().unwrap().to_owned())
    };
    assert_eq!(path("/c", "/h").as_deref(), Some("/c/bypass/config.toml"));
    assert_eq!(path("", "/h").as_deref(), Some("/h/.config/bypass/config.toml"));
    assert_eq!(path("c", "/h").as_deref(), Some("/h/.config/bypass/config.toml"));
    assert_eq!(path("", ""), None);

    let words = |words: &[&str]| complete(words.iter().map(OsString::from).collect());
    let missing = words(&["bypass-cli", "run", "--config", "/no/such/file", "ls"]).unwrap_err();
    assert!(missing.to_string().contains("--no-config"), "{missing}");
    let line = words(&["bypass-cli", "run", "--no-config", "ls"]).unwrap();
    assert_eq!((line.words.len(), line.from), (4, None));
    let line = words(&["bypass-cli", "doctor"]).unwrap();
    assert_eq!((line.words.len(), line.from), (2, None));
}
