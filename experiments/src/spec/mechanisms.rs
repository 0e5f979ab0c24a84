//! Which mechanisms are on in which cell, and how the scanners are set: part of the typed experiment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::model::Experiment;
use super::units::{Niceness, PagesPerSecond, Percent, Time};

/// A cell: a set of mechanisms, at a point of the sweep if there is one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MechanismSet {
    /// Id, used in results: `none`, `disk`, `zero`, `content`, `all`, `ksm`, or the set's own; and
    /// the name of the point.
    pub id: String,
    /// Disco's copy-on-write disk.
    pub disk: bool,
    /// Zero pages need no frame.
    pub zero: bool,
    /// Content scanning.
    pub content: bool,
    /// Linux's own scanner instead of ours.
    pub ksm: bool,
    /// What the sweep changes of the file, by path.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub point: BTreeMap<String, Value>,
    /// The mechanism set that a point was added to; `None` where nothing is swept.
    #[serde(skip)]
    pub(super) base: Option<String>,
    /// The experiment with that changed; [`Experiment::of`] where nothing is.
    #[serde(skip)]
    pub(super) variant: Option<Arc<Experiment>>,
}

impl MechanismSet {
    /// The well-known sets, by id.
    pub const KNOWN: [(&'static str, [bool; 4]); 6] = [
        ("none", [false, false, false, false]),
        ("disk", [true, false, false, false]),
        ("zero", [false, true, false, false]),
        ("content", [false, false, true, false]),
        ("all", [true, true, true, false]),
        ("ksm", [false, false, false, true]),
    ];

    /// The well-known sets, each with what it is.
    #[must_use]
    pub fn described() -> Vec<(&'static str, &'static str)> {
        match <Self as super::reader::FromNode>::shape() {
            super::describe::Shape::Words(words) => words,
            _ => Vec::new(),
        }
    }

    /// A set of `disk`, `zero`, `content`, `ksm`, with the id of the well-known set it is, if any.
    #[must_use]
    pub fn new([disk, zero, content, ksm]: [bool; 4]) -> Self {
        let known = Self::KNOWN
            .iter()
            .find(|(_, set)| *set == [disk, zero, content, ksm]);
        let mut set = Self {
            id: String::new(),
            disk,
            zero,
            content,
            ksm,
            point: BTreeMap::new(),
            base: None,
            variant: None,
        };
        set.id = known.map_or_else(|| set.names().join("+"), |(id, _)| (*id).to_owned());
        set
    }

    /// Id of the set without the point.
    #[must_use]
    pub fn set_name(&self) -> &str {
        self.base.as_deref().unwrap_or(&self.id)
    }

    /// The names of the mechanisms that are on.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        [
            ("disk", self.disk),
            ("zero", self.zero),
            ("content", self.content),
            ("ksm", self.ksm),
        ]
        .into_iter()
        .filter_map(|(name, on)| on.then_some(name))
        .collect()
    }

    /// Whether our scanner runs.
    #[must_use]
    pub fn scans(&self) -> bool {
        self.zero || self.content
    }
}

/// Order in which the scanner looks at pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScanOrder {
    /// Only what was written since the last pass.
    DirtyAware,
    /// All pages, in order.
    Sequential,
    /// Pages at random, as ESX did.
    EsxRandom,
}

/// The content and zero scanner.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ScannerSpec {
    /// Order.
    pub order: ScanOrder,
    /// Most pages each second.
    pub rate: Option<PagesPerSecond>,
    /// Most CPU time, in percent of one core.
    pub cpu_budget: Option<Percent>,
    /// Most of busy guests' time that scanning may cost them, in percent; 0 is no limit.
    pub burden: Percent,
    /// How far the scanner gives way to the guests.
    pub nice: Niceness,
    /// Pause between two passes.
    pub interval: Time,
    /// Passes that a page must have stayed as it is before it is hashed.
    pub settle: u32,
    /// Whether pages seen once are remembered as hints.
    pub hints: bool,
    /// Whether pages that a network has copied are looked at first.
    pub network_hints: bool,
    /// Threads that hash; 0 for one on each CPU, at most 4.
    pub threads: u32,
}

impl Default for ScannerSpec {
    fn default() -> Self {
        Self {
            order: ScanOrder::DirtyAware,
            rate: None,
            cpu_budget: None,
            burden: Percent(1.0),
            nice: Niceness(15),
            interval: Time(Duration::from_secs(1)),
            settle: 1,
            hints: true,
            network_hints: true,
            threads: 0,
        }
    }
}

/// KSM's own settings. What is optional and not given stays as on the host; the advisor is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KsmSpec {
    /// `pages_to_scan`.
    pub pages_to_scan: u32,
    /// `sleep_millisecs`.
    pub sleep: Time,
    /// `smart_scan`; the host's if not given.
    pub smart_scan: Option<bool>,
    /// `use_zero_pages`.
    pub use_zero_pages: bool,
    /// `max_page_sharing`; the host's if not given.
    pub max_page_sharing: Option<u32>,
}

impl Default for KsmSpec {
    fn default() -> Self {
        Self {
            pages_to_scan: 4000,
            sleep: Time(Duration::from_millis(1)),
            smart_scan: None,
            use_zero_pages: true,
            max_page_sharing: None,
        }
    }
}
