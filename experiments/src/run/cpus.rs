//! Keeps an experiment on the CPUs that its file names.
//!
//! Threads that are started later have what their parent has, so this is done before there are any.
//! Memory follows: without a policy of its own the kernel takes it from the node of the CPU that
//! touches it first.

use std::path::Path;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::RunError;
use crate::spec::{CpuList, MachineSpec};

/// Where the kernel tells of NUMA nodes.
const NODES: &str = "/sys/devices/system/node";

/// The calling thread on certain CPUs; where it was before when dropped.
#[derive(Debug)]
pub struct Pinned(CpuSet);

impl Pinned {
    /// Moves to the CPUs that the experiment names, if it names any.
    ///
    /// # Errors
    /// This host does not have them, or does not let this process run there.
    pub fn to(machine: &MachineSpec) -> Result<Option<Self>, RunError> {
        let Some(wanted) = wanted(machine, Path::new(NODES))? else {
            return Ok(None);
        };
        let before = sched_getaffinity(None).map_err(|error| refused(&error.to_string()))?;
        let mut set = CpuSet::new();
        for &cpu in &wanted.0 {
            let cpu = usize::try_from(cpu).unwrap_or(usize::MAX);
            if cpu >= CpuSet::MAX_CPU || !before.is_set(cpu) {
                return Err(refused(&format!("this process may not run on CPU {cpu}")));
            }
            set.set(cpu);
        }
        sched_setaffinity(None, &set).map_err(|error| refused(&error.to_string()))?;
        Ok(Some(Self(before)))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Err(error) = sched_setaffinity(None, &self.0) {
            tracing::warn!(%error, "this thread stays on the experiment's CPUs");
        }
    }
}

/// The CPUs that a machine shall have: those of its list, those of its node, or those in both.
fn wanted(machine: &MachineSpec, nodes: &Path) -> Result<Option<CpuList>, RunError> {
    let Some(node) = machine.numa_node else {
        return Ok(machine.cpus.clone());
    };
    let file = nodes.join(format!("node{node}/cpulist"));
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let Some(of_node) = CpuList::parse(&text) else {
        return Err(refused(&format!(
            "NUMA node {node} is not there, or has no CPU"
        )));
    };
    let Some(cpus) = &machine.cpus else {
        return Ok(Some(of_node));
    };
    match cpus.0.iter().find(|cpu| !of_node.0.contains(cpu)) {
        Some(cpu) => Err(refused(&format!("CPU {cpu} is not of NUMA node {node}"))),
        None => Ok(Some(cpus.clone())),
    }
}

fn refused(finding: &str) -> RunError {
    RunError::Host {
        finding: format!("the experiment can't have its CPUs: {finding}"),
        remedy: "change `machine.cpus` or `machine.numa-node`, for this time with --set".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{EmulatedClock, Size};

    fn machine(cpus: Option<&str>, numa_node: Option<u32>) -> MachineSpec {
        MachineSpec {
            memory: Size(1 << 20),
            requires: Vec::new(),
            cpus: cpus.map(|cpus| CpuList::parse(cpus).unwrap()),
            numa_node,
            large_pages: false,
            emulated_clock: EmulatedClock::Real,
        }
    }

    #[test]
    fn a_nodes_cpus_are_the_kernels_list() {
        let nodes = tempfile::tempdir().unwrap();
        std::fs::create_dir(nodes.path().join("node1")).unwrap();
        std::fs::write(nodes.path().join("node1/cpulist"), "2-3\n").unwrap();
        let wanted = |cpus, node| wanted(&machine(cpus, node), nodes.path());
        assert_eq!(wanted(None, None).unwrap(), None);
        assert_eq!(wanted(None, Some(1)).unwrap(), CpuList::parse("2,3"));
        assert_eq!(wanted(Some("3"), Some(1)).unwrap(), CpuList::parse("3"));
        let told = wanted(Some("1-2"), Some(1)).unwrap_err().to_string();
        assert!(told.contains("CPU 1 is not of NUMA node 1"), "{told}");
        assert!(wanted(None, Some(2)).is_err(), "no such node");
    }

    #[test]
    fn threads_that_are_started_later_stay_there_too() {
        let mine = sched_getaffinity(None).unwrap();
        let first = (0..CpuSet::MAX_CPU).find(|cpu| mine.is_set(*cpu)).unwrap();
        let pinned = Pinned::to(&machine(Some(&first.to_string()), None)).unwrap();
        let of_child = std::thread::spawn(|| sched_getaffinity(None).unwrap());
        assert_eq!(of_child.join().unwrap().count(), 1);
        drop(pinned);
        assert_eq!(sched_getaffinity(None).unwrap(), mine);
        let absent = machine(Some("8191"), None);
        assert!(Pinned::to(&absent).is_err(), "no host here has so many");
    }
}
