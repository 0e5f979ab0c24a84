//! What an experiment's timeline does to a run.

use mirrorball_policy::IdleTax;

use super::RunError;
use super::cell::Run;
use crate::spec::{Event, Switchable};

impl Run<'_> {
    /// Something of the timeline happens now; it is written down with what came of it.
    pub(super) fn happen(&mut self, event: &Event) -> Result<(), RunError> {
        let result = self.event(event);
        let failed = result.as_ref().err().map(ToString::to_string);
        self.events.timeline(event, failed);
        result
    }

    fn event(&mut self, event: &Event) -> Result<(), RunError> {
        match event {
            Event::Switch { mechanism, on } => {
                match mechanism {
                    Switchable::Disk => self.machine.set_disk_sharing(*on),
                    _ => self.scanning.lock().switch(*mechanism, *on),
                }
                self.sampler.watched().switched(*mechanism, *on);
            }
            Event::Checkpoint { name } => self.sampler.checkpoint(name),
            Event::Mark { .. } => {}
            Event::SetIdleTax { tax } => {
                if let (Some(policy), Ok(tax)) = (&self.policy, IdleTax::new(tax.0 / 100.0)) {
                    policy.lock().set_tax(tax);
                }
            }
            Event::SetClaim(change) => {
                if let Some(policy) = &self.policy {
                    policy.lock().set_claim(change);
                }
            }
            Event::SetBalloon { guests, target } => {
                if let Some(group) = self.fleet.group(guests) {
                    self.fleet.set_balloon(group, target.0);
                }
            }
            Event::RunWorkload { guests, workload } => {
                if let Some(group) = self.fleet.group(guests) {
                    self.fleet.run_workload(group, workload);
                }
            }
            Event::StopGuests { guests, count } => {
                if let Some(group) = self.fleet.group(guests) {
                    self.fleet.stop_oldest(group, *count);
                }
            }
            Event::StartGuests { guests, count } => {
                if let Some(group) = self.fleet.group(guests) {
                    for _ in 0..*count {
                        if let Some(vm) = self.fleet.start(group)? {
                            self.scanning.lock().add(vm.space())?;
                        }
                    }
                    self.fleet.command_all();
                }
            }
        }
        Ok(())
    }
}
