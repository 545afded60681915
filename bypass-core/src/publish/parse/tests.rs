use super::PublishParseError as E;
use super::*;
use proptest::prelude::*;

fn canonical(text: &str) -> Result<Vec<String>, E> {
    let publish: Publish = text.parse()?;
    assert_eq!(publish.as_str(), text);
    Ok(publish.maps().iter().map(ToString::to_string).collect())
}

#[test]
fn every_form_of_the_grammar_has_its_meaning() {
    let cases: &[(&str, &[&str])] = &[
        ("80", &[":80/tcp"]),
        ("80/udp", &[":80/udp"]),
        (":80", &[":80/tcp"]),
        ("8080:80", &["8080:80/tcp"]),
        ("8080:80/UDP", &["8080:80/udp"]),
        ("8080:80/Tcp", &["8080:80/tcp"]),
        ("08080:0080", &["8080:80/tcp"]),
        ("127.0.0.1:8080:80/tcp", &["127.0.0.1:8080:80/tcp"]),
        ("127.0.0.1::80", &["127.0.0.1::80/tcp"]),
        ("0.0.0.0:1:65535", &["0.0.0.0:1:65535/tcp"]),
        ("[::1]:8080:80", &["[::1]:8080:80/tcp"]),
        ("[::]::53/udp", &["[::]::53/udp"]),
        ("[2001:DB8::0:1]:1:2", &["[2001:db8::1]:1:2/tcp"]),
        ("[::ffff:192.0.2.1]:8080:80", &["192.0.2.1:8080:80/tcp"]),
        ("[::ffff:0:0]:8080:80", &["0.0.0.0:8080:80/tcp"]),
        ("8000-8002:80-82", &["8000:80/tcp", "8001:81/tcp", "8002:82/tcp"]),
        ("[::1]:8000-8001:80-81/udp", &["[::1]:8000:80/udp", "[::1]:8001:81/udp"]),
        ("8000-8010:80", &["8000-8010:80/tcp"]),
        ("127.0.0.1:8000-8010:80", &["127.0.0.1:8000-8010:80/tcp"]),
        ("8000-8000:80", &["8000:80/tcp"]),
        ("80-81", &[":80/tcp", ":81/tcp"]),
        ("127.0.0.1::80-81/udp", &["127.0.0.1::80/udp", "127.0.0.1::81/udp"]),
    ];
    for (text, maps) in cases {
        assert_eq!(canonical(text).unwrap(), *maps, "{text}");
    }
}

#[test]
fn every_mistake_has_an_error_of_its_own() {
    let zero = "0.0.0.0".into();
    let cases = [
        ("", E::Empty),
        ("80/", E::ProtocolMissing),
        ("80/sctp", E::Sctp),
        ("80/SCTP", E::Sctp),
        ("80/icmp", E::Protocol("icmp".into())),
        ("80/tcp/udp", E::Protocol("tcp/udp".into())),
        ("1.2.3.4:5:6:7", E::TooManyParts),
        ("[::1]:5:6:7", E::TooManyParts),
        ("::1:8080:80", E::Unbracketed),
        ("2001:db8::1:80", E::Unbracketed),
        ("2001:db8::1", E::Unbracketed),
        ("fd00::", E::Unbracketed),
        ("[::1:8080:80", E::BracketOpen),
        ("[::1]8080:80", E::BracketTail),
        ("[127.0.0.1]:8080:80", E::BracketedV4("127.0.0.1".parse().unwrap())),
        ("[]:8080:80", E::NotV6("".into())),
        ("[::g]:8080:80", E::NotV6("::g".into())),
        ("[localhost]:8080:80", E::NotV6("localhost".into())),
        ("[fe80::1%eth0]:8080:80", E::Zone),
        ("fe80::1%eth0:8080:80", E::Zone),
        ("127.0.0.1%lo:8080:80", E::Zone),
        ("[fe80::1]:8080:80", E::LinkLocal("fe80::1".parse().unwrap())),
        (":8080:80", E::AddressMissing),
        ("::80", E::AddressMissing),
        ("localhost:8080:80", E::HostName("localhost".into())),
        ("*:8080:80", E::Address("*".into())),
        ("127.0.0:8080:80", E::Address("127.0.0".into())),
        ("256.0.0.1:8080:80", E::Address("256.0.0.1".into())),
        ("0.0.0.0:80", E::HostPortMissing(zero)),
        ("[::1]:80", E::HostPortMissing("[::1]".into())),
        ("[::1]", E::HostPortMissing("[::1]".into())),
        ("8080:", E::ContainerPortMissing),
        (":", E::ContainerPortMissing),
        ("/udp", E::ContainerPortMissing),
        ("127.0.0.1:8080:", E::ContainerPortMissing),
        ("0:80", E::HostPortZero),
        ("0-5:80-85", E::HostPortZero),
        ("0", E::ContainerPortZero),
        ("80:000", E::ContainerPortZero),
        ("65536", E::PortTooHigh("65536".into())),
        ("99999999999999999999:80", E::PortTooHigh("99999999999999999999".into())),
        ("http", E::Port("http".into())),
        ("localhost:80", E::Port("localhost".into())),
        ("+80", E::Port("+80".into())),
        (" 80", E::Port(" 80".into())),
        ("８０", E::Port("８０".into())),
        ("80-82-84", E::Port("82-84".into())),
        ("8000-:80", E::RangeOpen("8000-".into())),
        ("-90", E::RangeOpen("-90".into())),
        ("90-80", E::RangeReversed { first: 90, last: 80 }),
        ("8000-8001:80-82", E::RangesUnequal { host: 2, container: 3 }),
        ("8080:80-81", E::RangesUnequal { host: 1, container: 2 }),
        ("8000-8002:80-81", E::RangesUnequal { host: 3, container: 2 }),
    ];
    for (text, error) in cases {
        assert_eq!(canonical(text), Err(error), "{text}");
    }
}

