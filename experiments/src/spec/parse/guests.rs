//! Guests and their disks.

use super::super::describe::{Field, Map};
use super::super::linux::LinuxSpec;
use super::super::model::{DiskMode, DiskSpec, GuestGroup, System, WorkloadSpec};
use super::super::networks::GuestNetwork;
use super::super::reader::{Fields, FromMap, Word, from_map};
use super::super::units::{Count, Size, Time};
use super::Name;

from_map!(GuestGroup, Start, DiskSpec);

/// The operating system of a guest.
#[derive(Clone, Copy)]
enum Kind {
    Splash,
    Linux,
}

impl Word for Kind {
    const WORDS: &'static [(&'static str, Self, &'static str)] = &[
        (
            "splash",
            Self::Splash,
            "the thin guest ([thin-guest.md](thin-guest.md))",
        ),
        (
            "linux",
            Self::Linux,
            "a distribution kernel ([linux-guests.md](linux-guests.md)), which needs a hardware KVM or `--host emulated`",
        ),
    ];
}

impl FromMap for GuestGroup {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<Name>("id", "used in results and events; must be unique"),
            Field::or::<Kind>("kind", "splash", "the operating system"),
            Field::needed::<u32>(
                "count",
                "guests at the start; 0 for a group of which the timeline or a point of the sweep starts some",
            ),
            Field::or::<u32>("vcpus", "1", "1 to 16; 1 to 8 for `linux`"),
            Field::needed::<Size>(
                "memory",
                "guest-physical memory of each; 16 MiB (`linux`: 64 MiB) to 3 GiB, a multiple of 2 MiB",
            ),
            Field::maybe::<Count>(
                "shares",
                "one for each MiB of `memory`",
                "with `policy`: weight of each guest against the others",
            ),
            Field::or::<Size>(
                "min",
                "0 B",
                "with `policy`: machine memory that each is given whatever happens; all together at most `machine.memory`",
            ),
            Field::maybe::<Size>(
                "max",
                "`memory`",
                "with `policy`: machine memory that each gets at most, if memory is short",
            ),
            Field::or::<u32>(
                "group",
                "0",
                "sharing group: frames are never shared across groups; zero pages are exempt",
            ),
            Field::or::<Vec<DiskSpec>>("disks", "[]", "at most 7, or 6 and a network"),
            Field::maybe::<GuestNetwork>(
                "network",
                "none",
                "a network device, and the network that it is on",
            ),
            Field::or::<Start>("start", "{}", "when each guest starts"),
            Field::maybe::<WorkloadSpec>(
                "workload",
                "required for `splash`",
                "what the thin guest does",
            ),
            Field::maybe::<LinuxSpec>(
                "linux",
                "required for `linux`",
                "kernel, root, commands: see [linux-guests.md](linux-guests.md#in-an-experiment)",
            ),
        ];
        let about = "A group of guests that are alike; at most 20,000 guests in all. More \
                     guest-physical memory than the host has is a warning, not an error";
        Map::new("guest", about, fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let (id, count) = (fields.get::<Name>("id"), fields.get::<u32>("count"));
        let (vcpus, memory) = (fields.get("vcpus"), fields.get::<Size>("memory"));
        let (group, disks) = (fields.get("group"), fields.get("disks"));
        let start = fields.get::<Start>("start");
        let network = fields.get("network");
        let shares = fields.get::<Count>("shares").map(|shares| shares.0);
        let (min, max) = (fields.get("min"), fields.get("max"));
        let kind = fields.get::<Kind>("kind")?;
        let (workload, linux) = (fields.get("workload"), fields.get("linux"));
        let (wanted, other) = match kind {
            Kind::Splash => ("workload", "linux"),
            Kind::Linux => ("linux", "workload"),
        };
        if !fields.has(wanted) {
            let problem = fields.problem(format!("`{wanted}` is missing"));
            fields.report::<()>(problem.expected(format!("what the guest does, in `{wanted}`")));
        }
        if let Some((at, _)) = fields.node(other) {
            let problem = at.problem(format!("`{other}` is for guests of another kind"));
            at.report::<()>(problem.expected(format!("`{wanted}`, or another `kind`")));
        }
        let system = match kind {
            Kind::Splash => System::Splash {
                workload: workload?,
            },
            Kind::Linux => System::Linux(linux?),
        };
        let start = start?;
        Some(Self {
            id: id?.0,
            count: count?,
            vcpus: vcpus?,
            memory: memory?,
            shares,
            min: min?,
            max,
            group: group?,
            disks: disks?,
            network,
            start_at: start.at,
            stagger: start.stagger,
            system,
        })
    }
}

/// When the guests of a group start.
struct Start {
    at: Time,
    stagger: Time,
}

impl FromMap for Start {
    fn map() -> Map {
        let fields = vec![
            Field::or::<Time>(
                "at",
                "0 s",
                "the group's first: time after the experiment's first; before the `timeout` of the start phase",
            ),
            Field::or::<Time>(
                "stagger",
                "0 s",
                "pause after the start of each guest of the group",
            ),
        ];
        Map::new("start", "When guests start", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let (at, stagger) = (fields.get("at"), fields.get("stagger"));
        Some(Self {
            at: at?,
            stagger: stagger?,
        })
    }
}

impl Word for DiskMode {
    const WORDS: &'static [(&'static str, Self, &'static str)] = &[
        (
            "nonpersistent",
            Self::Nonpersistent,
            "writes go to an unlinked file in `TMPDIR` and are dropped",
        ),
        (
            "persistent",
            Self::Persistent,
            "writes go to `disks/<cell>-<run>/<guest>-<disk>` in the results folder and are durable at each flush",
        ),
    ];
}

impl FromMap for DiskSpec {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<String>("image", "an id of `images`"),
            Field::or::<DiskMode>("mode", "nonpersistent", "what becomes of writes"),
            Field::or::<Size>(
                "scratch",
                "0 B",
                "blank space behind the image; a multiple of 4 KiB",
            ),
        ];
        Map::new("disk", "A disk of a guest", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let (image, mode) = (fields.get("image"), fields.get("mode"));
        let scratch = fields.get("scratch");
        Some(Self {
            image: image?,
            mode: mode?,
            scratch: scratch?,
        })
    }
}
