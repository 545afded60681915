//! The state of a socket with which its program has done nothing yet but make it.

use std::hint::black_box;

use criterion::Criterion;
use netns_socket::{Captured, Identity, Part, SocketState};
use rustix::net::{AddressFamily, SocketType, socket};

pub(crate) fn bench(criterion: &mut Criterion) {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a TCP socket");
    let identity = Identity::of(&socket).expect("it is a socket").expect("of IP");
    let mut group = criterion.benchmark_group("capture");
    group.bench_function("identity", |bencher| bencher.iter(|| Identity::of(black_box(&socket))));
    for (name, part) in [
        ("whole", Part::Whole),
        ("before-handshake", Part::BeforeConnect),
        ("after-handshake", Part::AfterConnect),
    ] {
        let capture = || SocketState::capture_part(black_box(&socket), &identity, part);
        let unchanged = matches!(capture(), Ok(Captured::State(state)) if state.is_empty());
        assert!(unchanged, "a fresh socket has nothing to copy");
        group.bench_function(name, |bencher| bencher.iter(capture));
    }
    group.finish();
}
