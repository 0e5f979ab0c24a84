//! `mirrorball show`: an experiment as it would be run, with where each value came from.

use std::path::PathBuf;

use mirrorball_experiments::{exit, spec};

/// Options of `mirrorball show`.
#[derive(clap::Args, Debug)]
pub(crate) struct ShowOptions {
    /// The experiment file
    file: PathBuf,
    /// Fill in all defaults; what is printed is an experiment file that runs the same
    #[arg(long)]
    resolved: bool,
    /// Change a field, such as guests.web.count=8 (may be repeated)
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
}

/// Shows the file, or all that it says and leaves unsaid; the exit code.
pub(crate) fn show(options: &ShowOptions, json: bool) -> anyhow::Result<u8> {
    let loaded = match crate::load(&options.file, &options.set, None) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    if json {
        return crate::print_json(&loaded.experiment);
    }
    let text = if options.resolved {
        spec::resolved(&loaded)
    } else {
        loaded.text
    };
    crate::print(&text)?;
    Ok(exit::OK)
}
