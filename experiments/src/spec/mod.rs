//! Experiment files: text to a checked experiment, or every problem with its place.

mod check;
mod claims;
mod cpus;
mod describe;
mod diagnostic;
mod linux;
mod mechanisms;
mod model;
mod networks;
mod parse;
mod policy;
mod reader;
mod reference;
mod resolved;
mod schema;
mod setting;
mod simulation;
mod sweep;
mod text;
mod timeline;
mod units;
mod workload;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use check::{HostFacts, resolve};
pub use diagnostic::{Diagnostic, Mark, Severity, Source};
pub use linux::{LinuxSpec, PrintedMetric, RootSpec};
pub use model::*;
pub use networks::{GuestNetwork, NetworkSpec};
pub use policy::{Limits, PolicySpec, SamplingSpec};
pub use reference::reference;
pub use resolved::resolved;
pub use schema::schema;
pub use simulation::{Simulation, load_simulation};
pub use units::{Count, PagesPerSecond, Percent, Size, Switch, Time};
pub use workload::workloads;

use reader::{At, Findings, FromNode};
use setting::Setting;

/// How long a workload runs when it is only tried.
const SMOKE: Duration = Duration::from_secs(1);

/// Longest experiment file that is read.
const MAX_FILE: u64 = 1 << 20;

/// A checked experiment.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The experiment.
    pub experiment: Experiment,
    /// The text it was read from.
    pub text: String,
    /// What was changed of it, `path=value` each.
    pub settings: Vec<String>,
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

/// Reads and checks an experiment file. Its paths are relative to `base`, or else to its own folder;
/// `settings` change fields of it, `path=value` each.
///
/// # Errors
/// The file can't be read, or it has problems.
pub fn load(
    path: &Path,
    base: Option<&Path>,
    settings: &[String],
    host: &HostFacts,
) -> Result<Loaded, SpecError> {
    let text = read_text(path)?;
    let folder = base.or(path.parent()).unwrap_or(Path::new("."));
    let name = path.display().to_string();
    check_changed(&name, text, settings, folder, host)
}

/// The text of a file that a user wrote.
fn read_text(path: &Path) -> Result<String, SpecError> {
    let unreadable = |reason: String| SpecError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let meta = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => unreadable(missing(path)),
        _ => unreadable(error.to_string()),
    })?;
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
    String::from_utf8(bytes).map_err(|error| {
        unreadable(format!(
            "not text: byte {} is not UTF-8",
            error.utf8_error().valid_up_to()
        ))
    })
}

/// What to say of a file that is not there: the one with the nearest name, beside it or among those
/// that come with the program, or else where files to begin with are.
fn missing(path: &Path) -> String {
    let beside = path.parent().unwrap_or(Path::new(""));
    let found = [beside, Path::new("experiments")].map(|folder| near(folder, path));
    let remedy = found.into_iter().flatten().next().map_or_else(
        || {
            "`mirrorball list` shows the experiments that come with it, `mirrorball init` writes a \
             file to begin with"
                .to_owned()
        },
        |found| format!("did you mean `{}`?", found.display()),
    );
    format!("there is no such file\n      = help: {remedy}")
}

/// The experiment file of a folder whose name is nearest to that of `path`.
fn near(folder: &Path, path: &Path) -> Option<PathBuf> {
    let written = path.file_name()?.to_string_lossy();
    let listed = std::fs::read_dir(Path::new(".").join(folder)).ok()?;
    let names = listed.flatten().map(|entry| entry.file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".yaml")).collect();
    names.sort();
    let name = diagnostic::nearest(&written, names.iter().map(String::as_str))?;
    Some(folder.join(name))
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
    check_changed(name, text, &[], folder, host)
}

/// Checks the text of an experiment file of which `settings` change fields.
///
/// # Errors
/// The text, or a setting, has problems.
pub fn check_changed(
    name: &str,
    text: String,
    settings: &[String],
    folder: &Path,
    host: &HostFacts,
) -> Result<Loaded, SpecError> {
    let (experiment, diagnostics) = read(&text, settings, folder, host);
    let (experiment, warnings) = judged(experiment, diagnostics, name, &text, settings)?;
    Ok(Loaded {
        experiment,
        text,
        settings: settings.to_vec(),
        folder: folder.to_owned(),
        warnings,
    })
}

/// What was read and the rendered warnings, unless there is anything worse.
fn judged<T>(
    read: Option<T>,
    mut diagnostics: Vec<Diagnostic>,
    name: &str,
    text: &str,
    settings: &[String],
) -> Result<(T, Vec<String>), SpecError> {
    diagnostics.sort_by_key(|d| (d.mark.line, d.mark.column, d.severity));
    let source = Source {
        file: name,
        text,
        settings,
    };
    let rendered = diagnostics.iter().map(|d| d.render(source)).collect();
    let fatal = diagnostics.iter().any(|d| d.severity != Severity::Warning);
    match read {
        Some(read) if !fatal => Ok((read, rendered)),
        _ => Err(SpecError::Invalid {
            rendered,
            diagnostics,
        }),
    }
}

