//! Each row of the table of options, on each kind of socket that it is for.
//!
//! A row that is copied: set it on a socket of another network namespace, capture, apply to a twin
//! in ours, and read the same from both. A row that forbids a copy: set it, and the capture says so.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use libtest_mimic::Trial;
use netns_socket::options::{OPTIONS, Opt, Read, Rule, Sockets, Treatment, When};
use netns_socket::{Captured, Domain, Errno, Identity, Part, SocketState, create_twin};
use rustix::net::connect;

use crate::harness::{CLASSES, in_new_netns, ip, missing, trial};
use crate::sys;

pub(crate) fn trials() -> Vec<Trial> {
    let sets = [Sockets::TCP4, Sockets::TCP6, Sockets::UDP4, Sockets::UDP6];
    let mut trials = Vec::new();
    for (set, (class, id)) in sets.into_iter().zip(CLASSES) {
        for opt in OPTIONS.iter().filter(|opt| opt.on.meets(set)) {
            if !matches!(opt.treatment, Treatment::Skip(_)) {
                trials.push(row_trial(class, id, opt));
            }
        }
    }
    trials
}

fn row_trial(class: &str, id: Identity, opt: &'static Opt) -> Trial {
    let name = format!("row::{}::{class}", opt.name);
    if let Some(why) = out_of_reach(opt) {
        return missing(name, why, &[why]);
    }
    // Options come with kernel versions and configurations; one that is absent cannot be set.
    let Some(probe) = foreign_socket(&id) else {
        return missing(name, "IPv6", &["kernel"]);
    };
    match set_row(&probe, opt) {
        Err(Errno::NOPROTOOPT | Errno::OPNOTSUPP) => {
            let requirement = match opt.name {
                "SO_RESERVE_MEM" => "memcg",
                "TCP_AO_ADD_KEY" => "CONFIG_TCP_AO",
                _ => "kernel",
            };
            return missing(name, requirement, &[requirement]);
        }
        Err(Errno::PERM | Errno::ACCESS) if opt.read == Read::WherePrivileged => {
            return trial(name, move || not_to_be_raised(&id, opt));
        }
        _ => {}
    }
    match opt.treatment {
        Treatment::Leave(_) => trial(name, move || is_left(&id, opt)),
        _ => trial(name, move || is_copied(&id, opt)),
    }
}

fn is_copied(id: &Identity, opt: &Opt) {
    let original = foreign_socket(id).unwrap();
    set_row(&original, opt).unwrap();
    let state = captured(&original, id, Part::Whole);
    if opt.name != "SO_BUF_LOCK" {
        assert!(state.changed().any(|name| name == opt.name), "{state:?}");
    }
    let twin = create_twin(id, false).unwrap();
    let applied = state.apply(&twin).unwrap();
    assert!(applied.complete(), "{applied:?}");
    let value = read(&original, opt);
    assert_ne!(value, read(create_twin(id, false).unwrap(), opt), "not set at all");
    assert_eq!(value, read(&twin, opt), "{state:?}");

    // The two parts are the whole, and the option is in the one it belongs to.
    let early = captured(&original, id, Part::BeforeConnect);
    let late = captured(&original, id, Part::AfterConnect);
    if opt.read == Read::ForListening {
        assert!(early.is_empty() && late.is_empty());
    } else {
        assert_eq!(early.changed().count() + late.changed().count(), state.changed().count());
        let part = if opt.when == When::BeforeConnect { early } else { late };
        let name = if opt.name == "SO_BUF_LOCK" { "SO_SNDBUF" } else { opt.name };
        assert!(part.changed().any(|changed| changed == name));
        if opt.when == When::AnyTime && id.is_tcp() {
            works_after_connect(id, opt, &part, &value);
        }
    }
}

/// The claim of [`When::AnyTime`].
fn works_after_connect(id: &Identity, opt: &Opt, state: &SocketState, value: &[u8]) {
    let listener = TcpListener::bind(if id.domain == Domain::Inet {
        SocketAddr::from(([127, 0, 0, 1], 0))
    } else {
        SocketAddr::from((Ipv6Addr::LOCALHOST, 0))
    })
    .unwrap();
    let twin = create_twin(id, false).unwrap();
    connect(&twin, &listener.local_addr().unwrap()).unwrap();
    let applied = state.apply(&twin).unwrap();
    assert!(applied.complete(), "{applied:?}");
    assert_eq!(value, read(&twin, opt));
}

