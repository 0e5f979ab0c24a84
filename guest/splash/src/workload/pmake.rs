//! Disco's parallel make: read a source tree, do real work on each file, write objects.
//!
//! Jobs are threads over all vCPUs that take files from one list. Each file is read through the
//! buffer cache, from the disk or from a file server, tokenised, compressed, decompressed again and
//! compared, and the object is written to the disk's scratch area; some objects are read back from
//! there and compared.

mod sources;
mod tokens;

use super::Job;
use crate::console;
use crate::hash::{self, mix};
use crate::lz::{self, Compressor};
use crate::objects::{self, ObjectLog};
use crate::sched;
use crate::shared::{self, BYTES, CHECKSUM, MISMATCHES, OPERATIONS, VERIFIED_PAGES};
use crate::sync::Spin;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use mirrorball_abi::layout::PAGE_SIZE;
use sources::{Reader, Source, Sources, View};

const DISK: usize = 0;
/// One object in this many is read back.
const READ_BACK: u64 = 8;
/// Longer files are worked on piece by piece, so that a job's memory is bounded.
const PIECE: usize = 128 << 10;

#[derive(Debug)]
struct Make {
    sources: Sources,
    files: Vec<Source>,
    next: AtomicUsize,
    log: Option<ObjectLog>,
    pause: u64,
    failure: Spin<Option<String>>,
}

pub(super) fn run(job: &Job) -> Result<(), String> {
    let jobs = job.count(0, shared::vcpus() * 2).clamp(1, 64);
    let passes = job.param(1, 1);
    let most = job.count(2, usize::MAX);
    let pause = job.params[3].saturating_mul(shared::ticks_per_ms()) / 1000;
    let (sources, mut files) = Sources::find(job.param(4, sources::ON_DISK), DISK, jobs)?;
    files.truncate(most);
    let log = objects::scratch(DISK)?.map(|area| ObjectLog::new(DISK, area));
    let make = Arc::new(Make {
        sources,
        files,
        next: AtomicUsize::new(0),
        log,
        pause,
        failure: Spin::new(None),
    });
    for _ in 0..passes {
        make.next.store(0, Ordering::Relaxed);
        let work = make.clone();
        let complete = sched::on_all_vcpus(jobs, move |_| {
            if let Err(reason) = work.job() {
                work.failure.lock().get_or_insert(reason);
            }
        });
        if let Some(reason) = make.failure.lock().take() {
            return Err(reason);
        }
        if !complete {
            return Err("no memory for all jobs".into());
        }
    }
    make.sources.leave()?;
    console::line(format_args!(
        "pmake: {} files, {} bytes",
        OPERATIONS.get(),
        BYTES.get()
    ));
    Ok(())
}

/// What one job keeps from file to file.
struct Bench {
    compressor: Compressor,
    source: Vec<u8>,
    packed: Vec<u8>,
    unpacked: Vec<u8>,
}

impl Make {
    fn job(&self) -> Result<(), String> {
        let view = self.sources.view()?;
        let mut bench = Bench {
            compressor: Compressor::new(),
            source: vec![0; PIECE],
            packed: Vec::new(),
            unpacked: Vec::new(),
        };
        while !shared::stop_requested() {
            let Some(file) = self.files.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            self.compile(file, &view, &mut bench)?;
            OPERATIONS.increase(1);
            if self.pause > 0 {
                sched::sleep(self.pause);
            }
        }
        Ok(())
    }

    fn compile(&self, file: &Source, view: &View<'_>, bench: &mut Bench) -> Result<(), String> {
        let mut reader = Reader::open(file, view)?;
        let mut name = file.name();
        loop {
            let length = reader.read(&mut bench.source)?;
            if length == 0 {
                return Ok(());
            }
            self.compile_piece(file, name, length, bench)?;
            name = mix(name);
            sched::yield_now();
        }
    }

    fn compile_piece(
        &self,
        file: &Source,
        name: u64,
        length: usize,
        bench: &mut Bench,
    ) -> Result<(), String> {
        let source = &bench.source[..length];
        let tokens = tokens::count(source);
        bench.compressor.compress(source, &mut bench.packed);
        let good = lz::decompress(&bench.packed, &mut bench.unpacked).is_some()
            && bench.unpacked == source;
        verified(length, good, file);
        let result = tokens.object(name, &bench.packed);
        if let Some(log) = &self.log
            && let Some(object) = log.append(&result)?
            && name.is_multiple_of(READ_BACK)
            && let Some(back) = log.read(&object)?
        {
            verified(back.len(), back == result, file);
        }
        // A sum, so that the order in which jobs finish does not matter.
        CHECKSUM.increase(mix(name ^ hash::bytes(&result)));
        BYTES.increase(length as u64);
        Ok(())
    }
}

fn verified(bytes: usize, good: bool, file: &Source) {
    VERIFIED_PAGES.increase(bytes.div_ceil(PAGE_SIZE) as u64);
    if !good {
        if MISMATCHES.increase(1) == 0 {
            super::say(format_args!(
                "vm {}: {file} did not come back as it was",
                shared::vm()
            ));
        }
        console::line(format_args!(
            "{file} ({} bytes) did not come back as it was",
            file.size()
        ));
    }
}
