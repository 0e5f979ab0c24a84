//! Output as lines, for a device that is a control channel: bounded whatever the guest prints.

use std::collections::VecDeque;

/// Longest line that is kept, bytes; what follows up to the line's end is dropped.
pub const MAX_LINE: usize = 4096;
/// Bytes of lines that wait to be taken, at most; each line counts as some bytes more than it has,
/// so that empty ones are not free.
pub const MAX_WAITING: usize = 1 << 20;
const LINE_COST: usize = 32;

/// Whole lines that nobody has taken yet, and the beginning of the next.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    waiting: VecDeque<String>,
    cost: usize,
    begun: Vec<u8>,
    damaged: u64,
}

impl Lines {
    /// Adds output.
    pub(crate) fn push(&mut self, output: &[u8]) {
        let mut pieces = output.split(|&byte| byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            // One byte more than is kept tells that the line was longer.
            let room = (MAX_LINE + 1).saturating_sub(self.begun.len());
            self.begun.extend(piece.iter().take(room));
            if pieces.peek().is_some() {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let mut line = std::mem::take(&mut self.begun);
        if line.len() > MAX_LINE {
            line.truncate(MAX_LINE);
            self.damaged += 1;
        }
        // A terminal in its usual mode ends lines with both.
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        let cost = line.len() + LINE_COST;
        if self.cost + cost > MAX_WAITING {
            self.damaged += 1;
            return;
        }
        self.cost += cost;
        self.waiting
            .push_back(String::from_utf8_lossy(&line).into_owned());
    }

    /// The whole lines so far, in order; they are not given again.
    pub(crate) fn take(&mut self) -> Vec<String> {
        self.cost = 0;
        std::mem::take(&mut self.waiting).into()
    }

    /// Whether so many bytes more find room whatever they are, be it empty lines only.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let cost = self.cost + self.begun.len() + bytes.saturating_mul(1 + LINE_COST);
        cost <= MAX_WAITING
    }

    /// Forgets the beginning of a line whose end will not come.
    pub(crate) fn forget_begun(&mut self) {
        self.begun.clear();
    }

    /// Lines that were cut or not kept.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_output_is_cut() {
        let mut lines = Lines::default();
        for piece in ["mb re", "ady 1.5\r\nmb", " begin 0\n", "", "\n", "mb"] {
            lines.push(piece.as_bytes());
        }
        assert_eq!(lines.take(), ["mb ready 1.5", "mb begin 0", ""]);
        assert_eq!(lines.take(), [""; 0]);
        lines.push(b" end\xff\n");
        assert_eq!(lines.take(), ["mb end\u{fffd}"]);
        assert_eq!(lines.damaged(), 0);
    }

    #[test]
    fn endless_lines_are_cut() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            lines.push(&[b'a'; 1000]);
        }
        assert!(lines.begun.len() <= MAX_LINE + 1);
        lines.push(b"\nnext\n");
        lines.push(&[b'b'; MAX_LINE]);
        lines.push(b"\n");
        let taken = lines.take();
        let lens: Vec<_> = taken.iter().map(String::len).collect();
        assert_eq!(lens, [MAX_LINE, 4, MAX_LINE]);
        assert_eq!(lines.damaged(), 1);
    }

    #[test]
    fn endless_output_is_bounded_and_the_beginning_is_kept() {
        let mut lines = Lines::default();
        lines.push(b"first\n");
        for _ in 0..1000 {
            lines.push(&[b'\n'; 1000]);
        }
        let kept = lines.take();
        assert_eq!(kept[0], "first");
        assert!(kept.len() <= MAX_WAITING / LINE_COST, "{}", kept.len());
        assert_eq!(lines.damaged() + kept.len() as u64, 1_000_001);
        lines.push(b"again\n");
        assert_eq!(lines.take(), ["again"]);
    }

    #[test]
    fn what_has_room_is_not_lost_however_costly_it_is() {
        let mut lines = Lines::default();
        lines.push(&[b'a'; MAX_LINE]);
        let mut pushed = 0;
        while lines.has_room(1000) {
            lines.push(&[b'\n'; 1000]);
            pushed += 1000;
        }
        assert!(pushed > MAX_WAITING / LINE_COST / 2);
        assert_eq!((lines.take().len(), lines.damaged()), (pushed, 0));
        lines.push(b"begun");
        lines.forget_begun();
        lines.push(b"whole\n");
        assert_eq!(lines.take(), ["whole"]);
    }
}
