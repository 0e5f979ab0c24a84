//! Samples of the whole machine and of each VM, on a fixed grid and whenever the phase changes.
//!
//! The sampler only reads. Before a VM is sampled its books are settled (counts are exact then), which
//! costs by the size of the VM. At a phase's end that is done for all; on the grid for some VMs at a
//! time, in turn, as many as a fixed part of a core is enough for: what is measured is not to be
//! disturbed by how many VMs there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mirrorball_monitor::{Machine, Vm, VmState};
use mirrorball_pmap::{Mechanism, PAGE_BYTES, Pmap, Totals};
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

use super::policy::Policy;
use super::progress::Progress;
use super::scanning::{Reading, Scanning};
use super::watched::Watched;
use crate::output::OutputError;
use crate::output::samples::{MACHINE, Sample, SampleWriter};

/// The part of a core that sampling on the grid may take.
const SHARE: f64 = 0.008;
/// What was not used is kept for so many points of the grid.
const KEPT: f64 = 4.0;

/// Where samples of all runs go.
#[derive(Debug)]
pub struct Sink {
    writer: SampleWriter,
    /// The first error; nothing is written after it.
    pub error: Option<OutputError>,
    /// Seconds that were over when this process began.
    before: f64,
    began: Instant,
}

impl Sink {
    /// Writes to that writer; times go on from `before`, in seconds.
    #[must_use]
    pub fn new(writer: SampleWriter, before: f64) -> Self {
        Self {
            writer,
            error: None,
            before,
            began: Instant::now(),
        }
    }

    /// Puts all samples on the disk.
    ///
    /// # Errors
    /// They can't be written.
    pub fn sync(&self) -> Result<(), OutputError> {
        self.writer.sync()
    }

    /// Where samples are now, to come back to.
    #[must_use]
    pub const fn mark(&self) -> u64 {
        self.writer.length()
    }

    /// Drops the samples since then: of an attempt that does not count.
    ///
    /// # Errors
    /// The file can't be cut.
    pub fn back_to(&mut self, length: u64) -> Result<(), OutputError> {
        self.writer.cut(length)
    }

    fn seconds(&self) -> f64 {
        self.before + self.began.elapsed().as_secs_f64()
    }

    fn add(&mut self, mut samples: Vec<Sample>) {
        let now = self.seconds();
        for sample in &mut samples {
            sample.time_seconds = now;
        }
        if self.error.is_none() {
            self.error = self.writer.write(&samples).err();
        }
    }
}

/// What is sampled in one run.
#[derive(Debug)]
pub struct Sampler {
    cell: String,
    run: u32,
    machine: Arc<Machine>,
    scanning: Arc<Mutex<Scanning>>,
    phase: Mutex<&'static str>,
    sink: Arc<Mutex<Sink>>,
    progress: Arc<Progress>,
    watched: Arc<Watched>,
    policy: Option<Arc<Mutex<Policy>>>,
    end: AtomicBool,
    turn: Mutex<Turn>,
}

/// Whose turn it is on the grid, and what time is left for it.
#[derive(Debug, Default)]
struct Turn {
    /// Position of the VM.
    next: usize,
    /// CPU time, seconds; less than none after a point that took more.
    left: f64,
}

impl Turn {
    /// A point of the grid comes, this long after the one before.
    fn begins(&mut self, period: Duration) {
        let each = period.as_secs_f64() * SHARE;
        self.left = (self.left + each).min(each * KEPT);
    }

    /// The VMs whose turn it is, of so many, as long as `spend` has time left; it is given a VM's
    /// position and says what it has taken.
    fn take(&mut self, vms: usize, mut spend: impl FnMut(usize) -> f64) {
        for _ in 0..vms {
            if self.left <= 0.0 {
                return;
            }
            let position = self.next % vms;
            self.next = (position + 1) % vms;
            self.left -= spend(position);
        }
    }
}

impl Sampler {
    /// Samples that machine into that sink.
    #[must_use]
    pub fn new(
        (cell, run): (&str, u32),
        machine: Arc<Machine>,
        scanning: Arc<Mutex<Scanning>>,
        sink: Arc<Mutex<Sink>>,
        (progress, watched): (Arc<Progress>, Arc<Watched>),
        policy: Option<Arc<Mutex<Policy>>>,
    ) -> Arc<Self> {
        let (cell, phase, end) = (cell.to_owned(), Mutex::new("start"), AtomicBool::new(false));
        Arc::new(Self {
            cell,
            run,
            machine,
            scanning,
            phase,
            sink,
            progress,
            watched,
            policy,
            end,
            turn: Mutex::default(),
        })
    }

