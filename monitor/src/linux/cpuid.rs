//! What CPUID tells a Linux guest: all that KVM supports, but for its own place among the vCPUs.
//!
//! The guest sees one package with as many cores as it has vCPUs, without threads. Left out are
//! performance counters (the host's are not the guest's, and probing them costs exits), and those
//! of KVM's services that work by KVM writing into guest memory on its own: such a write meets a
//! fence of the pmap and is lost.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Leaf of KVM's own features.
const KVM_FEATURES: u32 = 0x4000_0001;
/// Asynchronous page faults (in three parts), steal time, end-of-interrupt flags, and remote TLB
/// flushes, which need steal time (`asm/kvm_para.h`).
const KVM_WRITES_MEMORY: u32 = 1 << 4 | 1 << 5 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 14;
/// Architectural performance counters: Intel's leaf and AMD's.
const COUNTERS: [u32; 2] = [0xa, 0x8000_0022];
/// AMD's core and last-level-cache counters, in leaf 0x80000001, ECX.
const AMD_COUNTERS: u32 = 1 << 23 | 1 << 24 | 1 << 28;
/// Leaves that list levels of the topology.
const TOPOLOGY: [u32; 2] = [0xb, 0x1f];
/// AMD's newer list of levels; without it Linux takes [`TOPOLOGY`].
const AMD_TOPOLOGY: u32 = 0x8000_0026;

/// The features of vCPU `index` of `count`. `deadline`: KVM has the APIC's deadline timer.
pub(crate) fn features(
    supported: &CpuId,
    index: u32,
    count: u32,
    deadline: bool,
) -> Result<CpuId, vmm_sys_util::fam::Error> {
    let place = Place { index, count };
    let mut entries: Vec<kvm_cpuid_entry2> = supported
        .as_slice()
        .iter()
        .filter(|entry| !TOPOLOGY.contains(&entry.function))
        .filter(|entry| entry.function != AMD_TOPOLOGY)
        .copied()
        .collect();
    for entry in &mut entries {
        place.patch(entry, deadline);
    }
    let largest = entries
        .iter()
        .find(|entry| entry.function == 0)
        .map_or(0, |entry| entry.eax);
    for leaf in TOPOLOGY.into_iter().filter(|leaf| *leaf <= largest) {
        entries.extend(place.levels(leaf));
    }
    CpuId::from_entries(&entries)
}

/// Which vCPU of how many.
#[derive(Clone, Copy, Debug)]
struct Place {
    index: u32,
    count: u32,
}

impl Place {
    /// Bits of an APIC identifier that tell cores apart.
    fn bits(self) -> u32 {
        self.count.next_power_of_two().trailing_zeros()
    }

    fn patch(self, entry: &mut kvm_cpuid_entry2, deadline: bool) {
        match entry.function {
            1 => {
                entry.ebx = entry.ebx & 0xffff | self.count << 16 | self.index << 24;
                set(&mut entry.ecx, 1 << 31, true);
                set(&mut entry.ecx, 1 << 24, deadline);
                set(&mut entry.edx, 1 << 28, self.count > 1);
            }
            4 if entry.eax & 0x1f != 0 => {
                entry.eax = self.cache(entry.eax) & 0x03ff_ffff | (self.ids() - 1) << 26;
            }
            0x8000_001d if entry.eax & 0x1f != 0 => entry.eax = self.cache(entry.eax),
            leaf if COUNTERS.contains(&leaf) => {
                (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0);
            }
            KVM_FEATURES => entry.eax &= !KVM_WRITES_MEMORY,
            0x8000_0001 => {
                set(&mut entry.ecx, AMD_COUNTERS, false);
                // "CmpLegacy" of AMD: the processors of leaf 1 are cores, not threads.
                set(&mut entry.ecx, 1 << 1, self.count > 1);
            }
            0x8000_0008 => {
                entry.ecx = entry.ecx & !0xf0ff | self.bits() << 12 | (self.count - 1);
            }
            0x8000_001e => {
                (entry.eax, entry.ebx, entry.ecx) = (self.index, self.index, 0);
            }
            _ => {}
        }
    }

    /// APIC identifiers of a package, used and unused.
    fn ids(self) -> u32 {
        1 << self.bits()
    }

    /// EAX of a cache: from the third level on it is shared by all cores.
    fn cache(self, eax: u32) -> u32 {
        let level = eax >> 5 & 0b111;
        let sharers = if level >= 3 { self.ids() } else { 1 };
        eax & !(0xfff << 14) | (sharers - 1) << 14
    }

