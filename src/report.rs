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
    /// Leave out names of host and user, paths, addresses and the commit
    #[arg(long)]
    anonymous: bool,
}

/// Makes the report and says where it is; the exit code.
pub(crate) fn report(options: &ReportOptions, json: bool) -> anyhow::Result<u8> {
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
