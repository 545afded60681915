//! Numbers of levels, and of the options that code outside the table names.
//!
//! They are those of asm-generic/socket.h and linux/{in,in6,tcp,udp}.h: libc does not have all of
//! them for every C library. Architectures that number `SOL_SOCKET` otherwise are refused.

pub(crate) const SOL_SOCKET: i32 = 1;
pub(crate) const SOL_IP: i32 = 0;
pub(crate) const SOL_TCP: i32 = 6;
pub(crate) const SOL_UDP: i32 = 17;
pub(crate) const SOL_IPV6: i32 = 41;

pub(crate) const SO_SNDBUF: i32 = 7;
pub(crate) const SO_RCVBUF: i32 = 8;
pub(crate) const SO_TIMESTAMPING_OLD: i32 = 37;
pub(crate) const SO_WIFI_STATUS: i32 = 41;
pub(crate) const SO_MEMINFO: i32 = 55;
pub(crate) const SO_BINDTOIFINDEX: i32 = 62;
pub(crate) const SO_TIMESTAMPNS_NEW: i32 = 64;
pub(crate) const SO_TIMESTAMPING_NEW: i32 = 65;
pub(crate) const SO_NETNS_COOKIE: i32 = 71;
pub(crate) const SO_BUF_LOCK: i32 = 72;
pub(crate) const SO_RESERVE_MEM: i32 = 73;
pub(crate) const IP_TOS: i32 = 1;
pub(crate) const IP_RECVERR: i32 = 11;
pub(crate) const IP_RECVERR_RFC4884: i32 = 26;
pub(crate) const IPV6_RECVERR: i32 = 25;
pub(crate) const IPV6_RECVERR_RFC4884: i32 = 31;
pub(crate) const TCP_MAXSEG: i32 = 2;
pub(crate) const TCP_WINDOW_CLAMP: i32 = 10;
pub(crate) const TCP_REPAIR: i32 = 19;

const _: () =
    assert!(libc::SOL_SOCKET == SOL_SOCKET, "this architecture numbers options otherwise");
