//! `mirrorball package`: a results folder as an archive that others can check.

use std::path::{Path, PathBuf};

use mirrorball_experiments::exit;
use mirrorball_report::anonymous::Names;
use mirrorball_report::package::{PackageError, collect, collect_anonymous, write};

/// Options of `mirrorball package`.
#[derive(clap::Args, Debug)]
pub(crate) struct PackageOptions {
    /// The results folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The archive; the folder's name with .tar.gz, in the current folder
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Leave out names of host and user, paths, addresses and the commit
    #[arg(long)]
    anonymous: bool,
}

/// Makes the package and says where it is; the exit code.
pub(crate) fn package(options: &PackageOptions, json: bool) -> anyhow::Result<u8> {
    let name = name_of(&options.folder);
    let file = PathBuf::from(format!("{name}.tar.gz"));
    let file = options.output.as_ref().unwrap_or(&file);
    let entries = if options.anonymous {
        collect_anonymous(&options.folder, &Names::here(&options.folder))
    } else {
        collect(&options.folder)
    };
    let entries = match entries {
        Ok(entries) => entries,
        Err(PackageError::Results(error)) => {
            eprintln!("mirrorball: {error}");
            return Ok(exit::DAMAGED);
        }
        Err(error) => return Err(error.into()),
    };
    write(file, &name, &entries)?;
    let bytes = std::fs::metadata(file)?.len();
    if json {
        let about = serde_json::json!({ "package": file, "bytes": bytes, "files": entries.len() });
        crate::print(&format!("{about:#}\n"))?;
    } else {
        crate::print(&format!(
            "{} ({} KiB, {} files)\nnext: mirrorball verify {0}\n",
            file.display(),
            bytes.div_ceil(1024),
            entries.len()
        ))?;
    }
    Ok(exit::OK)
}

/// The name of a folder, also of `.`.
fn name_of(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    folder.file_name().map_or_else(
        || "results".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