fn read(
    text: &str,
    settings: &[String],
    folder: &Path,
    host: &HostFacts,
) -> (Option<Experiment>, Vec<Diagnostic>) {
    let mut tree = match text::parse(text) {
        Ok(tree) => tree,
        Err(diagnostic) => return (None, vec![diagnostic]),
    };
    let mut diagnostics = Vec::new();
    for (number, setting) in settings.iter().enumerate() {
        let setting = Setting::parse(setting, number);
        diagnostics.extend(setting.and_then(|setting| setting.apply(&mut tree)).err());
    }
    let findings = Findings::default();
    let mut experiment = Experiment::from_node(&At::top(&findings, &tree), &tree);
    let (found, marks) = findings.into_parts();
    diagnostics.extend(found);
    if let Some(experiment) = &mut experiment {
        // Points of a file that is wrong would be wrong in the same way.
        if diagnostics.is_empty() {
            let (cells, found) = sweep::expand(&sweep::Given {
                tree: &tree,
                experiment,
                marks: &marks,
                folder,
                host,
            });
            experiment.matrix = cells;
            diagnostics = found;
        }
        for problem in check::check(experiment, &marks, folder, host) {
            if !diagnostics.contains(&problem) {
                diagnostics.push(problem);
            }
        }
        diagnostics.extend(check::unused(experiment, &marks, folder));
    }
    (experiment, diagnostics)
}

impl Experiment {
    /// Makes it as short as it can be and still run every cell once. What it gives then is no result.
    pub fn make_smoke(&mut self) {
        self.name.push_str("-smoke");
        self.expect.clear();
        self.repeat.warmup = 0;
        self.repeat.runs = Runs::Fixed(1);
        self.shorten();
        for cell in &mut self.matrix {
            if let Some(variant) = &mut cell.variant {
                Arc::make_mut(variant).shorten();
            }
        }
    }

    /// The shortest phases; Linux guests' commands take what they take.
    fn shorten(&mut self) {
        const STEP: Duration = Duration::from_millis(100);
        let mut end = SMOKE;
        for (timed, number) in self.timeline.iter_mut().zip(1..) {
            timed.at.0 = timed.at.0.min(STEP * number);
            end = end.max(timed.at.0 + STEP);
        }
        if !self.has_own_linux_guests() {
            let length = self
                .phases
                .workload_for
                .map_or(end, |length| length.0.min(end));
            self.phases.workload_for = Some(Time(length));
        }
        self.phases.settle_scans = self.phases.settle_scans.min(1);
        self.phases.settle_stable = None;
    }

    /// The experiment as a cell of it has it.
    #[must_use]
    pub fn of<'a>(&'a self, cell: &'a MechanismSet) -> &'a Self {
        cell.variant.as_deref().unwrap_or(self)
    }

    /// The same with the seed of a repeat.
    #[must_use]
    pub fn with_seed_of(&self, run: u32) -> Self {
        let seed = crate::run::seed_of(self.seed, run);
        Self {
            seed,
            ..self.clone()
        }
    }

    /// Gives it another seed, and all cells that do not sweep theirs.
    pub fn set_seed(&mut self, seed: u64) {
        self.seed = seed;
        for cell in &mut self.matrix {
            let swept = cell.point.contains_key("seed");
            if let Some(variant) = cell.variant.as_mut().filter(|_| !swept) {
                Arc::make_mut(variant).seed = seed;
            }
        }
    }

    /// Guest-physical memory of all guests of the largest cell, bytes.
    #[must_use]
    pub fn guest_physical(&self) -> u64 {
        self.most(|experiment| {
            let sizes = experiment.guests.iter();
            let sizes = sizes.map(|group| group.memory.0.saturating_mul(group.count.into()));
            sizes.fold(0, u64::saturating_add)
        })
    }

    /// Number of guests at the start of the largest cell.
    #[must_use]
    pub fn guest_count(&self) -> u64 {
        self.most(Self::own_guests)
    }

    /// Number of guests that a cell starts with.
    #[must_use]
    pub fn guest_count_of(&self, cell: &MechanismSet) -> u64 {
        self.of(cell).own_guests()
    }

    /// Whether any cell has Linux guests.
    #[must_use]
    pub fn has_linux_guests(&self) -> bool {
        let mut cells = self.matrix.iter().map(|cell| self.of(cell));
        cells.any(Self::has_own_linux_guests)
    }

    fn has_own_linux_guests(&self) -> bool {
        let mut groups = self.guests.iter();
        groups.any(|group| group.system.linux().is_some())
    }

    fn own_guests(&self) -> u64 {
        let counts = self.guests.iter().map(|group| u64::from(group.count));
        counts.sum()
    }

    fn most(&self, of: impl Fn(&Self) -> u64) -> u64 {
        let cells = self.matrix.iter().map(|cell| of(self.of(cell)));
        cells.max().unwrap_or_else(|| of(self))
    }
}
