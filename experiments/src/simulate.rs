//! `mirrorball simulate`: model guests under the memory policy, second by second.
//!
//! What comes out are the policy's decisions, not measurements: no guest runs, nothing is shared.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use mirrorball_policy::simulate::{self, GuestTick, Tick};
use mirrorball_policy::state::State;
use serde::Serialize;

use crate::spec::Simulation;

/// Pages in a MiB.
const MIB: f64 = 256.0;

/// A group's memory at one time, in MiB, all of its guests together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupSample {
    /// The group.
    pub id: String,
    /// What its guests work on.
    pub wanted_mib: f64,
    /// What they have.
    pub resident_mib: f64,
    /// What they are entitled to.
    pub target_mib: f64,
    /// What the policy thinks that they use.
    pub active_mib: f64,
    /// What their balloons hold.
    pub ballooned_mib: f64,
    /// What is on swap.
    pub swapped_mib: f64,
    /// Guests that are held.
    pub held: usize,
}

/// The machine at one time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// Seconds since the beginning.
    pub seconds: u64,
    /// Reclamation state.
    pub state: &'static str,
    /// Free memory.
    pub free_mib: f64,
    /// The groups, in the file's order.
    pub groups: Vec<GroupSample>,
}

/// What came of a simulation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Version of this format.
    pub schema_version: u32,
    /// Its name.
    pub name: String,
    /// Seconds in each state.
    pub seconds_in_state: BTreeMap<&'static str, u64>,
    /// Pages that came back from swap, all guests.
    pub swapped_in_pages: u64,
    /// Seconds that guests were held, all guests.
    pub held_seconds: u64,
    /// Part of the working sets that was there, over all guests and seconds.
    pub served: f64,
    /// The state of things at the file's sampling times.
    pub samples: Vec<Sample>,
    /// Seconds that the computing took.
    pub computed_in: f64,
}

/// Runs a simulation to its end.
#[must_use]
pub fn run(simulation: &Simulation) -> Outcome {
    let begun = Instant::now();
    let mut model = simulate::Simulation::new(simulation.machine, simulation.guests.clone());
    let mut outcome = Outcome {
        schema_version: 1,
        name: simulation.name.clone(),
        seconds_in_state: [State::High, State::Soft, State::Hard, State::Low]
            .map(|state| (state.name(), 0))
            .into(),
        swapped_in_pages: 0,
        held_seconds: 0,
        served: 1.0,
        samples: Vec::new(),
        computed_in: 0.0,
    };
    let (mut wanted, mut missing) = (0_u64, 0_u64);
    for second in 0..simulation.seconds {
        let tick = model.step();
        *outcome
            .seconds_in_state
            .entry(tick.state.name())
            .or_default() += 1;
        for guest in &tick.guests {
            outcome.swapped_in_pages += guest.swapped_in;
            outcome.held_seconds += u64::from(guest.held);
            wanted += guest.wanted;
            missing += guest.missing();
        }
        if second % simulation.sample == 0 || second + 1 == simulation.seconds {
            outcome.samples.push(sample(simulation, tick));
        }
    }
    if wanted > 0 {
        outcome.served = 1.0 - missing as f64 / wanted as f64;
    }
    outcome.computed_in = begun.elapsed().as_secs_f64();
    outcome
}

fn sample(simulation: &Simulation, tick: &Tick) -> Sample {
    let mut guests = tick.guests.iter();
    let groups = simulation.groups.iter().map(|(id, count)| {
        let group: Vec<_> = guests.by_ref().take(*count).collect();
        let sum = |pages: fn(&GuestTick) -> u64| {
            group.iter().map(|guest| pages(guest) as f64).sum::<f64>() / MIB
        };
        GroupSample {
            id: id.clone(),
            wanted_mib: sum(|guest| guest.wanted),
            resident_mib: sum(|guest| guest.resident),
            target_mib: sum(|guest| guest.target),
            active_mib: sum(|guest| guest.active),
            ballooned_mib: sum(|guest| guest.ballooned),
            swapped_mib: sum(|guest| guest.swapped),
            held: group.iter().filter(|guest| guest.held).count(),
        }
    });
    Sample {
        groups: groups.collect(),
        seconds: tick.second,
        state: tick.state.name(),
        free_mib: tick.free as f64 / MIB,
    }
}

impl Outcome {
    /// The outcome for people: a line for each sample, and what came of it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut table = Table::new();
        let ids = self.samples.first().map_or(&[][..], |first| &first.groups);
        let heads = ids
            .iter()
            .map(|group| format!("{}: has / wants / target", group.id));
        let head = ["time, s", "state", "free, MiB"].map(str::to_owned);
        table
            .load_style(ASCII_MARKDOWN)
            .set_header(head.into_iter().chain(heads));
        for sample in &self.samples {
            let groups = sample.groups.iter().map(|group| {
                let of = [group.resident_mib, group.wanted_mib, group.target_mib];
                let held = if group.held > 0 { " held" } else { "" };
                format!("{:.0} / {:.0} / {:.0}{held}", of[0], of[1], of[2])
            });
            let first = [
                sample.seconds.to_string(),
                sample.state.to_owned(),
                format!("{:.0}", sample.free_mib),
            ];
            table.add_row(first.into_iter().chain(groups));
        }
        let mut text = format!("{table}\n\n");
        let states = ["high", "soft", "hard", "low"].map(|state| {
            let seconds = self.seconds_in_state.get(state).copied().unwrap_or(0);
            format!("{state} {seconds} s")
        });
        let _ = writeln!(text, "states: {}", states.join(", "));
        let _ = writeln!(
            text,
            "working sets: {:.1} % there; read back from swap: {:.0} MiB; guests held: {} s",
            100.0 * self.served,
            self.swapped_in_pages as f64 / MIB,
            self.held_seconds
        );
        let _ = writeln!(
            text,
            "a model, not a measurement; computed in {:.2} s",
            self.computed_in
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::load_simulation;
    use std::path::Path;

    fn models() -> Vec<std::path::PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/models");
        let files = std::fs::read_dir(folder).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    }

    #[test]
    fn all_models_run_and_tell_what_came_of_them() {
        assert!(models().len() >= 3);
        for file in models() {
            let mut simulation = load_simulation(&file).unwrap();
            simulation.seconds = simulation.seconds.min(120);
            let outcome = run(&simulation);
            assert_eq!(
                outcome.seconds_in_state.values().sum::<u64>(),
                simulation.seconds
            );
            let text = outcome.text();
            assert!(
                text.contains("states: high") && text.contains("not a measurement"),
                "{text}"
            );
        }
    }

    #[test]
    fn idle_tax_reproduces_the_shape_of_figure_7() {
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/models/esx-fig7-idle-tax.yaml");
        let outcome = run(&load_simulation(&file).unwrap());
        let last = outcome.samples.last().unwrap();
        let (idle, active) = (&last.groups[0], &last.groups[1]);
        assert!(active.resident_mib > 1.5 * idle.resident_mib, "{last:?}");
        assert!(
            idle.resident_mib > 0.25 * 246.0,
            "it keeps a quarter of what is idle: {last:?}"
        );
    }
}
