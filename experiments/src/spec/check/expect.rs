//! Checks of claims, and of curves: that the cells and swept fields that they name are there.

use mirrorball_report::judge::{curves, is_named};
use mirrorball_report::summary::Cell;
use mirrorball_report::sweep;

use super::super::model::{Bound, Expectation, MechanismSet, Statistic};
use super::{Checks, list};
use crate::run::claims;

impl Checks<'_> {
    pub(super) fn expectations(&mut self) {
        let expect = &self.experiment.expect;
        for (index, expectation) in expect.iter().enumerate() {
            let path = |field: &str| format!("expect[{index}].{field}");
            if expect[..index]
                .iter()
                .any(|earlier| earlier.id == expectation.id)
            {
                let problem =
                    self.problem(&path("id"), format!("`{}` was used before", expectation.id));
                self.add(problem.expected("an id of its own"));
            }
            self.metric(&path("metric"), &expectation.metric);
            let others = [
                ("cell", &expectation.cell),
                ("ratio.to", &expectation.ratio_to),
            ];
            for (field, cell) in others {
                if let Some(cell) = cell {
                    self.named(&path(field), cell);
                }
            }
            if expectation.ratio_to.is_some() && expectation.statistic == Statistic::Mean {
                let problem = self.problem(
                    &path("statistic"),
                    "a mean of ratios depends on which cell is the baseline",
                );
                self.add(problem.expected("`median`, `least` or `most`"));
            }
            let before = self.found.len();
            match &expectation.bound {
                Bound::IncreasesWith(field) => self.along(index, "increases-with", field),
                Bound::DecreasesWith(field) => self.along(index, "decreases-with", field),
                Bound::Order(cells) => self.order(index, expectation, cells),
                _ => continue,
            }
            if expectation.published.is_some() {
                let problem = self.problem(&path("published"), "a shape has no published value");
                self.add(problem.expected("`source` alone, or another bound"));
            }
            if self.found.len() == before {
                self.has_curve(index, expectation);
            }
        }
    }

    /// Whether the figures and cells are there that stand beside published curves.
    pub(super) fn curves(&mut self) {
        let curves = &self.experiment.curves;
        for (index, curve) in curves.iter().enumerate() {
            if curves[..index].iter().any(|earlier| earlier.id == curve.id) {
                let path = format!("curves[{index}].id");
                let problem = self.problem(&path, format!("`{}` was used before", curve.id));
                self.add(problem.expected("an id of its own"));
            }
            for (number, line) in curve.lines.iter().enumerate() {
                let path = |field: &str| format!("curves[{index}].lines[{number}].{field}");
                if let Some(metric) = &line.metric {
                    self.metric(&path("metric"), metric);
                }
                let cells = line.cells.iter().enumerate();
                let cells = cells.map(|(place, cell)| (path(&format!("cells[{place}]")), cell));
                let base = line
                    .percent_of
                    .iter()
                    .map(|cell| (path("percent-of"), cell));
                for (path, cell) in cells.chain(base) {
                    // A point is one cell's: a set that stands for several has no place.
                    self.known(&path, cell, |set| set.id == *cell);
                }
            }
        }
    }

    /// Whether there is such a cell, or such a mechanism set.
    fn named(&mut self, path: &str, cell: &str) {
        self.known(path, cell, |set| is_named(cell, &set.id, set.set_name()));
    }

    /// Whether any cell `is` the one that is named.
    fn known(&mut self, path: &str, cell: &str, is: impl Fn(&MechanismSet) -> bool) {
        let cells = &self.experiment.matrix;
        if cells.is_empty() || cells.iter().any(is) {
            return;
        }
        let ids = cells.iter().map(|set| set.id.as_str()).collect::<Vec<_>>();
        let problem = self
            .problem(path, format!("there is no cell `{cell}`"))
            .expected(format!(
                "a mechanism set of this experiment: {}",
                list(&ids)
            ))
            .nearest(cell, ids.iter().copied());
        self.add(problem);
    }

    /// Whether that field is swept, over values that have an order.
    fn along(&mut self, index: usize, kind: &str, field: &str) {
        let path = format!("expect[{index}].{kind}");
        let swept = self.experiment.sweep.as_ref();
        let fields = swept.map_or(&[][..], |sweep| &sweep.fields);
        if !fields.iter().any(|swept| swept == field) {
            let fields = fields.iter().map(String::as_str).collect::<Vec<_>>();
            let expected = match fields.as_slice() {
                [] => "a field that `sweep` changes; this experiment has no sweep".to_owned(),
                fields => format!("a path of `sweep`: {}", list(fields)),
            };
            let problem = self
                .problem(&path, format!("`{field}` is not swept"))
                .expected(expected);
            self.add(problem.nearest(field, fields.iter().copied()));
            return;
        }
        let values = self.experiment.matrix.iter();
        let mut values = values.filter_map(|set| set.point.get(field));
        if let Some(value) = values.find(|value| sweep::quantity(value).is_none()) {
            let problem = self.problem(&path, format!("{value} is neither more nor less"));
            let problem = problem.expected("a field whose values are numbers, sizes, times, ...");
            self.add(problem.help("`order` says which cell should have more than which"));
        }
    }

    /// Whether these cells can be in an order.
    fn order(&mut self, index: usize, expectation: &Expectation, cells: &[String]) {
        let path = format!("expect[{index}].order");
        for (place, cell) in cells.iter().enumerate() {
            let at = format!("{path}[{place}]");
            self.named(&at, cell);
            if cells[..place].contains(cell) {
                let problem = self.problem(&at, format!("`{cell}` is there twice"));
                self.add(problem.expected("each cell once"));
            }
        }
        if cells.len() < 2 {
            let problem = self.problem(&path, "this orders nothing");
            self.add(problem.expected("two cells or more, the one with the least first"));
        }
        if expectation.cell.is_some() {
            let problem = self.problem(&format!("expect[{index}].cell"), "`order` names the cells");
            self.add(problem.expected("`order` without `cell`"));
        }
    }

    /// Whether two cells can be compared at all.
    fn has_curve(&mut self, index: usize, expectation: &Expectation) {
        let cell = |set: &super::super::model::MechanismSet| Cell {
            id: set.id.clone(),
            set: set.set_name().to_owned(),
            point: set.point.clone(),
            ..Cell::default()
        };
        let cells = self.experiment.matrix.iter().map(cell).collect::<Vec<_>>();
        let claims = claims(self.experiment);
        let claim = claims.iter().find(|claim| claim.id == expectation.id);
        let found = claim.map(|claim| curves(claim, &cells)).unwrap_or_default();
        if cells.is_empty() || found.iter().any(|curve| curve.len() > 1) {
            return;
        }
        let problem = self.problem(&format!("expect[{index}]"), "no two cells can be compared");
        self.add(problem.expected("cells that differ in this alone, or in what follows from it"));
    }
}
