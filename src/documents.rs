//! Completions and manual pages, written from the command line's own description.

use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use mirrorball_experiments::{exit, spec};
use mirrorball_report::schema;

use crate::{Cli, print};

/// A file of which there is a schema.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Described {
    /// An experiment file
    Experiment,
    /// `summary.json` of results
    Summary,
    /// `run.json` of results
    Run,
}

impl Described {
    /// Its JSON Schema.
    pub(crate) fn schema(self) -> serde_json::Value {
        match self {
            Self::Experiment => spec::schema(),
            Self::Summary => schema::summary(),
            Self::Run => schema::run(),
        }
    }
}

/// Prints completions.
pub(crate) fn completions(shell: Shell) -> anyhow::Result<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "mirrorball", &mut out);
    print(&String::from_utf8_lossy(&out))?;
    Ok(exit::OK)
}

/// Prints the manual page of the program, or writes those of all commands.
pub(crate) fn manual(folder: Option<&Path>) -> anyhow::Result<u8> {
    let Some(folder) = folder else {
        let mut out = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut out)?;
        print(&String::from_utf8_lossy(&out))?;
        return Ok(exit::OK);
    };
    let told = || format!("{}: manual pages can't be written there", folder.display());
    std::fs::create_dir_all(folder).with_context(told)?;
    clap_mangen::generate_to(Cli::command(), folder).with_context(told)?;
    Ok(exit::OK)
}
