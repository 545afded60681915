//! A byte string of bounded length that lives where it is stored.

/// Up to `N` bytes (`N` at most 255), without heap.
///
/// Bytes past the length are zero, so the derived comparisons and hash speak of
/// the contents alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct InlineBytes<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> InlineBytes<N> {
    /// No bytes.
    pub(crate) const EMPTY: Self = Self { bytes: [0; N], len: 0 };

    /// `len` zero bytes, or `None` when they do not fit.
    pub(crate) fn zeroed(len: usize) -> Option<Self> {
        if len > N {
            return None;
        }
        Some(Self { bytes: [0; N], len: u8::try_from(len).ok()? })
    }

    /// A copy of `bytes`, or `None` when they do not fit.
    pub(crate) fn copied_from(bytes: &[u8]) -> Option<Self> {
        let mut copy = Self::zeroed(bytes.len())?;
        copy.as_mut_bytes().copy_from_slice(bytes);
        Some(copy)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    pub(crate) fn as_mut_bytes(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..usize::from(self.len)).unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_up_to_its_capacity() {
        assert_eq!(InlineBytes::<4>::copied_from(b"").unwrap().as_bytes(), b"");
        assert_eq!(InlineBytes::<4>::copied_from(b"abcd").unwrap().as_bytes(), b"abcd");
        assert!(InlineBytes::<4>::copied_from(b"abcde").is_none());
        assert!(InlineBytes::<4>::zeroed(usize::MAX).is_none());
    }

    #[test]
    fn compares_contents_and_length() {
        let one = InlineBytes::<4>::copied_from(&[0]).unwrap();
        let two = InlineBytes::<4>::copied_from(&[0, 0]).unwrap();
        assert!(one != two);
        assert!(two == InlineBytes::zeroed(2).unwrap());
    }
}
