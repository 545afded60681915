//! What a container's annotations say of it: all that begins with `bypass.`.
//!
//! They are written by whoever creates the container, who is the user that we run as, or by the author of its
//! image, since some engines make annotations of an image's labels. So they only ever take away from what
//! the options permit; publishing, which adds, takes the operator's word as well.

use std::collections::BTreeMap;

use bypass_core::{
    Action, Ignored, Pattern, PolicyLayer, Protocol, Publish, PublishConflict, PublishList, Rule,
};

/// All of ours begin with this.
const PREFIX: &str = "bypass.";
/// Whether the container is bypassed.
pub(crate) const MODE: &str = "bypass.mode";
/// Networks that stay in the container, besides those of the options.
const IGNORE: &str = "bypass.ignore";
/// What is refused to it, before all rules.
const DENY: &str = "bypass.deny";
/// What it publishes, instead of what the options say.
pub(crate) const PUBLISH: &str = "bypass.publish";

/// Ports that one container can ask for: each takes descriptors of ours.
const MAX_PORTS: usize = 128;
/// The longest value, in bytes.
const MAX_VALUE: usize = 8192;

/// Whether a container is bypassed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    On,
    /// Nothing is done.
    Off,
    /// If there is a supervisor.
    Optional,
}

/// What the annotations of one container say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Annotated {
    pub(crate) mode: Mode,
    /// What goes before any other policy: it allows nothing.
    pub(crate) layer: PolicyLayer,
    /// `None` if nothing is said of ports.
    pub(crate) publish: Option<PublishList>,
}

