//! Ctrl-C and SIGTERM, kept until someone asks.
//!
//! The command on the emulated host must hear of the first one; by default it would end this
//! process. So these are taken over before anything is started.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

/// Signals that asked for an end and were not taken yet.
#[derive(Clone, Debug)]
pub struct Interrupts([(i32, Arc<AtomicBool>); 2]);

impl Interrupts {
    /// From now on SIGINT and SIGTERM are kept here and do nothing else.
    ///
    /// # Errors
    /// The system allows no handlers.
    pub fn install() -> io::Result<Self> {
        let interrupts = Self::none();
        for (signal, flag) in &interrupts.0 {
            signal_hook::flag::register(*signal, flag.clone())?;
        }
        Ok(interrupts)
    }

    /// No signal's; for callers that leave signals as they are.
    #[must_use]
    pub fn none() -> Self {
        Self([SIGINT, SIGTERM].map(|signal| (signal, Arc::default())))
    }

    /// A signal that came since it was last taken.
    #[must_use]
    pub fn take(&self) -> Option<i32> {
        let came = self
            .0
            .iter()
            .find(|(_, flag)| flag.swap(false, Ordering::Relaxed));
        came.map(|(signal, _)| *signal)
    }

    /// As the signal of this number would.
    pub fn raise(&self, signal: i32) {
        for (_, flag) in self.0.iter().filter(|(known, _)| *known == signal) {
            flag.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_taken_once() {
        let interrupts = Interrupts::none();
        assert_eq!(interrupts.take(), None);
        interrupts.clone().raise(SIGTERM);
        assert_eq!(interrupts.take(), Some(SIGTERM));
        assert_eq!(interrupts.take(), None);
    }
}
