//! Files of text below `/proc`, read with a buffer of a size that nobody else decides.
//!
//! Another process can make such a file as long as it likes: the list of what an epoll watches has
//! a line for each, that of a thread's groups up to 65,536 of them.

use std::io::{self, Read};

/// Passes one line after the other to `find`, without its line feed, until that returns something.
///
/// Of a line of more than 4,096 bytes only the start is passed.
///
/// # Errors
/// What read(2) said.
pub fn find_line<T>(
    mut file: impl Read,
    mut find: impl FnMut(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    let mut buffer = [0; LONGEST];
    // How much of the buffer is the start of a line, and whether that has been passed already.
    let (mut filled, mut passed) = (0, false);
    loop {
        let free = buffer.get_mut(filled..).unwrap_or_default();
        let read = match file.read(free) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if read == 0 {
            let last = buffer.get(..filled).filter(|line| !passed && !line.is_empty());
            return Ok(last.and_then(find));
        }
        filled = filled.saturating_add(read).min(LONGEST);
        let mut rest = buffer.get(..filled).unwrap_or_default();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            if !passed && let Some(found) = find(line) {
                return Ok(Some(found));
            }
            passed = false;
            rest = after.get(1..).unwrap_or_default();
        }
        if rest.len() == LONGEST {
            if !passed && let Some(found) = find(rest) {
                return Ok(Some(found));
            }
            (filled, passed) = (0, true);
        } else if passed {
            filled = 0;
        } else {
            let from = filled.saturating_sub(rest.len());
            buffer.copy_within(from..filled, 0);
            filled = filled.saturating_sub(from);
        }
    }
}

/// Lines of the files that are read are shorter, but for those with lists.
const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives out so many bytes at a time.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.1.min(self.0.len()).min(buffer.len());
            let (now, later) = self.0.split_at(len);
            buffer[..len].copy_from_slice(now);
            self.0 = later;
            Ok(len)
        }
    }

    fn all(text: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let found = find_line(Pieces(text, piece), |line| {
            lines.push(line.to_vec());
            None::<()>
        });
        assert_eq!(found.unwrap(), None);
        lines
    }

    #[test]
    fn the_search_ends_with_what_it_found() {
        let mut seen = 0;
        let found = find_line(&b"a\nbc\nd"[..], |line| {
            seen += 1;
            line.get(1).copied()
        });
        assert_eq!((found.unwrap(), seen), (Some(b'c'), 2));
    }

    #[test]
    fn of_a_long_line_the_start_is_passed_once() {
        for len in [LONGEST - 1, LONGEST, LONGEST + 1, 3 * LONGEST, 700_000] {
            let text = [&b"first\n"[..], &vec![b'x'; len], b"\nlast"].concat();
            for piece in [1_000, LONGEST, usize::MAX] {
                let lines = all(&text, piece);
                assert_eq!(lines.len(), 3, "{len} {piece}");
                assert_eq!(lines[1], vec![b'x'; len.min(LONGEST)], "{len} {piece}");
                assert_eq!(lines[2], b"last");
            }
        }
    }

    proptest! {
        #[test]
        fn lines_are_those_of_the_text_however_it_comes(
            text in prop::collection::vec(prop::sample::select(b"ab\n".to_vec()), 0..200),
            piece in 1_usize..20,
        ) {
            let mut expected: Vec<_> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(all(&text, piece), expected);
        }
    }
}
