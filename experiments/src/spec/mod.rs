//! Experiment files: text to a checked experiment, or every problem with its place.

mod check;
mod describe;
mod diagnostic;
mod linux;
mod mechanisms;
mod model;
mod parse;
mod reader;
mod reference;
mod schema;
mod text;
mod units;
mod workload;

use std::path::{Path, PathBuf};

pub use check::{HostFacts, resolve};
pub use diagnostic::{Diagnostic, Mark, Severity};
pub use linux::{LinuxSpec, RootSpec};
pub use model::*;
pub use reference::reference;
pub use schema::schema;
pub use units::{Count, PagesPerSecond, Percent, Size, Switch, Time};

use reader::{At, Findings, FromNode};

/// Longest experiment file that is read.
const MAX_FILE: u64 = 1 << 20;

/// A checked experiment.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The experiment.
    pub experiment: Experiment,
    /// The text it was read from.
    pub text: String,
    /// Folder of the file; images are relative to it.
    pub folder: PathBuf,
    /// Rendered warnings.
    pub warnings: Vec<String>,
}

/// Why there is no experiment.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file can't be read.
    #[error("{path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The file has problems; all of them, rendered.
    #[error("{}", .rendered.join("\n"))]
    Invalid {
        /// The problems, each as the user sees it.
        rendered: Vec<String>,
        /// The same as data.
        diagnostics: Vec<Diagnostic>,
    },
}

impl SpecError {
    /// Whether only the host is to blame.
    #[must_use]
    pub fn is_host_only(&self) -> bool {
        match self {
            Self::Unreadable { .. } => false,
            Self::Invalid { diagnostics, .. } => {
                diagnostics.iter().all(|d| d.severity != Severity::Error)
            }
        }
    }
}

/// Reads and checks an experiment file. Its paths are relative to `base`, or else to its own folder.
///
/// # Errors
/// The file can't be read, or it has problems.
pub fn load(path: &Path, base: Option<&Path>, host: &HostFacts) -> Result<Loaded, SpecError> {
    let unreadable = |reason: String| SpecError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let meta = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    if meta.is_dir() {
        return Err(unreadable(
            "this is a folder; an experiment file is expected".to_owned(),
        ));
    }
    if meta.len() > MAX_FILE {
        return Err(unreadable(format!(
            "{} bytes are too long for an experiment file",
            meta.len()
        )));
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        unreadable(format!(
            "not text: byte {} is not UTF-8",
            error.utf8_error().valid_up_to()
        ))
    })?;
    let folder = base.or(path.parent()).unwrap_or(Path::new(".")).to_owned();
    check_text(&path.display().to_string(), text, &folder, host)
}

/// Checks the text of an experiment file.
///
/// # Errors
/// The text has problems.
pub fn check_text(
    name: &str,
    text: String,
    folder: &Path,
    host: &HostFacts,
) -> Result<Loaded, SpecError> {
    let (experiment, mut diagnostics) = read(&text, folder, host);
    diagnostics.sort_by_key(|d| (d.mark.line, d.mark.column, d.severity));
    let render = |d: &Diagnostic| d.render(name, &text);
    let fatal = diagnostics.iter().any(|d| d.severity != Severity::Warning);
    match experiment {
        Some(experiment) if !fatal => {
            let warnings = diagnostics.iter().map(render).collect();
            Ok(Loaded {
                experiment,
                text,
                folder: folder.to_owned(),
                warnings,
            })
        }
        _ => Err(SpecError::Invalid {
            rendered: diagnostics.iter().map(render).collect(),
            diagnostics,
        }),
    }
}

fn read(text: &str, folder: &Path, host: &HostFacts) -> (Option<Experiment>, Vec<Diagnostic>) {
    let tree = match text::parse(text) {
        Ok(tree) => tree,
        Err(diagnostic) => return (None, vec![diagnostic]),
    };
    let findings = Findings::default();
    let experiment = Experiment::from_node(&At::top(&findings, &tree), &tree);
    let (mut diagnostics, marks) = findings.into_parts();
    if let Some(experiment) = &experiment {
        diagnostics.extend(check::check(experiment, &marks, folder, host));
    }
    (experiment, diagnostics)
}

impl Experiment {
    /// Guest-physical memory of all guests, bytes.
    #[must_use]
    pub fn guest_physical(&self) -> u64 {
        self.guests
            .iter()
            .map(|group| group.memory.0.saturating_mul(self.most(group).into()))
            .fold(0, u64::saturating_add)
    }

    /// Number of guests at the start.
    #[must_use]
    pub fn guest_count(&self) -> u64 {
        self.guests
            .iter()
            .map(|group| u64::from(self.most(group)))
            .sum()
    }

    /// Number of guests that a cell starts with.
    #[must_use]
    pub fn guest_count_of(&self, set: &MechanismSet) -> u64 {
        self.guests
            .iter()
            .map(|group| u64::from(set.count(group)))
            .sum()
    }

    /// The largest number of a group's guests in any cell.
    fn most(&self, group: &GuestGroup) -> u32 {
        let counts = self.matrix.iter().map(|set| set.count(group));
        counts.max().unwrap_or(group.count)
    }
}
