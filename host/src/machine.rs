//! The size and shape of the emulated machine.

use std::fmt;

use crate::HostError;

/// Less memory than this does not boot and leave room for a command, bytes.
pub const LEAST_MEMORY: u64 = 768 << 20;
/// More cores than this help nobody.
pub const MOST_CORES: u32 = 64;
/// More nodes than this QEMU and Linux support, but no one has asked for.
const MOST_NODES: u32 = 16;

/// An emulated machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its memory, bytes, in whole MiB.
    pub memory: u64,
    /// Its cores.
    pub cores: u32,
    /// NUMA nodes, among which memory and cores are split evenly.
    pub numa_nodes: u32,
    /// Whether its KVM uses nested paging (`kvm_amd npt=1`) or shadow page tables.
    pub nested_paging: bool,
    /// Whether each core is emulated by a thread of its own. QEMU (7.2 at least) then translates
    /// code that the kernel is patching, and now and then the emulated host dies of it.
    pub parallel: bool,
    /// Whether its time is that of the instructions that it has executed, at 2 ns each, whatever each took
    /// to emulate, and this machine's while it has nothing to do. Times of work then compare whatever
    /// else this machine does. QEMU (7.2 at least) gives a guest an interrupt twice now and then, as
    /// with several cores.
    pub by_instructions: bool,
}

impl Machine {
    /// Whether there can be such a machine on this one.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn check(&self) -> Result<(), HostError> {
        let wrong = |text: String| Err(HostError::Machine(format!("the emulated host: {text}")));
        if self.memory < LEAST_MEMORY || !self.memory.is_multiple_of(1 << 20) {
            return wrong(format!(
                "its memory must be whole MiB, {} at least",
                LEAST_MEMORY >> 20
            ));
        }
        if let Some(there) = this_memory().filter(|there| self.memory > *there) {
            return wrong(format!(
                "{} MiB of memory were asked for, and this machine has {}",
                self.memory >> 20,
                there >> 20
            ));
        }
        if !(1..=MOST_CORES).contains(&self.cores) {
            return wrong(format!("it may have 1 to {MOST_CORES} cores"));
        }
        if self.by_instructions && self.parallel {
            return wrong(
                "its clock counts instructions only where its cores are not emulated in parallel; \
                 leave out `--host-parallel on`, or say `--host-clock real`"
                    .to_owned(),
            );
        }
        if !(1..=MOST_NODES.min(self.cores)).contains(&self.numa_nodes) {
            return wrong(format!(
                "it may have 1 to {MOST_NODES} NUMA nodes, of a core each at least"
            ));
        }
        Ok(())
    }

    /// Memory in MiB and cores of each NUMA node; the first ones get what does not divide.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let nodes = u64::from(self.numa_nodes.max(1));
        let share = |whole: u64, index: u64| whole / nodes + u64::from(index < whole % nodes);
        let mut first = 0;
        (0..nodes)
            .map(|index| {
                let cores = share(self.cores.into(), index);
                let node = Node {
                    mebibytes: share(self.memory >> 20, index),
                    first_core: first,
                    last_core: (first + cores).saturating_sub(1),
                };
                first += cores;
                node
            })
            .collect()
    }
}

/// A NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) mebibytes: u64,
    pub(crate) first_core: u64,
    pub(crate) last_core: u64,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "QEMU TCG, {} core{}, {} MiB",
            self.cores,
            if self.cores == 1 { "" } else { "s" },
            self.memory >> 20
        )?;
        if self.numa_nodes > 1 {
            write!(f, ", {} NUMA nodes", self.numa_nodes)?;
        }
        let paging = if self.nested_paging {
            "nested"
        } else {
            "shadow"
        };
        let threads = if self.parallel && self.cores > 1 {
            ", cores in parallel"
        } else {
            ""
        };
        let clock = if self.by_instructions {
            ", time by instructions"
        } else {
            ""
        };
        write!(f, ", {paging} paging{threads}{clock}")
    }
}

/// Memory of this machine, bytes.
fn this_memory() -> Option<u64> {
    let info = rustix::system::sysinfo();
    info.totalram.checked_mul(info.mem_unit.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Machine = Machine {
        memory: 1 << 30,
        cores: 2,
        numa_nodes: 1,
        nested_paging: true,
        parallel: false,
        by_instructions: false,
    };

    #[test]
    fn impossible_machines_are_refused() {
        SMALL.check().unwrap();
        let wrong = [
            Machine {
                memory: (1 << 30) + 1,
                ..SMALL
            },
            Machine {
                memory: 64 << 20,
                ..SMALL
            },
            Machine {
                memory: 1 << 50,
                ..SMALL
            },
            Machine { cores: 0, ..SMALL },
            Machine { cores: 65, ..SMALL },
            Machine {
                numa_nodes: 0,
                ..SMALL
            },
            Machine {
                numa_nodes: 3,
                ..SMALL
            },
            Machine {
                by_instructions: true,
                parallel: true,
                ..SMALL
            },
        ];
        for machine in wrong {
            assert!(machine.check().is_err(), "{machine:?}");
        }
    }

    #[test]
    fn nodes_share_all_there_is() {
        let machine = Machine {
            memory: 1025 << 20,
            cores: 5,
            numa_nodes: 2,
            ..SMALL
        };
        let nodes = machine.nodes();
        let [first, second] = nodes[..] else {
            panic!("{nodes:?}")
        };
        assert_eq!((first.mebibytes, second.mebibytes), (513, 512));
        assert_eq!((first.first_core, first.last_core), (0, 2));
        assert_eq!((second.first_core, second.last_core), (3, 4));
    }
}
