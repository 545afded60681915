//! Control messages of datagrams, as far as they could lead one astray.
//!
//! For IPv4, the device in an `IP_PKTINFO` message goes before the one that the socket is bound to
//! (`ip_cmsg_send()`; the IPv6 code refuses such a message). A program that echoes what it
//! received names the device of its socket; any other device is a way past the pin.
//!
//! The source in such a message may be any address of the host, 127.0.0.1 for a datagram to another
//! address of the host among them: services tell by that whom to trust. (For IPv6 it takes
//! `IPV6_FREEBIND`.)
//!
//! Source routes lead elsewhere than to the destination that was judged. Other messages take a
//! privilege, which we may have though the container has not.

use std::net::{Ipv4Addr, Ipv6Addr};

use seccomp_notify::Errno;

/// Confines the control messages of one sendmsg(2) from a socket that is bound to the device `pin`:
/// every other device is taken out, and without a device that of the socket holds.
///
/// The layout is that of the native word size, `struct cmsghdr` of cmsg(3).
///
/// # Errors
/// EINVAL where they are not in order, as the kernel says, or name a source that is not behind the
/// device; EPERM for what no ordinary user of the host may say, or should.
pub(crate) fn confine(control: &mut [u8], pin: Option<u32>) -> Result<(), Errno> {
    let mut rest = control;
    // What is too short for a header is the end, to the kernel as well.
    while let Some(header) = rest.first_chunk::<HEADER>() {
        let [l0, l1, l2, l3, l4, l5, l6, l7, v0, v1, v2, v3, t0, t1, t2, t3] = *header;
        let len = u64::from_ne_bytes([l0, l1, l2, l3, l4, l5, l6, l7]);
        let level = i32::from_ne_bytes([v0, v1, v2, v3]);
        let kind = i32::from_ne_bytes([t0, t1, t2, t3]);
        let len = usize::try_from(len).map_err(|_huge| Errno::INVAL)?;
        let data = rest.get_mut(HEADER..len).ok_or(Errno::INVAL)?;
        if PRIVILEGED.contains(&(level, kind)) {
            return Err(Errno::PERM);
        }
        let (device, loopback) = match (level, kind) {
            (SOL_IP, IP_PKTINFO) => {
                let source = data.get(4..).and_then(<[u8]>::first_chunk::<4>);
                let loopback = source.is_some_and(|ip| Ipv4Addr::from(*ip).is_loopback());
                (data.get_mut(..4), loopback)
            }
            (SOL_IPV6, IPV6_PKTINFO) => {
                let source = data.first_chunk::<16>();
                let loopback =
                    source.is_some_and(|ip| Ipv6Addr::from(*ip).to_canonical().is_loopback());
                (data.get_mut(16..20), loopback)
            }
            _ => (None, false),
        };
        if let Some(pin) = pin {
            if loopback {
                return Err(Errno::INVAL);
            }
            if let Some(device) = device
                && *device != pin.to_ne_bytes()
            {
                device.fill(0);
            }
        }
        // The padding after the last message may be missing.
        rest = rest.get_mut(len.next_multiple_of(ALIGN)..).unwrap_or_default();
    }
    Ok(())
}

const HEADER: usize = 16;
const ALIGN: usize = 8;
const SOL_IP: i32 = 0;
const IP_PKTINFO: i32 = 8;
const SOL_IPV6: i32 = 41;
const IPV6_PKTINFO: i32 = 50;
const SOL_SOCKET: i32 = 1;

