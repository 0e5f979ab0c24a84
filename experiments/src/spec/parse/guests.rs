//! Guests and their disks.

use super::super::linux::LinuxSpec;
use super::super::model::{DiskMode, DiskSpec, GuestGroup, System, WorkloadSpec};
use super::super::reader::{At, FromNode};
use super::super::text::Node;
use super::super::units::{Count, Size, Time};
use super::Name;

impl FromNode for GuestGroup {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map with `id`, `count`, `memory`, `workload`")?;
        let linux = fields
            .node("kind")
            .and_then(|(at, node)| at.word(node, &[("splash", false), ("linux", true)]))
            .unwrap_or(false);
        let (id, count) = (fields.need::<Name>("id"), fields.need::<Count>("count"));
        let vcpus = fields.or("vcpus", 1_u32);
        let memory = fields.need::<Size>("memory");
        let group = fields.or("group", 0);
        let disks = fields.or("disks", Vec::new());
        let stagger = fields
            .get::<Start>("start")
            .map(|start| start.0)
            .unwrap_or_default();
        let system = if linux {
            fields.need::<LinuxSpec>("linux").map(System::Linux)
        } else {
            let workload = fields.need::<WorkloadSpec>("workload");
            workload.map(|workload| System::Splash { workload })
        };
        fields.finish();
        Some(Self {
            id: id?.0,
            count: count?.0,
            vcpus,
            memory: memory?,
            group,
            disks,
            stagger,
            system: system?,
        })
    }
}

/// How the guests of a group start.
struct Start(Time);

impl FromNode for Start {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map with `stagger`")?;
        let stagger = fields.need("stagger");
        fields.finish();
        stagger.map(Self)
    }
}

impl FromNode for DiskSpec {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map with `image`, `mode`, `scratch`")?;
        let image = fields.need("image");
        let mode = match fields.node("mode") {
            Some((at, node)) => at.word(
                node,
                &[
                    ("nonpersistent", DiskMode::Nonpersistent),
                    ("persistent", DiskMode::Persistent),
                ],
            ),
            None => Some(DiskMode::Nonpersistent),
        };
        let scratch = fields.or("scratch", Size(0));
        fields.finish();
        Some(Self {
            image: image?,
            mode: mode?,
            scratch,
        })
    }
}
