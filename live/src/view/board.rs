//! What the view knows: the last two snapshots, and what the user chose to see.

use std::cmp::Ordering;
use std::collections::VecDeque;

use mirrorball_report::samples::Sample;

use super::keys::Wish;
use crate::{Message, Request, Snapshot, Switch, VmView};

/// Points of the curve of used memory that are kept.
const HISTORY: usize = 200;

/// A column of the table of VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// The VM's name.
    Name,
    /// Where it is in its life.
    State,
    /// Touched memory.
    Touched,
    /// Memory of its own.
    Private,
    /// Memory that maps frames.
    Mapped,
    /// Zero pages.
    Zero,
    /// Memory in its balloon.
    Balloon,
    /// Breaks a second.
    Breaks,
    /// CPU time of its vCPUs as a share of one core.
    Cpu,
}

impl Column {
    /// All, in the order of the table.
    pub const ALL: [Self; 9] = [
        Self::Name,
        Self::State,
        Self::Touched,
        Self::Private,
        Self::Mapped,
        Self::Zero,
        Self::Balloon,
        Self::Breaks,
        Self::Cpu,
    ];
}

/// A VM as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What the run says of it.
    pub vm: VmView,
    /// Breaks a second; `None` in its first snapshot.
    pub breaks: Option<f64>,
    /// Share of one core.
    pub cpu: Option<f64>,
}

/// Everything that is shown.
#[derive(Debug)]
pub struct Board {
    /// Whether colours may be used.
    pub colour: bool,
    /// How it goes; `None` until the first snapshot.
    pub now: Option<Box<Snapshot>>,
    before: Option<Box<Snapshot>>,
    /// Used memory, bytes, the newest last.
    pub history: VecDeque<u64>,
    /// What became of the last request.
    pub answer: Option<Result<String, String>>,
    /// What the table is sorted by.
    pub sort: Column,
    /// Whether it is sorted the other way round.
    pub reverse: bool,
    selected: Option<String>,
}

impl Board {
    /// Nothing seen yet.
    pub const fn new(colour: bool) -> Self {
        Self {
            colour,
            now: None,
            before: None,
            history: VecDeque::new(),
            answer: None,
            sort: Column::Name,
            reverse: false,
            selected: None,
        }
    }

    /// Takes a message in.
    pub fn take(&mut self, message: Message) {
        match message {
            Message::Snapshot(snapshot) => {
                if self.history.len() == HISTORY {
                    self.history.pop_front();
                }
                self.history.push_back(snapshot.used_bytes);
                self.before = self.now.replace(snapshot);
            }
            Message::Answer(answer) => self.answer = Some(answer),
        }
    }

    /// The VMs, sorted.
    pub fn rows(&self) -> Vec<Row> {
        let Some(now) = &self.now else {
            return Vec::new();
        };
        let mut rows: Vec<_> = now.vms.iter().map(|vm| self.row(vm)).collect();
        rows.sort_by(|a, b| {
            let order = compare(a, b, self.sort);
            let order = if self.reverse { order.reverse() } else { order };
            order.then_with(|| natural(&a.vm.name).cmp(&natural(&b.vm.name)))
        });
        rows
    }

    fn row(&self, vm: &VmView) -> Row {
        let before = self.before.as_ref().and_then(|before| {
            let found = before.vms.iter().find(|other| other.name == vm.name);
            found.map(|vm| &vm.sample)
        });
        Row {
            vm: vm.clone(),
            breaks: before.and_then(|then| rate(then, &vm.sample, |s| count(s.broken_pages))),
            cpu: before.and_then(|then| rate(then, &vm.sample, |s| s.vcpu_seconds)),
        }
    }

    /// A figure of the machine a second; `None` before there are two snapshots of one run.
    pub fn machine_rate(&self, figure: fn(&Sample) -> Option<f64>) -> Option<f64> {
        let (now, before) = (self.now.as_ref()?, self.before.as_ref()?);
        let same = now.machine.cell == before.machine.cell && now.machine.run == before.machine.run;
        same.then(|| rate(&before.machine, &now.machine, figure))?
    }

    /// Index of the selected VM among the rows.
    pub fn selected(&self, rows: &[Row]) -> Option<usize> {
        let name = self.selected.as_ref()?;
        rows.iter().position(|row| row.vm.name == *name)
    }

    /// Does what the user wants; what has to be asked of the run for it.
    pub fn wish(&mut self, wish: Wish) -> Option<Request> {
        match wish {
            Wish::Leave => None,
            Wish::Up => self.select(|index, _| index.saturating_sub(1)),
            Wish::Down => self.select(|index, rows| (index + 1).min(rows - 1)),
            Wish::Sort => {
                let here = Column::ALL.iter().position(|column| *column == self.sort);
                let next = here.map_or(0, |here| (here + 1) % Column::ALL.len());
                self.sort = Column::ALL[next];
                None
            }
            Wish::Reverse => {
                self.reverse = !self.reverse;
                None
            }
            Wish::Pause => self.pause(),
            Wish::Switch(switch) => self.switch(switch),
        }
    }

    fn select(&mut self, step: fn(usize, usize) -> usize) -> Option<Request> {
        let rows = self.rows();
        if !rows.is_empty() {
            let index = self
                .selected(&rows)
                .map_or(0, |index| step(index, rows.len()));
            self.selected = Some(rows[index].vm.name.clone());
        }
        None
    }

