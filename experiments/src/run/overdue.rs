//! A Linux guest's own time limits: for its boot, and for each of its commands.
//!
//! A guest that hangs says nothing, so only the host can end it. The others go on.

use std::time::{Duration, Instant};

use super::agent::{Agent, Stage};
use crate::spec::LinuxSpec;

/// What a guest is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Boot,
    /// Waiting for the others.
    Idle,
    /// A command, from 0.
    Command(usize),
}

/// Watches over one guest.
#[derive(Debug)]
pub struct Watch {
    boot: Option<Duration>,
    command: Option<Duration>,
    at: At,
    since: Instant,
}

impl Watch {
    /// Over a guest that is started now.
    #[must_use]
    pub fn new(spec: &LinuxSpec, now: Instant) -> Self {
        Self {
            boot: spec.boot_timeout.map(|time| time.0),
            command: spec.command_timeout.map(|time| time.0),
            at: At::Boot,
            since: now,
        }
    }

    /// What takes longer than it may, by what the guest has said until now; `commanded` once it was
    /// given the word to go.
    pub fn look(&mut self, agent: &Agent, commanded: bool, now: Instant) -> Option<String> {
        let at = match (agent.stage(), agent.running()) {
            (Stage::Booting, _) => At::Boot,
            (Stage::Ready, Some(number)) if commanded => At::Command(number),
            _ => At::Idle,
        };
        if at != self.at {
            (self.at, self.since) = (at, now);
        }
        let (limit, what) = match at {
            At::Boot => (self.boot?, "booting".to_owned()),
            At::Idle => return None,
            At::Command(number) => (self.command?, format!("`{}`", agent.command(number)?)),
        };
        let late = now.saturating_duration_since(self.since) > limit;
        late.then(|| format!("{what} took longer than {} s", limit.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{RootSpec, Time};

    fn watch(boot: Option<u64>, command: Option<u64>, now: Instant) -> Watch {
        let time = |seconds| Time(Duration::from_secs(seconds));
        let spec = LinuxSpec {
            kernel: "6.12".to_owned(),
            version: None,
            root: RootSpec::None,
            run: Vec::new(),
            command_line: String::new(),
            modules: Vec::new(),
            boot_timeout: boot.map(time),
            command_timeout: command.map(time),
            metrics: Vec::new(),
        };
        Watch::new(&spec, now)
    }

    fn agent() -> Agent {
        Agent::new(&["one".to_owned(), "two".to_owned()])
    }

    #[test]
    fn a_boot_and_each_command_have_their_own_time() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut watch = watch(Some(10), Some(5), began);
        let mut agent = agent();
        assert_eq!(watch.look(&agent, false, at(9)), None);
        agent.take("mb ready 2");
        // Waiting for the word to go is nobody's fault.
        assert_eq!(watch.look(&agent, false, at(99)), None);
        assert_eq!(watch.look(&agent, true, at(100)), None);
        agent.take("mb end 0 0 3");
        assert_eq!(watch.look(&agent, true, at(104)), None);
        assert_eq!(watch.look(&agent, true, at(109)), None);
        let late = watch.look(&agent, true, at(110));
        assert_eq!(late.as_deref(), Some("`two` took longer than 5 s"));
        agent.take("mb end 1 0 4");
        assert_eq!(watch.look(&agent, true, at(999)), None);
    }

    #[test]
    fn a_boot_that_hangs_is_told() {
        let began = Instant::now();
        let mut watch = watch(Some(1), None, began);
        let late = watch.look(&agent(), false, began + Duration::from_secs(2));
        assert_eq!(late.as_deref(), Some("booting took longer than 1 s"));
    }

    #[test]
    fn without_a_limit_there_is_no_end() {
        let began = Instant::now();
        let mut watch = watch(None, None, began);
        let mut agent = agent();
        let late = began + Duration::from_secs(1 << 30);
        assert_eq!(watch.look(&agent, false, late), None);
        agent.take("mb ready 1");
        assert_eq!(watch.look(&agent, true, began), None);
        assert_eq!(watch.look(&agent, true, late), None);
    }
}
