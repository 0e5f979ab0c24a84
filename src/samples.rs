//! `mirrorball samples`: the time series of stored results, one JSON object in each line; needs no KVM.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use mirrorball_experiments::exit;
use mirrorball_report::samples::{Sample, rows};

/// Options of `mirrorball samples`.
#[derive(clap::Args, Debug)]
pub(crate) struct SamplesOptions {
    /// The results folder
    folder: PathBuf,
    /// Only this cell (may be repeated)
    #[arg(long)]
    cell: Vec<String>,
    /// Only this run of each cell (may be repeated)
    #[arg(long)]
    run: Vec<u32>,
    /// Only this VM: its number, or `machine` (may be repeated)
    #[arg(long)]
    vm: Vec<String>,
    /// Only this phase, or checkpoint (may be repeated)
    #[arg(long)]
    phase: Vec<String>,
}

impl SamplesOptions {
    fn wants(&self, sample: &Sample) -> bool {
        let named = |wanted: &[String], own: &String| wanted.is_empty() || wanted.contains(own);
        named(&self.cell, &sample.cell)
            && named(&self.vm, &sample.vm)
            && named(&self.phase, &sample.phase)
            && (self.run.is_empty() || self.run.contains(&sample.run))
    }
}

/// Prints the samples that are wanted, in their order; the exit code.
pub(crate) fn samples(options: &SamplesOptions) -> anyhow::Result<u8> {
    let path = options.folder.join("samples.csv");
    let rows = match rows(&path) {
        Ok(rows) => rows,
        Err(error) => {
            eprintln!("mirrorball: {}: {error}", path.display());
            return Ok(exit::DAMAGED);
        }
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for row in rows {
        let sample = row.with_context(|| format!("{} is damaged", path.display()))?;
        if !options.wants(&sample) {
            continue;
        }
        let line = serde_json::to_string(&sample)?;
        match writeln!(out, "{line}") {
            // The reader has gone away, as `head` does.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(exit::OK),
            other => other?,
        }
    }
    match out.flush() {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(exit::OK),
    }
}