    fn pause(&mut self) -> Option<Request> {
        let rows = self.rows();
        let Some(index) = self.selected(&rows) else {
            self.answer = Some(Err("select a VM first (up, down)".to_owned()));
            return None;
        };
        let vm = &rows[index].vm;
        match vm.state.as_str() {
            "running" => Some(Request::Pause(vm.name.clone())),
            "paused" => Some(Request::Resume(vm.name.clone())),
            state => {
                self.answer = Some(Err(format!("{} is {state}", vm.name)));
                None
            }
        }
    }

    fn switch(&mut self, switch: Switch) -> Option<Request> {
        match self.now.as_ref()?.switches.get(switch) {
            Some(on) => Some(Request::Switch(switch, !on)),
            None => {
                let name = switch.name();
                self.answer = Some(Err(format!("{name} can't be switched in this cell")));
                None
            }
        }
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::unnecessary_wraps,
    reason = "counts below 2^53"
)]
pub fn count(value: u64) -> Option<f64> {
    Some(value as f64)
}

fn rate(before: &Sample, now: &Sample, figure: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
    let seconds = now.time_seconds - before.time_seconds;
    (seconds > 0.0).then(|| Some((figure(now)? - figure(before)?) / seconds))?
}

fn compare(a: &Row, b: &Row, column: Column) -> Ordering {
    let by = |value: fn(&Sample) -> u64| value(&b.vm.sample).cmp(&value(&a.vm.sample));
    let float = |a: Option<f64>, b: Option<f64>| b.unwrap_or(0.0).total_cmp(&a.unwrap_or(0.0));
    match column {
        Column::Name => Ordering::Equal,
        Column::State => a.vm.state.cmp(&b.vm.state),
        Column::Touched => by(|s| s.touched_bytes),
        Column::Private => by(|s| s.private_bytes),
        Column::Mapped => by(|s| s.mapped_bytes),
        Column::Zero => by(|s| s.zero_bytes),
        Column::Balloon => by(|s| s.ballooned_bytes.unwrap_or(0)),
        Column::Breaks => float(a.breaks, b.breaks),
        Column::Cpu => float(a.cpu, b.cpu),
    }
}

/// A name with the number at its end as a number: `vm-10` comes after `vm-9`.
fn natural(name: &str) -> (&str, u64) {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (stem, name[stem.len()..].parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(name: &str, private: u64, cpu: f64) -> VmView {
        VmView {
            name: name.into(),
            state: "running".into(),
            sample: Sample {
                private_bytes: private,
                vcpu_seconds: Some(cpu),
                ..Sample::default()
            },
        }
    }

    fn snapshot(time: f64, vms: Vec<VmView>) -> Message {
        let mut snapshot = Snapshot {
            vms,
            ..Snapshot::default()
        };
        snapshot.machine.time_seconds = time;
        for vm in &mut snapshot.vms {
            vm.sample.time_seconds = time;
        }
        snapshot.switches.disk = Some(true);
        Message::Snapshot(Box::new(snapshot))
    }

    fn names(board: &Board) -> Vec<String> {
        board.rows().into_iter().map(|row| row.vm.name).collect()
    }

    #[test]
    fn the_largest_come_first_and_names_count() {
        let mut board = Board::new(false);
        let vms = vec![vm("g-10", 5, 0.0), vm("g-2", 9, 0.0), vm("g-1", 5, 0.0)];
        board.take(snapshot(1.0, vms));
        assert_eq!(names(&board), ["g-1", "g-2", "g-10"]);
        board.sort = Column::Private;
        assert_eq!(names(&board), ["g-2", "g-1", "g-10"]);
        board.wish(Wish::Reverse);
        assert_eq!(names(&board), ["g-1", "g-10", "g-2"]);
    }

    #[test]
    fn rates_are_between_two_snapshots() {
        let mut board = Board::new(false);
        board.take(snapshot(1.0, vec![vm("a", 0, 3.0)]));
        assert_eq!(board.rows()[0].cpu, None);
        board.take(snapshot(3.0, vec![vm("a", 0, 4.0), vm("b", 0, 1.0)]));
        assert_eq!(board.rows()[0].cpu, Some(0.5));
        assert_eq!(board.rows()[1].cpu, None, "it is new");
    }

    #[test]
    fn the_selected_vm_stays_selected_when_the_order_changes() {
        let mut board = Board::new(false);
        board.take(snapshot(1.0, vec![vm("a", 1, 0.0), vm("b", 2, 0.0)]));
        assert_eq!(board.wish(Wish::Pause), None);
        assert!(board.answer.take().unwrap().is_err(), "none is selected");
        board.wish(Wish::Down);
        board.wish(Wish::Down);
        board.wish(Wish::Down);
        assert_eq!(board.wish(Wish::Pause), Some(Request::Pause("b".into())));
        board.sort = Column::Private;
        assert_eq!(board.selected(&board.rows()), Some(0));
    }

    #[test]
    fn a_mechanism_is_switched_to_what_it_is_not() {
        let mut board = Board::new(false);
        board.take(snapshot(1.0, Vec::new()));
        let off = Request::Switch(Switch::Disk, false);
        assert_eq!(board.wish(Wish::Switch(Switch::Disk)), Some(off));
        assert_eq!(board.wish(Wish::Switch(Switch::Zero)), None);
        assert!(board.answer.unwrap().unwrap_err().contains("zero"));
    }
}
