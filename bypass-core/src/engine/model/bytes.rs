//! Decisions of a run, taken from bytes.

/// Gives zeros at its end, so that every run of bytes can be cut anywhere.
pub(super) struct Bytes<'a> {
    rest: std::slice::Iter<'a, u8>,
}

impl<'a> Bytes<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes.iter() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.as_slice().is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.rest.next().copied().unwrap_or(0)
    }

    pub(super) fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    pub(super) fn take(&mut self, count: usize) -> Vec<u8> {
        self.rest.by_ref().take(count).copied().collect()
    }

    pub(super) fn pick<T: Copy, const N: usize>(&mut self, of: &[T; N]) -> T {
        of[usize::from(self.byte()) % N]
    }

    pub(super) fn pick_of<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        let index = usize::from(self.byte()).checked_rem(of.len())?;
        of.get(index).copied()
    }
}
