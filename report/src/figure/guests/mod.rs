//! What each guest had over time under a memory policy, as in ESX Server's figures 6 to 8.
//!
//! Two figures: the guests' memory on each other, with the machine's reclamation state; and each guest's
//! with what it is entitled to, is thought to use, and says itself.

mod each;
mod stacked;

use std::collections::BTreeMap;

use kuva::render::layout::Layout;

use super::time::thinned;
use super::{Figure, mib};
use crate::results::Results;
use crate::samples::Sample;

/// More guests than this can't be told apart.
const MOST_GUESTS: usize = 7;
/// More points than this can't be told apart.
const MOST_POINTS: usize = 400;

/// What a guest has of the machine's memory, as it sees it.
const fn allocated(sample: &Sample) -> u64 {
    sample.private_bytes + sample.mapped_bytes
}

/// A guest in a cell, with its samples.
struct Guest<'a> {
    name: String,
    samples: Vec<&'a Sample>,
}

/// A cell with its guests and the machine.
struct Cell<'a> {
    id: &'a str,
    /// When its first sample was taken, and its last.
    from: f64,
    to: f64,
    guests: Vec<Guest<'a>>,
    /// All samples of the machine: a state that is in none of a few of them would not be seen.
    machine: Vec<&'a Sample>,
}

/// The figures; none without a policy, or with more guests than can be told apart.
#[must_use]
pub fn guests(results: &Results) -> Vec<Figure> {
    let ids = results.summary.cells.iter().map(|cell| cell.id.as_str());
    let cells: Vec<Cell<'_>> = ids.filter_map(|id| cell(results, id)).collect();
    if cells.is_empty() {
        return Vec::new();
    }
    let mut figures = Vec::new();
    if cells.iter().any(|cell| cell.guests.len() > 1) {
        figures.push(stacked::stacked(&cells));
    }
    figures.push(each::each(&cells));
    figures
}

fn cell<'a>(results: &'a Results, id: &'a str) -> Option<Cell<'a>> {
    let mut of_vms = BTreeMap::<u64, Vec<&Sample>>::new();
    let own = |sample: &&Sample| sample.cell == id && sample.run == 1;
    for sample in results.guests.iter().filter(own) {
        of_vms
            .entry(sample.vm.parse().ok()?)
            .or_default()
            .push(sample);
    }
    if of_vms.is_empty() || of_vms.len() > MOST_GUESTS {
        return None;
    }
    let times = of_vms.values().flatten().map(|sample| sample.time_seconds);
    let from = times.clone().fold(f64::INFINITY, f64::min);
    let to = times.fold(from, f64::max);
    let names = names(results).filter(|names| names.len() == of_vms.len());
    let guest = |(place, (vm, samples)): (usize, (u64, Vec<&'a Sample>))| Guest {
        name: names
            .as_ref()
            .map_or_else(|| format!("VM {vm}"), |names| names[place].clone()),
        samples: thinned(&samples, MOST_POINTS),
    };
    Some(Cell {
        id,
        from,
        to,
        guests: of_vms.into_iter().enumerate().map(guest).collect(),
        machine: results.samples.iter().filter(own).collect(),
    })
}

/// Names of the guests that an experiment begins with, in the order of their VMs' numbers.
fn names(results: &Results) -> Option<Vec<String>> {
    let groups = results.run.conditions["experiment"]["guests"].as_array()?;
    let mut names = Vec::new();
    for group in groups {
        let id = group["id"].as_str()?;
        match group["count"].as_u64()? {
            1 => names.push(id.to_owned()),
            // One more than can be shown is as good as all.
            count => {
                let most = MOST_GUESTS as u64 + 1;
                names.extend((1..=count.min(most)).map(|number| format!("{id}-{number}")));
            }
        }
    }
    Some(names)
}

fn axes(layout: Layout) -> Layout {
    let layout = layout.with_x_label("time (s)").with_y_label("memory (MiB)");
    layout.with_ticks(5).with_y_axis_min(0.0)
}

/// When each cell begins, and its name.
fn begins<'a>(cells: &[Cell<'a>]) -> Vec<(f64, &'a str)> {
    cells.iter().map(|cell| (cell.from, cell.id)).collect()
}

