//! The memory policy of an experiment: how guests that want more than there is are treated.

use std::time::Duration;

use mirrorball_policy::IdleTax;
use mirrorball_policy::state::Thresholds;
use serde::Serialize;

use super::describe::{Field, Map};
use super::reader::{Fields, FromMap, from_map};
use super::units::{Count, Percent, Size, Switch, Time};

from_map!(PolicySpec, Limits, SamplingSpec);

/// Settings of the memory policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PolicySpec {
    /// How often targets are set anew.
    pub period: Time,
    /// The idle memory tax, in percent.
    pub idle_tax: Percent,
    /// When memory is taken back, and how hard.
    pub thresholds: Limits,
    /// How active memory is estimated.
    pub sampling: SamplingSpec,
    /// Whether guests' balloons are used.
    pub balloon: Switch,
    /// Most of a guest's memory in its balloon, in percent.
    pub balloon_most: Percent,
    /// Most that a balloon grows in a second.
    pub balloon_rate: Size,
    /// Whether pages are swapped.
    pub swap: Switch,
    /// Size of the swap file; all guests' memory if not given.
    pub swap_size: Option<Size>,
    /// Memory for swapped pages that are kept compressed; none if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_pool: Option<Size>,
}

/// Free memory, in percent of the machine's, below which memory is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// What reclaiming aims at.
    pub high: Percent,
    /// Balloons.
    pub soft: Percent,
    /// Swap.
    pub hard: Percent,
    /// Guests are held.
    pub low: Percent,
}

/// How active memory is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SamplingSpec {
    /// Pages of each guest that are watched at a time.
    pub pages: Count,
    /// For so long.
    pub period: Time,
}

impl PolicySpec {
    /// The tax as the policy has it; none where it is out of range, which the reader refuses.
    #[must_use]
    pub fn tax(&self) -> IdleTax {
        IdleTax::new(self.idle_tax.0 / 100.0).unwrap_or(IdleTax::NONE)
    }
}

impl Limits {
    /// As the policy has them.
    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        Thresholds {
            high: self.high.0 / 100.0,
            soft: self.soft.0 / 100.0,
            hard: self.hard.0 / 100.0,
            low: self.low.0 / 100.0,
            ..Thresholds::default()
        }
    }
}

impl FromMap for PolicySpec {
    fn map() -> Map {
        let fields = vec![
            Field::or::<Time>(
                "period",
                "250 ms",
                "how often targets are set anew; free memory is looked at every millisecond or two",
            ),
            Field::or::<Percent>("idle-tax", "75 %", "the idle memory tax; below 100 %"),
            Field::or::<Limits>(
                "thresholds",
                "{}",
                "when memory is taken back, and how hard",
            ),
            Field::or::<SamplingSpec>("sampling", "{}", "how active memory is estimated"),
            Field::or::<Switch>("balloon", "on", "whether guests' balloons are used"),
            Field::or::<Percent>(
                "balloon-most",
                "65 %",
                "of a guest's memory, in its balloon",
            ),
            Field::or::<Size>(
                "balloon-rate",
                "64 MiB",
                "what a balloon grows by in a second at most",
            ),
            Field::or::<Switch>(
                "swap",
                "on",
                "whether pages are swapped, to a file in `TMPDIR` that is gone after the run; needs write tracking, Linux 6.8, and root or `CAP_SYS_PTRACE`",
            ),
            Field::maybe::<Size>(
                "swap-size",
                "the guests' memory",
                "size of the swap file; must hold what guests have above their `min`",
            ),
            Field::maybe::<Size>(
                "swap-pool",
                "nothing is compressed",
                "memory for swapped pages that are compressed (LZ4) and kept; it is part of the budget, and what does not fit goes to the file",
            ),
        ];
        let about = "The memory policy ([mechanisms/policy.md](mechanisms/policy.md))";
        Map::new("policy", about, fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let tax = fields.get::<Percent>("idle-tax")?;
        if let Err(error) = IdleTax::new(tax.0 / 100.0)
            && let Some((at, _)) = fields.node("idle-tax")
        {
            at.report::<()>(at.problem(error.to_string()).expected("0 % to below 100 %"));
        }
        let period = fields.get::<Time>("period")?;
        if period.0 < Duration::from_millis(10)
            && let Some((at, _)) = fields.node("period")
        {
            let problem = at.problem("targets can't be set that often");
            at.report::<()>(problem.expected("10 ms or more"));
        }
        Some(Self {
            period,
            idle_tax: tax,
            thresholds: fields.get("thresholds")?,
            sampling: fields.get("sampling")?,
            balloon: fields.get("balloon")?,
            balloon_most: fields.get("balloon-most")?,
            balloon_rate: fields.get("balloon-rate")?,
            swap: fields.get("swap")?,
            swap_size: fields.get("swap-size"),
            swap_pool: fields.get("swap-pool"),
        })
    }
}

impl FromMap for Limits {
    fn map() -> Map {
        let fields = vec![
            Field::or::<Percent>("high", "6 %", "what reclaiming aims at, and what ends it"),
            Field::or::<Percent>(
                "soft",
                "4 %",
                "below it, balloons take; swap from guests without one",
            ),
            Field::or::<Percent>("hard", "2 %", "below it, swap takes"),
            Field::or::<Percent>(
                "low",
                "1 %",
                "below it, guests above their targets are held besides",
            ),
        ];
        let about =
            "Free memory, as a part of the machine's, at which the reclamation state changes";
        Map::new("thresholds", about, fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let limits = Self {
            high: fields.get("high")?,
            soft: fields.get("soft")?,
            hard: fields.get("hard")?,
            low: fields.get("low")?,
        };
        if let Err(error) = limits.thresholds().checked() {
            let problem = fields.problem(error.to_string());
            return fields.report(
                problem.expected(
                    "`high` above `soft` above `hard` above `low`, all of them above 0 %",
                ),
            );
        }
        Some(limits)
    }
}

impl FromMap for SamplingSpec {
    fn map() -> Map {
        let fields = vec![
            Field::or::<Count>(
                "pages",
                "100",
                "pages of each guest that are watched at a time",
            ),
            Field::or::<Time>(
                "period",
                "30 s",
                "for so long; a short experiment needs a shorter one",
            ),
        ];
        let about = "How active memory is estimated: some pages are taken away, and who touches one, \
                     reading or writing, is seen";
        Map::new("sampling", about, fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        Some(Self {
            pages: fields.get("pages")?,
            period: fields.get("period")?,
        })
    }
}
