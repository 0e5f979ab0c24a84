//! The scanner, as the policy uses it: a pass at once, and what came of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mirrorball_dedup::ScannerStats;
use mirrorball_monitor::Machine;
use parking_lot::Mutex;

use crate::run::scanning::Scanning;

/// A pass that was asked for.
#[derive(Debug)]
struct Asked {
    number: u64,
    began: Instant,
    before: ScannerStats,
    frames: u64,
}

/// A pass that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Pages that it freed.
    pub freed: u64,
    /// How long it took.
    pub time: Duration,
}

/// The scanner of a run, if it has one of ours.
#[derive(Debug)]
pub struct Sharing {
    scanning: Arc<Mutex<Scanning>>,
    asked: Option<Asked>,
}

impl Sharing {
    pub const fn new(scanning: Arc<Mutex<Scanning>>) -> Self {
        let asked = None;
        Self { scanning, asked }
    }

    /// Asks for a pass; false where nothing shares.
    pub fn ask(&mut self, machine: &Machine) -> bool {
        let asked = self.scanning.lock().hurry();
        self.asked = asked.map(|(number, before)| Asked {
            number,
            began: Instant::now(),
            before,
            frames: machine.pmap().frames().counts().frames,
        });
        self.asked.is_some()
    }

    /// Whether a pass was asked for that has not ended.
    pub const fn is_under_way(&self) -> bool {
        self.asked.is_some()
    }

    /// The pass that was asked for, once it has ended.
    pub fn ended(&mut self, machine: &Machine) -> Option<Ended> {
        let asked = self.asked.as_ref()?;
        let reading = self.scanning.lock().hurried();
        let (freed, time) = match reading {
            Some((number, _)) if number < asked.number => return None,
            Some((_, stats)) => {
                let shared = stats.shared - asked.before.shared;
                let zero = stats.zero_released - asked.before.zero_released;
                let frames = machine.pmap().frames().counts().frames;
                let made = frames.saturating_sub(asked.frames);
                ((shared + zero).saturating_sub(made), asked.began.elapsed())
            }
            // It has gone with its run.
            None => (0, asked.began.elapsed()),
        };
        self.asked = None;
        Some(Ended { freed, time })
    }
}
