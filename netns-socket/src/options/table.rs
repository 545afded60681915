//! The rows, and how they are written.

use super::numbers::*;
use super::{Opt, Read, Rule, Sockets, Treatment, When, Width};

/// Every option of TCP and UDP sockets over IPv4 and IPv6, as of Linux 6.18.
pub const OPTIONS: &[Opt] = &[
    // ---- IPv6 first: V6ONLY decides whether IPv4 rows are read.
    opt(SOL_IPV6, 26, "IPV6_V6ONLY").on(V6, "").early(),
    // ---- SOL_IP
    opt(SOL_IP, IP_TOS, "IP_TOS").early().read(Read::UnlessV6Only),
    opt(SOL_IP, 2, "IP_TTL").early().read(Read::UnlessV6Only),
    opt(SOL_IP, 10, "IP_MTU_DISCOVER").early().read(Read::UnlessV6Only),
    opt(SOL_IP, IP_RECVERR, "IP_RECVERR").early().read(Read::UnlessV6Only),
    opt(SOL_IP, IP_RECVERR_RFC4884, "IP_RECVERR_RFC4884")
        .early()
        .on(UDP, "")
        .read(Read::UnlessV6Only),
    opt(SOL_IP, IP_RECVERR_RFC4884, "IP_RECVERR_RFC4884")
        .early()
        .on(TCP, "needs IP_RECVERR to do anything")
        .read(Read::OnDemand)
        .only_if(Rule::WithRecvErr),
    opt(SOL_IP, 15, "IP_FREEBIND").on(V4, "the flag is IPV6_FREEBIND's").early(),
    opt(SOL_IP, 19, "IP_TRANSPARENT")
        .on(V4, "the flag is IPV6_TRANSPARENT's")
        .leave("takes CAP_NET_ADMIN, and accepts foreign addresses of its own namespace"),
    opt(SOL_IP, 24, "IP_BIND_ADDRESS_NO_PORT").early(),
    opt(SOL_IP, 51, "IP_LOCAL_PORT_RANGE").early(),
    opt(SOL_IP, 50, "IP_UNICAST_IF")
        .on(UDP, "TCP does not look at it")
        .read(Read::UnlessV6Only)
        .leave("names a device of the socket's own namespace"),
    opt(SOL_IP, 4, "IP_OPTIONS")
        .width(Width::Bytes { max: 16 })
        .read(Read::UnlessV6Only)
        .leave("source routes and record slots belong to the path from its own namespace"),
    opt(SOL_IP, 21, "IP_MINTTL").early().on(TCP, "only TCP enforces it").read(Read::UnlessV6Only),
    opt(SOL_IP, 8, "IP_PKTINFO").on(UDP, NO_CMSG).read(Read::UnlessV6Only),
    opt(SOL_IP, 12, "IP_RECVTTL").on(UDP, NO_CMSG).read(Read::UnlessV6Only),
    opt(SOL_IP, 13, "IP_RECVTOS").on(UDP, NO_CMSG).read(Read::UnlessV6Only),
    opt(SOL_IP, 6, "IP_RECVOPTS").on(UDP, NO_CMSG).read(Read::UnlessV6Only),
    opt(SOL_IP, 7, "IP_RETOPTS").on(UDP, NO_CMSG).read(Read::UnlessV6Only),
    opt(SOL_IP, 18, "IP_PASSSEC").on(UDP, NO_CMSG).read(Read::UnlessV6Only),
    opt(SOL_IP, 20, "IP_RECVORIGDSTADDR").on(UDP, NO_CMSG).read(Read::UnlessV6Only),
    opt(SOL_IP, 23, "IP_CHECKSUM").on(UDP, NO_CMSG).read(Read::UnlessV6Only),
    opt(SOL_IP, 25, "IP_RECVFRAGSIZE").on(UDP, NO_CMSG).read(Read::UnlessV6Only),
    opt(SOL_IP, 33, "IP_MULTICAST_TTL").on(UDP, NO_MULTICAST).read(Read::UnlessV6Only),
    opt(SOL_IP, 34, "IP_MULTICAST_LOOP").on(UDP, NO_MULTICAST).read(Read::UnlessV6Only),
    opt(SOL_IP, 49, "IP_MULTICAST_ALL").on(UDP, NO_MULTICAST).read(Read::UnlessV6Only),
    opt(SOL_IP, 32, "IP_MULTICAST_IF")
        .on(UDP, NO_MULTICAST)
        .read(Read::UnlessV6Only)
        .leave("an address of its own namespace; a device set by index alone leaves no trace"),
    opt(SOL_IP, 35, "IP_ADD_MEMBERSHIP")
        .on(UDP, "TCP refuses it")
        .memory("a membership cannot be read back, and is of a device of its own namespace"),
    opt(SOL_IP, 3, "IP_HDRINCL").skip(RAW_ONLY),
    opt(SOL_IP, 5, "IP_ROUTER_ALERT").skip(RAW_ONLY),
    opt(SOL_IP, 22, "IP_NODEFRAG").skip(RAW_ONLY),
    opt(SOL_IP, 16, "IP_IPSEC_POLICY").skip(NO_TRACE_POLICY),
    opt(SOL_IP, 17, "IP_XFRM_POLICY").skip(NO_TRACE_POLICY),
    opt(SOL_IP, 9, "IP_PKTOPTIONS").skip("data of the last segment, not a setting"),
    opt(SOL_IP, 14, "IP_MTU").skip("the path's, not a setting"),
    // ---- SOL_IPV6
    opt(SOL_IPV6, 16, "IPV6_UNICAST_HOPS").early().on(V6, ""),
    opt(SOL_IPV6, 67, "IPV6_TCLASS").early().on(V6, ""),
    opt(SOL_IPV6, 23, "IPV6_MTU_DISCOVER").early().on(V6, ""),
    opt(SOL_IPV6, IPV6_RECVERR, "IPV6_RECVERR").early().on(V6, ""),
    opt(SOL_IPV6, IPV6_RECVERR_RFC4884, "IPV6_RECVERR_RFC4884").early().on(UDP6, ""),
    opt(SOL_IPV6, IPV6_RECVERR_RFC4884, "IPV6_RECVERR_RFC4884")
        .early()
        .on(TCP6, "needs IPV6_RECVERR to do anything")
        .read(Read::OnDemand)
        .only_if(Rule::WithRecvErr),
    opt(SOL_IPV6, 78, "IPV6_FREEBIND").on(V6, "").early(),
    opt(SOL_IPV6, 75, "IPV6_TRANSPARENT")
        .on(V6, "")
        .leave("takes CAP_NET_ADMIN, and accepts foreign addresses of its own namespace"),
    opt(SOL_IPV6, 76, "IPV6_UNICAST_IF")
        .on(UDP6, "TCP does not look at it")
        .leave("names a device of the socket's own namespace"),
    opt(SOL_IPV6, 70, "IPV6_AUTOFLOWLABEL").early().on(V6, ""),
    opt(SOL_IPV6, 33, "IPV6_FLOWINFO_SEND").early().on(V6, ""),
    opt(SOL_IPV6, 72, "IPV6_ADDR_PREFERENCES").on(V6, "").early(),
    opt(SOL_IPV6, 73, "IPV6_MINHOPCOUNT").early().on(TCP6, "only TCP enforces it"),
    opt(SOL_IPV6, 62, "IPV6_DONTFRAG").on(UDP6, "segments follow the path MTU anyway"),
    opt(SOL_IPV6, 49, "IPV6_RECVPKTINFO").on(UDP6, NO_CMSG6),
    opt(SOL_IPV6, 51, "IPV6_RECVHOPLIMIT").on(UDP6, NO_CMSG6),
    opt(SOL_IPV6, 66, "IPV6_RECVTCLASS").on(UDP6, NO_CMSG6),
    opt(SOL_IPV6, 11, "IPV6_FLOWINFO").on(UDP6, NO_CMSG6),
    opt(SOL_IPV6, 53, "IPV6_RECVHOPOPTS").on(UDP6, NO_CMSG6),
    opt(SOL_IPV6, 56, "IPV6_RECVRTHDR").on(UDP6, NO_CMSG6),
    opt(SOL_IPV6, 58, "IPV6_RECVDSTOPTS").on(UDP6, NO_CMSG6),
    opt(SOL_IPV6, 60, "IPV6_RECVPATHMTU").on(UDP6, NO_CMSG6),
    opt(SOL_IPV6, 74, "IPV6_RECVORIGDSTADDR").on(UDP6, NO_CMSG6),
    opt(SOL_IPV6, 77, "IPV6_RECVFRAGSIZE").on(UDP6, NO_CMSG6),
    opt(SOL_IPV6, 2, "IPV6_2292PKTINFO").on(UDP6, NO_CMSG6),
    opt(SOL_IPV6, 8, "IPV6_2292HOPLIMIT").on(UDP6, NO_CMSG6),
    opt(SOL_IPV6, 3, "IPV6_2292HOPOPTS").on(UDP6, NO_CMSG6),
    opt(SOL_IPV6, 4, "IPV6_2292DSTOPTS").on(UDP6, NO_CMSG6),
    opt(SOL_IPV6, 5, "IPV6_2292RTHDR").on(UDP6, NO_CMSG6),
    opt(SOL_IPV6, 18, "IPV6_MULTICAST_HOPS").on(UDP6, NO_MULTICAST),
    opt(SOL_IPV6, 19, "IPV6_MULTICAST_LOOP").on(UDP6, NO_MULTICAST),
    opt(SOL_IPV6, 29, "IPV6_MULTICAST_ALL").on(UDP6, NO_MULTICAST),
    opt(SOL_IPV6, 17, "IPV6_MULTICAST_IF")
        .on(UDP6, NO_MULTICAST)
        .leave("names a device of the socket's own namespace"),
    opt(SOL_IPV6, 20, "IPV6_ADD_MEMBERSHIP")
        .on(UDP6, "TCP refuses it")
        .memory("a membership cannot be read back, and is of a device of its own namespace"),
    opt(SOL_IPV6, 27, "IPV6_JOIN_ANYCAST")
        .on(V6, "")
        .memory("a membership cannot be read back, and is of a device of its own namespace"),
    opt(SOL_IPV6, 54, "IPV6_HOPOPTS").on(V6, "").memory(EXTENSION),
    opt(SOL_IPV6, 55, "IPV6_RTHDRDSTOPTS").on(V6, "").memory(EXTENSION),
    opt(SOL_IPV6, 57, "IPV6_RTHDR").on(V6, "").memory(EXTENSION),
    opt(SOL_IPV6, 59, "IPV6_DSTOPTS").on(V6, "").memory(EXTENSION),
    opt(SOL_IPV6, 50, "IPV6_PKTINFO")
        .on(V6, "")
        .skip("leaves no trace: a sticky source address or device is lost"),
    opt(SOL_IPV6, 24, "IPV6_MTU")
        .on(V6, "")
        .skip("leaves no trace: reads as the path's MTU; a set fragment size is lost"),
    opt(SOL_IPV6, 32, "IPV6_FLOWLABEL_MGR")
        .on(V6, "")
        .skip("leaves no trace: leases of flow labels belong to the namespace and are lost"),
    opt(SOL_IPV6, 34, "IPV6_IPSEC_POLICY").on(V6, "").skip(NO_TRACE_POLICY),
    opt(SOL_IPV6, 35, "IPV6_XFRM_POLICY").on(V6, "").skip(NO_TRACE_POLICY),
    opt(SOL_IPV6, 7, "IPV6_CHECKSUM").on(V6, "").skip(RAW_ONLY),
    opt(SOL_IPV6, 22, "IPV6_ROUTER_ALERT").on(V6, "").skip(RAW_ONLY),
    opt(SOL_IPV6, 30, "IPV6_ROUTER_ALERT_ISOLATE").on(V6, "").skip(RAW_ONLY),
    opt(SOL_IPV6, 36, "IPV6_HDRINCL").on(V6, "").skip(RAW_ONLY),
    // ---- SOL_SOCKET
    opt(SOL_SOCKET, 2, "SO_REUSEADDR").early(),
    opt(SOL_SOCKET, 15, "SO_REUSEPORT").early(),
    opt(SOL_SOCKET, SO_BINDTOIFINDEX, "SO_BINDTOIFINDEX")
        .leave("bound to a device of the socket's own namespace (SO_BINDTODEVICE)"),
    opt(SOL_SOCKET, 25, "SO_BINDTODEVICE").skip("shows as SO_BINDTOIFINDEX, cheaper to read"),
    opt(SOL_SOCKET, 26, "SO_ATTACH_FILTER")
        .memory("a filter program is tied to the socket; eBPF cannot be read back at all"),
    opt(SOL_SOCKET, 50, "SO_ATTACH_BPF")
        .memory("a filter program is tied to the socket; eBPF cannot be read back at all"),
    opt(SOL_SOCKET, 51, "SO_ATTACH_REUSEPORT_CBPF").skip(NO_TRACE_GROUP),
    opt(SOL_SOCKET, 52, "SO_ATTACH_REUSEPORT_EBPF").skip(NO_TRACE_GROUP),
    opt(SOL_SOCKET, 9, "SO_KEEPALIVE"),
    opt(SOL_SOCKET, 13, "SO_LINGER").width(Width::Linger),
    opt(SOL_SOCKET, 10, "SO_OOBINLINE").early(),
    opt(SOL_SOCKET, 5, "SO_DONTROUTE").early(),
    opt(SOL_SOCKET, SO_BUF_LOCK, "SO_BUF_LOCK")
        .early()
        .only_if(Rule::Locked)
        .note("copied as the sizes that it speaks of: setting them locks them"),
    opt(SOL_SOCKET, SO_SNDBUF, "SO_SNDBUF").read(Read::OnDemand).only_if(Rule::Locked).early(),
    opt(SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF").read(Read::OnDemand).only_if(Rule::Locked).early(),
    opt(SOL_SOCKET, 32, "SO_SNDBUFFORCE").skip("shows as SO_SNDBUF"),
    opt(SOL_SOCKET, 33, "SO_RCVBUFFORCE").skip("shows as SO_RCVBUF"),
    opt(SOL_SOCKET, 18, "SO_RCVLOWAT").early(),
    opt(SOL_SOCKET, 19, "SO_SNDLOWAT").skip("constant on Linux"),
    opt(SOL_SOCKET, 66, "SO_RCVTIMEO_NEW").width(Width::TimevalU64),
    opt(SOL_SOCKET, 67, "SO_SNDTIMEO_NEW").width(Width::TimevalU64),
    opt(SOL_SOCKET, 12, "SO_PRIORITY").early().only_if(Rule::AfterTos),
    opt(SOL_SOCKET, 36, "SO_MARK")
        .early()
        .note("setting it takes CAP_NET_ADMIN or, since 5.17, NET_RAW"),
    opt(SOL_SOCKET, 29, "SO_TIMESTAMP_OLD").early(),
    opt(SOL_SOCKET, 35, "SO_TIMESTAMPNS_OLD").early(),
    opt(SOL_SOCKET, 63, "SO_TIMESTAMP_NEW").early().only_if(Rule::Layout),
    opt(SOL_SOCKET, SO_TIMESTAMPNS_NEW, "SO_TIMESTAMPNS_NEW")
        .early()
        .read(Read::OnDemand)
        .only_if(Rule::Layout)
        .note("SO_TIMESTAMP_NEW reads as set too"),
    opt(SOL_SOCKET, SO_TIMESTAMPING_OLD, "SO_TIMESTAMPING_OLD")
        .early()
        .width(Width::Bytes { max: 8 })
        .only_if(Rule::Layout)
        .note("counters of SOF_TIMESTAMPING_OPT_ID start at 0 again"),
    opt(SOL_SOCKET, SO_TIMESTAMPING_NEW, "SO_TIMESTAMPING_NEW")
        .early()
        .width(Width::Bytes { max: 8 })
        .read(Read::OnDemand)
        .only_if(Rule::Layout)
        .note("SO_TIMESTAMPING_OLD reads as set too"),
    opt(SOL_SOCKET, SO_WIFI_STATUS, "SO_WIFI_STATUS").on(UDP, ""),
    opt(SOL_SOCKET, SO_WIFI_STATUS, "SO_WIFI_STATUS")
        .on(TCP, "TCP looks at it only where SO_TIMESTAMPING is set")
        .early()
        .read(Read::OnDemand)
        .only_if(Rule::WithTimestamps),
    opt(SOL_SOCKET, 42, "SO_PEEK_OFF").note("TCP has it since 6.9"),
    opt(SOL_SOCKET, 47, "SO_MAX_PACING_RATE").width(Width::Bytes { max: 8 }),
    opt(SOL_SOCKET, 49, "SO_INCOMING_CPU")
        .read(Read::ForListening)
        .early()
        .only_if(Rule::NotRecorded),
    opt(SOL_SOCKET, 60, "SO_ZEROCOPY"),
    opt(SOL_SOCKET, 74, "SO_TXREHASH").on(TCP, "only TCP has it").early(),
    opt(SOL_SOCKET, SO_RESERVE_MEM, "SO_RESERVE_MEM")
        .early()
        .read(Read::OnDemand)
        .only_if(Rule::WithMemory)
        .note("charged to our memory cgroup then"),
    opt(SOL_SOCKET, 6, "SO_BROADCAST").on(UDP, "a stream has no broadcasts"),
    opt(SOL_SOCKET, 11, "SO_NO_CHECK").on(UDP, "TCP always has a checksum"),
    opt(SOL_SOCKET, 40, "SO_RXQ_OVFL").on(UDP, NO_CMSG),
    opt(SOL_SOCKET, 45, "SO_SELECT_ERR_QUEUE").on(UDP, "only the poll of datagrams looks at it"),
    opt(SOL_SOCKET, 61, "SO_TXTIME")
        .width(Width::Bytes { max: 8 })
        .on(UDP, "TCP takes no transmit times")
        .note("clock 0 without flags, which takes CAP_NET_ADMIN, reads as unset"),
    opt(SOL_SOCKET, 75, "SO_RCVMARK").on(UDP, NO_CMSG),
    opt(SOL_SOCKET, 82, "SO_RCVPRIORITY").on(UDP, NO_CMSG),
    opt(SOL_SOCKET, 46, "SO_BUSY_POLL").read(Read::WherePrivileged),
    opt(SOL_SOCKET, 69, "SO_PREFER_BUSY_POLL").read(Read::WherePrivileged),
    opt(SOL_SOCKET, 70, "SO_BUSY_POLL_BUDGET")
        .skip("cannot be read back; more than the default takes CAP_NET_ADMIN of the host"),
    opt(SOL_SOCKET, 1, "SO_DEBUG").read(Read::WherePrivileged),
    opt(SOL_SOCKET, 14, "SO_BSDCOMPAT").skip("does nothing since Linux 2.4"),
    opt(SOL_SOCKET, 16, "SO_PASSCRED").skip(UNIX_ONLY),
    opt(SOL_SOCKET, 34, "SO_PASSSEC").skip(UNIX_ONLY),
    opt(SOL_SOCKET, 76, "SO_PASSPIDFD").skip(UNIX_ONLY),
    opt(SOL_SOCKET, 83, "SO_PASSRIGHTS").skip(UNIX_ONLY),
    opt(SOL_SOCKET, 43, "SO_NOFCS").skip("only packet sockets look at it"),
    opt(SOL_SOCKET, 53, "SO_CNX_ADVICE").skip("an action on the route, not a setting"),
    // ---- SOL_TCP
    opt(SOL_TCP, 1, "TCP_NODELAY").on(TCP, ""),
    opt(SOL_TCP, 3, "TCP_CORK").on(TCP, ""),
    opt(SOL_TCP, 4, "TCP_KEEPIDLE").on(TCP, ""),
    opt(SOL_TCP, 5, "TCP_KEEPINTVL").on(TCP, ""),
    opt(SOL_TCP, 6, "TCP_KEEPCNT").on(TCP, ""),
    opt(SOL_TCP, 7, "TCP_SYNCNT").on(TCP, "").early(),
    opt(SOL_TCP, 8, "TCP_LINGER2").on(TCP, ""),
    opt(SOL_TCP, TCP_REPAIR, "TCP_REPAIR")
        .on(TCP, "")
        .read(Read::OnDemand)
        .leave("in repair mode: connect would set the state of a connection instead of making one")
        .note(
            "TCP_MAXSEG then reads as 0 before the first attempt to connect, and after one either \
             it or TCP_WINDOW_CLAMP reads as changed",
        ),
    opt(SOL_TCP, TCP_MAXSEG, "TCP_MAXSEG").on(TCP, "").early().only_if(Rule::NotCurrentMss),
    opt(SOL_TCP, TCP_WINDOW_CLAMP, "TCP_WINDOW_CLAMP")
        .on(TCP, "")
        .early()
        .only_if(Rule::NeverRouted),
    opt(SOL_TCP, 13, "TCP_CONGESTION").width(Width::Bytes { max: 16 }).on(TCP, "").early(),
    opt(SOL_TCP, 12, "TCP_QUICKACK").on(TCP, "").note("holds until the kernel changes its mind"),
    opt(SOL_TCP, 18, "TCP_USER_TIMEOUT").on(TCP, ""),
    opt(SOL_TCP, 44, "TCP_RTO_MAX_MS").on(TCP, "").note("before TCP_DEFER_ACCEPT, which it scales"),
    opt(SOL_TCP, 45, "TCP_RTO_MIN_US").on(TCP, ""),
    opt(SOL_TCP, 46, "TCP_DELACK_MAX_US").on(TCP, ""),
    opt(SOL_TCP, 9, "TCP_DEFER_ACCEPT").read(Read::ForListening).on(TCP, "").early(),
    opt(SOL_TCP, 23, "TCP_FASTOPEN").read(Read::ForListening).on(TCP, ""),
    opt(SOL_TCP, 30, "TCP_FASTOPEN_CONNECT").on(TCP, "").early(),
    opt(SOL_TCP, 34, "TCP_FASTOPEN_NO_COOKIE").on(TCP, "").early(),
    opt(SOL_TCP, 25, "TCP_NOTSENT_LOWAT").on(TCP, ""),
    opt(SOL_TCP, 27, "TCP_SAVE_SYN").read(Read::ForListening).on(TCP, "").early(),
    opt(SOL_TCP, 16, "TCP_THIN_LINEAR_TIMEOUTS").on(TCP, ""),
    opt(SOL_TCP, 36, "TCP_INQ").on(TCP, ""),
    opt(SOL_TCP, 37, "TCP_TX_DELAY").early().on(TCP, ""),
    opt(SOL_TCP, 31, "TCP_ULP")
        .width(Width::Bytes { max: 16 })
        .on(TCP, "")
        .leave("an upper-layer protocol such as TLS holds state that cannot be read back"),
    opt(SOL_TCP, 14, "TCP_MD5SIG").on(TCP, "").memory("a TCP key cannot be read back"),
    opt(SOL_TCP, 32, "TCP_MD5SIG_EXT").on(TCP, "").memory("a TCP key cannot be read back"),
    opt(SOL_TCP, 38, "TCP_AO_ADD_KEY").on(TCP, "").memory("a TCP key cannot be read back"),
    opt(SOL_TCP, 33, "TCP_FASTOPEN_KEY")
        .on(TCP, "")
        .skip("reads as the namespace's key if none was set; old cookies cost a full handshake"),
    opt(SOL_TCP, 17, "TCP_THIN_DUPACK").on(TCP, "").skip("does nothing since Linux 5.10"),
    opt(SOL_TCP, 24, "TCP_TIMESTAMP").on(TCP, "").skip("a clock; can be set in repair mode only"),
    opt(SOL_TCP, 20, "TCP_REPAIR_QUEUE").on(TCP, "").skip("in repair mode only"),
    opt(SOL_TCP, 21, "TCP_QUEUE_SEQ").on(TCP, "").skip("in repair mode only"),
    opt(SOL_TCP, 22, "TCP_REPAIR_OPTIONS").on(TCP, "").skip("in repair mode only"),
    opt(SOL_TCP, 29, "TCP_REPAIR_WINDOW").on(TCP, "").skip("in repair mode only"),
    opt(SOL_TCP, 35, "TCP_ZEROCOPY_RECEIVE").on(TCP, "").skip("an action, not a setting"),
    opt(SOL_TCP, 1001, "TCP_BPF_IW")
        .on(TCP, "")
        .skip("this and the other TCP_BPF_* are for BPF programs of the host, not for setsockopt"),
    // ---- SOL_UDP
    opt(SOL_UDP, 1, "UDP_CORK").on(UDP, "").note("data held back by it is lost with the socket"),
    opt(SOL_UDP, 103, "UDP_SEGMENT").on(UDP, ""),
    opt(SOL_UDP, 104, "UDP_GRO").on(UDP, ""),
    opt(SOL_UDP, 101, "UDP_NO_CHECK6_TX").on(UDP, ""),
    opt(SOL_UDP, 102, "UDP_NO_CHECK6_RX").on(UDP, ""),
    opt(SOL_UDP, 100, "UDP_ENCAP")
        .on(UDP, "")
        .leave("decapsulates for the tunnels and policies of its own namespace"),
    // ---- Last: it cannot be undone.
    opt(SOL_SOCKET, 44, "SO_LOCK_FILTER"),
];

const fn opt(level: i32, number: i32, name: &'static str) -> Opt {
    Opt {
        level,
        number,
        name,
        width: Width::Int,
        on: Sockets::ANY,
        read: Read::Always,
        when: When::AnyTime,
        treatment: Treatment::Copy,
        note: "",
    }
}

impl Opt {
    const fn on(mut self, on: Sockets, note: &'static str) -> Self {
        self.on = on;
        self.note(note)
    }

    const fn note(mut self, note: &'static str) -> Self {
        if !note.is_empty() {
            self.note = note;
        }
        self
    }

    const fn width(mut self, width: Width) -> Self {
        self.width = width;
        self
    }

    const fn read(mut self, read: Read) -> Self {
        self.read = read;
        self
    }

    const fn early(mut self) -> Self {
        self.when = When::BeforeConnect;
        self
    }

    const fn only_if(mut self, rule: Rule) -> Self {
        self.treatment = Treatment::CopyIfSet(rule);
        self
    }

    const fn leave(mut self, reason: &'static str) -> Self {
        self.treatment = Treatment::Leave(reason);
        self
    }

    const fn memory(mut self, reason: &'static str) -> Self {
        self.read = Read::Memory;
        self.treatment = Treatment::Leave(reason);
        self
    }

    const fn skip(mut self, reason: &'static str) -> Self {
        self.read = Read::Never;
        self.treatment = Treatment::Skip(reason);
        self
    }
}

const V4: Sockets = Sockets::V4;
const V6: Sockets = Sockets::V6;
const TCP: Sockets = Sockets::TCP;
const UDP: Sockets = Sockets::UDP;
const TCP6: Sockets = Sockets::TCP6;
const UDP6: Sockets = Sockets::UDP6;

const NO_CMSG: &str = "reports with each datagram; a stream has none";
const NO_CMSG6: &str = "reports with each datagram; a stream shows it only in IPV6_2292PKTOPTIONS";
const NO_MULTICAST: &str = "a stream cannot be multicast";
const RAW_ONLY: &str = "for raw sockets only";
const UNIX_ONLY: &str = "for UNIX sockets only";
const EXTENSION: &str = "extension headers belong to the path from its own namespace";
const NO_TRACE_POLICY: &str =
    "leaves no trace: a policy set on the socket (takes CAP_NET_ADMIN) is lost";
const NO_TRACE_GROUP: &str = "leaves no trace: belongs to the SO_REUSEPORT group, which falls back \
                              to choosing by hash";
