//! Where a JSON object ends in a stream.

/// Finds the end of the first JSON value of a byte stream, looking at each byte once.
///
/// It counts braces and brackets outside strings and checks nothing else: judging is the parser's
/// part. A value that is no object is reported as ended at its first byte, so that
/// the parser gets to refuse it without waiting for more.
#[derive(Debug)]
pub(super) struct ObjectEnd {
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl ObjectEnd {
    pub(super) const fn new() -> Self {
        Self { depth: 0, in_string: false, escaped: false }
    }

    /// Goes on with the next bytes. `Some(n)`: the value ends after the first `n` of them.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        bytes.iter().position(|&byte| self.ends_with(byte)).map(|index| index + 1)
    }

    const fn ends_with(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {}
            _ if self.depth == 0 && byte != b'{' => return true,
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            b'"' => self.in_string = true,
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        for (text, end) in [
            (r#"{}"#, Some(2)),
            (r#"  {"a":[1,{"b":2}]} tail"#, Some(19)),
            (r#"{"a":"}"}x"#, Some(9)),
            (r#"{"a":"\"}"}"#, Some(11)),
            (r#"{"a":"\\"}"#, Some(10)),
            (r#"{"a":"#, None),
            ("", None),
            ("\n ", None),
            ("garbage", Some(1)),
            ("}", Some(1)),
            ("[]", Some(1)),
            ("\"{}\"", Some(1)),
        ] {
            assert_eq!(ObjectEnd::new().find(text.as_bytes()), end, "{text:?}");
        }
    }

    #[test]
    fn split_anywhere() {
        let text = br#"{"a":"\"}{","b":[{}]}"#;
        for split in 0..text.len() {
            let mut end = ObjectEnd::new();
            let (head, tail) = text.split_at(split);
            assert_eq!(end.find(head), None, "{split}");
            assert_eq!(end.find(tail), Some(tail.len()), "{split}");
        }
    }
}
