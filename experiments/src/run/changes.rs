//! What can be changed of guests while they run.

use std::time::{Duration, Instant};

use mirrorball_abi::Phase;
use mirrorball_pmap::PAGE_BYTES;

use super::fleet::{Fleet, command};
use super::told::Command;
use crate::spec::WorkloadSpec;

/// What a guest gets to end a workload that it is asked to end.
const LETTING_GO: Duration = Duration::from_secs(10);

impl Fleet<'_> {
    /// Stops the oldest guests of a group.
    pub fn stop_oldest(&mut self, group: usize, count: u32) {
        for _ in 0..count {
            let Some(index) = self.guests.iter().position(|guest| guest.group == group) else {
                return;
            };
            self.retire(index);
        }
    }

    /// Waits a moment for thin guests to come to rest: one that has said that it is done still puts
    /// its stacks and lists in order, and figures taken before would differ from run to run.
    pub fn rest(&self) {
        let until = Instant::now() + LETTING_GO;
        let thin = self.guests.iter().filter(|guest| guest.agent.is_none());
        for guest in thin {
            while !guest.vm.rests() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Asks the guests of a group to have so many bytes in their balloons.
    pub fn set_balloon(&self, group: usize, bytes: u64) {
        let pages = u32::try_from(bytes / PAGE_BYTES).unwrap_or(u32::MAX);
        for guest in self.guests.iter().filter(|guest| guest.group == group) {
            if let Some(balloon) = guest.vm.balloon() {
                balloon.set_target(pages);
            }
        }
    }

    /// Ends the workload of a group's guests and gives them another. What they did before counts.
    pub fn run_workload(&mut self, group: usize, workload: &WorkloadSpec) {
        let of_group = |guest: &super::guest::Guest| guest.group == group && !guest.settled;
        for guest in self.guests.iter().filter(|guest| of_group(guest)) {
            guest.vm.request_stop();
        }
        let until = Instant::now() + LETTING_GO;
        let (experiment, told) = (self.experiment, &mut self.told);
        let spec = &experiment.guests[group];
        for guest in self.guests.iter_mut().filter(|guest| of_group(guest)) {
            let left = until.saturating_duration_since(Instant::now());
            if guest.command > 0 && guest.wait_until(Phase::Done, left).is_err() {
                // It has stopped, which the next wait tells, or does not listen.
                told.note(format!("{}: did not end its workload", guest.vm.name()));
                continue;
            }
            let before = guest.workload.as_deref().or(spec.system.workload());
            if let (Some(before), true) = (before, guest.command > 0) {
                // It was cut short, so its result is not that of others.
                let cut = Command {
                    given: true,
                    whole: false,
                };
                guest.failed |= told.work(&guest.vm, &spec.id, before, cut);
            }
            guest.workload = Some(Box::new(workload.clone()));
            guest.command = guest.vm.command(&command(workload, experiment.seed));
        }
    }
}
