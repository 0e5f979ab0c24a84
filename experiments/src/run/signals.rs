//! Ctrl-C and SIGTERM: the first ends the experiment in good order, the second at once.
//!
//! Handlers may do next to nothing, so they write a byte into a pipe and a thread does the rest.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};

use super::scanning::Scanning;
use crate::exit;

/// How long an end at once may wait for the scanner's lock.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether, and by what, the experiment was asked to end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Exit code of the signal that asked; 0 before.
    code: AtomicU8,
    /// The scanner of the run under way: KSM must be given back even by an end at once.
    scanning: Mutex<Option<Arc<Mutex<Scanning>>>>,
}

impl Stop {
    /// The exit code of the signal that asked, if one did.
    #[must_use]
    pub fn requested(&self) -> Option<u8> {
        match self.0.code.load(Ordering::Relaxed) {
            0 => None,
            code => Some(code),
        }
    }

    /// Asks for the end, as a signal would.
    pub fn request(&self, code: u8) {
        self.0.code.store(code, Ordering::Relaxed);
    }

    /// The scanner that an end at once has to take down.
    pub fn protect(&self, scanning: Arc<Mutex<Scanning>>) {
        *self.0.scanning.lock() = Some(scanning);
    }

    /// A stop that SIGINT and SIGTERM ask for.
    ///
    /// # Errors
    /// The handlers can't be installed.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        // By default it kills. The write that went beyond the limit fails too, and is told.
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        for (signal, code) in [(SIGINT, exit::INTERRUPTED), (SIGTERM, exit::TERMINATED)] {
            let (receiver, sender) = UnixStream::pair()?;
            signal_hook::low_level::pipe::register(signal, sender)?;
            let stop = stop.clone();
            std::thread::Builder::new()
                .name("signals".to_owned())
                .spawn(move || stop.listen(receiver, code))?;
        }
        Ok(stop)
    }

    fn listen(&self, mut receiver: UnixStream, code: u8) {
        let mut byte = [0];
        while matches!(receiver.read(&mut byte), Ok(1)) {
            if self.requested().is_some() {
                // At once means without waiting for guests, not without giving the host back.
                if let Some(scanning) = self.0.scanning.lock().take()
                    && let Some(mut scanning) = scanning.try_lock_for(PATIENCE)
                {
                    *scanning = Scanning::None;
                }
                std::process::exit(code.into());
            }
            self.request(code);
            eprintln!("\nmirrorball: ending after the guests have stopped; once more ends at once");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_requested_until_it_is() {
        let stop = Stop::default();
        assert_eq!(stop.requested(), None);
        stop.clone().request(exit::TERMINATED);
        assert_eq!(stop.requested(), Some(143));
    }
}
