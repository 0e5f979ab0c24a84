//! What the user allows an experiment to take, against what it is known to take.
//!
//! `machine.memory` of the file is the budget of the guests: a run that uses more fails. This is the
//! user's own, told on the command line, and it is held to before the first run.

use crate::spec::{Size, Time};

/// The most that an experiment may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Until the last run has ended.
    pub time: Option<Time>,
    /// Machine memory of the guests of one run.
    pub memory: Option<Size>,
}

/// What an experiment is known to take, each with where that is known from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Needs {
    /// Seconds.
    pub(super) seconds: (f64, &'static str),
    /// Machine memory of the largest run, bytes.
    pub(super) memory: (u64, &'static str),
    /// The same of earlier runs, if there are any.
    pub(super) earlier: Option<u64>,
    /// What the file allows its guests, bytes.
    pub(super) allowed: u64,
}

impl Budget {
    /// Whether the user set one.
    #[must_use]
    pub const fn is_given(&self) -> bool {
        self.time.is_some() || self.memory.is_some()
    }

    /// Everything of which it is more than there may be, in words.
    pub(super) fn exceeded(&self, needs: &Needs) -> Vec<String> {
        let mut over = Vec::new();
        let (seconds, known) = needs.seconds;
        if let Some(time) = self.time.filter(|time| time.0.as_secs_f64() < seconds) {
            let most = time.0.as_secs_f64();
            over.push(format!(
                "it takes {seconds:.0} s {known}, and may take {most:.0} s"
            ));
        }
        let (memory, known) = needs.memory;
        if let Some(most) = self.memory.filter(|most| most.0 < memory) {
            let (memory, most) = (mib(memory), mib(most.0));
            over.push(format!("guests use {memory} {known}, and may use {most}"));
        }
        if let Some(earlier) = needs.earlier.filter(|earlier| *earlier > needs.allowed) {
            let (earlier, allowed) = (mib(earlier), mib(needs.allowed));
            over.push(format!(
                "guests of earlier runs used {earlier}; `machine.memory` allows {allowed}, and a run \
                 that uses more fails"
            ));
        }
        over
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NEEDS: Needs = Needs {
        seconds: (90.0, "by 3 earlier runs"),
        memory: (600 << 20, "by earlier runs"),
        earlier: Some(600 << 20),
        allowed: 1 << 30,
    };

    fn budget(seconds: u64, mib: u64) -> Budget {
        Budget {
            time: Some(Time(Duration::from_secs(seconds))),
            memory: Some(Size(mib << 20)),
        }
    }

    #[test]
    fn what_is_too_much_is_named_with_both_numbers() {
        assert!(Budget::default().exceeded(&NEEDS).is_empty());
        assert!(
            budget(90, 600).exceeded(&NEEDS).is_empty(),
            "all of it may be used"
        );
        let over = budget(60, 512).exceeded(&NEEDS);
        assert_eq!(over.len(), 2, "{over:?}");
        assert!(over[0].contains("90 s") && over[0].contains("60 s"));
        assert!(over[1].contains("600 MiB") && over[1].contains("512 MiB"));
    }

    #[test]
    fn a_file_whose_runs_will_fail_is_over_its_own_budget() {
        let needs = Needs {
            allowed: 512 << 20,
            ..NEEDS
        };
        let over = Budget::default().exceeded(&needs);
        assert!(
            over[0].contains("`machine.memory` allows 512 MiB"),
            "{over:?}"
        );
    }
}