/// When the last of them ends.
fn end(cells: &[Cell<'_>]) -> f64 {
    cells.iter().map(|cell| cell.to).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::super::{count, fixture};
    use super::*;
    use crate::samples::MACHINE;

    /// Two guests for ten seconds: one gives up a MiB a second, the other gets it.
    fn results() -> Results {
        let sample = |vm: &str, time: u32, private: u32| Sample {
            cell: "none".into(),
            run: 1,
            time_seconds: 5.0 + f64::from(time),
            vm: vm.into(),
            private_bytes: u64::from(private) << 20,
            target_bytes: (vm != MACHINE).then_some(7 << 20),
            active_bytes: (vm != MACHINE).then_some(1 << 20),
            state: (vm == MACHINE).then(|| if time < 5 { "high" } else { "hard" }.to_owned()),
            ..Sample::default()
        };
        let mut results = fixture::results(vec![fixture::cell("none")]);
        results.run.conditions = serde_json::json!({ "experiment": { "guests": [
            { "id": "idle", "count": 1 }, { "id": "busy", "count": 1 } ] } });
        results.guests = (0..10)
            .flat_map(|time| [sample("3", time, 12 - time), sample("4", time, 2 + time)])
            .collect();
        results.samples = (0..10).map(|time| sample(MACHINE, time, 14)).collect();
        results
    }

    #[test]
    fn guests_stand_on_each_other_with_the_state() {
        let figures = guests(&results());
        let stacked = &figures[0];
        assert_eq!(stacked.panels.len(), 1);
        let lines: Vec<_> = stacked.data.lines().collect();
        assert_eq!(lines[0], "cell,time (s),idle (MiB),busy (MiB),state");
        assert_eq!(lines[1], "none,0.000,12.000,2.000,high");
        assert_eq!(lines[10], "none,9.000,3.000,11.000,hard");
        for name in ["idle", "busy", "state hard"] {
            assert!(stacked.file.contains(name), "{name}");
        }
    }

    #[test]
    fn memory_that_goes_from_one_to_another_is_not_counted_twice() {
        let mut results = results();
        // Sampled in turn: the one in odd seconds, the other in even ones.
        let odd = |sample: &Sample| sample.time_seconds % 2.0 > 0.5;
        results
            .guests
            .retain(|sample| odd(sample) == (sample.vm == "3"));
        let data = guests(&results).remove(0).data;
        let line = data.lines().nth(3).unwrap();
        assert_eq!(line, "none,2.000,10.000,4.000,high", "{data}");
    }

    #[test]
    fn a_state_that_passes_between_two_points_is_shown() {
        let mut results = results();
        let machine = results.samples[0].clone();
        results.samples = (0..10 * MOST_POINTS)
            .map(|number| Sample {
                time_seconds: 5.0 + 9.0 * count(number) / count(10 * MOST_POINTS),
                state: Some(if number == 1234 { "low" } else { "high" }.to_owned()),
                ..machine.clone()
            })
            .collect();
        let stacked = guests(&results).remove(0);
        assert!(stacked.file.contains("state low"));
        assert!(!stacked.file.contains("state soft"));
        let low: Vec<_> = stacked
            .data
            .lines()
            .filter(|l| l.ends_with(",low"))
            .collect();
        assert_eq!(low.len(), 1, "{low:?}");
        assert!(low[0].starts_with("none,3.000,"), "{low:?}");
    }

    #[test]
    fn each_guest_has_its_lines_and_only_those_with_values() {
        let figures = guests(&results());
        let each = &figures[1];
        let head = each.data.lines().next();
        assert_eq!(
            head,
            Some("cell,guest,time (s),allocated (MiB),entitled to (MiB),estimated active (MiB)")
        );
        assert_eq!(each.panels.len(), 2);
        assert!(each.file.contains("busy, allocated"));
    }

    #[test]
    fn guests_without_a_policy_or_too_many_make_no_figure() {
        let mut many = results();
        let first = many.guests[0].clone();
        many.guests.extend((10..20).map(|vm| Sample {
            vm: vm.to_string(),
            ..first.clone()
        }));
        assert!(guests(&many).is_empty());
        many.guests.clear();
        assert!(guests(&many).is_empty());
    }
}
