//! What those who watch a run see of it, and what they may do to it.
//!
//! Snapshots are made only while somebody watches. What is done to a run by hand is told in its
//! record: its figures are not those of the experiment file alone.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mirrorball_live::{
    Desk, LiveError, Request, Server, Snapshot, Switch, Switches, VmView, metrics,
};
use mirrorball_monitor::{Machine, Vm, VmState};
use mirrorball_report::samples::Sample;
use parking_lot::Mutex;

use super::account;
use super::cell::Context;
use super::progress::Progress;
use super::scanning::{Reading, Scanning, switched_later};
use crate::spec::Switchable;

/// Snapshots are at least so far apart: rates of shorter times jump about.
const PERIOD: Duration = Duration::from_millis(400);

/// Opens an experiment to those who watch. That nobody can watch keeps nothing from running; metrics
/// that were asked for must be there.
///
/// # Errors
/// The address for metrics can't be used.
pub fn open(
    address: Option<&str>,
    progress: &Progress,
) -> Result<(Arc<Desk>, Option<Server>), LiveError> {
    let desk = Arc::<Desk>::default();
    if let Some(address) = address {
        let bound = metrics::serve(address, &desk)?;
        progress.line(&format!("metrics: http://{bound}/metrics"));
    }
    let server = Server::start(&desk);
    if let Err(error) = &server {
        tracing::warn!(%error, "nobody can watch this run");
    }
    Ok((desk, server.ok()))
}

/// One run, watched.
#[derive(Debug)]
pub struct Watched {
    desk: Arc<Desk>,
    /// What stays the same for the whole run.
    base: Snapshot,
    machine: Arc<Machine>,
    scanning: Arc<Mutex<Scanning>>,
    switches: Mutex<Switches>,
    last: Mutex<Option<Instant>>,
    began: Instant,
    interventions: Mutex<Vec<String>>,
}

impl Watched {
    /// A run that begins now.
    pub fn new(
        context: &Context<'_>,
        machine: Arc<Machine>,
        scanning: Arc<Mutex<Scanning>>,
    ) -> Arc<Self> {
        let (experiment, set) = (context.experiment, context.set);
        let scans = set.scans() || switched_later(experiment);
        let scanned = |on: bool| (scans && !set.ksm).then_some(on);
        let switches = Switches {
            disk: Some(set.disk),
            zero: scanned(set.zero),
            content: scanned(set.content),
        };
        let base = Snapshot {
            experiment: experiment.name.clone(),
            results: context.folder.clone(),
            runs_done: context.position.0,
            runs: context.position.1,
            guests: experiment.guest_count(),
            budget_bytes: experiment.machine.memory.0,
            ..Snapshot::default()
        };
        let watched = Arc::new(Self {
            desk: context.desk.clone(),
            base,
            machine,
            scanning,
            switches: Mutex::new(switches),
            last: Mutex::new(None),
            began: Instant::now(),
            interventions: Mutex::new(Vec::new()),
        });
        let of_this_run: Weak<Self> = Arc::downgrade(&watched);
        watched
            .desk
            .handle(Some(Box::new(move |request| match of_this_run.upgrade() {
                Some(run) => run.intervene(&request),
                None => Err("between runs there is nothing to change".to_owned()),
            })));
        watched
    }

    /// Whether a snapshot is wanted now.
    pub fn is_due(&self) -> bool {
        let mut last = self.last.lock();
        let due = self.desk.is_watched() && last.is_none_or(|last| last.elapsed() >= PERIOD);
        if due {
            *last = Some(Instant::now());
        }
        due
    }

    /// Tells how it goes: the machine, and each VM.
    pub fn publish(&self, machine: &Sample, vms: &[(Arc<Vm>, Sample)], reading: &Reading) {
        let views = vms.iter().map(|(vm, sample)| VmView {
            name: vm.name().to_owned(),
            state: word(&vm.state()).to_owned(),
            sample: sample.clone(),
        });
        self.desk.publish(Snapshot {
            used_bytes: account::used(&self.machine.pmap().totals(), reading),
            machine: machine.clone(),
            scans: reading.scans(),
            hold_p99_seconds: hold_p99(vms),
            switches: *self.switches.lock(),
            vms: views.collect(),
            ..self.base.clone()
        });
    }

    /// A mechanism was switched by the timeline.
    pub fn switched(&self, mechanism: Switchable, on: bool) {
        self.switches.lock().set(public(mechanism), on);
    }

    /// What was done by hand, and when.
    pub fn interventions(&self) -> Vec<String> {
        self.interventions.lock().clone()
    }

    fn intervene(&self, request: &Request) -> Result<String, String> {
        let done = match request {
            Request::Pause(name) => {
                self.vm(name, &VmState::Running)?.pause();
                format!("{name} was paused")
            }
            Request::Resume(name) => {
                self.vm(name, &VmState::Paused)?.resume();
                format!("{name} was resumed")
            }
            Request::Switch(switch, on) => {
                self.switch(*switch, *on)?;
                let state = if *on { "on" } else { "off" };
                format!("{} was switched {state}", switch.name())
            }
        };
        let after = self.began.elapsed().as_secs_f64();
        let note = format!("by hand, {after:.1} s after the start of the run: {done}");
        self.interventions.lock().push(note);
        Ok(done)
    }

    fn switch(&self, switch: Switch, on: bool) -> Result<(), String> {
        let mut switches = self.switches.lock();
        if switches.get(switch).is_none() {
            return Err(format!("{} can't be switched in this cell", switch.name()));
        }
        match switch {
            Switch::Disk => self.machine.set_disk_sharing(on),
            Switch::Zero => self.scanning.lock().switch(Switchable::Zero, on),
            Switch::Content => self.scanning.lock().switch(Switchable::Content, on),
        }
        switches.set(switch, on);
        Ok(())
    }

    fn vm(&self, name: &str, state: &VmState) -> Result<Arc<Vm>, String> {
        let vms = self.machine.vms();
        let vm = vms
            .into_iter()
            .find(|vm| vm.name() == name)
            .ok_or_else(|| format!("there is no VM {name}"))?;
        if vm.state() == *state {
            Ok(vm)
        } else {
            Err(format!("{name} is {}", word(&vm.state())))
        }
    }
}

const fn public(mechanism: Switchable) -> Switch {
    match mechanism {
        Switchable::Disk => Switch::Disk,
        Switchable::Zero => Switch::Zero,
        Switchable::Content => Switch::Content,
    }
}

const fn word(state: &VmState) -> &'static str {
    match state {
        VmState::Created => "created",
        VmState::Running => "running",
        VmState::Paused => "paused",
        VmState::Stopped(_) => "stopped",
    }
}

/// How long sharing held these VMs' writers, 99th percentile, seconds.
fn hold_p99(vms: &[(Arc<Vm>, Sample)]) -> Option<f64> {
    let mut all: Option<Histogram<u64>> = None;
    for (vm, _) in vms {
        let holds = vm.holds();
        match &mut all {
            None => all = Some(holds),
            // Of one shape, so they can always be added.
            Some(all) => drop(all.add(&holds)),
        }
    }
    let all = all.filter(|all| !all.is_empty())?;
    Some(Duration::from_nanos(all.value_at_quantile(0.99)).as_secs_f64())
}
