//! From the bytes that a target passed to the destination that policy looks at.

use std::hint::black_box;

use criterion::Criterion;
use sockaddr_inspect::{Destination, SockAddr, UnixAddr, UnixPath};

pub(crate) fn bench(criterion: &mut Criterion) {
    let ip = |text: &str| SockAddr::from(text.parse::<std::net::SocketAddr>().expect("an address"));
    let path = UnixPath::new(b"/run/user/1000/bus").expect("a short path");
    let mut group = criterion.benchmark_group("decode");
    for (name, address) in [
        ("v4", ip("198.18.0.2:443")),
        ("v6", ip("[2001:db8::2]:443")),
        ("v4-mapped", ip("[::ffff:198.18.0.2]:443")),
        ("unix", SockAddr::Unix(UnixAddr::Path(path))),
    ] {
        let bytes = address.encode();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let address = black_box(&bytes).decode().expect("it was encoded by us");
                (address, address.ip().map(Destination::of))
            });
        });
    }
    group.finish();
}
