//! Points to cells: the file with a point's fields changed, read and checked again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::super::check::{self, HostFacts};
use super::super::diagnostic::{Diagnostic, Mark};
use super::super::model::{Experiment, MechanismSet};
use super::super::reader::{At, Findings, FromNode, Marks};
use super::super::text::{Node, Value};
use super::{Block, Point, Sweep};

/// What is of the whole experiment, and can't differ between its cells.
const WHOLE: [(&str, &str); 12] = [
    ("version", "the format"),
    ("name", "the results folder"),
    ("title", "the figures"),
    ("question", "the experiment"),
    ("estimate", "the experiment"),
    ("matrix", "all points; sweep `sharing` instead"),
    ("sweep", "itself"),
    ("repeat", "the order of all runs"),
    ("curves", "the figures"),
    ("expect", "the results"),
    ("outputs", "the results"),
    ("machine.requires", "the host"),
];

/// What a sweep is made of.
pub(in super::super) struct Given<'a> {
    /// The tree of the file.
    pub(in super::super) tree: &'a Node,
    /// The file without its sweep.
    pub(in super::super) experiment: &'a Experiment,
    /// Where its fields are.
    pub(in super::super) marks: &'a Marks,
    /// Folder of the file.
    pub(in super::super) folder: &'a Path,
    /// What the checks know of the host.
    pub(in super::super) host: &'a HostFacts,
}

/// The cells of an experiment: its mechanism sets, at each point of its sweep.
pub(in super::super) fn expand(given: &Given<'_>) -> (Vec<MechanismSet>, Vec<Diagnostic>) {
    let sets = &given.experiment.matrix;
    let Some(sweep) = &given.experiment.sweep else {
        return (sets.clone(), Vec::new());
    };
    let mut found = Vec::new();
    let variants = variants(given, sweep, &mut found);
    let mut cells = Vec::<MechanismSet>::new();
    for (index, set) in sets.iter().enumerate() {
        let sweeps = |block: &Block| block.sets.is_empty() || block.sets.contains(&set.id);
        let mut swept = false;
        for (block, points) in sweep.blocks.iter().zip(&variants) {
            if !sweeps(block) {
                continue;
            }
            swept = true;
            for (point, variant) in block.points.iter().zip(points) {
                let Some(variant) = variant else { continue };
                let cell = cell(point, variant, index);
                if cells.iter().any(|other| other.id == cell.id) {
                    found.push(same_name(&block.path, point.mark, &cell.id));
                }
                cells.push(cell);
            }
        }
        if !swept {
            cells.push(set.clone());
        }
    }
    found.extend(unknown_sets(given, sweep));
    (cells, found)
}

/// The experiment at each point; `None` where it can't be made, and why.
fn variants(
    given: &Given<'_>,
    sweep: &Sweep,
    found: &mut Vec<Diagnostic>,
) -> Vec<Vec<Option<Experiment>>> {
    let mut variants = Vec::new();
    for block in &sweep.blocks {
        let mut of_block = Vec::new();
        for point in &block.points {
            let (variant, problems) = variant(given, point);
            of_block.push(variant);
            for problem in problems {
                // Many points have a value in common.
                if !found.contains(&problem) {
                    found.push(problem);
                }
            }
        }
        variants.push(of_block);
    }
    variants
}

/// The experiment at a point.
fn variant(given: &Given<'_>, point: &Point) -> (Option<Experiment>, Vec<Diagnostic>) {
    let mut tree = given.tree.clone();
    if let Value::Map(entries) = &mut tree.value {
        // Claims and curves are about cells, and those are what this makes.
        entries.retain(|(key, _)| !["sweep", "expect", "curves"].contains(&&*key.name));
    }
    let mut problems = Vec::new();
    for setting in &point.settings {
        let root = setting.path.as_str();
        let inside = |whole: &str| {
            let rest = root.strip_prefix(whole);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if let Some((whole, of)) = WHOLE.iter().find(|(whole, _)| inside(whole)) {
            let problem = Diagnostic::new(setting.mark, format!("`{whole}` is of {of}"));
            let problem = problem.at(setting.path.clone());
            problems.push(problem.expected(
                "a field that cells can differ in: of guests, images, sharing, scanner, ksm, \
                 phases, timeline, metrics, machine.memory, seed",
            ));
        } else if let Err(problem) = setting.apply(&mut tree) {
            problems.push(problem);
        }
    }
    if !problems.is_empty() {
        return (None, problems);
    }
    let findings = Findings::default();
    let experiment = Experiment::from_node(&At::top(&findings, &tree), &tree);
    let (mut problems, marks) = findings.into_parts();
    if let Some(experiment) = &experiment {
        problems.extend(check::check(experiment, &marks, given.folder, given.host));
    }
    (experiment, problems)
}

/// The cell of a mechanism set at a point.
fn cell(point: &Point, variant: &Experiment, set: usize) -> MechanismSet {
    // Where `sharing` is swept there is one set, and each point has its own.
    let mut set = variant.matrix[set.min(variant.matrix.len() - 1)].clone();
    let settings = point.settings.iter();
    let settings = settings.map(|setting| (setting.path.clone(), setting.value.plain()));
    let id = format!("{}-{}", set.id, point.label);
    set.base = Some(std::mem::replace(&mut set.id, id));
    set.point = settings.collect::<BTreeMap<_, _>>();
    let mut variant = variant.clone();
    variant.matrix = vec![set.clone()];
    set.variant = Some(Arc::new(variant));
    set
}

fn same_name(path: &str, mark: Mark, id: &str) -> Diagnostic {
    let problem = Diagnostic::new(mark, format!("two cells are called `{id}`")).at(path);
    problem.expected("points with different names; `label` or `points` give them other ones")
}

/// Mechanism sets that a block names and the experiment does not have.
fn unknown_sets(given: &Given<'_>, sweep: &Sweep) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for block in &sweep.blocks {
        for (index, id) in block.sets.iter().enumerate() {
            if given.experiment.matrix.iter().any(|set| set.id == *id) {
                continue;
            }
            let path = format!("{}.sets[{index}]", block.path);
            let mark = given.marks.get(&path).copied().unwrap_or(Mark::START);
            let problem = Diagnostic::new(mark, format!("`{id}` is not in `matrix`"));
            found.push(problem.at(path).expected("mechanism sets of `matrix`"));
        }
    }
    found
}
