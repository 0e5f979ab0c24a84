//! What is measured, and where it goes.

use std::time::Duration;

use super::super::describe::{Field, Map, Shape};
use super::super::model::{Metrics, Outputs};
use super::super::reader::{At, Fields, FromMap, FromNode, from_map};
use super::super::text::Node;
use super::super::units::Time;
use crate::output::summary;

from_map!(Metrics, Outputs);

impl FromMap for Metrics {
    fn map() -> Map {
        let about = "period of the sampling grid; at least 10 ms";
        let fields = vec![Field::needed::<Time>("sample", about)];
        Map::new("metrics", "What is sampled when", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let sample = fields.get::<Time>("sample");
        if let Some(period) = sample
            && period.0 < Duration::from_millis(10)
            && let Some((at, _)) = fields.node("sample")
        {
            at.report::<()>(
                at.problem("sampling this often would measure itself")
                    .expected("at least 10 ms"),
            );
        }
        sample.map(|sample| Self { sample })
    }
}

/// The path of a metric. Whether there is such a one is checked with the other claims.
pub(super) struct MetricPath(pub(super) String);

impl FromNode for MetricPath {
    fn shape() -> Shape {
        let words = summary::METRICS.iter().map(|metric| (*metric, "a figure"));
        // Of groups of guests: their ids are the file's own.
        let of_group = Shape::Text {
            name: "figure of a group",
            pattern: r"^groups\.[A-Za-z0-9_-]+\.(allocated|target|active|ballooned|swapped|operations|printed\.[A-Za-z0-9_-]+)$",
        };
        Shape::Either(vec![Shape::Words(words.collect()), of_group])
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        String::from_node(at, node).map(Self)
    }
}

impl FromMap for Outputs {
    fn map() -> Map {
        let about = "gets one folder for each `run`; relative to the current folder. 64 MiB must be \
                     free";
        let fields = vec![Field::needed::<String>("directory", about)];
        Map::new("outputs", "Where results go", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let directory = fields.get::<String>("directory")?;
        Some(Self {
            directory: directory.into(),
        })
    }
}
