//! One guest of a run, thin or Linux: how far it has come, and how it is waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mirrorball_abi::Phase;
use mirrorball_monitor::{Vm, WaitError};

use super::agent::{Agent, Stage};
use super::follow::Follower;
use super::overdue::Watch;
use crate::spec::WorkloadSpec;

/// One guest.
#[derive(Debug)]
pub(super) struct Guest {
    /// Position of its group in the experiment.
    pub(super) group: usize,
    /// Its VM.
    pub(super) vm: Arc<Vm>,
    /// Number of its last command; 0 before the first.
    pub(super) command: u64,
    /// What it does instead of its group's workload, since the timeline said so.
    pub(super) workload: Option<Box<WorkloadSpec>>,
    /// What a Linux guest has said; `None` for thin guests, which tell by their status.
    pub(super) agent: Option<Agent>,
    /// A Linux guest's own time limits.
    pub(super) watch: Option<Watch>,
    /// Shows its console.
    pub(super) follower: Option<Follower>,
    /// It has ended its workload, or will never.
    pub(super) settled: bool,
    /// It is a cause of the run's failure.
    pub(super) failed: bool,
}

impl Guest {
    /// What a Linux guest takes longer for than it may.
    pub(super) fn overdue(&mut self) -> Option<String> {
        let (agent, watch) = (self.agent.as_mut()?, self.watch.as_mut()?);
        for line in self.vm.control_read() {
            agent.take(&line);
        }
        watch.look(agent, self.command > 0, Instant::now())
    }

    /// Waits until the guest has reached a phase of its last command, or says that it never will.
    pub(super) fn wait_until(&mut self, phase: Phase, time: Duration) -> Result<(), WaitError> {
        let Some(agent) = &mut self.agent else {
            return self.vm.wait_until(phase, self.command, time);
        };
        for line in self.vm.control_read() {
            agent.take(&line);
        }
        if agent.stage() < stage_of(phase) && agent.failure().is_none() {
            for line in self.vm.control_wait(time)? {
                agent.take(&line);
            }
            if agent.stage() < stage_of(phase) && agent.failure().is_none() {
                return Err(WaitError::TimedOut);
            }
        }
        Ok(())
    }

    /// Whether it has come so far.
    pub(super) fn has_reached(&self, phase: Phase) -> bool {
        match &self.agent {
            Some(agent) => agent.stage() >= stage_of(phase),
            None => self.vm.status().phase >= phase as u32,
        }
    }
}

/// How far a Linux guest has come that is in a phase.
const fn stage_of(phase: Phase) -> Stage {
    match phase {
        Phase::Done => Stage::Done,
        _ => Stage::Ready,
    }
}
