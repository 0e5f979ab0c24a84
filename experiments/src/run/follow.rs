//! Shows a guest's console on standard error while it runs, a line at a time.
//!
//! What a guest prints may be anything: control characters, which could do something to a terminal,
//! are not passed on, and long lines are broken.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mirrorball_monitor::Vm;

use super::progress::Progress;

/// How often there is a look at the console.
const PERIOD: Duration = Duration::from_millis(100);
/// Bytes after which a line without an end is shown.
const LONGEST: usize = 1024;

/// Follows one console until it is dropped.
#[derive(Debug)]
pub struct Follower {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Shows what the VM prints from its start on.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(vm: &Arc<Vm>, progress: Arc<Progress>) -> io::Result<Self> {
        // The VM must be able to go while its console is followed.
        let (name, vm) = (vm.name().to_owned(), Arc::downgrade(vm));
        let (stop, stopped) = channel();
        let thread = thread::Builder::new().name(format!("console {name}"));
        let thread = thread.spawn(move || {
            let mut seen = 0;
            let mut lines = Lines::default();
            loop {
                let last = stopped.recv_timeout(PERIOD) != Err(RecvTimeoutError::Timeout);
                lines.push(&read(&vm, &mut seen));
                if last {
                    lines.end();
                }
                for line in lines.whole.drain(..) {
                    progress.say(&format!("{name}| {line}"));
                }
                if last {
                    break;
                }
            }
        })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A follower that panicked has nothing more to show.
            let _ = thread.join();
        }
    }
}

fn read(vm: &Weak<Vm>, seen: &mut u64) -> Vec<u8> {
    let Some(vm) = vm.upgrade() else {
        return Vec::new();
    };
    let (bytes, now) = vm.console_since(*seen);
    *seen = now;
    bytes
}

/// Output as lines for a terminal.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
    whole: Vec<String>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                _ => self.begun.push(byte),
            }
            if self.begun.len() == LONGEST {
                self.end_line();
            }
        }
    }

    /// There is no more; the last line may lack its end.
    fn end(&mut self) {
        if !self.begun.is_empty() {
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.begun);
        let text = String::from_utf8_lossy(&line);
        let shown = text.trim_end_matches('\r').chars();
        let shown = shown.map(|c| if c == '\t' { ' ' } else { c });
        self.whole.push(
            shown
                .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                .collect(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_whole_and_do_nothing_to_a_terminal() {
        let mut lines = Lines::default();
        lines.push(b"Linux ver");
        assert!(lines.whole.is_empty());
        lines.push(b"sion\r\n\x1b[2Jx\ty\n\nlast");
        assert_eq!(lines.whole, ["Linux version", "\u{fffd}[2Jx y", ""]);
        lines.end();
        assert_eq!(lines.whole.pop().as_deref(), Some("last"));
        lines.end();
        assert_eq!(lines.whole.len(), 3);
    }

    #[test]
    fn a_line_without_end_is_broken() {
        let mut lines = Lines::default();
        lines.push(&[b'x'; LONGEST * 2 + 1]);
        assert_eq!(lines.whole.len(), 2);
        assert_eq!(lines.begun.len(), 1);
    }
}