fn is_left(id: &Identity, opt: &Opt) {
    let original = foreign_socket(id).unwrap();
    set_row(&original, opt).unwrap();
    for part in [Part::Whole, Part::BeforeConnect] {
        match SocketState::capture_part(&original, id, part).unwrap() {
            Captured::NotCopyable { option, .. } if opt.read == Read::Memory => {
                assert!(["SO_MEMINFO", "SO_ATTACH_FILTER"].contains(&option), "{option}");
            }
            Captured::NotCopyable { option, .. } => assert_eq!(option, opt.name),
            Captured::State(state) => unreachable!("{state:?}"),
        }
    }
}

/// The claim of [`Read::WherePrivileged`]: what was not read could not be set.
fn not_to_be_raised(id: &Identity, opt: &Opt) {
    let original = foreign_socket(id).unwrap();
    assert!(matches!(set_row(&original, opt), Err(Errno::PERM | Errno::ACCESS)));
    assert!(captured(&original, id, Part::Whole).is_empty());
}

fn captured(fd: impl AsFd, id: &Identity, part: Part) -> SocketState {
    match SocketState::capture_part(fd, id, part).unwrap() {
        Captured::State(state) => state,
        other => unreachable!("{other:?}"),
    }
}

/// A socket in a network namespace of its own. The addresses are for the memberships.
fn foreign_socket(id: &Identity) -> Option<OwnedFd> {
    in_new_netns(|| {
        ip("addr add 2001:db8:5::1/64 dev lo nodad").ok();
        create_twin(id, false).ok()
    })
}

fn read(fd: impl AsFd, opt: &Opt) -> Vec<u8> {
    sys::get(fd, opt.level, opt.number, opt.width.size()).unwrap()
}

/// Sets an option to something that no fresh socket has.
fn set_row(fd: impl AsFd, opt: &Opt) -> Result<(), Errno> {
    let fd = fd.as_fd();
    match opt.treatment {
        // Options that do something together with another only.
        Treatment::CopyIfSet(Rule::WithRecvErr) => {
            let recverr = if opt.level == libc::SOL_IP { libc::IP_RECVERR } else { 25 };
            sys::set_int(fd, opt.level, recverr, 1)?;
        }
        Treatment::CopyIfSet(Rule::WithTimestamps) => {
            sys::set_int(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, 24)?;
        }
        _ => {}
    }
    match opt.name {
        "SO_ATTACH_FILTER" => sys::attach_filter(fd),
        "TCP_CONGESTION" => {
            let default = read(fd, opt);
            let other: &[u8] = if default.starts_with(b"reno") { b"cubic" } else { b"reno" };
            sys::set(fd, opt.level, opt.number, other)
        }
        "TCP_MD5SIG" | "TCP_MD5SIG_EXT" => {
            let domain = sys::get_int(fd, libc::SOL_SOCKET, libc::SO_DOMAIN);
            sys::set(fd, opt.level, opt.number, &md5_key(domain))
        }
        _ => sys::set(fd, opt.level, opt.number, &value_for(fd, opt)),
    }
}

