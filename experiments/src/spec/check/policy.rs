//! Checks of what guests are promised.

use mirrorball_policy::IdleTax;

use super::{Checks, mib};
use crate::spec::model::{ClaimChange, GuestGroup};
use crate::spec::units::Percent;

/// A size of each guest, of all guests together.
fn sum(groups: &[GuestGroup], of: impl Fn(&GuestGroup) -> u64) -> u64 {
    let each = groups
        .iter()
        .map(|group| of(group).saturating_mul(group.count.into()));
    each.fold(0, u64::saturating_add)
}

impl Checks<'_> {
    pub(super) fn policy(&mut self) {
        let experiment = self.experiment;
        for (index, group) in experiment.guests.iter().enumerate() {
            self.claim(index, group);
        }
        let Some(policy) = &experiment.policy else {
            return;
        };
        let groups = &experiment.guests;
        let (memory, least) = (
            experiment.machine.memory.0,
            sum(groups, |group| group.min.0),
        );
        if least > memory {
            let parts = groups.iter().filter(|group| group.min.0 > 0);
            let parts: Vec<_> = parts
                .map(|group| format!("{} x {}", group.count, mib(group.min.0)))
                .collect();
            let arithmetic = format!(
                "the guests' `min` are {} = {}, the machine has {}: {} are missing",
                parts.join(" + "),
                mib(least),
                mib(memory),
                mib(least - memory)
            );
            let problem = self.problem("machine.memory", arithmetic);
            self.add(problem.expected("more memory, or less guaranteed"));
        }
        let needed = sum(groups, |group| group.max().saturating_sub(group.min.0));
        if let Some(size) = policy.swap_size
            && policy.swap.0
            && size.0 < needed
        {
            let arithmetic = format!(
                "guests have {} above their `min`, swap has {}: {} are missing",
                mib(needed),
                mib(size.0),
                mib(needed - size.0)
            );
            let problem = self.problem("policy.swap-size", arithmetic);
            self.add(problem.expected(format!("at least {}", mib(needed))));
        }
    }

    /// A tax that the timeline sets.
    pub(super) fn idle_tax(&mut self, path: &str, tax: Percent) {
        if let Err(error) = IdleTax::new(tax.0 / 100.0) {
            let problem = self.problem(path, error.to_string());
            self.add(problem.expected("0 % to below 100 %"));
        }
        if self.experiment.policy.is_none() {
            let problem = self.problem(path, "there is no policy that would act on it");
            self.add(problem.expected("`policy: {}` at the top"));
        }
    }

    fn claim(&mut self, index: usize, group: &GuestGroup) {
        let path = |field: &str| format!("guests[{index}].{field}");
        let asked = [
            ("shares", group.shares.is_some()),
            ("min", group.min.0 > 0),
            ("max", group.max.is_some()),
        ];
        let first = asked.into_iter().find(|(_, asked)| *asked);
        let first = first.map(|(field, _)| path(field));
        if let (Some(first), None) = (first, &self.experiment.policy) {
            let problem = self.problem(&first, "nothing acts on this without `policy`");
            self.add(problem.expected("`policy: {}`, or none of `shares`, `min` and `max`"));
        }
        self.bounds(&format!("guests[{index}]"), group);
    }

    /// What the timeline entitles a group to; `later` are the groups as they are by then.
    pub(super) fn claim_change(
        &mut self,
        path: &str,
        change: &ClaimChange,
        later: &mut [GuestGroup],
    ) {
        if self.experiment.policy.is_none() {
            let problem = self.problem(path, "there is no policy that would act on it");
            self.add(problem.expected("`policy: {}` at the top"));
        }
        let Some(group) = later.iter_mut().find(|group| group.id == change.guests) else {
            return;
        };
        change.apply(group);
        let group = group.clone();
        self.bounds(path, &group);
        let (memory, least) = (
            self.experiment.machine.memory.0,
            sum(later, |group| group.min.0),
        );
        if least > memory {
            let arithmetic = format!(
                "the guests' `min` are {} together then, the machine has {}",
                mib(least),
                mib(memory)
            );
            let problem = self.problem(&format!("{path}.min"), arithmetic);
            self.add(problem.expected("less guaranteed"));
        }
    }

    /// Whether a group's bounds, written at `path`, agree with each other and with its memory.
    fn bounds(&mut self, path: &str, group: &GuestGroup) {
        let (min, max, memory) = (group.min.0, group.max(), group.memory.0);
        if max > memory {
            let problem = self.problem(
                &format!("{path}.max"),
                format!("{} are more than the guest's {}", mib(max), mib(memory)),
            );
            self.add(problem.expected(format!("at most {}", mib(memory))));
        }
        if min > max {
            let problem = self.problem(
                &format!("{path}.min"),
                format!("min is {} and max only {}", mib(min), mib(max)),
            );
            self.add(problem.expected(format!("at most {}", mib(max))));
        }
    }
}
