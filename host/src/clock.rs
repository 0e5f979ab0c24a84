//! Whether the time of a machine goes on that counts instructions.
//!
//! A guest that QEMU gave an interrupt twice may wait for itself for ever in a loop of `PAUSE`: each takes
//! QEMU microseconds and counts 8 ns, so that no time limit inside is ever reached.

/// The machine is given up after so many beats, of 250 ms at least, without a second of its own time. It is
/// usually a sixth as fast as this machine's, and less beside other work.
const PATIENCE: u32 = 480;

/// The machine's clock, as it tells it now and then.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// The last that it told.
    seconds: u64,
    /// How often it was woken since.
    beats: u32,
}

impl Clock {
    /// It says that it has been up so long.
    pub(crate) fn tells(&mut self, seconds: u64) {
        if seconds > self.seconds {
            *self = Self { seconds, beats: 0 };
        }
    }

    /// The machine is woken; whether it stands still. Beats are counted, not this machine's time: a
    /// process that was stopped itself has not waited for anything.
    pub(crate) fn beat(&mut self) -> bool {
        self.beats = self.beats.saturating_add(1);
        self.beats > PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_slow_goes_on_and_one_that_repeats_itself_stands_still() {
        let mut clock = Clock::default();
        for second in 1..10 {
            for _ in 0..PATIENCE {
                assert!(!clock.beat());
            }
            clock.tells(second);
        }
        for _ in 0..PATIENCE {
            clock.tells(9);
            assert!(!clock.beat());
        }
        assert!(clock.beat());
    }
}