fn value_for(fd: impl AsFd, opt: &Opt) -> Vec<u8> {
    if let Some(bytes) = bytes_for(opt.name) {
        return bytes;
    }
    let number: i32 = match opt.name {
        "IP_TOS" | "IPV6_TCLASS" => 0x10,
        "IP_TTL" | "IPV6_UNICAST_HOPS" | "TCP_KEEPIDLE" | "TCP_KEEPINTVL" => 33,
        "IP_MTU_DISCOVER" | "IPV6_MTU_DISCOVER" | "IPV6_ADDR_PREFERENCES" => 2,
        "IP_MINTTL"
        | "IPV6_MINHOPCOUNT"
        | "TCP_KEEPCNT"
        | "TCP_SYNCNT"
        | "TCP_FASTOPEN"
        | "TCP_DEFER_ACCEPT"
        | "SO_PEEK_OFF"
        | "SO_PRIORITY"
        | "IP_MULTICAST_TTL"
        | "IPV6_MULTICAST_HOPS" => 5,
        "IP_LOCAL_PORT_RANGE" => 40_000 | (41_000_u32 << 16).cast_signed(),
        "SO_SNDBUF" | "SO_RCVBUF" | "TCP_WINDOW_CLAMP" => 50_000,
        "SO_RCVLOWAT" | "TCP_MAXSEG" | "UDP_SEGMENT" | "TCP_TX_DELAY" => 1_000,
        "TCP_NOTSENT_LOWAT" | "SO_RESERVE_MEM" => 4_096,
        "TCP_USER_TIMEOUT" | "TCP_RTO_MAX_MS" => 5_000,
        "TCP_RTO_MIN_US" => 50_000,
        "TCP_DELACK_MAX_US" => 20_000,
        "TCP_LINGER2" => 7,
        "SO_INCOMING_CPU" => 0,
        "SO_BUF_LOCK" | "UDP_ENCAP" => 3,
        "IP_UNICAST_IF" | "IPV6_UNICAST_IF" => 1_i32.to_be(),
        // The rest are switches.
        _ => i32::from(read(fd, opt).iter().all(|byte| *byte == 0)),
    };
    number.to_ne_bytes().to_vec()
}

/// Values that are not one number.
fn bytes_for(name: &str) -> Option<Vec<u8>> {
    let words = |words: &[i64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let ints = |ints: &[i32]| ints.iter().flat_map(|int| int.to_ne_bytes()).collect();
    let membership = |address: &str, ifindex: i32| {
        let address: Ipv6Addr = address.parse().unwrap();
        let mut bytes = address.octets().to_vec();
        bytes.extend(ifindex.to_ne_bytes());
        bytes
    };
    Some(match name {
        "SO_LINGER" => ints(&[1, 7]),
        "SO_RCVTIMEO_NEW" | "SO_SNDTIMEO_NEW" => words(&[3, 500_000]),
        "SO_MAX_PACING_RATE" => words(&[1_000_000]),
        "SO_TXTIME" => ints(&[libc::CLOCK_MONOTONIC, 0]),
        // SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE
        "SO_TIMESTAMPING_OLD" | "SO_TIMESTAMPING_NEW" => ints(&[24, 0]),
        // IPOPT_NOP
        "IP_OPTIONS" => vec![1; 4],
        "IP_MULTICAST_IF" => vec![127, 0, 0, 1],
        "IP_ADD_MEMBERSHIP" => vec![224, 1, 1, 1, 127, 0, 0, 1],
        "IPV6_ADD_MEMBERSHIP" => membership("ff02::1234", 1),
        "IPV6_JOIN_ANYCAST" => membership("2001:db8:5::2", 1),
        // One PadN of 6 bytes.
        "IPV6_HOPOPTS" | "IPV6_RTHDRDSTOPTS" | "IPV6_DSTOPTS" => vec![0, 0, 1, 4, 0, 0, 0, 0],
        // Type 4 (segment routing) with one segment.
        "IPV6_RTHDR" => {
            let mut bytes = vec![0, 2, 4, 0, 0, 0, 0, 0];
            bytes.extend("2001:db8::9".parse::<Ipv6Addr>().unwrap().octets());
            bytes
        }
        _ => return None,
    })
}

/// `struct tcp_md5sig` for the peer 127.0.0.1 or ::1.
fn md5_key(domain: i32) -> Vec<u8> {
    let mut bytes = vec![0; 128 + 8 + 80];
    bytes[..2].copy_from_slice(&u16::try_from(domain).unwrap().to_ne_bytes());
    if domain == libc::AF_INET {
        bytes[4..8].copy_from_slice(&[127, 0, 0, 1]);
    } else {
        bytes[23] = 1;
    }
    // Flags and prefix length are 0; the key's length, then the key.
    bytes[130..132].copy_from_slice(&5_u16.to_ne_bytes());
    bytes[136..141].copy_from_slice(b"hello");
    bytes
}

/// What even the root of a user namespace cannot set up.
fn out_of_reach(opt: &Opt) -> Option<&'static str> {
    match opt.name {
        "SO_ATTACH_BPF" => Some("CAP_BPF"),
        "TCP_ULP" => Some("tls"),
        "TCP_AO_ADD_KEY" => Some("CONFIG_TCP_AO"),
        _ => None,
    }
}
