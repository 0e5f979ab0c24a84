//! `mirrorball report`: stored results as one HTML file and figures.

use std::path::{Path, PathBuf};

use mirrorball_experiments::exit;
use mirrorball_report::anonymous::Names;
use mirrorball_report::html::{self, Placing};
use mirrorball_report::package::without_names;
use mirrorball_report::results::Results;

/// Options of `mirrorball report`.
#[derive(clap::Args, Debug)]
pub(crate) struct ReportOptions {
    /// Results folders, as `mirrorball run` wrote them
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Folder for report.html and figures/; the results folder itself, or report/ for several
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Write the page only, no figures and no tables beside it
    #[arg(long)]
    page_only: bool,
    /// Write the runs' figures and the time series as Parquet tables too, for data frames; needs a
    /// build with `--features parquet`
    #[arg(long, conflicts_with_all = ["page_only", "anonymous"])]
    parquet: bool,
    /// Leave out names of host and user, paths, addresses and the commit
    #[arg(long)]
    anonymous: bool,
}

/// Makes the report and says where it is; the exit code.
pub(crate) fn report(options: &ReportOptions, json: bool) -> anyhow::Result<u8> {
    if options.parquet && cfg!(not(feature = "parquet")) {
        eprintln!(
            "mirrorball: this build can't write Parquet; `cargo build --release --features parquet` \
             makes one that can, and the CSV tables hold the same"
        );
        return Ok(exit::USAGE);
    }
    let mut all = Vec::new();
    // Results without names live as long as they are read.
    let mut unnamed = Vec::new();
    for folder in &options.folders {
        let folder = if options.anonymous {
            let place = tempfile::tempdir()?;
            without_names(folder, &Names::here(folder), place.path())?;
            unnamed.push(place);
            unnamed
                .last()
                .map_or(folder.as_path(), |place| place.path())
        } else {
            folder
        };
        match Results::load(folder) {
            Ok(results) => all.push(results),
            Err(error) => {
                eprintln!("mirrorball: {error}");
                return Ok(exit::DAMAGED);
            }
        }
    }
    let several = Path::new("report");
    let output = match (&options.output, options.folders.as_slice()) {
        (Some(output), _) => output,
        (None, [one]) => one,
        (None, _) => several,
    };
    let placing = Placing {
        beside: options.anonymous,
        page_only: options.page_only,
    };
    let written = html::write(&all, output, placing)?;
    #[cfg(feature = "parquet")]
    if options.parquet {
        for (index, results) in all.iter().enumerate() {
            // As the other tables: those of one experiment have plain names.
            let prefix = match all.len() {
                1 => String::new(),
                _ => format!("{}-{}-", index + 1, results.summary.name),
            };
            parquet_tables(results, &output.join("tables"), &prefix)?;
        }
    }
    if json {
        crate::print(&format!("{}\n", serde_json::to_string_pretty(&written)?))?;
    } else {
        crate::print(&format!(
            "{} ({} KiB)",
            written.page.display(),
            written.bytes.div_ceil(1024)
        ))?;
        if !options.page_only {
            let (figures, folder) = (written.figures.len(), output.join("figures"));
            crate::print(&format!(", {figures} figures in {}", folder.display()))?;
        }
        crate::print("\n")?;
    }
    Ok(exit::OK)
}

/// Writes `runs.parquet`, and `samples.parquet` where the result has a time series.
#[cfg(feature = "parquet")]
fn parquet_tables(results: &Results, folder: &Path, prefix: &str) -> anyhow::Result<()> {
    use anyhow::Context as _;
    use mirrorball_report::tables::{parquet, runs_csv};

    let save = |name: &str, bytes: Vec<u8>| {
        let path = folder.join(format!("{prefix}{name}"));
        std::fs::write(&path, bytes).with_context(|| path.display().to_string())
    };
    save("runs.parquet", parquet(runs_csv(results).as_bytes())?)?;
    let samples = results.path.join("samples.csv");
    if samples.exists() {
        save("samples.parquet", parquet(std::fs::File::open(samples)?)?)?;
    }
    Ok(())
}
