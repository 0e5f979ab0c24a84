//! Files of model guests, for `mirrorball simulate`: text to a checked simulation, or every problem
//! with its place.

use std::path::Path;

use mirrorball_policy::active::Sampling;
use mirrorball_policy::simulate::{Guest, Machine};
use mirrorball_policy::state::Thresholds;
use mirrorball_policy::{Claim, IdleTax};

use super::describe::{Field, Map};
use super::diagnostic::Diagnostic;
use super::parse::{Name, check_version};
use super::reader::{At, Fields, Findings, FromMap, FromNode, from_map};
use super::text;
use super::units::{Count, Percent, Size, Switch, Time};
use super::{SpecError, judged, read_text};

/// Bytes of a page.
const PAGE: u64 = 4096;
/// Longest simulation, in seconds times guests: some minutes of computing.
const MOST_STEPS: u64 = 1 << 30;

/// A checked simulation.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// Its name.
    pub name: String,
    /// The machine and the policy's settings.
    pub machine: Machine,
    /// The guests, group after group.
    pub guests: Vec<Guest>,
    /// Each group's id and how many guests it has.
    pub groups: Vec<(String, usize)>,
    /// How long, in seconds.
    pub seconds: u64,
    /// Seconds between two lines of the table.
    pub sample: u64,
}

/// Reads and checks a file of model guests.
///
/// # Errors
/// The file can't be read, or it has problems.
pub fn load_simulation(path: &Path) -> Result<Simulation, SpecError> {
    let text = read_text(path)?;
    let (simulation, diagnostics) = read(&text);
    let (simulation, _) = judged(
        simulation,
        diagnostics,
        &path.display().to_string(),
        &text,
        &[],
    )?;
    Ok(simulation)
}

fn read(text: &str) -> (Option<Simulation>, Vec<Diagnostic>) {
    let tree = match text::parse(text) {
        Ok(tree) => tree,
        Err(diagnostic) => return (None, vec![diagnostic]),
    };
    let findings = Findings::default();
    let simulation = Simulation::from_node(&At::top(&findings, &tree), &tree);
    (simulation, findings.into_parts().0)
}

from_map!(Simulation, PolicySpec, Group, Demand);

/// The policy's settings.
struct PolicySpec {
    tax: IdleTax,
    sampling_period: u64,
    balloon_rate: u64,
    swap_rate: u64,
    balloon_most: f64,
}

/// Model guests that are alike.
struct Group {
    id: String,
    count: u32,
    first: Guest,
    stagger: u64,
}

/// A working set, from a time on.
struct Demand {
    at: u64,
    active: u64,
}

impl FromMap for Simulation {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<u32>("version", "version of the format; 1"),
            Field::needed::<Name>("name", "name of the simulation"),
            Field::needed::<Size>("memory", "the machine's memory for guests"),
            Field::needed::<Time>("time", "how long is simulated, in whole seconds"),
            Field::or::<Time>("sample", "1 min", "time between two lines of the table"),
            Field::or::<PolicySpec>("policy", "{}", "the policy's settings"),
            Field::needed::<Vec<Group>>("guests", "the model guests"),
        ];
        Map::new("simulation", "Model guests under the memory policy", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        check_version(fields);
        let name = fields.get::<Name>("name");
        let (memory, time) = (fields.get::<Size>("memory"), fields.get::<Time>("time"));
        let (sample, policy) = (
            fields.get::<Time>("sample"),
            fields.get::<PolicySpec>("policy"),
        );
        let groups = fields.get::<Vec<Group>>("guests")?;
        let (memory, seconds, policy) = (memory?.0 / PAGE, whole_seconds(&time?), policy?);
        check_groups(fields, &groups, memory, seconds)?;
        Some(Self {
            name: name?.0,
            machine: Machine {
                memory,
                tax: policy.tax,
                thresholds: Thresholds::default(),
                sampling: Sampling::default(),
                period: policy.sampling_period,
                balloon_rate: policy.balloon_rate,
                swap_rate: policy.swap_rate,
                balloon_most: policy.balloon_most,
            },
            guests: groups.iter().flat_map(Group::guests).collect(),
            groups: groups
                .into_iter()
                .map(|group| (group.id, group.count as usize))
                .collect(),
            seconds,
            sample: whole_seconds(&sample?).max(1),
        })
    }
}