    /// Samples on the grid until [`Sampler::finish`].
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn spawn(self: &Arc<Self>, period: Duration) -> std::io::Result<JoinHandle<f64>> {
        let sampler = Arc::clone(self);
        std::thread::Builder::new()
            .name("sampler".to_owned())
            .spawn(move || {
                let mut next = Instant::now();
                while !sampler.end.load(Ordering::Relaxed) {
                    sampler.turn.lock().begins(period);
                    sampler.sample(false);
                    next += period;
                    let now = Instant::now();
                    if next < now {
                        // The host was too busy: points of the grid are left out, not made up for.
                        next = now;
                    }
                    std::thread::park_timeout(next - now);
                }
                own_seconds()
            })
    }

    /// Ends the grid; the CPU time that it took, seconds.
    pub fn finish(&self, thread: JoinHandle<f64>) -> Option<f64> {
        self.end.store(true, Ordering::Relaxed);
        thread.thread().unpark();
        let seconds = thread.join();
        if seconds.is_err() {
            tracing::error!("the sampler panicked");
        }
        seconds.ok()
    }

    /// The phase changes: one sample at the end of the old one.
    pub fn phase(&self, name: &'static str) {
        self.sample(true);
        *self.phase.lock() = name;
        self.progress.phase(&self.cell, self.run, name);
    }

    /// One sample of everything, under that name in place of the phase's.
    pub fn checkpoint(&self, name: &str) {
        self.sample_as(name, true);
    }

    /// What those who watch this run see and do.
    #[must_use]
    pub fn watched(&self) -> &Watched {
        &self.watched
    }

    /// Bytes that are saved now, by the books.
    #[must_use]
    pub fn saved(&self) -> u64 {
        let pages = self.machine.pmap().totals().reclaimed;
        pages * PAGE_BYTES + self.reading().ksm_saved().unwrap_or(0)
    }

    /// What the scanner has done so far.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.scanning.lock().reading()
    }

    fn sample(&self, phase_ends: bool) {
        let phase = *self.phase.lock();
        self.sample_as(phase, phase_ends);
    }

    fn sample_as(&self, phase: &str, whole: bool) {
        let vms = self.machine.vms();
        let base = Sample {
            cell: self.cell.clone(),
            run: self.run,
            phase: phase.to_owned(),
            ..Sample::default()
        };
        let mut rows = if whole {
            self.machine.pmap().settle_all();
            vms.iter().map(|vm| self.vm_sample(vm, &base)).collect()
        } else {
            self.some(&vms, &base)
        };
        let settled = own_seconds();
        let reading = self.reading();
        let mut machine = machine_sample(self.machine.pmap(), &reading, &base);
        let up = vms.iter().filter(|vm| vm.state() == VmState::Running);
        machine.guests_up = Some(up.count() as u64);
        let policy = self.policy.as_ref();
        let state = policy.map(|policy| policy.lock().take_worst_state());
        machine.state = state.map(|state| state.name().to_owned());
        let cpu = self.machine.cpu_seconds();
        machine.vcpu_seconds = Some(cpu.vcpu);
        machine.device_seconds = Some(cpu.device);
        self.progress.sample(&machine);
        if self.watched.is_due() {
            let of_vms = vms.into_iter().map(|vm| {
                let sample = self.vm_sample(&vm, &base);
                (vm, sample)
            });
            let of_vms: Vec<_> = of_vms.collect();
            self.watched.publish(&machine, &of_vms, &reading);
        }
        rows.insert(0, machine);
        self.sink.lock().add(rows);
        if !whole {
            // What the VMs took was counted.
            self.turn.lock().left -= own_seconds() - settled;
        }
    }

    /// A sample of a VM, with what the memory policy thinks of it.
    fn vm_sample(&self, vm: &Vm, base: &Sample) -> Sample {
        let sample = vm_sample(vm, base);
        let view = (self.policy.as_ref()).and_then(|policy| policy.lock().view(vm.id()));
        match view {
            Some(view) => Sample {
                target_bytes: Some(view.target),
                active_bytes: Some(view.active),
                working_set_bytes: (view.working_set > 0).then_some(view.working_set),
                ..sample
            },
            None => sample,
        }
    }

    /// Samples of the VMs whose turn it is, settled.
    fn some(&self, vms: &[Arc<Vm>], base: &Sample) -> Vec<Sample> {
        let mut rows = Vec::new();
        let mut last = own_seconds();
        self.turn.lock().take(vms.len(), |position| {
            let vm = &vms[position];
            vm.space().settle();
            rows.push(self.vm_sample(vm, base));
            let now = own_seconds();
            now - std::mem::replace(&mut last, now)
        });
        rows
    }
}

