//! Checks of guests.

use std::ops::RangeInclusive;

use mirrorball_abi::{MAX_DEVICES, MAX_VCPUS, WorkloadKind, layout};
use mirrorball_monitor::linux::MAX_LINUX_VCPUS;

use super::super::linux::{LinuxSpec, RootSpec};
use super::super::model::{Event, GuestGroup, System, WorkloadSpec};
use super::{Checks, list, mib, size};

/// Page table entries of the boot image cover this much each.
const MEMORY_STEP: u64 = 2 << 20;
/// More VMs than this in one process has not been tried.
const MAX_GUESTS: u64 = 20_000;
/// With less, no distribution kernel starts; what one needs is known when it is loaded.
const LEAST_LINUX: u64 = 64 << 20;
/// Longest command of a Linux guest, in bytes.
const LONGEST_COMMAND: usize = 4096;

/// Most files that `pmake` works on at a time.
const MOST_JOBS: u64 = 64;
/// The last virtio device that `hostile` knows: the console.
const LAST_DEVICE: u64 = 3;

/// What a guest can have.
struct Limits {
    kind: &'static str,
    memory: RangeInclusive<u64>,
    vcpus: u32,
}

impl Limits {
    fn of(system: &System) -> Self {
        match system {
            System::Splash { .. } => Self {
                kind: "splash",
                memory: layout::MIN_MEMORY..=layout::MAX_MEMORY,
                vcpus: u32::try_from(MAX_VCPUS).unwrap_or(u32::MAX),
            },
            System::Linux(_) => Self {
                kind: "Linux",
                memory: LEAST_LINUX..=layout::MAX_MEMORY,
                vcpus: MAX_LINUX_VCPUS,
            },
        }
    }
}