/// What groups must be together: told apart, few enough, and with no more guaranteed than there is.
fn check_groups(fields: &Fields<'_>, groups: &[Group], memory: u64, seconds: u64) -> Option<()> {
    for (at, group) in groups.iter().enumerate() {
        if groups[..at].iter().any(|other| other.id == group.id) {
            let problem = fields.problem(format!("two groups have the id `{}`", group.id));
            return fields.report(problem.expected("an id for each group of its own"));
        }
    }
    let guests: u64 = groups.iter().map(|group| u64::from(group.count)).sum();
    let steps = seconds.saturating_mul(guests);
    if steps > MOST_STEPS {
        let problem = fields.problem(format!(
            "{guests} guests for {seconds} s are {steps} steps, more than {MOST_STEPS}"
        ));
        return fields.report(problem.expected("a shorter `time`, or fewer guests"));
    }
    let least = groups.iter().fold(0, |sum: u64, group| {
        sum.saturating_add(group.first.claim.min.saturating_mul(group.count.into()))
    });
    if least > memory {
        let mib = |pages: u64| pages / (1 << 20 >> 12);
        let problem = fields.problem(format!(
            "the guests' `min` sum to {} MiB, the machine has {} MiB",
            mib(least),
            mib(memory)
        ));
        return fields.report(problem.expected("more `memory`, or less guaranteed"));
    }
    Some(())
}

impl Group {
    /// Its guests, one after the other.
    fn guests(&self) -> impl Iterator<Item = Guest> {
        (0..u64::from(self.count)).map(|number| {
            let later = self.stagger.saturating_mul(number);
            let demand = self.first.demand.iter();
            Guest {
                start: self.first.start + later,
                demand: demand.map(|(at, pages)| (at + later, *pages)).collect(),
                ..self.first.clone()
            }
        })
    }
}

impl FromMap for PolicySpec {
    fn map() -> Map {
        let fields = vec![
            Field::or::<Percent>("idle-tax", "75 %", "the idle memory tax; below 100 %"),
            Field::or::<Time>(
                "sampling-period",
                "30 s",
                "active memory is estimated anew after it",
            ),
            Field::or::<Size>(
                "balloon-rate",
                "64 MiB",
                "what a balloon takes or gives in a second",
            ),
            Field::or::<Size>(
                "swap-rate",
                "16 MiB",
                "what swap takes or gives in a second, per guest",
            ),
            Field::or::<Percent>(
                "balloon-most",
                "65 %",
                "of a guest's memory, in its balloon",
            ),
        ];
        Map::new("policy", "Settings of the memory policy", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let rate = fields.get::<Percent>("idle-tax")?.0 / 100.0;
        let tax = match IdleTax::new(rate) {
            Ok(tax) => tax,
            Err(error) => return fields.report(fields.problem(error.to_string())),
        };
        let period = fields.get::<Time>("sampling-period");
        let (balloon, swap) = (
            fields.get::<Size>("balloon-rate"),
            fields.get::<Size>("swap-rate"),
        );
        let most = fields.get::<Percent>("balloon-most");
        Some(Self {
            tax,
            sampling_period: whole_seconds(&period?).max(1),
            balloon_rate: balloon?.0 / PAGE,
            swap_rate: swap?.0 / PAGE,
            balloon_most: most?.0 / 100.0,
        })
    }
}

impl FromMap for Group {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<Name>("id", "used in the table; must be unique"),
            Field::or::<Count>("count", "1", "guests of the group"),
            Field::needed::<Size>("memory", "what each guest sees: its max"),
            Field::or::<Size>("min", "0 B", "what each is guaranteed"),
            Field::maybe::<Count>(
                "shares",
                "one for each MiB of `memory`",
                "weight of each guest",
            ),
            Field::or::<Switch>("balloon", "on", "whether they have a balloon"),
            Field::or::<Time>("start", "0 s", "when the first starts"),
            Field::or::<Time>("stagger", "0 s", "pause between two starts"),
            Field::needed::<Vec<Demand>>("demand", "working sets, by time"),
        ];
        Map::new("model guest", "Model guests that are alike", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let (id, count) = (fields.get::<Name>("id"), fields.get::<Count>("count"));
        let (memory, min) = (fields.get::<Size>("memory"), fields.get::<Size>("min"));
        let shares = fields.get::<Count>("shares");
        let (balloon, start) = (fields.get::<Switch>("balloon"), fields.get::<Time>("start"));
        let stagger = fields.get::<Time>("stagger");
        let demand = fields.get::<Vec<Demand>>("demand");
        let (max, min, count) = (memory?.0 / PAGE, min?.0 / PAGE, count?.0);
        let shares = shares.map_or(max / (1 << 20 >> 12), |shares| shares.0.into());
        let claim = match Claim::new(shares, min, max) {
            Ok(claim) => claim,
            Err(error) => return fields.report(fields.problem(error.to_string())),
        };
        let (start, mut demand) = (whole_seconds(&start?), demand?);
        demand.sort_by_key(|demand| demand.at);
        // Times are the guest's own: they count from its start.
        let demand = demand
            .iter()
            .map(|demand| (start + demand.at, demand.active));
        Some(Self {
            id: id?.0,
            count,
            first: Guest {
                claim,
                balloon: balloon?.0,
                start,
                demand: demand.collect(),
            },
            stagger: whole_seconds(&stagger?),
        })
    }
}

