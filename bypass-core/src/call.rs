//! Which call a notification stands for.
//!
//! The numbers differ between architectures, and 32-bit x86 has two ways to say
//! the same. A call that is not one of ours is [`Call::Other`]: runtimes' profiles
//! trap more than we need.

use seccomp_notify::Arch;
use sockaddr_inspect::ForeignAddr;
use sockaddr_inspect::msghdr::WordSize;

/// A trapped call, with its raw arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// connect(2)
    Connect { fd: i32, at: ForeignAddr, len: u64 },
    /// bind(2)
    Bind { fd: i32, at: ForeignAddr, len: u64 },
    /// listen(2)
    Listen { fd: i32, backlog: i32 },
    /// getsockname(2), getpeername(2)
    Name { end: NameOf, fd: i32, at: ForeignAddr, len_at: ForeignAddr },
    /// sendto(2), sendmsg(2) or sendmmsg(2)
    Send { fd: i32, message: Message },
    /// socketcall(2) of 32-bit x86: the arguments are in the target's memory.
    Multiplexed { operation: Multiplexed, at: ForeignAddr },
    /// epoll_create(2), epoll_create1(2)
    EpollCreate,
    /// Anything else.
    Other,
}

/// Which end of a connection is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameOf {
    /// getsockname(2)
    Local,
    /// getpeername(2)
    Peer,
}

/// What a send says, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// sendto(2): all in arguments.
    To { name: ForeignAddr, name_len: u64, data: ForeignAddr, len: u64, flags: i32 },
    /// sendmsg(2): a `struct msghdr`.
    Header { at: ForeignAddr, word_size: WordSize, flags: i32 },
    /// sendmmsg(2): an array of `struct mmsghdr`.
    Headers { at: ForeignAddr, count: u32, word_size: WordSize, flags: i32 },
}

impl Message {
    /// One message of several, and where its length goes once it is sent; the call itself if
    /// there is only one.
    pub(crate) fn nth(&self, index: u32) -> Option<(Self, Option<ForeignAddr>)> {
        match *self {
            Self::Headers { at, count, word_size, flags } if index < count => {
                let offset = u64::from(index).checked_mul(word_size.mmsghdr_size())?;
                let at = at.checked_add(offset)?;
                let len_at = at.checked_add(word_size.msghdr_size())?;
                Some((Self::Header { at, word_size, flags }, Some(len_at)))
            }
            Self::Headers { .. } => None,
            one => (index == 0).then_some((one, None)),
        }
    }

    pub(crate) fn flags(&self) -> i32 {
        match *self {
            Self::To { flags, .. } | Self::Header { flags, .. } | Self::Headers { flags, .. } => {
                flags
            }
        }
    }
}

/// The operations of socketcall(2) that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Multiplexed {
    Connect,
    Bind,
    Listen,
    GetSockName,
    GetPeerName,
}

impl Call {
    pub(crate) fn parse(arch: Arch, number: i32, args: [u64; 6]) -> Self {
        let [first, second, third, fourth, fifth, sixth] = args;
        // No epoll_create of old on arm64.
        let (connect, bind, listen, epoll, names, sends) = match arch {
            Arch::X86_64 => (42, 49, 50, [213, 291], [51, 52], [44, 46, 307]),
            Arch::X32 => (42, 49, 50, [213, 291], [51, 52], [44, 518, 538]),
            Arch::I386 if number == 102 => return Self::multiplexed(first, second),
            Arch::I386 => (362, 361, 363, [254, 329], [367, 368], [369, 370, 345]),
            Arch::Aarch64 => (203, 200, 201, [20, 20], [204, 205], [206, 211, 269]),
            Arch::Arm => (283, 282, 284, [250, 357], [286, 287], [290, 296, 374]),
            _ => return Self::Other,
        };
        let word_size = match arch {
            Arch::X86_64 | Arch::Aarch64 => WordSize::Bits64,
            _ => WordSize::Bits32,
        };
        let name = |end| Self::Name {
            end,
            fd: int(first),
            at: ForeignAddr::new(second),
            len_at: ForeignAddr::new(third),
        };
        let [getsockname, getpeername] = names;
        let [sendto, sendmsg, sendmmsg] = sends;
        if number == connect {
            Self::Connect { fd: int(first), at: ForeignAddr::new(second), len: third }
        } else if number == bind {
            Self::Bind { fd: int(first), at: ForeignAddr::new(second), len: third }
        } else if number == listen {
            Self::Listen { fd: int(first), backlog: int(second) }
        } else if epoll.contains(&number) {
            Self::EpollCreate
        } else if number == getsockname {
            name(NameOf::Local)
        } else if number == getpeername {
            name(NameOf::Peer)
        } else if number == sendto {
            let message = Message::To {
                name: ForeignAddr::new(fifth),
                name_len: sixth,
                data: ForeignAddr::new(second),
                len: third,
                flags: int(fourth),
            };
            Self::Send { fd: int(first), message }
        } else if number == sendmsg {
            let (at, flags) = (ForeignAddr::new(second), int(third));
            Self::Send { fd: int(first), message: Message::Header { at, word_size, flags } }
        } else if number == sendmmsg {
            let (at, count, flags) =
                (ForeignAddr::new(second), int(third).cast_unsigned(), int(fourth));
            let message = Message::Headers { at, count, word_size, flags };
            Self::Send { fd: int(first), message }
        } else {
            Self::Other
        }
    }

    fn multiplexed(operation: u64, at: u64) -> Self {
        let operation = match int(operation) {
            2 => Multiplexed::Bind,
            3 => Multiplexed::Connect,
            4 => Multiplexed::Listen,
            6 => Multiplexed::GetSockName,
            7 => Multiplexed::GetPeerName,
            _ => return Self::Other,
        };
        Self::Multiplexed { operation, at: ForeignAddr::new(at & u64::from(u32::MAX)) }
    }