/// An annotation that is not understood. The container is not served then: it may be one that
/// takes something away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnnotationError {
    #[error("the annotation {MODE}={0}: it is on, off or optional")]
    Mode(String),
    #[error("the annotation {name}={value}: {why}")]
    Value { name: &'static str, value: String, why: String },
    #[error("the annotation {PUBLISH}: {0}")]
    Conflict(#[from] PublishConflict),
    #[error("the annotation {PUBLISH}: more than {MAX_PORTS} ports")]
    Ports,
    #[error("the annotation {0}: its value is too long")]
    Long(String),
    #[error("the annotation {0} is not known: there are {MODE}, {IGNORE}, {DENY} and {PUBLISH}")]
    Unknown(String),
}

impl Annotated {
    /// Reads what is ours among a container's annotations.
    pub(crate) fn parse(annotations: &BTreeMap<String, String>) -> Result<Self, AnnotationError> {
        let mut all = Self::default();
        let ours = annotations.range(PREFIX.to_owned()..);
        for (name, value) in ours.take_while(|(name, _)| name.starts_with(PREFIX)) {
            if value.len() > MAX_VALUE {
                return Err(AnnotationError::Long(shown(name)));
            }
            match name.as_str() {
                MODE => all.mode = mode(value)?,
                IGNORE => all.layer.ignore_also(list::<Ignored>(IGNORE, value)?),
                DENY => {
                    let rule = |pattern| Rule::new(Action::Deny, pattern).written_at(DENY);
                    all.layer.rules = list::<Pattern>(DENY, value)?.into_iter().map(rule).collect();
                }
                PUBLISH => all.publish = Some(ports(value)?),
                _ => return Err(AnnotationError::Unknown(shown(name))),
            }
        }
        if all.mode == Mode::Off {
            // Under a profile that traps its calls in any case.
            all.layer.ignore_also(EVERYTHING.iter().filter_map(|net| net.parse().ok()));
            all.publish = Some(PublishList::default());
        }
        Ok(all)
    }

    /// Whether it asks for a UDP port.
    pub(crate) fn publishes_udp(&self) -> bool {
        let list = self.publish.iter().flat_map(PublishList::iter);
        list.into_iter().any(|(_, map)| map.protocol == Protocol::Udp)
    }
}

fn mode(value: &str) -> Result<Mode, AnnotationError> {
    match value {
        "on" => Ok(Mode::On),
        "off" => Ok(Mode::Off),
        "optional" => Ok(Mode::Optional),
        _ => Err(AnnotationError::Mode(shown(value))),
    }
}

/// A list like those of options, with commas.
fn list<T: std::str::FromStr>(name: &'static str, value: &str) -> Result<Vec<T>, AnnotationError>
where
    T::Err: std::fmt::Display,
{
    let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
    let parse = |item: &str| {
        item.parse().map_err(|why: T::Err| AnnotationError::Value {
            name,
            value: shown(item),
            why: why.to_string(),
        })
    };
    items.map(parse).collect()
}

fn ports(value: &str) -> Result<PublishList, AnnotationError> {
    let mut all = Vec::new();
    let mut count = 0;
    for publish in list::<Publish>(PUBLISH, value)? {
        count += publish.maps().len();
        if count > MAX_PORTS {
            return Err(AnnotationError::Ports);
        }
        all.push(publish);
    }
    Ok(PublishList::new(all)?)
}

/// As much of it as a line of the log can do with.
fn shown(text: &str) -> String {
    text.chars().take(64).collect::<String>().escape_debug().to_string()
}

const EVERYTHING: [&str; 2] = ["0.0.0.0/0", "::/0"];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Annotated, AnnotationError> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Annotated::parse(&pairs.collect())
    }

    #[test]
    fn what_is_not_ours_says_nothing() {
        let all = parse(&[("a", "b"), ("bypass", "c"), ("bypassed.mode", "d"), ("z", "e")]);
        assert_eq!(all.unwrap(), Annotated::default());
    }

    #[test]
    fn lists_are_those_of_the_options() {
        let all = parse(&[
            ("bypass.ignore", "10.0.0.0/8, auto"),
            ("bypass.deny", "metadata,any:25/tcp"),
            ("bypass.publish", "127.0.0.1:8080:80,53:53/udp"),
        ])
        .unwrap();
        assert_eq!((all.layer.ignore.len(), all.layer.ignore_own_networks), (1, true));
        let rules: Vec<_> = all.layer.rules.iter().map(ToString::to_string).collect();
        assert_eq!(rules, ["deny metadata", "deny any:25/tcp"]);
        assert!(all.publishes_udp());
        assert_eq!(all.publish.unwrap().iter().count(), 2);
        assert!(parse(&[("bypass.publish", "")]).unwrap().publish.unwrap().is_empty());
    }

    #[test]
    fn whatever_they_say_permits_nothing_more() {
        use bypass_core::DefaultAction;

        let all =
            parse(&[("bypass.mode", "off"), ("bypass.deny", "any:25"), ("bypass.ignore", "auto")]);
        let PolicyLayer { rules, default, allow_host_loopback, pin, .. } = all.unwrap().layer;
        assert!(rules.iter().all(|rule| rule.action() == Action::Deny));
        assert_eq!((default, allow_host_loopback, pin), (None::<DefaultAction>, None, None));
    }

    #[test]
    fn off_leaves_everything_to_the_container() {
        let all = parse(&[("bypass.mode", "off"), ("bypass.publish", "80:80")]).unwrap();
        assert!(all.publish.unwrap().is_empty());
        assert_eq!(all.layer.ignore.len(), 2);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let long = "1".repeat(MAX_VALUE + 1);
        for (name, value, part) in [
            ("bypass.mode", "no", "on, off or optional"),
            ("bypass.ignore", "10.0.0.0/99", "10.0.0.0/99"),
            ("bypass.deny", "10.0.0.0/8,*:25", "*:25"),
            ("bypass.publish", "80:80:80:80", "80:80:80:80"),
            ("bypass.publish", "80:80,80:81", "bypass.publish"),
            ("bypass.publish", "1000-1128:1000-1128", "more than 128"),
            ("bypass.publish", &long, "too long"),
            ("bypass.ignored", "10.0.0.0/8", "bypass.ignored is not known"),
        ] {
            let error = parse(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            assert!(error.len() < 400, "{error}");
        }
    }
}
