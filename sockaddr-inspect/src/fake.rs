//! An address space for tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::memory::{ForeignAddr, ReadError, ReadMemory, WriteError, WriteMemory};

/// A made-up address space, for the tests of this crate and of its users.
///
/// Every byte that was not [mapped](Self::map) is unmapped, at byte granularity,
/// so a test can end its memory exactly where it wants the read to fail.
///
/// ```
/// use sockaddr_inspect::{FakeMemory, ForeignAddr, ReadMemory};
///
/// let at = ForeignAddr::new(0x1000);
/// let memory = FakeMemory::new().map(at, b"abc");
/// let mut buf = [0; 8];
/// assert_eq!(memory.read(at, &mut buf).unwrap(), 3);
/// ```
#[derive(Debug, Default)]
pub struct FakeMemory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes: BTreeMap<u64, u8>,
    reach: Reach,
}

#[derive(Clone, Copy, Debug, Default)]
enum Reach {
    #[default]
    Open,
    Denied,
    Gone,
}

impl FakeMemory {
    /// An address space with nothing mapped: every access is a fault.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Maps `bytes` at `at`, readable and writable, over what was there.
    /// Bytes that would lie past the end of the address space are left out.
    #[must_use]
    pub fn map(self, at: ForeignAddr, bytes: &[u8]) -> Self {
        self.with_state(|state| {
            for (address, byte) in addresses(at).zip(bytes) {
                state.bytes.insert(address, *byte);
            }
        });
        self
    }

    /// From now on the process has ended: every access is `Gone`.
    pub fn set_gone(&self) {
        self.with_state(|state| state.reach = Reach::Gone);
    }

    /// From now on the process may not be inspected: every access is `Denied`.
    pub fn set_denied(&self) {
        self.with_state(|state| state.reach = Reach::Denied);
    }

    fn with_state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // A test that panicked elsewhere left plain bytes behind, never half a state.
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ReadMemory for FakeMemory {
    fn read(&self, at: ForeignAddr, buf: &mut [u8]) -> Result<usize, ReadError> {
        self.with_state(|state| {
            match state.reach {
                Reach::Open => {}
                Reach::Denied => return Err(ReadError::Denied),
                Reach::Gone => return Err(ReadError::Gone),
            }
            let mut read = 0;
            for (address, slot) in addresses(at).zip(buf.iter_mut()) {
                let Some(byte) = state.bytes.get(&address) else { break };
                *slot = *byte;
                read += 1;
            }
            if read == 0 && !buf.is_empty() { Err(ReadError::Fault) } else { Ok(read) }
        })
    }
}

impl WriteMemory for FakeMemory {
    fn write(&self, at: ForeignAddr, bytes: &[u8]) -> Result<usize, WriteError> {
        self.with_state(|state| {
            match state.reach {
                Reach::Open => {}
                Reach::Denied => return Err(WriteError::Denied),
                Reach::Gone => return Err(WriteError::Gone),
            }
            let mut written = 0;
            for (address, byte) in addresses(at).zip(bytes) {
                let Some(slot) = state.bytes.get_mut(&address) else { break };
                *slot = *byte;
                written += 1;
            }
            if written == 0 && !bytes.is_empty() { Err(WriteError::Fault) } else { Ok(written) }
        })
    }
}

/// Every address from `at` to the end of the address space.
fn addresses(at: ForeignAddr) -> impl Iterator<Item = u64> {
    at.raw()..=u64::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_across_adjacent_maps_and_stops_at_a_gap() {
        let memory = FakeMemory::new()
            .map(ForeignAddr::new(10), b"ab")
            .map(ForeignAddr::new(12), b"cd")
            .map(ForeignAddr::new(20), b"zz");
        let mut buf = [0; 16];
        assert_eq!(memory.read(ForeignAddr::new(10), &mut buf).unwrap(), 4);
        assert_eq!(&buf[..4], b"abcd");
        assert!(matches!(memory.read(ForeignAddr::new(14), &mut buf), Err(ReadError::Fault)));
        assert_eq!(memory.read(ForeignAddr::new(14), &mut []).unwrap(), 0);
    }

    #[test]
    fn writes_only_what_is_mapped() {
        let memory = FakeMemory::new().map(ForeignAddr::new(10), b"abc");
        assert_eq!(memory.write(ForeignAddr::new(11), b"XYZ").unwrap(), 2);
        let mut buf = [0; 3];
        memory.read(ForeignAddr::new(10), &mut buf).unwrap();
        assert_eq!(&buf, b"aXY");
        assert!(matches!(memory.write(ForeignAddr::new(9), b"X"), Err(WriteError::Fault)));
    }

    #[test]
    fn ends_at_the_end_of_the_address_space() {
        let top = ForeignAddr::new(u64::MAX);
        let memory = FakeMemory::new().map(top, b"ab");
        assert_eq!(memory.read(top, &mut [0; 4]).unwrap(), 1);
    }

    #[test]
    fn out_of_reach_hides_what_is_mapped() {
        let at = ForeignAddr::new(10);
        let memory = FakeMemory::new().map(at, b"a");
        memory.set_denied();
        assert!(matches!(memory.read(at, &mut [0]), Err(ReadError::Denied)));
        assert!(matches!(memory.write(at, b"b"), Err(WriteError::Denied)));
        memory.set_gone();
        assert!(matches!(memory.read(at, &mut [0]), Err(ReadError::Gone)));
        assert!(matches!(memory.write(at, b"b"), Err(WriteError::Gone)));
    }
}
