//! The end of what a guest printed: bounded, and countable, so that someone may read along.

use std::collections::VecDeque;

/// The last bytes of some output.
#[derive(Debug)]
pub struct Tail {
    limit: usize,
    kept: VecDeque<u8>,
    /// Bytes of output so far, kept or not.
    printed: u64,
}

impl Tail {
    /// Nothing yet; at most `limit` bytes will be kept.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: VecDeque::new(),
            printed: 0,
        }
    }

    /// Adds output.
    pub fn push(&mut self, output: &[u8]) {
        self.printed = self.printed.wrapping_add(output.len() as u64);
        let output = &output[output.len().saturating_sub(self.limit)..];
        let excess = (self.kept.len() + output.len()).saturating_sub(self.limit);
        self.kept.drain(..excess);
        self.kept.extend(output);
    }

    /// What is kept; what is not UTF-8 is shown as replacement characters.
    #[must_use]
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.kept.make_contiguous()).into_owned()
    }

    /// What was printed since `seen` bytes had been, as far as it is kept, and the bytes printed in
    /// all: the next call's `seen`.
    #[must_use]
    pub fn since(&mut self, seen: u64) -> (Vec<u8>, u64) {
        let new = usize::try_from(self.printed.wrapping_sub(seen)).unwrap_or(usize::MAX);
        let kept = self.kept.make_contiguous();
        let new = &kept[kept.len().saturating_sub(new)..];
        (new.to_vec(), self.printed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept() {
        let mut tail = Tail::new(8);
        for (output, text) in [("abc", "abc"), ("defghij", "cdefghij"), ("", "cdefghij")] {
            tail.push(output.as_bytes());
            assert_eq!(tail.text(), text);
        }
        tail.push(b"0123456789");
        assert_eq!(tail.text(), "23456789");
        let mut none = Tail::new(0);
        none.push(b"abc");
        assert_eq!((none.text().as_str(), none.since(0)), ("", (Vec::new(), 3)));
    }

    #[test]
    fn a_reader_gets_each_byte_once_and_what_is_gone_never() {
        let mut tail = Tail::new(4);
        assert_eq!(tail.since(0), (Vec::new(), 0));
        tail.push(b"ab");
        assert_eq!(tail.since(0), (b"ab".to_vec(), 2));
        assert_eq!(tail.since(2), (Vec::new(), 2));
        tail.push(b"cdefgh");
        assert_eq!(tail.since(2), (b"efgh".to_vec(), 8));
        assert_eq!(tail.since(7), (b"h".to_vec(), 8));
    }
}
