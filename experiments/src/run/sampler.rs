//! Samples of the whole machine and of each VM, on a fixed grid and whenever the phase changes.
//!
//! The sampler only reads. It settles the pmap's books before each sample (counts are exact then),
//! unless there are so many VMs that this would disturb what it measures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mirrorball_monitor::{Machine, Vm, VmState};
use mirrorball_pmap::{Mechanism, PAGE_BYTES, Pmap};
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

use super::progress::Progress;
use super::scanning::{Reading, Scanning};
use super::watched::Watched;
use crate::output::OutputError;
use crate::output::samples::{MACHINE, Sample, SampleWriter};

/// Above this, VMs have rows of their own only where a phase ends.
const MOST_VMS_ON_GRID: usize = 64;

/// Where samples of all runs go.
#[derive(Debug)]
pub struct Sink {
    writer: SampleWriter,
    /// Samples of the machine, for the figure.
    pub machine: Vec<Sample>,
    /// The first error; nothing is written after it.
    pub error: Option<OutputError>,
    /// Seconds that were over when this process began.
    before: f64,
    began: Instant,
}

impl Sink {
    /// Writes to that writer, behind these samples; times go on from the last of them.
    #[must_use]
    pub fn new(writer: SampleWriter, machine: Vec<Sample>) -> Self {
        let before = machine.last().map_or(0.0, |last| last.time_seconds);
        Self {
            writer,
            machine,
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

    fn seconds(&self) -> f64 {
        self.before + self.began.elapsed().as_secs_f64()
    }

    fn add(&mut self, samples: Vec<Sample>) {
        if self.error.is_none() {
            self.error = self.writer.write(&samples).err();
        }
        self.machine
            .extend(samples.into_iter().filter(|sample| sample.vm == MACHINE));
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
    end: AtomicBool,
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
            end,
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
                    sampler.sample(false);
                    next += period;
                    let now = Instant::now();
                    if next < now {
                        // The host was too busy: points of the grid are left out, not made up for.
                        next = now;
                    }
                    std::thread::park_timeout(next - now);
                }
                let time = clock_gettime(ClockId::ThreadCPUTime);
                Duration::try_from(time).unwrap_or_default().as_secs_f64()
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
        let few = vms.len() <= MOST_VMS_ON_GRID;
        if few || whole {
            self.machine.pmap().settle_all();
        }
        let reading = self.reading();
        let mut sink = self.sink.lock();
        let base = Sample {
            cell: self.cell.clone(),
            run: self.run,
            time_seconds: sink.seconds(),
            phase: phase.to_owned(),
            ..Sample::default()
        };
        let up = vms
            .iter()
            .filter(|vm| vm.state() == VmState::Running)
            .count() as u64;
        let cpu = self.machine.cpu_seconds();
        let mut machine = machine_sample(self.machine.pmap(), &reading, &base);
        machine.guests_up = Some(up);
        machine.vcpu_seconds = Some(cpu.vcpu);
        machine.device_seconds = Some(cpu.device);
        self.progress.sample(&machine);
        let mut samples = vec![machine];
        let due = self.watched.is_due();
        if few || whole || due {
            let of_vms = vms.into_iter().map(|vm| {
                let sample = vm_sample(&vm, &base);
                (vm, sample)
            });
            let of_vms: Vec<_> = of_vms.collect();
            if due {
                self.watched.publish(&samples[0], &of_vms, &reading);
            }
            if few || whole {
                samples.extend(of_vms.into_iter().map(|(_, sample)| sample));
            }
        }
        sink.add(samples);
    }
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
        vmas: totals.vmas,
        broken_pages: totals.broken,
        vcpu_seconds: Some(vm.cpu_seconds()),
        ..base.clone()
    }
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
        shared_bytes: Some(totals.shared * PAGE_BYTES),
        reclaimed_bytes: Some(totals.reclaimed * PAGE_BYTES + reading.ksm_saved().unwrap_or(0)),
        frames_bytes: Some(totals.frames * PAGE_BYTES),
        disk_bytes: by(Mechanism::Disk),
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
