//! Properties that hold for all inputs, on any machine.

use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use proptest::prelude::*;
use sockaddr_inspect::msghdr::{WordSize, fetch_name};
use sockaddr_inspect::{
    AbstractName, Destination, FakeMemory, FetchError, ForeignAddr, MAX_SOCKADDR, RawSockAddr,
    ReadError, ReadMemory, SockAddr, UnixAddr, UnixPath, fetch, fetch_u32_array,
    truncate_for_caller,
};

/// Notes the largest read asked of it.
#[derive(Default)]
struct Meter<M> {
    memory: M,
    largest: Cell<usize>,
}

impl<M: ReadMemory> ReadMemory for Meter<M> {
    fn read(&self, at: ForeignAddr, buf: &mut [u8]) -> Result<usize, ReadError> {
        self.largest.set(self.largest.get().max(buf.len()));
        self.memory.read(at, buf)
    }
}

fn v6() -> impl Strategy<Value = SocketAddrV6> {
    (any::<Ipv6Addr>(), any::<u16>(), any::<u32>(), any::<u32>())
        .prop_map(|(ip, port, flow, scope)| SocketAddrV6::new(ip, port, flow, scope))
}

fn unix() -> impl Strategy<Value = UnixAddr> {
    let path = prop::collection::vec(1..=u8::MAX, 1..=108)
        .prop_map(|path| UnixAddr::Path(UnixPath::new(&path).expect("no NUL, 1 to 108 bytes")));
    let name = prop::collection::vec(any::<u8>(), 0..=107)
        .prop_map(|name| UnixAddr::Abstract(AbstractName::new(&name).expect("at most 107 bytes")));
    prop_oneof![Just(UnixAddr::Unnamed), path, name]
}

fn sockaddr() -> impl Strategy<Value = SockAddr> {
    prop_oneof![
        (any::<Ipv4Addr>(), any::<u16>())
            .prop_map(|(ip, port)| SockAddr::V4(SocketAddrV4::new(ip, port))),
        v6().prop_map(SockAddr::V6),
        unix().prop_map(SockAddr::Unix),
        Just(SockAddr::Unspec),
        any::<u16>()
            .prop_filter("a family with a variant of its own", |f| ![0, 1, 2, 10].contains(f))
            .prop_map(|family| SockAddr::Other { family }),
    ]
}

/// Any bytes, with the families that are looked into far more often than by chance.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let family = prop_oneof![Just(0_u16), Just(1), Just(2), Just(10), any::<u16>()];
    (family, prop::collection::vec(any::<u8>(), 0..=MAX_SOCKADDR)).prop_map(
        |(family, mut bytes)| {
            for (slot, byte) in bytes.iter_mut().zip(family.to_ne_bytes()) {
                *slot = byte;
            }
            bytes
        },
    )
}

fn raw(bytes: &[u8]) -> RawSockAddr {
    RawSockAddr::from_bytes(bytes).expect("at most MAX_SOCKADDR bytes")
}

proptest! {
    #[test]
    fn decode_undoes_encode(addr in sockaddr()) {
        prop_assert_eq!(addr.encode().decode(), Ok(addr));
    }

    #[test]
    fn decode_takes_any_bytes(bytes in bytes()) {
        let raw = raw(&bytes);
        let unspec = raw.decode_inet_or_unspec();
        match raw.decode() {
            Ok(addr) => {
                prop_assert_eq!(Some(addr.family()), raw.family());
                prop_assert_eq!(addr.encode().decode(), Ok(addr));
                // What means the same is no longer than the structure, however padded.
                prop_assert!(addr.encode().len() <= 110);
                if let SockAddr::V4(v4) = addr {
                    prop_assert_eq!(unspec, Ok(Some(v4)));
                }
            }
            Err(malformed) => prop_assert_eq!(malformed.errno(), 22),
        }
    }

    #[test]
    fn fetch_takes_any_arguments(
        mapped in bytes(), base in any::<u64>(), at in any::<u64>(), near in -200_i64..200,
        close: bool, len in prop_oneof![any::<u64>(), 0_u64..300],
    ) {
        let memory = Meter {
            memory: FakeMemory::new().map(ForeignAddr::new(base), &mapped),
            ..Meter::default()
        };
        let at = if close { base.wrapping_add_signed(near) } else { at };
        let result = fetch(&memory, ForeignAddr::new(at), len);
        prop_assert!(memory.largest.get() <= MAX_SOCKADDR);

        let low = len & 0xffff_ffff;
        let readable = at
            .checked_sub(base)
            .and_then(|skip| mapped.get(usize::try_from(skip).ok()?..))
            .unwrap_or_default();
        let wanted = usize::try_from(low).expect("32 bits fit");
        match result {
            Ok(raw) => prop_assert_eq!(Some(raw.as_bytes()), readable.get(..wanted)),
            Err(FetchError::InvalidLength { .. }) => prop_assert!(low > 128),
            Err(FetchError::Fault) => {
                prop_assert!(low <= 128);
                // Bytes past the end of the address space do not exist.
                prop_assert!(readable.len() < wanted || at.checked_add(low - 1).is_none());
            }
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn message_headers_may_hold_anything(
        header in prop::collection::vec(any::<u8>(), 0..=64), wide: bool,
    ) {
        let at = ForeignAddr::new(0x1000);
        let memory = FakeMemory::new().map(at, &header);
        let word_size = if wide { WordSize::Bits64 } else { WordSize::Bits32 };
        if let Ok(Some(name)) = fetch_name(&memory, at, word_size) {
            prop_assert!(!name.at.is_null());
            prop_assert!((1..=128).contains(&name.len));
        }
    }

    #[test]
    fn word_arrays_are_whole_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..=40)) {
        let at = ForeignAddr::new(0x1000);
        let memory = FakeMemory::new().map(at, &bytes);
        prop_assert_eq!(fetch_u32_array::<6>(&memory, at).is_ok(), bytes.len() >= 24);
    }

    #[test]
    fn a_caller_never_gets_more_than_it_has_room_for(bytes in bytes(), room: i32) {
        let raw = raw(&bytes);
        match truncate_for_caller(&raw, room) {
            Ok((kept, full)) => {
                prop_assert!(raw.as_bytes().starts_with(kept));
                prop_assert_eq!(kept.len(), raw.len().min(usize::try_from(room).expect(">= 0")));
                prop_assert_eq!(usize::try_from(full).expect("32 bits fit"), raw.len());
            }
            Err(error) => {
                prop_assert!(room < 0);
                prop_assert_eq!(error.errno(), 22);
            }
        }
    }

    #[test]
    fn normal_form_is_final_and_hides_no_ipv4(ip: std::net::IpAddr, port: u16, scope: u32) {
        let addr = match ip {
            std::net::IpAddr::V4(ip) => SocketAddr::from((ip, port)),
            std::net::IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, scope).into(),
        };
        let once = Destination::of(addr);
        prop_assert_eq!(once.port, port);
        prop_assert!(!once.ip.is_unspecified());
        prop_assert_eq!(once.ip.to_canonical(), once.ip);
        let again = match once.ip {
            std::net::IpAddr::V4(ip) => SocketAddr::from((ip, port)),
            std::net::IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, once.scope_id).into(),
        };
        prop_assert_eq!(Destination::of(again), once);
    }

    #[test]
    fn mapping_changes_nothing(ip: Ipv4Addr, port: u16) {
        let plain = Destination::of((ip, port).into());
        prop_assert_eq!(Destination::of((ip.to_ipv6_mapped(), port).into()), plain);
    }
}