impl FromMap for Demand {
    fn map() -> Map {
        let fields = vec![
            Field::or::<Time>("at", "0 s", "since the guest's start"),
            Field::needed::<Size>("active", "its working set from then on"),
        ];
        Map::new("demand", "A working set, from a time on", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let (at, active) = (fields.get::<Time>("at"), fields.get::<Size>("active"));
        Some(Self {
            at: whole_seconds(&at?),
            active: active?.0 / PAGE,
        })
    }
}

const fn whole_seconds(time: &Time) -> u64 {
    time.0.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "version: 1\nname: two\nmemory: 358 MiB\ntime: 1 h\nguests:\n  \
        - { id: idle, memory: 256 MiB, demand: [{ active: 256 MiB }, { at: 30 s, active: 10 MiB }] }\n  \
        - { id: busy, count: 2, memory: 128 MiB, min: 32 MiB, start: 1 min, stagger: 10 s, demand: [{ active: 120 MiB }] }\n";

    #[test]
    fn groups_become_guests_with_their_own_times() {
        let (simulation, problems) = read(FILE);
        assert!(problems.is_empty(), "{problems:?}");
        let simulation = simulation.unwrap();
        assert_eq!(simulation.guests.len(), 3);
        assert_eq!(simulation.guests[2].start, 70);
        assert_eq!(simulation.guests[2].demand, [(70, 120 << 8)]);
        assert_eq!(
            simulation.guests[0].claim,
            Claim::new(256, 0, 256 << 8).unwrap()
        );
    }

    #[test]
    fn what_can_not_be_meant_is_refused_with_its_place() {
        for (from, to, says) in [
            (
                "memory: 358 MiB",
                "memory: 50 MiB",
                "sum to 64 MiB, the machine has 50 MiB",
            ),
            ("min: 32 MiB", "min: 1 GiB", "min may be at most max"),
            ("min:", "mim:", "unknown field `mim`"),
            (
                "count: 2,",
                "count: 4000000000,",
                "4000000001 guests for 3600 s",
            ),
            ("id: busy", "id: idle", "two groups have the id `idle`"),
            (
                "time: 1 h",
                "time: 1 h\npolicy: { idle-tax: 100 % }",
                "below 1",
            ),
        ] {
            let (_, problems) = read(&FILE.replace(from, to));
            assert!(
                problems
                    .iter()
                    .any(|problem| problem.message.contains(says)),
                "{problems:?}"
            );
        }
    }
}
