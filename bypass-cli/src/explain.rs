//! `bypass-cli explain`: what the policy says about a destination, and which part of it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;

use bypass_core::{Decision, Flow, Policy, PolicyLayer, Protocol, Reason, Verdict};
use netns_socket::{Arrival, Egress, RouteError, Router};

use crate::annotations::{Annotated, AnnotationError};
use crate::args::ExplainArgs;
use crate::policy::{Policies, PolicyError};

/// The policy could not be explained.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExplainError {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    #[error("the routes of the host cannot be asked for; `ip route` should work for this user")]
    Router(#[from] RouteError),
    #[error("the answer cannot be written to standard output")]
    Write(#[source] io::Error),
}

pub(crate) fn print(args: &ExplainArgs) -> Result<ExitCode, ExplainError> {
    let policy = policy(args)?;
    let router = Router::new()?;
    let mut out = io::stdout().lock();
    for question in &args.destinations {
        let ip = question.to.ip();
        let host = match router.arrival(ip)? {
            Arrival::Here => Some(true),
            Arrival::HereToo => None,
            Arrival::Elsewhere => Some(false),
        };
        let egress = router.egress(ip, 0)?;
        let answer = answer(&policy, question, host, Some(egress));
        writeln!(out, "{answer}").map_err(ExplainError::Write)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn policy(args: &ExplainArgs) -> Result<Policy, ExplainError> {
    let policies = Policies::read(&args.policy)?;
    let annotations: BTreeMap<String, String> = args.annotation.iter().cloned().collect();
    let layer = match &args.container {
        Some(id) => policies.of(id, &annotations),
        None if annotations.is_empty() => policies.general(),
        None => policies.of("", &annotations),
    };
    let annotated = Annotated::parse(&annotations)?;
    Ok(PolicyLayer::stacked([&annotated.layer, &layer]).policy())
}

/// A destination as the user writes it: `tcp://10.1.2.3:443`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    protocol: Protocol,
    to: SocketAddr,
}

/// Why a text is no destination.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QuestionError {
    #[error("write the protocol in front, like tcp://10.1.2.3:443 or udp://[fd00::1]:53")]
    Protocol,
    #[error("a path means nothing here: write it like tcp://10.1.2.3:443")]
    Path,
    #[error("a port is missing: write it like tcp://10.1.2.3:443 or udp://[fd00::1]:53")]
    Port,
    #[error("an IPv6 address stands in brackets: write it like tcp://[fd00::1]:443")]
    Unbracketed,
    #[error(
        "names are not looked up, since each look-up may give another address: write the address"
    )]
    Name,
}

impl FromStr for Question {
    type Err = QuestionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (protocol, to) = match text.split_once("://") {
            Some(("tcp", to)) => (Protocol::Tcp, to),
            Some(("udp", to)) => (Protocol::Udp, to),
            _ => return Err(QuestionError::Protocol),
        };
        let to = to.parse().map_err(|_none| {
            let inner = to.trim_start_matches('[').trim_end_matches(']');
            if to.contains('/') {
                QuestionError::Path
            } else if !to.starts_with('[') && to.matches(':').count() > 1 {
                QuestionError::Unbracketed
            } else if inner.parse::<IpAddr>().is_ok() || to.ends_with(':') {
                QuestionError::Port
            } else {
                QuestionError::Name
            }
        })?;
        Ok(Self { protocol, to })
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.protocol, self.to)
    }
}

/// One line: the destination, what becomes of it, and why.
///
/// `egress` is how the host reaches it, which comes after the policy.
fn answer(
    policy: &Policy,
    question: &Question,
    host: Option<bool>,
    egress: Option<Egress>,
) -> String {
    // Whose networks is not asked: no container is at hand.
    let flow = Flow::new(question.protocol, question.to).of_host(host).in_own_network(Some(false));
    let decision = policy.explain(&flow);
    let why = [permission(policy, &decision), way(&decision)];
    let mut why: Vec<String> = why.into_iter().flatten().collect();
    let mut word = match decision.verdict {
        Verdict::Bypass => "bypass",
        Verdict::Leave(_) => "leave",
        Verdict::Deny(_) => "deny",
    };
    if decision.verdict == Verdict::Bypass {
        if policy.ignores_own_networks() && !question.to.ip().to_canonical().is_loopback() {
            why.push("left where it is in a network of the container's interfaces (auto)".into());
        }
        match egress {
            Some(Egress::Loopback) if !policy.allows_host_loopback() => {
                word = "leave";
                why.push("its address is on the host's loopback device".into());
            }
            Some(Egress::Unroutable(errno)) => {
                why.push(format!("but the host has no route there now ({errno})"));
            }
            _ => {}
        }
    }
    format!("{question} {word}: {}", why.join("; "))
}

/// What was said on the first question, whether it may be reached.
fn permission(policy: &Policy, decision: &Decision) -> Option<String> {
    if let Some(rule) = decision.rule.and_then(|index| policy.rule(index)) {
        return Some(match rule.origin() {
            Some(origin) => format!("{rule} ({origin})"),
            None => rule.to_string(),
        });
    }
    // Where it is left to the container anyhow, the default has no say.
    match decision.verdict {
        Verdict::Leave(reason) if reason != Reason::NotAllowed => None,
        _ => Some(format!("no rule matches, and the default is {}", policy.default_action())),
    }
}

