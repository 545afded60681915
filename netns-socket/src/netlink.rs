//! The little of rtnetlink that [`Router`](crate::Router) and [`Networks`](crate::Networks) need: a
//! request each, its answer, and the news that something changed. See [rtnetlink(7)].
//!
//! [rtnetlink(7)]: https://man7.org/linux/man-pages/man7/rtnetlink.7.html

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

use crate::{Arrival, InterfaceAddress};

/// A socket for requests.
#[derive(Debug)]
pub(crate) struct Query {
    socket: OwnedFd,
    sequence: u32,
}

/// What the kernel said to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Route { ifindex: u32, arrival: Arrival },
    Refused(Errno),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueryError {
    Call(Errno),
    /// With the length of the answer.
    Malformed(usize),
}

impl Query {
    pub(crate) fn open() -> Result<Self, Errno> {
        Ok(Self { socket: open(0)?, sequence: 0 })
    }

    /// Looks up the route to `ip`, with `RTM_F_*` flags.
    pub(crate) fn route(&mut self, ip: IpAddr, flags: u32) -> Result<Answer, QueryError> {
        self.sequence = self.sequence.wrapping_add(1);
        let (request, len) = request(ip, flags, self.sequence);
        let request = request.get(..len).unwrap_or_default();
        send(&self.socket, request, SendFlags::empty()).map_err(QueryError::Call)?;
        // The kernel handles the request within `send`, so the answer waits already.
        let mut answer = [0; ANSWER];
        loop {
            let (len, _) =
                recv(&self.socket, &mut answer, RecvFlags::DONTWAIT).map_err(QueryError::Call)?;
            let bytes = answer.get(..len).unwrap_or_default();
            match decode(bytes, self.sequence) {
                Decoded::Answer(answer) => return Ok(answer),
                // Left over from a request whose answer could not be received.
                Decoded::Foreign => {}
                Decoded::Malformed => return Err(QueryError::Malformed(len)),
            }
        }
    }
}

/// A socket that hears of changes.
#[derive(Debug)]
pub(crate) struct Monitor {
    socket: OwnedFd,
}

impl Monitor {
    pub(crate) fn open() -> Result<Self, Errno> {
        Ok(Self::over(open(GROUPS)?))
    }