/// CPU time of this thread, seconds.
fn own_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default().as_secs_f64()
}

fn vm_sample(vm: &Vm, base: &Sample) -> Sample {
    let totals = vm.space().totals();
    Sample {
        vm: vm.id().to_string(),
        guest_physical_bytes: totals.guest_physical * PAGE_BYTES,
        touched_bytes: totals.touched * PAGE_BYTES,
        private_bytes: totals.private * PAGE_BYTES,
        mapped_bytes: totals.mapped * PAGE_BYTES,
        zero_bytes: totals.zero * PAGE_BYTES,
        ballooned_bytes: Some(totals.ballooned * PAGE_BYTES),
        swapped_bytes: Some(totals.swapped * PAGE_BYTES),
        vmas: totals.vmas,
        broken_pages: totals.broken,
        vcpu_seconds: Some(vm.cpu_seconds()),
        ..base.clone()
    }
}

/// What would be needed if every sharing broke. Frames that nobody maps stay where they are, as do those
/// whose pages are all private again.
fn if_all_broke(totals: &Totals, reading: &Reading) -> u64 {
    let pages = totals.private + totals.frames + totals.reclaimed;
    pages * PAGE_BYTES + reading.ksm_saved().unwrap_or(0)
}

fn machine_sample(pmap: &Pmap, reading: &Reading, base: &Sample) -> Sample {
    let totals = pmap.totals();
    let by = |mechanism: Mechanism| Some(totals.by_mechanism[mechanism.index()] * PAGE_BYTES);
    Sample {
        vm: MACHINE.to_owned(),
        guest_physical_bytes: totals.guest_physical * PAGE_BYTES,
        touched_bytes: totals.touched * PAGE_BYTES,
        private_bytes: totals.private * PAGE_BYTES,
        mapped_bytes: totals.mapped * PAGE_BYTES,
        zero_bytes: totals.zero * PAGE_BYTES,
        ballooned_bytes: Some(totals.ballooned * PAGE_BYTES),
        swapped_bytes: Some(totals.swapped * PAGE_BYTES),
        shared_bytes: Some(totals.shared * PAGE_BYTES),
        reclaimed_bytes: Some(totals.reclaimed * PAGE_BYTES + reading.ksm_saved().unwrap_or(0)),
        frames_bytes: Some(totals.frames * PAGE_BYTES),
        if_all_broke_bytes: Some(if_all_broke(&totals, reading)),
        disk_bytes: by(Mechanism::Disk),
        network_bytes: by(Mechanism::Network),
        content_bytes: by(Mechanism::Content),
        ksm_bytes: reading.ksm_saved(),
        overhead_bytes: Some(totals.overhead_bytes),
        vmas: totals.vmas,
        broken_pages: totals.broken,
        hashed_pages: reading.ours.map(|stats| stats.hashed),
        scanner_seconds: reading.ours.map(|stats| stats.cpu_seconds),
        ksmd_seconds: reading.ksm.map(|ksm| ksm.cpu_seconds),
        ..base.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(100);

    /// Positions sampled at each of so many points, if every VM takes so many seconds.
    fn sampled(vms: usize, each: f64, points: usize) -> Vec<Vec<usize>> {
        let mut turn = Turn::default();
        let mut point = || {
            let mut positions = Vec::new();
            turn.begins(PERIOD);
            turn.take(vms, |position| {
                positions.push(position);
                each
            });
            positions
        };
        (0..points).map(|_| point()).collect()
    }

    #[test]
    fn cheap_vms_are_all_sampled_each_time_and_once() {
        assert_eq!(sampled(3, 1e-6, 2), [[0, 1, 2], [0, 1, 2]]);
        assert_eq!(sampled(0, 1.0, 2), [[0; 0], [0; 0]]);
    }

    #[test]
    fn dear_vms_take_turns_and_no_more_than_their_share() {
        // A point of the grid has 0.8 ms.
        let all = sampled(5, 0.3e-3, 1000);
        assert_eq!(all[0], [0, 1, 2]);
        assert_eq!(all[1][0], 3);
        let flat = all.concat();
        assert!(flat.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 5));
        #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
        let share = flat.len() as f64 * 0.3e-3 / (1000.0 * 0.1);
        assert!((SHARE * 0.99..SHARE * 1.01).contains(&share), "{share}");
    }

    #[test]
    fn one_vm_that_takes_longer_than_a_point_is_sampled_less_often() {
        let all = sampled(1, 2.4e-3, 300);
        let points = all.iter().filter(|point| !point.is_empty()).count();
        assert!((100..=101).contains(&points), "{points}");
    }
}