/// What was said on the second, by which way.
fn way(decision: &Decision) -> Option<String> {
    let Verdict::Leave(reason) = decision.verdict else { return None };
    match reason {
        Reason::Ignored => decision.ignored.map(|net| format!("{net} is ignored")),
        Reason::HostLoopback => {
            Some("loopback is the container's own without --allow-host-loopback".into())
        }
        Reason::Multicast => Some("multicast and broadcast are the container's own".into()),
        Reason::LinkLocal => Some("IPv6 link-local addresses are the container's own".into()),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod doc;

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    /// The answers to a command line, of a host with a route to everywhere that is 192.0.2.1.
    pub(crate) fn answers(line: &[&str]) -> Vec<String> {
        let Command::Explain(args) = Cli::parse_from(line).command else { panic!("{line:?}") };
        let policy = policy(&args).unwrap();
        let own: IpAddr = "192.0.2.1".parse().unwrap();
        let one =
            |question: &Question| answer(&policy, question, Some(question.to.ip() == own), None);
        args.destinations.iter().map(one).collect()
    }

    #[test]
    fn every_verdict_is_told_with_what_it_rests_on() {
        let line = "bypass-cli explain --allow=10.1.2.3:443 --deny=10.0.0.0/8,host \
            --ignore=10.1.0.0/16,172.16.0.0/12 tcp://10.1.2.3:443 tcp://10.1.2.3:80 \
            tcp://192.0.2.1:22 tcp://172.16.0.1:80 udp://8.8.8.8:53 tcp://127.0.0.1:80 \
            tcp://[::]:80 udp://224.0.0.251:5353 tcp://[fe80::1]:22";
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            answers(&words),
            [
                "tcp://10.1.2.3:443 leave: allow 10.1.2.3:443 (--allow); 10.1.0.0/16 is ignored",
                "tcp://10.1.2.3:80 deny: deny 10.0.0.0/8 (--deny)",
                "tcp://192.0.2.1:22 deny: deny host (--deny)",
                "tcp://172.16.0.1:80 leave: 172.16.0.0/12 is ignored",
                "udp://8.8.8.8:53 bypass: no rule matches, and the default is allow",
                "tcp://127.0.0.1:80 leave: loopback is the container's own without \
                 --allow-host-loopback",
                "tcp://[::]:80 leave: loopback is the container's own without --allow-host-loopback",
                "udp://224.0.0.251:5353 leave: multicast and broadcast are the container's own",
                "tcp://[fe80::1]:22 leave: IPv6 link-local addresses are the container's own",
            ]
        );
    }

    #[test]
    fn what_depends_on_the_container_is_told_as_well() {
        let words = ["bypass-cli", "explain", "--ignore=auto", "tcp://10.4.0.2:80"];
        let [answer] = &answers(&words)[..] else { panic!("one question") };
        let (verdict, why) = answer.split_once(": ").unwrap();
        assert_eq!(verdict, "tcp://10.4.0.2:80 bypass");
        assert!(
            why.ends_with("; left where it is in a network of the container's interfaces (auto)")
        );
    }

    #[test]
    fn what_the_host_cannot_reach_is_told_as_well() {
        let question: Question = "tcp://192.0.2.7:80".parse().unwrap();
        let policy = Policy::builder().build();
        let with = |egress| answer(&policy, &question, Some(false), Some(egress));
        assert!(with(Egress::Device { ifindex: 2 }).ends_with("the default is allow"));
        let on_lo = with(Egress::Loopback);
        assert!(on_lo.contains("192.0.2.7:80 leave: ") && on_lo.contains("loopback device"));
        let nowhere = with(Egress::Unroutable(netns_socket::Errno::NETUNREACH));
        assert!(nowhere.contains("bypass: ") && nowhere.contains("no route"), "{nowhere}");
        let denying = Policy::builder().deny(["any".parse().unwrap()]).build();
        let denied = answer(&denying, &question, Some(false), Some(Egress::Loopback));
        assert_eq!(denied, "tcp://192.0.2.7:80 deny: deny any");
    }

    #[test]
    fn a_wrong_destination_is_told_with_a_remedy() {
        for (text, error) in [
            ("10.1.2.3:443", QuestionError::Protocol),
            ("http://10.1.2.3:443", QuestionError::Protocol),
            ("tcp://10.1.2.3:443/x", QuestionError::Path),
            ("tcp://10.1.2.3", QuestionError::Port),
            ("tcp://10.1.2.3:", QuestionError::Port),
            ("tcp://[fd00::1]", QuestionError::Port),
            ("tcp://fd00::1:443", QuestionError::Unbracketed),
            ("tcp://example.org:443", QuestionError::Name),
        ] {
            assert_eq!(text.parse::<Question>(), Err(error), "{text}");
        }
    }
}
