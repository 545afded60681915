//! Which call a notification stands for.
//!
//! The numbers differ between architectures, and 32-bit x86 has two ways to say
//! the same. A call that is not one of ours is [`Call::Other`]: runtimes' profiles
//! trap more than we need.

use seccomp_notify::Arch;
use sockaddr_inspect::ForeignAddr;

/// A trapped call, with its raw arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// connect(2)
    Connect { fd: i32, at: ForeignAddr, len: u64 },
    /// bind(2)
    Bind { fd: i32, at: ForeignAddr, len: u64 },
    /// listen(2)
    Listen { fd: i32, backlog: i32 },
    /// socketcall(2) of 32-bit x86: the arguments are in the target's memory.
    Multiplexed { operation: Multiplexed, at: ForeignAddr },
    /// epoll_create(2), epoll_create1(2)
    EpollCreate,
    /// Anything else.
    Other,
}

/// The operations of socketcall(2) that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Multiplexed {
    Connect,
    Bind,
    Listen,
}

impl Call {
    pub(crate) fn parse(arch: Arch, number: i32, args: [u64; 6]) -> Self {
        let [first, second, third, ..] = args;
        let (connect, bind, listen, epoll) = match arch {
            Arch::X86_64 | Arch::X32 => (42, 49, 50, [213, 291]),
            Arch::I386 if number == 102 => return Self::multiplexed(first, second),
            Arch::I386 => (362, 361, 363, [254, 329]),
            // No epoll_create of old here.
            Arch::Aarch64 => (203, 200, 201, [20, 20]),
            Arch::Arm => (283, 282, 284, [250, 357]),
            _ => return Self::Other,
        };
        if number == connect {
            Self::Connect { fd: int(first), at: ForeignAddr::new(second), len: third }
        } else if number == bind {
            Self::Bind { fd: int(first), at: ForeignAddr::new(second), len: third }
        } else if number == listen {
            Self::Listen { fd: int(first), backlog: int(second) }
        } else if epoll.contains(&number) {
            Self::EpollCreate
        } else {
            Self::Other
        }
    }

    fn multiplexed(operation: u64, at: u64) -> Self {
        let operation = match int(operation) {
            2 => Multiplexed::Bind,
            3 => Multiplexed::Connect,
            4 => Multiplexed::Listen,
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
        let epoll = Call::parse(arch, number(libc::SYS_epoll_create1), ARGS);
        assert_eq!(epoll, Call::EpollCreate);
        assert_eq!(Call::parse(arch, number(libc::SYS_close), ARGS), Call::Other);
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
