//! What the command prints, from the machine's ports to this process's streams.
//!
//! A port has no end of its own: the machine may be gone before the last bytes were read. So the
//! init sends a mark after the command's last byte, and whoever sees it has seen everything.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// Where one of the command's streams goes.
pub struct Stream {
    sink: Box<dyn Write + Send>,
    terminal: Option<Size>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("terminal", &self.terminal)
            .finish_non_exhaustive()
    }
}

impl Stream {
    /// Bytes into anything.
    #[must_use]
    pub fn to(sink: impl Write + Send + 'static) -> Self {
        Self {
            sink: Box::new(sink),
            terminal: None,
        }
    }

    /// One of this process's own streams; the command sees a terminal if it is one.
    fn own(sink: impl Write + AsFd + Send + 'static) -> Self {
        // What is no terminal has no size.
        let size = rustix::termios::tcgetwinsize(&sink).ok();
        let terminal = size.map(|size| Size {
            columns: if size.ws_col == 0 { 80 } else { size.ws_col },
            rows: if size.ws_row == 0 { 24 } else { size.ws_row },
        });
        Self {
            sink: Box::new(sink),
            terminal,
        }
    }
}

/// Where the command's output goes.
#[derive(Debug)]
pub struct Streams {
    /// Its standard output.
    pub stdout: Stream,
    /// Its standard error.
    pub stderr: Stream,
}

/// Which streams are terminals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terminals {
    pub(crate) stdout: Option<Size>,
    pub(crate) stderr: Option<Size>,
}

impl Streams {
    /// This process's own.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            stdout: Stream::own(io::stdout()),
            stderr: Stream::own(io::stderr()),
        }
    }

    pub(crate) fn terminals(&self) -> Terminals {
        Terminals {
            stdout: self.stdout.terminal,
            stderr: self.stderr.terminal,
        }
    }
}

/// Passes bytes on as they come, up to `mark`; whether the mark came.
pub(crate) fn relay(mut from: impl Read, to: Stream, mark: &[u8]) -> bool {
    let mut sink = Some(to.sink);
    let mut held = Vec::new();
    let mut chunk = [0; 16 << 10];
    loop {
        let read = match from.read(&mut chunk) {
            Ok(0) => 0,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        held.extend_from_slice(&chunk[..read]);
        let end = held.windows(mark.len()).position(|window| window == mark);
        let ready = match end {
            Some(at) => at,
            None if read == 0 => held.len(),
            None => held.len() - begun(&held, mark),
        };
        // A reader that has gone away (`| head`) does not keep the command from its end.
        if sink
            .as_mut()
            .is_some_and(|sink| pass(sink, &held[..ready]).is_err())
        {
            sink = None;
        }
        held.drain(..ready);
        if end.is_some() || read == 0 {
            return end.is_some();
        }
    }
}

fn pass(sink: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    sink.write_all(bytes)?;
    sink.flush()
}

/// How many bytes at the end may be the beginning of the mark.
fn begun(bytes: &[u8], mark: &[u8]) -> usize {
    let most = bytes.len().min(mark.len() - 1);
    let longest = (1..=most)
        .rev()
        .find(|&count| bytes.ends_with(&mark[..count]));
    longest.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A source that gives these pieces one by one.
    struct Pieces<'a>(Vec<&'a [u8]>);

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            into[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    fn relayed(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let out = Shared::default();
        let whole = relay(Pieces(pieces.to_vec()), Stream::to(out.clone()), b"\x04END");
        let bytes = out.0.lock().unwrap().clone();
        (bytes, whole)
    }

    #[test]
    fn bytes_are_exact_and_the_mark_is_not_among_them_however_it_is_cut() {
        let text = b"\x00\r\n\xff\x04EN\x04\x04END";
        for cut in 0..text.len() {
            let (first, second) = text.split_at(cut);
            let pieces = [first, second]
                .into_iter()
                .filter(|piece| !piece.is_empty());
            let (bytes, whole) = relayed(&pieces.collect::<Vec<_>>());
            assert_eq!(
                (&bytes[..], whole),
                (&text[..text.len() - 4], true),
                "{cut}"
            );
        }
    }

    #[test]
    fn an_end_without_the_mark_is_told_and_loses_nothing() {
        assert_eq!(relayed(&[b"half\x04E"]), (b"half\x04E".to_vec(), false));
        assert_eq!(relayed(&[]), (vec![], false));
    }

    #[test]
    fn only_what_may_be_the_mark_waits() {
        assert_eq!(begun(b"a line\n", b"\x04END"), 0);
        assert_eq!(begun(b"a\x04EN", b"\x04END"), 3);
        assert_eq!(begun(b"", b"\x04END"), 0);
    }

    #[test]
    fn a_reader_that_went_away_does_not_stop_the_command() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let pieces = Pieces(vec![b"one", b"two", b"\x04END"]);
        assert!(relay(pieces, Stream::to(Gone), b"\x04END"));
    }
}
