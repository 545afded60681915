//! The exposition against the format, the conventions, the documentation and the dashboard.

use std::collections::{BTreeMap, BTreeSet};

use bypass_core::{Outcome, Reason, Stats};
use proptest::prelude::*;

use super::*;
use crate::visibility::model::{PublishedPort, Server, Treated};

/// A status in which there is something of everything.
fn full() -> Status {
    let stats = Stats::default();
    for outcome in Outcome::ALL {
        Reason::ALL.iter().for_each(|reason| stats.count(outcome, *reason));
    }
    stats.time_connect(std::time::Duration::from_micros(30));
    let container = |id: &str| ContainerStatus {
        id: id.into(),
        up_seconds: 1.5,
        waiting: 2,
        enforced: Treated { pin: true, ..Treated::default() },
        calls: stats.snapshot().into(),
    };
    let port = |state, container: Option<&str>, port: u16| PublishedPort {
        container: container.map(Into::into),
        protocol: "tcp".into(),
        host: ([127, 0, 0, 1], port).into(),
        container_port: 80,
        state,
    };
    Status {
        server: Server {
            version: "1.2.3".into(),
            role: "daemon".into(),
            calls: stats.snapshot().into(),
            connect: stats.connect_times().into(),
            published: vec![
                port(PortState::Reserved, None, 1),
                port(PortState::Direct, Some("web"), 2),
                port(PortState::Relayed, Some("web"), 3),
            ],
            ..Server::default()
        },
        containers: vec![container("web"), container("web"), container("\"\\\n{}\u{1f980}\t")],
    }
}

/// One line of samples.
#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// As strict as the format's description: it panics at anything that is not in it.
fn parse(text: &str) -> (Vec<(String, String, String)>, Vec<Sample>) {
    let (mut families, mut samples) =
        (Vec::<(String, String, String)>::new(), Vec::<Sample>::new());
    assert!(text.ends_with('\n'));
    let mut lines = text.split_terminator('\n').peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").unwrap().split_once(' ').unwrap();
        let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap();
        assert!(!families.iter().any(|(known, ..)| known == name), "{name} is in two pieces");
        families.push((name.into(), kind.into(), help.into()));
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let sample = parse_sample(line);
            let suffixes: &[&str] = match kind {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            let suffix = sample.name.strip_prefix(name).unwrap();
            assert!(suffixes.contains(&suffix), "{line}");
            let same = |s: &Sample| s.name == sample.name && s.labels == sample.labels;
            assert!(!samples.iter().any(same), "{line} is there twice");
            samples.push(sample);
        }
    }
    (families, samples)
}

fn parse_sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            let (label, value) = inside.split_once("=\"").unwrap();
            assert!(is_label(label), "{line}");
            let (mut of, mut chars) = (String::new(), value.char_indices());
            let end = loop {
                match chars.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => of.push(match chars.next().unwrap().1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        c => panic!("\\{c} in {line}"),
                    }),
                    (_, c) => of.push(c),
                }
            };
            assert_eq!(labels.insert(label.to_owned(), of), None, "{line}");
            inside = &value[end + 1..];
            match inside.strip_prefix(',') {
                Some(more) => inside = more,
                None => break,
            }
        }
        rest = inside.strip_prefix('}').unwrap();
    }
    let value = rest.strip_prefix(' ').unwrap();
    Sample { name: name.into(), labels, value: value.parse().unwrap() }
}