    /// The topology's levels: one thread a core, then the cores, then the end.
    fn levels(self, leaf: u32) -> [kvm_cpuid_entry2; 3] {
        let level = |index: u32, shift: u32, processors: u32, kind: u32| kvm_cpuid_entry2 {
            function: leaf,
            index,
            flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            eax: shift,
            ebx: processors,
            ecx: kind << 8 | index,
            edx: self.index,
            ..kvm_cpuid_entry2::default()
        };
        [
            level(0, 0, 1, 1),
            level(1, self.bits(), self.count, 2),
            level(2, 0, 0, 0),
        ]
    }
}

fn set(register: &mut u32, bits: u32, on: bool) {
    if on {
        *register |= bits;
    } else {
        *register &= !bits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32, index: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
        let [eax, ebx, ecx, edx] = registers;
        kvm_cpuid_entry2 {
            function,
            index,
            eax,
            ebx,
            ecx,
            edx,
            ..kvm_cpuid_entry2::default()
        }
    }

    fn patched(index: u32, count: u32) -> Vec<kvm_cpuid_entry2> {
        let supported = CpuId::from_entries(&[
            leaf(0, 0, [0xd, 0, 0, 0]),
            leaf(1, 0, [0, 0xff12_0801, 0, 0]),
            leaf(4, 0, [0xfc03_c021, 0, 0, 0]),
            leaf(4, 2, [0xfc03_c063, 0, 0, 0]),
            leaf(4, 3, [0, 0, 0, 0]),
            leaf(0xa, 0, [0x0730_0805, 1, 2, 3]),
            leaf(0xb, 0, [7, 7, 7, 7]),
            leaf(0x4000_0001, 0, [0x0100_ffff, 0, 0, 0]),
            leaf(0x8000_0001, 0, [0, 0, u32::MAX, 0]),
            leaf(0x8000_0008, 0, [0x3030, 0, 0x7_70ff, 0]),
            leaf(0x8000_001e, 0, [9, 0x101, 0x700, 0]),
        ])
        .unwrap();
        features(&supported, index, count, true)
            .unwrap()
            .as_slice()
            .to_vec()
    }

    fn find(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> [u32; 4] {
        let mut found = entries
            .iter()
            .filter(|entry| (entry.function, entry.index) == (function, index));
        let entry = found.next().unwrap();
        assert!(found.next().is_none(), "{function:#x} twice");
        [entry.eax, entry.ebx, entry.ecx, entry.edx]
    }

    #[test]
    fn each_vcpu_knows_its_number_and_that_of_its_brothers() {
        for (count, bits) in [(1, 0), (2, 1), (3, 2), (4, 2), (8, 3)] {
            for index in 0..count {
                let entries = patched(index, count);
                let [_, ebx, ecx, edx] = find(&entries, 1, 0);
                assert_eq!(ebx, index << 24 | count << 16 | 0x0801);
                assert_eq!(ecx, 1 << 31 | 1 << 24, "hypervisor and deadline timer");
                assert_eq!(edx >> 28 & 1, u32::from(count > 1));
                assert_eq!(find(&entries, 0xb, 0), [0, 1, 1 << 8, index]);
                assert_eq!(find(&entries, 0xb, 1), [bits, count, 2 << 8 | 1, index]);
                assert_eq!(find(&entries, 0xb, 2)[1], 0);
                assert_eq!(find(&entries, 0x8000_001e, 0)[0], index);
                assert_eq!(
                    find(&entries, 0x8000_0008, 0)[2],
                    0x7_0000 | bits << 12 | (count - 1)
                );
            }
        }
    }

    #[test]
    fn caches_are_each_cores_own_up_to_the_last_level() {
        let entries = patched(0, 4);
        assert_eq!(find(&entries, 4, 0)[0], 3 << 26 | 0x21);
        assert_eq!(find(&entries, 4, 2)[0], 3 << 26 | 3 << 14 | 0x63);
        assert_eq!(find(&entries, 4, 3)[0], 0, "the end of the list stays it");
    }

    #[test]
    fn counters_and_services_that_write_memory_are_left_out() {
        let entries = patched(0, 2);
        assert_eq!(find(&entries, 0xa, 0), [0; 4]);
        let kvm = find(&entries, 0x4000_0001, 0)[0];
        assert_eq!(kvm & KVM_WRITES_MEMORY, 0);
        assert_eq!(kvm & 0x0100_0009, 0x0100_0009, "the clock stays");
        assert_eq!(find(&entries, 0x8000_0001, 0)[2] & AMD_COUNTERS, 0);
        assert!(
            !entries.iter().any(|entry| entry.function == 0x1f),
            "no leaf beyond the largest"
        );
    }
}