    /// Over a socket that is subscribed already.
    pub(crate) fn over(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Whether anything changed since the last call.
    ///
    /// Reads a limited number of messages: the rest makes the next call say so too.
    pub(crate) fn changed(&self) -> Result<bool, Errno> {
        let mut changed = false;
        for _ in 0..DRAIN {
            // What changed does not matter, so the message may be cut short.
            let mut start = [0_u8; 16];
            match recv(&self.socket, &mut start, RecvFlags::DONTWAIT) {
                // ENOBUFS: messages were lost, so something did change.
                Ok(_) | Err(Errno::NOBUFS) => changed = true,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(changed)
    }
}

fn open(groups: u32) -> Result<OwnedFd, Errno> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // Protocol 0 is NETLINK_ROUTE.
        None,
    )?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// `struct nlmsghdr`, `struct rtmsg` and one `RTA_DST`, and how much of it counts.
fn request(ip: IpAddr, flags: u32, sequence: u32) -> ([u8; REQUEST], usize) {
    let mut octets = [0; 16];
    let (family, address): (u8, &[u8]) = match ip {
        IpAddr::V4(ip) => {
            let (head, _) = octets.split_at_mut(4);
            head.copy_from_slice(&ip.octets());
            (AF_INET, head)
        }
        IpAddr::V6(ip) => {
            octets = ip.octets();
            (AF_INET6, &octets)
        }
    };
    let address_len = if family == AF_INET { 4_u8 } else { 16 };
    let len = HEADER + RTMSG + ATTRIBUTE + usize::from(address_len);

    let mut request = Writer { bytes: [0; REQUEST], at: 0 };
    request.put(&u32::try_from(len).unwrap_or(0).to_ne_bytes());
    request.put(&RTM_GETROUTE.to_ne_bytes());
    request.put(&NLM_F_REQUEST.to_ne_bytes());
    request.put(&sequence.to_ne_bytes());
    request.put(&0_u32.to_ne_bytes());
    // Family, lengths of destination and source in bits, then TOS, table, protocol, scope, type.
    request.put(&[family, address_len * 8, 0, 0, 0, 0, 0, 0]);
    request.put(&flags.to_ne_bytes());
    request.put(&(4 + u16::from(address_len)).to_ne_bytes());
    request.put(&RTA_DST.to_ne_bytes());
    request.put(address);
    (request.bytes, len)
}

struct Writer {
    bytes: [u8; REQUEST],
    at: usize,
}

impl Writer {
    fn put(&mut self, part: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.at).zip(part) {
            *to = *from;
        }
        self.at += part.len();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    Answer(Answer),
    Foreign,
    Malformed,
}

pub(crate) fn decode(bytes: &[u8], sequence: u32) -> Decoded {
    match (u16_at(bytes, 4), u32_at(bytes, 8)) {
        (Some(kind), Some(number)) => {
            if number != sequence {
                return Decoded::Foreign;
            }
            let answer = match kind {
                NLMSG_ERROR => refusal(bytes),
                RTM_NEWROUTE => route(bytes),
                _ => None,
            };
            answer.map_or(Decoded::Malformed, Decoded::Answer)
        }
        _ => Decoded::Malformed,
    }
}

fn refusal(bytes: &[u8]) -> Option<Answer> {
    let code = u32_at(bytes, HEADER)?.cast_signed();
    (-4095..0).contains(&code).then(|| Answer::Refused(Errno::from_raw_os_error(-code)))
}

fn route(bytes: &[u8]) -> Option<Answer> {
    let kind = *bytes.get(HEADER + RTMSG_TYPE)?;
    // What the kernel may say instead of an error when it is asked for an entry of the table.
    match kind {
        RTN_UNREACHABLE => return Some(Answer::Refused(Errno::HOSTUNREACH)),
        RTN_PROHIBIT => return Some(Answer::Refused(Errno::ACCESS)),
        RTN_BLACKHOLE => return Some(Answer::Refused(Errno::INVAL)),
        _ => {}
    }
    let mut rest = bytes.get(HEADER + RTMSG..)?;
    loop {
        let len = usize::from(u16_at(rest, 0)?);
        if u16_at(rest, 2)? == RTA_OIF {
            let ifindex = u32_at(rest, ATTRIBUTE)?;
            let arrival = match kind {
                RTN_LOCAL => Arrival::Here,
                RTN_BROADCAST | RTN_ANYCAST | RTN_MULTICAST => Arrival::HereToo,
                _ => Arrival::Elsewhere,
            };
            return Some(Answer::Route { ifindex, arrival });
        }
        if len < ATTRIBUTE {
            return None;
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}

/// `struct nlmsghdr` and `struct ifaddrmsg`: every address of both families.
pub(crate) fn address_request(sequence: u32) -> [u8; ADDRESS_REQUEST] {
    let mut bytes = [0; ADDRESS_REQUEST];
    let parts: [&[u8]; 4] = [
        &ADDRESS_REQUEST_LEN.to_ne_bytes(),
        &RTM_GETADDR.to_ne_bytes(),
        &(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes(),
        &sequence.to_ne_bytes(),
    ];
    for (to, from) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    bytes
}

/// One entry of a message with addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Address(InterfaceAddress),
    /// Something changed while the answer was written: it may be there twice, or not at all.
    Interrupted(Option<InterfaceAddress>),
    /// Of an answer that is not ours.
    Foreign,
    /// The last.
    Done,
    /// What the kernel does not say, or an error.
    Malformed,
}

/// The entries of one message that answers the request with this number.
pub(crate) fn entries(mut rest: &[u8], sequence: u32) -> impl Iterator<Item = Entry> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let len = u32_at(rest, 0).and_then(|len| usize::try_from(len).ok());
        let entry = len.filter(|len| *len >= HEADER).and_then(|len| rest.get(..len));
        let Some(entry) = entry else {
            rest = &[];
            return Some(Entry::Malformed);
        };
        rest = rest.get(entry.len().next_multiple_of(4)..).unwrap_or_default();
        Some(decode_entry(entry, sequence).unwrap_or(Entry::Malformed))
    })
}

fn decode_entry(entry: &[u8], sequence: u32) -> Option<Entry> {
    if u32_at(entry, 8)? != sequence {
        return Some(Entry::Foreign);
    }
    let interrupted = u16_at(entry, 6)? & NLM_F_DUMP_INTR != 0;
    Some(match u16_at(entry, 4)? {
        NLMSG_DONE => Entry::Done,
        RTM_NEWADDR => match (address(entry)?, interrupted) {
            (address, true) => Entry::Interrupted(address),
            (Some(address), false) => Entry::Address(address),
            // Of a family that is not asked about here.
            (None, false) => Entry::Foreign,
        },
        _ => Entry::Malformed,
    })
}

/// `None` for what makes no sense, and in it for another family than IPv4 and IPv6.
fn address(entry: &[u8]) -> Option<Option<InterfaceAddress>> {
    let &[family, prefix_len, ..] = entry.get(HEADER..)? else { return None };
    let ifindex = u32_at(entry, HEADER + 4)?;
    let (mut own, mut peer) = (None, None);
    let mut rest = entry.get(HEADER + IFADDRMSG..)?;
    while !rest.is_empty() {
        let len = usize::from(u16_at(rest, 0)?);
        let value = rest.get(ATTRIBUTE..len)?;
        match u16_at(rest, 2)? {
            IFA_ADDRESS => peer = ip_of(family, value),
            IFA_LOCAL => own = ip_of(family, value),
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    if !matches!(family, AF_INET | AF_INET6) {
        return Some(None);
    }
    // IPv6 names the own address alone, but for point-to-point links; IPv4 may do without the peer's.
    let (ip, peer) = (own.or(peer)?, peer.or(own)?);
    Some(Some(InterfaceAddress { ifindex, ip, peer, prefix_len }))
}

fn ip_of(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        AF_INET6 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

/// `RTM_F_FIB_MATCH`: answer with the entry of the routing table. Linux 4.13.
pub(crate) const FIB_MATCH: u32 = 0x2000;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
/// The table changed while it was written out. Linux 3.1 (IPv4: 3.10).
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTN_LOCAL: u8 = 2;
const RTN_BROADCAST: u8 = 3;
const RTN_ANYCAST: u8 = 4;
const RTN_MULTICAST: u8 = 5;
const RTN_BLACKHOLE: u8 = 6;
const RTN_UNREACHABLE: u8 = 7;
const RTN_PROHIBIT: u8 = 8;

/// Sizes of `struct nlmsghdr`, `struct rtmsg` and `struct rtattr`; where `rtm_type` is.
const HEADER: usize = 16;
const RTMSG: usize = 12;
const RTMSG_TYPE: usize = 7;
/// Size of `struct ifaddrmsg`.
const IFADDRMSG: usize = 8;
const ADDRESS_REQUEST: usize = HEADER + IFADDRMSG;
const ADDRESS_REQUEST_LEN: u32 = 24;
const ATTRIBUTE: usize = 4;
const REQUEST: usize = HEADER + RTMSG + ATTRIBUTE + 16;
/// An answer is a few hundred bytes, more only for an entry with dozens of next hops.
const ANSWER: usize = 4096;
/// Messages read at once.
const DRAIN: usize = 64;

/// Links, addresses, routes and rules of both families, and next hop objects.
const GROUPS: u32 =
    group(1) | group(5) | group(7) | group(8) | group(9) | group(11) | group(19) | group(32);

/// Addresses of both families, and routes of IPv6: an address that is still looked for elsewhere (DAD)
/// is announced only afterwards, up to two seconds later, but its network's route at once.
pub(crate) const ADDRESS_GROUPS: u32 = group(5) | group(9) | group(11);

/// The bit of an `RTNLGRP_*`.
const fn group(number: u32) -> u32 {
    1 << (number - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes
    }

    fn route_body(kind: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![2, 32, 0, 0, 0, 0, 0, kind, 0, 0, 0, 0];
        for (number, value) in attributes {
            body.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            body.extend(number.to_ne_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        body
    }

    #[test]
    fn requests_have_the_length_that_they_say() {
        let (bytes, len) = request("192.0.2.1".parse().unwrap(), FIB_MATCH, 7);
        assert_eq!(len, 36);
        assert_eq!(u32_at(&bytes, 0), Some(36));
        assert_eq!(u32_at(&bytes, 8), Some(7));
        assert_eq!(&bytes[16..24], &[2, 32, 0, 0, 0, 0, 0, 0]);
        assert_eq!(u32_at(&bytes, 24), Some(FIB_MATCH));
        assert_eq!(&bytes[32..36], &[192, 0, 2, 1]);
        let (bytes, len) = request("2001:db8::1".parse().unwrap(), 0, 8);
        assert_eq!(len, 48);
        assert_eq!(bytes[17], 128);
        assert_eq!(&bytes[32..36], &[0x20, 1, 0xd, 0xb8]);
    }

    #[test]
    fn the_device_is_found_after_other_attributes() {
        let body = route_body(2, &[(1, &[1, 2, 3, 4, 5]), (4, &9_u32.to_ne_bytes())]);
        let decoded = decode(&answer(RTM_NEWROUTE, 3, &body), 3);
        assert_eq!(decoded, Decoded::Answer(Answer::Route { ifindex: 9, arrival: Arrival::Here }));
    }

    #[test]
    fn refusals_keep_their_errno() {
        let error = answer(NLMSG_ERROR, 3, &(-101_i32).to_ne_bytes());
        assert_eq!(decode(&error, 3), Decoded::Answer(Answer::Refused(Errno::NETUNREACH)));
        let body = route_body(RTN_PROHIBIT, &[]);
        let decoded = decode(&answer(RTM_NEWROUTE, 3, &body), 3);
        assert_eq!(decoded, Decoded::Answer(Answer::Refused(Errno::ACCESS)));
    }

    /// An entry of an answer with addresses: header, `struct ifaddrmsg` and attributes.
    fn entry(kind: u16, flags: u16, family: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![family, 24, 0, 0, 3, 0, 0, 0];
        for (number, value) in attributes {
            body.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            body.extend(number.to_ne_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut bytes = answer(kind, 7, &body);
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        let len = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&len.to_ne_bytes());
        bytes
    }

    fn found(bytes: &[u8]) -> Vec<Entry> {
        entries(bytes, 7).collect()
    }

    #[test]
    fn addresses_are_those_of_the_interface_and_of_its_network() {
        let address = |ip: &str, peer: &str| InterfaceAddress {
            ifindex: if cfg!(target_endian = "little") { 3 } else { 3 << 24 },
            ip: ip.parse().unwrap(),
            peer: peer.parse().unwrap(),
            prefix_len: 24,
        };
        let v6: &[u8] = &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        let (own, other): (&[u8], &[u8]) = (&[10, 0, 0, 1], &[10, 0, 0, 2]);
        let mut bytes = entry(RTM_NEWADDR, 2, AF_INET, &[(IFA_ADDRESS, own), (IFA_LOCAL, own)]);
        bytes.extend(entry(RTM_NEWADDR, 2, AF_INET, &[(IFA_ADDRESS, other), (IFA_LOCAL, own)]));
        // A label and flags besides.
        let attributes: &[(u16, &[u8])] = &[(IFA_ADDRESS, v6), (3, b"eth0\0"), (8, &[0; 4])];
        bytes.extend(entry(RTM_NEWADDR, 2, AF_INET6, attributes));
        bytes.extend(entry(RTM_NEWADDR, 2, 17, &[(IFA_ADDRESS, own)]));
        bytes.extend(entry(RTM_NEWADDR, NLM_F_DUMP_INTR, AF_INET, &[(IFA_LOCAL, own)]));
        bytes.extend(entry(NLMSG_DONE, 2, 0, &[]));
        assert_eq!(
            found(&bytes),
            [
                Entry::Address(address("10.0.0.1", "10.0.0.1")),
                Entry::Address(address("10.0.0.1", "10.0.0.2")),
                Entry::Address(address("fd00::9", "fd00::9")),
                Entry::Foreign,
                Entry::Interrupted(Some(address("10.0.0.1", "10.0.0.1"))),
                Entry::Done,
            ]
        );
        assert!(entries(&bytes, 8).all(|entry| entry == Entry::Foreign));
    }

    #[test]
    fn no_entries_make_it_panic_or_loop() {
        let local: &[u8] = &[10, 0, 0, 1];
        let whole = entry(RTM_NEWADDR, 2, AF_INET, &[(IFA_LOCAL, local)]);
        for len in 1..whole.len() {
            assert_eq!(found(&whole[..len]), [Entry::Malformed], "{len}");
        }
        for (at, value) in [(0, 15), (0, 255), (24, 0), (24, 3), (24, 255)] {
            let mut wrong = whole.clone();
            wrong[at] = value;
            assert_eq!(found(&wrong), [Entry::Malformed], "{value} at {at}");
        }
        let nameless = entry(RTM_NEWADDR, 2, AF_INET, &[]);
        let cut = entry(RTM_NEWADDR, 2, AF_INET, &[(IFA_LOCAL, &[10, 0])]);
        let error = entry(NLMSG_ERROR, 0, 0, &[]);
        for wrong in [nameless, cut, error] {
            assert_eq!(found(&wrong), [Entry::Malformed]);
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_loop() {
        let body = route_body(1, &[(1, &[1, 2, 3, 4]), (4, &9_u32.to_ne_bytes())]);
        let whole = answer(RTM_NEWROUTE, 3, &body);
        for len in 0..whole.len() {
            assert!(!matches!(decode(&whole[..len], 3), Decoded::Answer(_)), "{len}");
        }
        let mut endless = answer(RTM_NEWROUTE, 3, &route_body(1, &[]));
        endless.extend([0; 8]);
        assert_eq!(decode(&endless, 3), Decoded::Malformed);
        assert_eq!(decode(&whole, 4), Decoded::Foreign);
        let positive = answer(NLMSG_ERROR, 3, &1_i32.to_ne_bytes());
        assert_eq!(decode(&positive, 3), Decoded::Malformed);
    }
}