fn is_label(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[test]
fn what_is_told_is_what_the_table_says() {
    let (families, samples) = parse(&exposition(&full()));
    let told: Vec<_> =
        families.iter().map(|(name, kind, help)| (&**name, &**kind, &**help)).collect();
    let table: Vec<_> = ALL.iter().map(|f| (f.name, f.kind.name(), f.help)).collect();
    assert_eq!(told, table);
    for family in ALL.iter().filter(|family| family.kind != Kind::Histogram) {
        let of: Vec<_> = samples.iter().filter(|sample| sample.name == family.name).collect();
        assert!(!of.is_empty(), "{}", family.name);
        let labels: BTreeSet<_> = family.labels.iter().map(ToString::to_string).collect();
        for sample in of {
            assert_eq!(
                sample.labels.keys().cloned().collect::<BTreeSet<_>>(),
                labels,
                "{sample:?}"
            );
        }
    }
}

#[test]
fn names_follow_the_conventions() {
    for Family { name, kind, labels, help } in ALL {
        assert!(name.starts_with("bypass_") || name.starts_with("process_"), "{name}");
        assert!(is_label(name), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        for unit in ["ms", "us", "milliseconds", "kib", "kilobytes", "minutes"] {
            assert!(!name.split('_').any(|word| word == unit), "{name}: base units");
        }
        assert!(help.ends_with('.') && !help.contains(['\\', '\n']), "{name}");
        assert!(labels.iter().all(|label| is_label(label) && *label != "le"), "{name}");
    }
}

#[test]
fn a_histogram_is_cumulative_and_complete() {
    let (_, samples) = parse(&exposition(&full()));
    let of = |name: &str| samples.iter().filter(|s| s.name == name).collect::<Vec<_>>();
    let buckets = of("bypass_connect_handling_seconds_bucket");
    let bounds: Vec<f64> = buckets.iter().map(|s| s.labels["le"].parse().unwrap()).collect();
    assert!(bounds.is_sorted() && bounds.last() == Some(&f64::INFINITY), "{bounds:?}");
    assert!(buckets.is_sorted_by_key(|s| s.value));
    let shorter = buckets.iter().find(|s| s.value > 0.0).unwrap();
    assert_eq!(shorter.labels["le"], "0.000032768");
    let count = of("bypass_connect_handling_seconds_count")[0].value;
    assert_eq!(buckets.last().unwrap().value, count);
    assert_eq!(of("bypass_connect_handling_seconds_sum")[0].value, 0.00003);
}

#[test]
fn two_containers_of_one_id_are_one_series() {
    let (_, samples) = parse(&exposition(&full()));
    let web = samples.iter().find(|s| {
        s.name == "bypass_container_calls_total"
            && s.labels["container"] == "web"
            && s.labels["outcome"] == "left"
            && s.labels["reason"] == "ignored"
    });
    assert_eq!(web.unwrap().value, 2.0);
    let waiting = samples.iter().find(|s| s.name == "bypass_waiting_calls").unwrap();
    assert_eq!(waiting.value, 6.0);
}

#[test]
fn nothing_is_told_of_nothing() {
    let (families, _) = parse(&exposition(&Status::default()));
    assert_eq!(families.len(), ALL.len());
}

#[test]
fn the_documentation_has_every_metric_and_no_other() {
    let page = include_str!("../../../../docs/metrics.md");
    // | `name` | kind | labels | meaning |
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `bypass_") || line.starts_with("| `process_"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let documented: Vec<_> = rows
        .iter()
        .map(|row| (row[0].trim_matches('`'), row[1], row[2].to_owned(), row[3]))
        .collect();
    let row = |f: &Family| {
        let labels: Vec<_> = f.labels.iter().map(|label| format!("`{label}`")).collect();
        (f.name, f.kind.name(), labels.join(", "), f.help)
    };
    assert_eq!(documented, ALL.iter().map(row).collect::<Vec<_>>());
    for reason in Reason::ALL {
        assert!(page.contains(&format!("`{}`", reason.name())), "{}", reason.name());
    }
    for outcome in Outcome::ALL {
        assert!(page.contains(&format!("`{}`", outcome.name())), "{}", outcome.name());
    }
}

/// Every query of the dashboard, with the title of its panel.
fn queries() -> Vec<(String, String)> {
    fn look(value: &serde_json::Value, title: &str, found: &mut Vec<(String, String)>) {
        let title = value.get("title").and_then(|title| title.as_str()).unwrap_or(title);
        for key in ["expr", "query"] {
            if let Some(text) = value.get(key).and_then(|text| text.as_str()) {
                found.push((title.to_owned(), text.to_owned()));
            }
        }
        match value {
            serde_json::Value::Array(all) => all.iter().for_each(|one| look(one, title, found)),
            serde_json::Value::Object(all) => all.values().for_each(|one| look(one, title, found)),
            _ => {}
        }
    }
    let dashboard = include_str!("../../../../packaging/grafana/bypass.json");
    let mut found = Vec::new();
    look(&serde_json::from_str(dashboard).unwrap(), "", &mut found);
    found.retain(|(_, text)| text != "prometheus");
    found
}

/// The names that a query has of metrics and labels; what is quoted is neither.
fn words(query: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in query.split('"').enumerate() {
        if index % 2 == 0 {
            let split = part.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '$');
            words.extend(
                split
                    .filter(|word| word.contains(|c: char| c.is_ascii_lowercase()))
                    .map(str::to_owned),
            );
        }
    }
    words
}

#[test]
fn every_query_of_the_dashboard_is_about_what_there_is() {
    let mut known: BTreeMap<String, &Family> = BTreeMap::new();
    for family in ALL {
        let suffixes: &[&str] = match family.kind {
            Kind::Histogram => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        known.extend(suffixes.iter().map(|suffix| (format!("{}{suffix}", family.name), family)));
    }
    let language = [
        "rate",
        "sum",
        "by",
        "histogram_quantile",
        "max",
        "min",
        "le",
        "instance",
        "job",
        "topk",
        "time",
        "label_values",
        "and",
        "on",
        "$__rate_interval",
    ];
    let queries = queries();
    assert!(queries.len() > 10);
    let mut shown = BTreeSet::new();
    for (panel, query) in queries {
        let words = words(&query);
        let families: Vec<_> = words.iter().filter_map(|word| known.get(word)).collect();
        assert!(!families.is_empty(), "{panel}: {query}");
        shown.extend(families.iter().map(|family| family.name));
        for word in &words {
            let label = families.iter().any(|family| family.labels.contains(&word.as_str()));
            let ours = known.contains_key(word) || label || language.contains(&word.as_str());
            assert!(ours, "{panel}: {word} in {query}");
        }
        // A rate of what goes up and down, or the sum of what only goes up, tells nothing.
        for family in families {
            let rated = query.contains("rate(");
            assert_eq!(family.kind != Kind::Gauge, rated, "{panel}: {query}");
        }
    }
    assert!(shown.len() > 15, "{shown:?}");
}

proptest! {
    #[test]
    fn any_id_comes_back(id in any::<String>()) {
        let container = ContainerStatus { id: id.clone(), ..ContainerStatus::default() };
        let status = Status { containers: vec![container], ..Status::default() };
        let (_, samples) = parse(&exposition(&status));
        let told = samples.iter().find(|s| s.name == "bypass_container_up_seconds").unwrap();
        prop_assert_eq!(&told.labels["container"], &id);
    }
}
