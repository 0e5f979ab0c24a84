//! Developer tasks: `cargo xtask test` runs everything that must hold before a change lands.

mod emulated;
mod layers;
mod packages;
mod steps;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Developer tasks of Mirrorball.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run all checks and tests: format, lints, layers, unit and guest tests, the short torture run,
    /// and the proof that the torture run finds a broken share protocol.
    Test {
        /// Leave out what needs a release build (torture, broken protocol).
        #[arg(long)]
        fast: bool,
    },
    /// Check that dependencies between the crates point one way only.
    Layers,
    /// Run the monitor's tests on the emulated host: Linux guests, which most machines' KVM can't run
    Emulated {
        /// Only tests whose names contain one of these words.
        words: Vec<String>,
    },
    /// Build with the deliberately broken share protocol and show that torture fails.
    BrokenProtocol,
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Test { fast } => steps::test(fast),
        Task::Emulated { words } => emulated::test(&words),
        Task::Layers => layers::check(),
        Task::BrokenProtocol => steps::broken_protocols(),
    }
}
