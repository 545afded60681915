//! One decision, with few and with many networks to look through.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bypass_core::{Flow, Pattern, Policy, Protocol, Reason, Verdict};
use criterion::{BenchmarkId, Criterion};
use ipnet::IpNet;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy");
    for count in [1, 10, 1_000] {
        let ignoring = Policy::builder().ignore(networks(count)).build();
        // As somebody would write it: exceptions, a list, what is never to be reached.
        let denying = Policy::builder()
            .allow(["192.0.2.53:53".parse().expect("a pattern")])
            .deny(networks(count).map(Pattern::from))
            .deny(["any:25/tcp", "metadata", "host"].map(|text| text.parse().expect("a pattern")))
            .build();
        for (kind, policy, hit) in [
            ("ignore", ignoring, Verdict::Leave(Reason::Ignored)),
            ("deny", denying, Verdict::Deny(Reason::DenyRule)),
        ] {
            for (family, network) in [("v4", v4 as fn(u16) -> IpNet), ("v6", v6)] {
                let inside = network(count / 2 * 2).addr();
                let outside = network(count / 2 * 2 + 1).addr();
                for (name, ip, verdict) in
                    [("hit", inside, hit), ("miss", outside, Verdict::Bypass)]
                {
                    let to = SocketAddr::new(ip, 443);
                    let flow = Flow::new(Protocol::Tcp, to).of_host(Some(false));
                    assert_eq!(policy.decide(&flow), verdict, "{ip} among {count} networks");
                    let id = BenchmarkId::new(format!("{kind}-{family}-{name}"), count);
                    group.bench_function(id, |bencher| {
                        bencher.iter(|| black_box(&policy).decide(black_box(&flow)));
                    });
                }
            }
        }
    }
    group.finish();
}

/// `count` networks of each family. Between any two is one that is not among them, or they
/// would be one.
fn networks(count: u16) -> impl Iterator<Item = IpNet> {
    (0..count).flat_map(|at| [v4(2 * at), v6(2 * at)])
}

fn v4(number: u16) -> IpNet {
    let [high, low] = number.to_be_bytes();
    network(Ipv4Addr::new(10, high, low, 0).into(), 24)
}

fn v6(number: u16) -> IpNet {
    network(Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 0).into(), 48)
}

fn network(ip: IpAddr, prefix: u8) -> IpNet {
    IpNet::new(ip, prefix).expect("a valid prefix length")
}
