//! Compiled programs, and how several become one.

/// A BPF program as seccomp(2) takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program(Vec<Instruction>);

/// `struct sock_filter`, comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

impl Program {
    /// From `struct sock_filter`s in native byte order, as the library exports them.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let (whole, _) = bytes.as_chunks::<8>();
        let instruction = |&[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| Instruction {
            code: u16::from_ne_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        };
        Self(whole.iter().map(instruction).collect())
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let bytes = |op: &Instruction| {
            let ([c0, c1], [k0, k1, k2, k3]) = (op.code.to_ne_bytes(), op.k.to_ne_bytes());
            [c0, c1, op.jt, op.jf, k0, k1, k2, k3]
        };
        self.0.iter().flat_map(bytes).collect()
    }

    pub(super) fn to_raw(&self) -> Vec<libc::sock_filter> {
        let raw =
            |op: &Instruction| libc::sock_filter { code: op.code, jt: op.jt, jf: op.jf, k: op.k };
        self.0.iter().map(raw).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A program that asks this one first, and `next` about what this one allows.
    pub(super) fn then(self, next: Self) -> Self {
        self.instead_of(libc::SECCOMP_RET_ALLOW, next)
    }

    /// A program that asks this one first, and `next` where this one returns `verdict`.
    ///
    /// Every such return becomes a jump to the end, where `next` begins. Nothing else moves, so all
    /// other jumps stay right, and the jump that does not depend on a test may be of any length.
    pub(super) fn instead_of(mut self, verdict: u32, next: Self) -> Self {
        let mut after = self.0.len();
        for op in &mut self.0 {
            after -= 1;
            if (op.code, op.k) == (RETURN, verdict) {
                // A program that the kernel takes has fewer than 2^32 instructions by far.
                let distance = u32::try_from(after).unwrap_or(u32::MAX);
                *op = Instruction { code: JUMP, jt: 0, jf: 0, k: distance };
            }
        }
        self.0.extend(next.0);
        self
    }
}

/// `BPF_RET | BPF_K` of `linux/bpf_common.h`.
const RETURN: u16 = 0x06;
/// `BPF_JMP | BPF_JA`.
const JUMP: u16 = 0x05;

#[cfg(test)]
mod tests {
    use super::*;

    fn ret(k: u32) -> Instruction {
        Instruction { code: RETURN, jt: 0, jf: 0, k }
    }

    #[test]
    fn bytes_and_back() {
        let test = Instruction { code: 0x15, jt: 1, jf: 2, k: 0x0102_0304 };
        let program = Program(vec![test, ret(7)]);
        let bytes = program.to_bytes();
        assert_eq!(bytes.len(), 16);
        assert_eq!(Program::from_bytes(&bytes), program);
    }

    #[test]
    fn only_allow_goes_on() {
        let allow = libc::SECCOMP_RET_ALLOW;
        let first = Program(vec![ret(allow), ret(5), ret(allow)]);
        let jump = |k| Instruction { code: JUMP, jt: 0, jf: 0, k };
        assert_eq!(
            first.then(Program(vec![ret(allow)])),
            Program(vec![jump(2), ret(5), jump(0), ret(allow)])
        );
    }
}