#[test]
fn a_message_names_the_part_and_what_to_write() {
    let message = |text| canonical(text).unwrap_err().to_string();
    assert_eq!(
        message("[::1]:80"),
        "a host address needs two colons: write [::1]:8080:80, or [::1]::80 for any free port"
    );
    assert_eq!(message("90-80"), "the range runs backwards: write 80-90");
    assert!(message("\u{1b}[m:80").contains(r"\u{1b}"), "a terminal must not see control codes");
}

#[test]
fn the_widest_range_has_every_port_once() {
    let publish: Publish = "1-65535:1-65535".parse().unwrap();
    assert_eq!(publish.maps().len(), 65535);
    assert!(publish.maps().iter().all(PortMap::keeps_port));
}

#[test]
fn only_an_equal_fixed_port_is_kept() {
    let keeps =
        |text: &str| text.parse::<Publish>().unwrap().maps().iter().all(PortMap::keeps_port);
    assert!(keeps("80:80"));
    for text in ["8080:80", "80", "80-81:80", "79-80:80-81"] {
        assert!(!keeps(text), "{text}");
    }
}

#[test]
fn protocols_are_lower_case_wherever_they_are_written() {
    assert_eq!(format!("{:>5}", Protocol::Udp), "  udp");
    assert_eq!(Protocol::Tcp.name(), "tcp");
}

fn any_map() -> impl Strategy<Value = PortMap> {
    let ip = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into()).to_canonical()),
    ]
    .prop_filter("publishable", |ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
    let host_port = prop_oneof![
        Just(HostPort::Ephemeral),
        (1u16..).prop_map(HostPort::Fixed),
        (1u16..u16::MAX)
            .prop_flat_map(|first| (Just(first), first + 1..=u16::MAX))
            .prop_map(|(first, last)| HostPort::FirstFreeOf { first, last }),
    ];
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    (prop::option::of(ip), host_port, 1u16.., protocol).prop_map(
        |(host_ip, host_port, container_port, protocol)| PortMap {
            host_ip,
            host_port,
            container_port,
            protocol,
        },
    )
}

proptest! {
    #[test]
    fn the_canonical_form_of_a_map_parses_to_itself(map in any_map()) {
        let publish: Publish = map.to_string().parse().unwrap();
        prop_assert_eq!(publish.maps(), &[map]);
    }

    #[test]
    fn no_text_panics_and_what_it_means_is_stable(
        text in r"(\[?[0-9a-f:.%]{0,12}\]?:?)?[0-9]{0,6}-?[0-9]{0,5}:?[0-9]{0,6}-?[0-9]{0,5}(/\PC{0,4})?",
    ) {
        if let Ok(publish) = text.parse::<Publish>() {
            prop_assert!(!publish.maps().is_empty() && publish.maps().len() <= 65535);
            let map = publish.maps()[publish.maps().len() / 2];
            let again: Publish = map.to_string().parse().unwrap();
            prop_assert_eq!(again.maps(), &[map]);
        }
    }

    #[test]
    fn no_noise_panics(text in r"[\PC\[\]:/%0-9-]{0,40}") {
        let _outcome = text.parse::<Publish>();
    }
}