const PRIVILEGED: [(i32, i32); 9] = [
    (SOL_SOCKET, 36), // SO_MARK
    (SOL_IP, 7),      // IP_RETOPTS
    (SOL_IPV6, 3),    // IPV6_2292HOPOPTS
    (SOL_IPV6, 4),    // IPV6_2292DSTOPTS
    (SOL_IPV6, 5),    // IPV6_2292RTHDR
    (SOL_IPV6, 54),   // IPV6_HOPOPTS
    (SOL_IPV6, 55),   // IPV6_RTHDRDSTOPTS
    (SOL_IPV6, 57),   // IPV6_RTHDR, which takes none: a source route
    (SOL_IPV6, 59),   // IPV6_DSTOPTS
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LO: u32 = 1;
    const UP: u32 = 7;

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = u64::try_from(HEADER + data.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
        bytes
    }

    fn v4(device: u32) -> Vec<u8> {
        message(SOL_IP, IP_PKTINFO, &[&device.to_ne_bytes()[..], &[9; 8]].concat())
    }

    fn v6(device: u32) -> Vec<u8> {
        message(SOL_IPV6, IPV6_PKTINFO, &[&[9; 16][..], &device.to_ne_bytes()].concat())
    }

    #[test]
    fn only_the_sockets_own_device_stays() {
        for (given, kept) in [(v4(LO), v4(0)), (v4(UP), v4(UP)), (v6(LO), v6(0)), (v6(UP), v6(UP))]
        {
            let mut control = given.clone();
            assert_eq!(confine(&mut control, Some(UP)), Ok(()));
            assert_eq!(control, kept);
        }
    }

    #[test]
    fn every_message_is_looked_at() {
        let tos = message(SOL_IP, 1, &[4, 0, 0, 0]);
        let mut control = [tos.clone(), v4(LO), v6(LO), v4(LO)].concat();
        // Without the padding of the last.
        control.truncate(control.len() - 4);
        assert_eq!(confine(&mut control, Some(UP)), Ok(()));
        let mut expected = [tos, v4(0), v6(0), v4(0)].concat();
        expected.truncate(control.len());
        assert_eq!(control, expected);
    }

    #[test]
    fn what_is_not_in_order_is_refused() {
        for len in [0, 15, 29, u64::MAX, 1 << 63] {
            let mut control = v4(LO);
            control[..8].copy_from_slice(&u64::to_ne_bytes(len));
            control.truncate(28);
            assert_eq!(confine(&mut control, Some(UP)), Err(Errno::INVAL), "{len}");
        }
        assert_eq!(confine(&mut [], Some(UP)), Ok(()));
        assert_eq!(confine(&mut [1; HEADER - 1], Some(UP)), Ok(()));
    }

    #[test]
    fn no_datagram_comes_from_loopback_by_another_device() {
        let v4 = |ip: [u8; 4]| message(SOL_IP, IP_PKTINFO, &[&[0; 4][..], &ip, &[0; 4]].concat());
        let v6 = |ip: &str| {
            let ip: Ipv6Addr = ip.parse().unwrap();
            message(SOL_IPV6, IPV6_PKTINFO, &[&ip.octets()[..], &[0; 4]].concat())
        };
        for control in [v4([127, 0, 0, 1]), v4([127, 9, 9, 9]), v6("::1"), v6("::ffff:127.0.0.1")] {
            let mut control = [message(SOL_IP, 1, &[4, 0, 0, 0]), control].concat();
            assert_eq!(confine(&mut control, Some(UP)), Err(Errno::INVAL));
            assert_eq!(confine(&mut control, None), Ok(()), "as one that is bound there");
        }
        for mut control in [v4([198, 18, 0, 1]), v4([0; 4]), v6("fd00::1"), v6("::")] {
            assert_eq!(confine(&mut control, Some(UP)), Ok(()));
        }
    }

    #[test]
    fn source_routes_and_privileges_are_refused() {
        for (level, kind) in PRIVILEGED {
            for pin in [Some(UP), None] {
                let mut control = message(level, kind, &[0; 24]);
                assert_eq!(confine(&mut control, pin), Err(Errno::PERM), "{level} {kind}");
            }
        }
    }

    /// The devices as the kernel finds them: CMSG_FIRSTHDR, CMSG_OK, CMSG_NXTHDR.
    fn devices(control: &[u8]) -> Vec<u32> {
        let mut found = Vec::new();
        let mut at = 0;
        while control.len() - at >= HEADER {
            let word =
                |from: usize| i32::from_ne_bytes(control[from..from + 4].try_into().unwrap());
            let len = u64::from_ne_bytes(control[at..at + 8].try_into().unwrap());
            if len < HEADER as u64 || len > (control.len() - at) as u64 {
                break;
            }
            let len = usize::try_from(len).unwrap();
            match (word(at + 8), word(at + 12)) {
                (SOL_IP, IP_PKTINFO) if len == HEADER + 12 => {
                    found.push(word(at + HEADER).cast_unsigned());
                }
                (SOL_IPV6, IPV6_PKTINFO) if len >= HEADER + 20 => {
                    found.push(word(at + HEADER + 16).cast_unsigned());
                }
                _ => {}
            }
            at += len.next_multiple_of(ALIGN);
            if at > control.len() {
                break;
            }
        }
        found
    }

    proptest! {
        #[test]
        fn no_bytes_name_another_device(
            mut control in prop::collection::vec(
                prop_oneof![
                    Just(v4(LO)), Just(v6(LO)), Just(v4(UP)),
                    prop::collection::vec(any::<u8>(), 0..40),
                    (0u64..64, any::<bool>()).prop_map(|(len, six)| {
                        let mut bytes = if six { v6(LO) } else { v4(LO) };
                        bytes[..8].copy_from_slice(&len.to_ne_bytes());
                        bytes
                    }),
                ],
                0..5,
            ).prop_map(|parts| parts.concat()),
        ) {
            if confine(&mut control, Some(UP)).is_ok() {
                prop_assert!(devices(&control).iter().all(|device| [0, UP].contains(device)));
            }
        }
    }
}