    /// The call that a socketcall(2) with these arguments makes.
    pub(crate) fn demultiplexed(operation: Multiplexed, [first, second, third]: [u32; 3]) -> Self {
        let at = ForeignAddr::new(u64::from(second));
        match operation {
            Multiplexed::Connect => {
                Self::Connect { fd: int(u64::from(first)), at, len: u64::from(third) }
            }
            Multiplexed::Bind => {
                Self::Bind { fd: int(u64::from(first)), at, len: u64::from(third) }
            }
            Multiplexed::Listen => {
                Self::Listen { fd: int(u64::from(first)), backlog: int(u64::from(second)) }
            }
            Multiplexed::GetSockName | Multiplexed::GetPeerName => {
                let end = match operation {
                    Multiplexed::GetSockName => NameOf::Local,
                    _ => NameOf::Peer,
                };
                let len_at = ForeignAddr::new(u64::from(third));
                Self::Name { end, fd: int(u64::from(first)), at, len_at }
            }
        }
    }
}

/// The kernel takes the low half of the register for an `int` argument.
#[expect(clippy::cast_possible_truncation, reason = "as the kernel's system call entry does")]
const fn int(register: u64) -> i32 {
    (register as u32).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGS: [u64; 6] = [0xdead_beef_0000_0007, 0x1000, 16, 0, 0, 0];

    #[test]
    fn numbers_agree_with_libc() {
        let number = |value: i64| i32::try_from(value).unwrap();
        #[cfg(target_arch = "x86_64")]
        let arch = Arch::X86_64;
        #[cfg(target_arch = "aarch64")]
        let arch = Arch::Aarch64;
        let connect = Call::parse(arch, number(libc::SYS_connect), ARGS);
        assert_eq!(connect, Call::Connect { fd: 7, at: ForeignAddr::new(0x1000), len: 16 });
        let bind = Call::parse(arch, number(libc::SYS_bind), ARGS);
        assert_eq!(bind, Call::Bind { fd: 7, at: ForeignAddr::new(0x1000), len: 16 });
        let listen = Call::parse(arch, number(libc::SYS_listen), ARGS);
        assert_eq!(listen, Call::Listen { fd: 7, backlog: 0x1000 });
        let (at, len_at) = (ForeignAddr::new(0x1000), ForeignAddr::new(16));
        for (nr, end) in
            [(libc::SYS_getsockname, NameOf::Local), (libc::SYS_getpeername, NameOf::Peer)]
        {
            let name = Call::parse(arch, number(nr), ARGS);
            assert_eq!(name, Call::Name { end, fd: 7, at, len_at });
        }
        let args = [7, 0x1000, 3, 4, 0x5000, 16];
        let (at, data, name) =
            (ForeignAddr::new(0x1000), ForeignAddr::new(0x1000), ForeignAddr::new(0x5000));
        let word_size = WordSize::Bits64;
        for (nr, message) in [
            (libc::SYS_sendto, Message::To { name, name_len: 16, data, len: 3, flags: 4 }),
            (libc::SYS_sendmsg, Message::Header { at, word_size, flags: 3 }),
            (libc::SYS_sendmmsg, Message::Headers { at, count: 3, word_size, flags: 4 }),
        ] {
            assert_eq!(Call::parse(arch, number(nr), args), Call::Send { fd: 7, message });
        }
        let epoll = Call::parse(arch, number(libc::SYS_epoll_create1), ARGS);
        assert_eq!(epoll, Call::EpollCreate);
        assert_eq!(Call::parse(arch, number(libc::SYS_close), ARGS), Call::Other);
    }

    #[test]
    fn messages_are_counted_out() {
        let word_size = WordSize::Bits64;
        let at = ForeignAddr::new(0x1000);
        let many = Message::Headers { at, count: 2, word_size, flags: 5 };
        let second = ForeignAddr::new(0x1040);
        let (one, len_at) = many.nth(1).unwrap();
        assert_eq!(one, Message::Header { at: second, word_size, flags: 5 });
        assert_eq!(len_at, Some(ForeignAddr::new(0x1078)));
        assert_eq!(many.nth(2), None);
        assert_eq!(one.nth(0), Some((one, None)));
        assert_eq!(one.nth(1), None);
        let wild =
            Message::Headers { at: ForeignAddr::new(u64::MAX), count: 9, word_size, flags: 0 };
        assert_eq!(wild.nth(1), None);
    }

    #[test]
    fn the_high_half_of_an_int_is_ignored_and_its_sign_kept() {
        let call = Call::parse(Arch::X86_64, 50, [u64::from(u32::MAX), 5, 0, 0, 0, 0]);
        assert_eq!(call, Call::Listen { fd: -1, backlog: 5 });
    }

    #[test]
    fn both_ways_of_32_bit_x86() {
        let direct = Call::parse(Arch::I386, 362, [3, 0x2000, 16, 0, 0, 0]);
        let at = ForeignAddr::new(0x3000);
        let packed = Call::parse(Arch::I386, 102, [3, 0x3000, 0, 0, 0, 0]);
        assert_eq!(packed, Call::Multiplexed { operation: Multiplexed::Connect, at });
        assert_eq!(Call::demultiplexed(Multiplexed::Connect, [3, 0x2000, 16]), direct);
        assert_eq!(Call::parse(Arch::I386, 102, [9, 0x3000, 0, 0, 0, 0]), Call::Other);
    }

    #[test]
    fn a_number_of_another_architecture_means_nothing() {
        assert_eq!(Call::parse(Arch::Aarch64, 42, ARGS), Call::Other);
        assert_eq!(Call::parse(Arch::Other(0), 42, ARGS), Call::Other);
    }
}
