//! One decision, with few and with many networks to look through.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bypass_core::{Policy, Reason, Verdict};
use criterion::{BenchmarkId, Criterion};
use ipnet::IpNet;
use sockaddr_inspect::Destination;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy");
    for count in [1, 10, 1_000] {
        let policy = Policy::builder().ignore(networks(count)).build();
        for (family, network) in [("v4", v4 as fn(u16) -> IpNet), ("v6", v6)] {
            let inside = network(count / 2 * 2).addr();
            let outside = network(count / 2 * 2 + 1).addr();
            for (name, ip, verdict) in [
                ("hit", inside, Verdict::Leave(Reason::Ignored)),
                ("miss", outside, Verdict::Bypass),
            ] {
                let to = Destination::of(SocketAddr::new(ip, 443));
                assert_eq!(policy.decide(&to), verdict, "{ip} among {count} networks");
                let id = BenchmarkId::new(format!("{family}-{name}"), count);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| black_box(&policy).decide(black_box(&to)));
                });
            }
        }
    }
    group.finish();
}

/// `count` networks of each family. Between any two is one that is not among them, or they
/// would be one.
fn networks(count: u16) -> Vec<IpNet> {
    (0..count).flat_map(|at| [v4(2 * at), v6(2 * at)]).collect()
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
