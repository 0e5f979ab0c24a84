//! The figures of a run, taken when its guests are quiet and its scanner stands still.

use std::collections::BTreeMap;
use std::path::Path;

use mirrorball_dedup::oracle;
use mirrorball_pmap::PAGE_BYTES;

use super::cell::Run;
use super::{RunError, account, backing, categories};
use crate::output::summary::{CpuSeconds, Group, Ksm, Sharing};

/// The kernel's own figure of what KSM saves, from Linux 6.4.
const KSM_PROFIT: &str = "/sys/kernel/mm/ksm/general_profit";

impl Run<'_> {
    /// The figures of the quiet machine, and the kernel's word on them.
    pub(super) fn measure(&mut self) -> Result<(), RunError> {
        self.phase("measure");
        self.scanning.lock().hold();
        self.end_policy();
        let pmap = self.machine.pmap();
        pmap.settle_all();
        let (totals, reading) = (pmap.totals(), self.sampler.reading());
        self.reading = reading;
        let oracle = oracle::count(pmap);
        let memory = account::memory(&totals, &reading, oracle.reclaimable);
        let reclaimed = memory.reclaimed.unwrap_or(0);
        let touched = memory.touched.unwrap_or(0);
        self.figures.memory = memory;
        self.figures.by_mechanism = account::by_mechanism(&totals, &reading);
        let cpu = self.machine.cpu_seconds();
        self.figures.cpu_seconds = CpuSeconds {
            vcpu: Some(cpu.vcpu),
            device: Some(cpu.device),
            scanner: reading.ours.map(|stats| stats.cpu_seconds),
            ksmd: reading.ksm.map(|ksm| ksm.cpu_seconds),
        };
        let vms = self.machine.vms();
        let unfit = backing::warnings(vms.iter().map(AsRef::as_ref));
        self.warnings.extend(unfit);
        if reading.ksm.is_none() {
            self.figures.by_category = categories::count(&vms, totals.used());
        }
        self.figures.disk = account::disk(vms.iter().flat_map(|vm| vm.block_stats()));
        self.figures.sharing = Sharing {
            oracle_share: account::fraction(reclaimed, oracle.reclaimable * PAGE_BYTES),
            reclaimed_share: account::fraction(reclaimed, touched),
            vmas: Some(totals.vmas),
            // The kernel does not count the pages of KSM's that are broken.
            broken_pages: reading.ksm.is_none().then_some(totals.broken),
            hold_p99_seconds: None,
            scans: reading.scans(),
        };
        self.figures.ksm = reading.ksm.map(|ksm| Ksm {
            pages_shared: ksm.pages_shared,
            pages_sharing: ksm.pages_sharing,
            zero_pages: ksm.ksm_zero_pages,
            net_saved: Path::new(KSM_PROFIT).exists().then_some(ksm.general_profit),
        });
        self.account();
        Ok(())
    }

    /// Ends the memory policy, if there is one, and keeps what it did.
    pub(super) fn end_policy(&mut self) {
        if let Some(policy) = &self.policy {
            let mut policy = policy.lock();
            policy.end();
            self.figures.policy = policy.figures();
            self.warnings.extend(policy.warnings());
            self.warnings.dedup();
        }
    }

    /// Keeps what guests have at the end of the workload, under a memory policy.
    pub(super) fn note_groups(&mut self) {
        let Some(policy) = &self.policy else {
            return;
        };
        self.machine.pmap().settle_all();
        let mut sums = BTreeMap::<String, (u64, [u64; 5])>::new();
        for vm in self.machine.vms() {
            let Some(view) = policy.lock().view(vm.id()) else {
                continue;
            };
            let totals = vm.space().totals();
            let bytes = |pages: u64| pages * PAGE_BYTES;
            let values = [
                bytes(totals.private),
                view.target,
                view.active,
                bytes(totals.ballooned),
                bytes(totals.swapped),
            ];
            let (count, sum) = sums.entry(view.group).or_default();
            *count += 1;
            for (sum, value) in sum.iter_mut().zip(values) {
                *sum += value;
            }
        }
        for (id, (count, sum)) in sums {
            let [allocated, target, active, ballooned, swapped] =
                sum.map(|sum| Some(sum / count.max(1)));
            let group = Group {
                allocated,
                target,
                active,
                ballooned,
                swapped,
                ..Group::default()
            };
            self.figures.groups.insert(id, group);
        }
    }

    /// Checks the pmap's account against the kernel's.
    fn account(&mut self) {
        let pmap = self.machine.pmap();
        let used = || {
            pmap.settle_all();
            account::used(&pmap.totals(), &self.sampler.reading())
        };
        let kernel = || pmap.kernel_account().map(|account| account.total());
        match account::compare_at_rest(used, kernel) {
            Ok(accounting) => self.figures.accounting = accounting,
            Err(error) => {
                return self.fleet.fail(
                    "accounting",
                    format!("the kernel's account can't be read: {error}"),
                );
            }
        }
        if let Some(cause) = account::apart(&self.figures.accounting) {
            self.fleet.fail("accounting", cause);
        }
    }
}
