//! The address families this crate understands, by number.
//!
//! Declared here and not taken from `libc`, so that decoding builds on every
//! target; a test holds them to `libc`'s values. See [address_families(7)].
//!
//! [address_families(7)]: https://man7.org/linux/man-pages/man7/address_families.7.html

/// No family: in `connect(2)` the request to dissolve the association.
pub const AF_UNSPEC: u16 = 0;
/// Local sockets, `struct sockaddr_un`.
pub const AF_UNIX: u16 = 1;
/// IPv4, `struct sockaddr_in`.
pub const AF_INET: u16 = 2;
/// IPv6, `struct sockaddr_in6`.
pub const AF_INET6: u16 = 10;

/// `offsetof(struct sockaddr_un, sun_path)` and `sizeof(sa_family_t)`.
pub(crate) const FAMILY_LEN: usize = 2;
/// `sizeof(struct sockaddr_in)`.
pub(crate) const SOCKADDR_IN_LEN: usize = 16;
/// `SIN6_LEN_RFC2133`: `struct sockaddr_in6` as it was before `sin6_scope_id`.
pub(crate) const SOCKADDR_IN6_MIN_LEN: usize = 24;
/// `sizeof(struct sockaddr_in6)`.
pub(crate) const SOCKADDR_IN6_LEN: usize = 28;
/// `sizeof(struct sockaddr_un)`.
pub(crate) const SOCKADDR_UN_LEN: usize = FAMILY_LEN + SUN_PATH_LEN;
/// The size of `sun_path`, `UNIX_PATH_MAX`.
pub(crate) const SUN_PATH_LEN: usize = 108;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::MAX_SOCKADDR;

    #[test]
    fn families_are_those_of_libc() {
        for (ours, libcs) in [
            (AF_UNSPEC, libc::AF_UNSPEC),
            (AF_UNIX, libc::AF_UNIX),
            (AF_INET, libc::AF_INET),
            (AF_INET6, libc::AF_INET6),
        ] {
            assert_eq!(i32::from(ours), libcs);
        }
    }

    #[test]
    fn lengths_are_those_of_libc() {
        assert_eq!(FAMILY_LEN, size_of::<libc::sa_family_t>());
        assert_eq!(FAMILY_LEN, std::mem::offset_of!(libc::sockaddr_un, sun_path));
        assert_eq!(SOCKADDR_IN_LEN, size_of::<libc::sockaddr_in>());
        assert_eq!(SOCKADDR_IN6_MIN_LEN, std::mem::offset_of!(libc::sockaddr_in6, sin6_scope_id));
        assert_eq!(SOCKADDR_IN6_LEN, size_of::<libc::sockaddr_in6>());
        assert_eq!(SOCKADDR_UN_LEN, size_of::<libc::sockaddr_un>());
        assert_eq!(MAX_SOCKADDR, size_of::<libc::sockaddr_storage>());
    }
}
