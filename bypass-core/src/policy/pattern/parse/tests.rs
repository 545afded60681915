use super::*;
use proptest::prelude::*;

fn canonical(text: &str) -> Result<String, E> {
    text.parse::<Pattern>().map(|pattern| pattern.to_string())
}

#[test]
fn every_form_of_the_grammar_has_its_meaning() {
    for (text, meaning) in [
        ("any", "any"),
        ("any:443", "any:443"),
        ("any/udp", "any/udp"),
        ("any:1-65535/TCP", "any:1-65535/tcp"),
        ("metadata", "metadata"),
        ("private:25", "private:25"),
        ("host:22/tcp", "host:22/tcp"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3/32", "10.1.2.3"),
        ("10.1.2.3/tcp", "10.1.2.3/tcp"),
        ("10.0.0.0/8/udp", "10.0.0.0/8/udp"),
        ("10.0.0.0/8:443", "10.0.0.0/8:443"),
        ("10.0.0.0/8:8000-8010/Udp", "10.0.0.0/8:8000-8010/udp"),
        ("10.0.0.0/8:80-80", "10.0.0.0/8:80"),
        ("10.0.0.0/8:0080", "10.0.0.0/8:80"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("0.0.0.0/8", "0.0.0.0/8"),
        ("::/0", "::/0"),
        ("fd00::/8", "fd00::/8"),
        ("[fd00::/8]", "fd00::/8"),
        ("FD00:0:0::1", "fd00::1"),
        ("fd00::/8/tcp", "fd00::/8/tcp"),
        ("[fd00::/8]:443", "[fd00::/8]:443"),
        ("[fd00::1]:443/tcp", "[fd00::1]:443/tcp"),
        ("[fd00::1]/udp", "fd00::1/udp"),
        // The kernel sends IPv4 to these.
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("[::ffff:10.1.2.3]:80", "10.1.2.3:80"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        // An address, not an address and a port.
        ("fd00::1:443", "fd00::1:443"),
    ] {
        assert_eq!(canonical(text).as_deref(), Ok(meaning), "{text}");
        assert_eq!(canonical(meaning).as_deref(), Ok(meaning), "{meaning}");
    }
}

#[test]
fn every_mistake_has_an_error_of_its_own() {
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    for (text, error) in [
        ("", E::Empty),
        (":443", E::TargetMissing(":443".into())),
        ("/tcp", E::TargetMissing("/tcp".into())),
        (":443/tcp", E::TargetMissing(":443/tcp".into())),
        ("*", E::Star),
        ("*:443", E::Star),
        ("example.org", E::Name("example.org".into())),
        ("localhost:22", E::Name("localhost".into())),
        ("ANY", E::Name("ANY".into())),
        ("preset:host", E::Name("preset".into())),
        ("example.org/24", E::Name("example.org".into())),
        (" any", E::Name(" any".into())),
        ("any/8", E::WordPrefix("any".into())),
        ("host/24", E::WordPrefix("host".into())),
        ("10.0.0", E::Address("10.0.0".into())),
        ("10.0.0/8", E::Address("10.0.0".into())),
        ("10.0.0.256", E::Address("10.0.0.256".into())),
        ("443", E::Address("443".into())),
        ("443/tcp", E::Address("443".into())),
        ("fd00::1::2", E::Address("fd00::1::2".into())),
        ("fe80::1%eth0", E::Zone),
        ("[fe80::1%2]:80", E::Zone),
        ("0.0.0.0", E::Unspecified("0.0.0.0".parse().unwrap())),
        ("0.0.0.0:80", E::Unspecified("0.0.0.0".parse().unwrap())),
        ("::", E::Unspecified("::".parse().unwrap())),
        ("[::]:80", E::Unspecified("::".parse().unwrap())),
        ("::ffff:0.0.0.0", E::Unspecified("::ffff:0.0.0.0".parse().unwrap())),
        ("10.0.0.0/", E::SlashEnd),
        ("10.0.0.0/8/", E::SlashEnd),
        ("10.0.0.0/33", E::Prefix("33".into())),
        ("10.0.0.0/+8", E::Prefix("+8".into())),
        ("10.0.0.0/255.0.0.0", E::Prefix("255.0.0.0".into())),
        ("fd00::/129", E::Prefix("129".into())),
        ("10.1.2.3/8", E::HostBits { written: net("10.1.2.3/8"), net: net("10.0.0.0/8") }),
        ("fd00::1/64", E::HostBits { written: net("fd00::1/64"), net: net("fd00::/64") }),
        ("fd00::/8:443", E::Unbracketed),
        ("fd00:1:2:3:4:5:6:7:443", E::Unbracketed),
        ("[fd00::/8", E::BracketOpen),
        ("[fd00::]/8", E::BracketPrefix),
        ("[fd00::]/8:443", E::BracketPrefix),
        ("[fd00::/8]443", E::BracketTail),
        ("[10.0.0.0/8]:443", E::Bracketed("10.0.0.0/8".into())),
        ("[any]:443", E::Bracketed("any".into())),
        ("10.0.0.0/8:80:443", E::TooManyColons),
        ("any:80:443", E::TooManyColons),
        ("any:", E::PortMissing),
        ("[fd00::1]:", E::PortMissing),
        ("any:/tcp", E::PortMissing),
        ("any:0", E::PortZero),
        ("any:0-65535", E::PortZero),
        ("any:65536", E::PortTooHigh("65536".into())),
        ("any:http", E::Port("http".into())),
        ("any:+80", E::Port("+80".into())),
        ("any:80,81", E::Port("80,81".into())),
        ("any:-80", E::RangeOpen("-80".into())),
        ("any:80-", E::RangeOpen("80-".into())),
        ("any:80-70", E::RangeReversed { first: 80, last: 70 }),
        ("any/sctp", E::Protocol("sctp".into())),
        ("10.0.0.0/8/icmp", E::Protocol("icmp".into())),
        ("10.0.0.0/tcp:443", E::ProtocolNotLast),
        ("any/tcp/udp", E::TwoProtocols),
    ] {
        assert_eq!(canonical(text), Err(error), "{text}");
    }
}

#[test]
fn a_mistake_is_told_with_what_to_write() {
    for (text, remedy) in [
        ("10.1.2.3/8", "write 10.0.0.0/8, or 10.1.2.3 for one address"),
        ("fd00::/8:443", "write it like [fd00::/8]:443"),
        ("*:443", "write any"),
        ("0.0.0.0", "write 127.0.0.1"),
    ] {
        let message = canonical(text).unwrap_err().to_string();
        assert!(message.contains(remedy), "{text}: {message}");
    }
}

pub(crate) fn any_pattern() -> impl Strategy<Value = Pattern> {
    let v4 = (any::<u32>(), 0u8..=32)
        .prop_map(|(ip, len)| IpNet::new(IpAddr::V4(ip.into()), len).unwrap().trunc());
    let v6 = (any::<u128>(), 0u8..=128)
        .prop_map(|(ip, len)| IpNet::new(IpAddr::V6(ip.into()), len).unwrap().trunc());
    let net = prop_oneof![v4, v6]
        .prop_filter("means loopback", |net| !is_unspecified(normalised(*net)))
        .prop_map(Target::Net);
    let target = prop_oneof![
        1 => Just(Target::Any),
        1 => prop::sample::select(Preset::ALL).prop_map(Target::Preset),
        4 => net,
    ];
    let ports = prop_oneof![
        Just(PortRange::ALL),
        (1u16.., 1u16..).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap()),
    ];
    let protocol = prop::option::of(prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]);
    (target, ports, protocol).prop_map(|(target, ports, protocol)| Pattern {
        ports,
        protocol,
        ..Pattern::new(target)
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_again(pattern in any_pattern()) {
        prop_assert_eq!(pattern.to_string().parse::<Pattern>(), Ok(pattern));
    }

    #[test]
    fn no_text_makes_it_panic(text in "[anyhost0-9a-f:./\\[\\]*%-]{0,24}(/tcp|/udp)?") {
        if let Ok(pattern) = text.parse::<Pattern>() {
            prop_assert_eq!(pattern.to_string().parse::<Pattern>(), Ok(pattern), "{}", text);
        }
    }
}