impl Checks<'_> {
    pub(super) fn guests(&mut self) {
        let groups = &self.experiment.guests;
        let all = groups.iter().map(|group| u64::from(group.count));
        let all = all.sum::<u64>();
        if all > MAX_GUESTS {
            self.add(
                self.problem("guests", format!("{all} guests"))
                    .expected(format!("at most {MAX_GUESTS} in all")),
            );
        }
        if all == 0 && !groups.is_empty() {
            let problem = self.problem("guests", "no guest is there at the start");
            self.add(problem.expected("a group with a `count` over 0"));
        }
        for (index, group) in groups.iter().enumerate() {
            if groups[..index].iter().any(|earlier| earlier.id == group.id) {
                let path = format!("guests[{index}].id");
                self.add(
                    self.problem(&path, format!("`{}` was used before", group.id))
                        .expected("an id of its own"),
                );
            }
            self.guest(index, group);
        }
    }

    fn guest(&mut self, index: usize, group: &GuestGroup) {
        let path = |field: &str| format!("guests[{index}].{field}");
        let limits = Limits::of(&group.system);
        let vcpus = group.vcpus;
        if vcpus == 0 || vcpus > limits.vcpus {
            let problem = self.problem(&path("vcpus"), format!("{vcpus} vCPUs"));
            self.add(problem.expected(format!("1 to {}", limits.vcpus)));
        }
        let memory = group.memory.0;
        if !limits.memory.contains(&memory) || !memory.is_multiple_of(MEMORY_STEP) {
            let problem = self.problem(
                &path("memory"),
                format!("a {} guest can't have {}", limits.kind, size(memory)),
            );
            self.add(problem.expected(format!(
                "{} to {}, a multiple of 2 MiB",
                mib(*limits.memory.start()),
                mib(*limits.memory.end())
            )));
        }
        let room = MAX_DEVICES - 1 - usize::from(group.network.is_some());
        if group.disks.len() > room {
            let problem = self.problem(&path("disks"), format!("{} disks", group.disks.len()));
            self.add(problem.expected(format!("at most {room}")));
        }
        let limit = self.experiment.phases.start_timeout;
        if group.start_at >= limit {
            let problem = self.problem(&path("start.at"), "the start phase is over by then");
            let seconds = limit.0.as_secs_f64();
            self.add(problem.expected(format!("before {seconds} s, its `timeout`")));
        }
        for (number, disk) in group.disks.iter().enumerate() {
            let at = path(&format!("disks[{number}]"));
            // By its mark: an image whose source could not be read is there all the same.
            if !self.marks.contains_key(&format!("images.{}", disk.image)) {
                let known = self
                    .experiment
                    .images
                    .keys()
                    .map(String::as_str)
                    .collect::<Vec<_>>();
                let problem = self
                    .problem(
                        &format!("{at}.image"),
                        format!("there is no image `{}`", disk.image),
                    )
                    .expected(format!("an id of `images`: {}", list(&known)))
                    .nearest(&disk.image, known);
                self.add(problem);
            }
            if !disk.scratch.0.is_multiple_of(4096) {
                let problem =
                    self.problem(&format!("{at}.scratch"), "scratch space comes in blocks");
                self.add(problem.expected("a multiple of 4 KiB"));
            }
        }
        match &group.system {
            System::Splash { workload } => self.workload(&path("workload"), group, workload),
            System::Linux(linux) => self.linux(index, linux),
        }
    }

    fn linux(&mut self, index: usize, linux: &LinuxSpec) {
        let path = |field: &str| format!("guests[{index}].linux.{field}");
        let long = |command: &String| command.contains('\n') || command.len() > LONGEST_COMMAND;
        if let Some(number) = linux.run.iter().position(long) {
            let problem = self.problem(&path(&format!("run[{number}]")), "a command is one line");
            self.add(problem.expected(format!("one line of at most {LONGEST_COMMAND} characters")));
        }
        for (number, metric) in linux.metrics.iter().enumerate() {
            if linux.metrics[..number]
                .iter()
                .any(|earlier| earlier.id == metric.id)
            {
                let message = format!("`{}` was used before", metric.id);
                let problem = self.problem(&path(&format!("metrics[{number}].id")), message);
                self.add(problem.expected("an id of its own"));
            }
        }
        let empty =
            matches!(&linux.root, RootSpec::Packages { packages, .. } if packages.is_empty());
        if empty {
            let problem = self.problem(&path("root.packages"), "no package is named");
            self.add(problem.expected("names of Debian packages, or `root: busybox`"));
        }
    }

    /// What guests of one kind only can be made to do.
    pub(super) fn event_of_kind(&mut self, path: &str, guests: &str, event: &Event) {
        let groups = &self.experiment.guests;
        let Some(group) = groups.iter().find(|group| group.id == guests) else {
            return;
        };
        match (event, &group.system) {
            (Event::SetBalloon { .. }, _) if self.policy_has_balloons() => {
                let path = format!("{path}.set-balloon");
                let problem = self.problem(&path, "the policy sets the balloons");
                self.add(problem.expected("`set-claim`, or a policy with `balloon: off`"));
            }
            (Event::SetBalloon { target, .. }, _) if target.0 > group.memory.0 => {
                let path = format!("{path}.set-balloon.target");
                let message = format!("these guests have {}", size(group.memory.0));
                let problem = self.problem(&path, message);
                self.add(problem.expected("less than the guest's memory"));
            }
            (Event::RunWorkload { .. }, System::Linux(_)) => {
                let path = format!("{path}.run-workload.guests");
                let problem = self.problem(&path, "Linux guests run commands, no workload");
                self.add(problem.expected("guests of `kind: splash`"));
            }
            (Event::RunWorkload { workload, .. }, System::Splash { .. }) => {
                self.workload(&format!("{path}.run-workload.workload"), group, workload);
            }
            _ => {}
        }
    }

    fn policy_has_balloons(&self) -> bool {
        let policy = self.experiment.policy.as_ref();
        policy.is_some_and(|policy| policy.balloon.0)
    }

    fn workload(&mut self, path: &str, group: &GuestGroup, workload: &WorkloadSpec) {
        use WorkloadKind::{
            Echo, Exchange, FileClient, FileServer, Idle, Pmake, Scan, Stream, Torture,
        };
        let kind = workload.kind;
        if matches!(kind, Pmake | Scan | Torture | FileServer) && group.disks.is_empty() {
            let problem = self.problem(
                path,
                format!("`{}` reads a disk and there is none", workload.name),
            );
            self.add(problem.expected("a guest with `disks`"));
        }
        let remote = kind == Pmake && workload.is_remote();
        let talks = matches!(kind, FileServer | FileClient | Exchange | Stream | Echo);
        if (talks || remote) && group.network.is_none() {
            let text = format!("`{}` is for guests on a network", workload.name);
            self.add(self.problem(path, text).expected("a guest with `network`"));
        }
        self.numbers(path, group, workload);
        let writes = matches!(kind, Pmake | Torture);
        if writes && !group.disks.is_empty() && group.disks.iter().all(|disk| disk.scratch.0 == 0) {
            let problem = self.problem(
                path,
                format!("`{}` writes to its disk and has no room", workload.name),
            );
            self.add(problem.expected("a disk with `scratch`, such as `scratch: 32 MiB`"));
        }
        if kind == Idle && self.experiment.phases.workload_for.is_none() {
            let problem = self.problem(path, "`idle` does not end by itself");
            self.add(problem.expected("a phase `workload` with `for`, such as `for: 5 s`"));
        }
    }

    /// Numbers that no guest of the group could have. What else does not fit, the guest refuses: only
    /// it knows what is free.
    fn numbers(&mut self, path: &str, group: &GuestGroup, workload: &WorkloadSpec) {
        let named = |name: &str| workload.named.get(name).copied().unwrap_or(0);
        for (name, most) in [("jobs", MOST_JOBS), ("device", LAST_DEVICE)] {
            if named(name) > most {
                let message = format!("{} is out of range", named(name));
                let problem = self.problem(&format!("{path}.{name}"), message);
                self.add(problem.expected(format!("at most {most}")));
            }
        }
        let memory = group.memory.0;
        let sizes = [
            ("working-set", 4096, "each page has 4 KiB"),
            ("region", 4096, "each page has 4 KiB"),
            ("keys", 8, "each key has 4 bytes in two arrays"),
        ];
        for (name, each, how) in sizes {
            let bytes = named(name).saturating_mul(each);
            if bytes > memory {
                let message = format!(
                    "this takes {} ({} x {each} bytes: {how}), and the guest has {}",
                    mib(bytes),
                    named(name),
                    mib(memory)
                );
                let problem = self.problem(&format!("{path}.{name}"), message);
                self.add(problem.expected(
                    "less than the guest's memory, which its own code and buffers are in too",
                ));
            }
        }
    }
}
