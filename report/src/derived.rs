//! Figures that follow from others of the same run.
//!
//! They are not stored: whoever reads results can make them again, and results of older versions
//! have them too. A figure that lacks a part is not measured.

use serde_json::Value;

/// How their paths begin.
const PREFIX: &str = "derived.";

/// Bytes of a page, which KSM counts in.
const PAGE: f64 = 4096.0;

const GIB: f64 = 1_073_741_824.0;

/// Whether a path names such a figure.
#[must_use]
pub fn is_derived(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// A derived figure of a run; `seconds` is how long the run took, if that is known.
pub(crate) fn derived(tree: &Value, path: &str, seconds: Option<f64>) -> Option<f64> {
    let known = |path: &str| stored(tree, path);
    match path.strip_prefix(PREFIX)? {
        "if_all_broke" => Some(known("memory.machine_used")? + known("memory.reclaimed")?),
        "reclaimed_less_zero" => Some(known("memory.reclaimed")? - zero(tree)),
        "scan_seconds_per_gib" => {
            let (spent, saved) = (spent(tree)?, scanned(tree));
            (spent > 0.0 && saved > 0.0).then(|| spent * GIB / saved)
        }
        "scan_core" => {
            let took = seconds.filter(|seconds| *seconds > 0.0)?;
            Some(spent(tree)? / took)
        }
        _ => None,
    }
}

/// A figure that is stored.
pub(crate) fn stored(tree: &Value, path: &str) -> Option<f64> {
    path.split('.')
        .try_fold(tree, |tree, name| tree.get(name))?
        .as_f64()
}

/// What zero pages save, by our mechanism or by KSM: any scanner finds them, and a guest that has
/// just booted is full of them.
fn zero(tree: &Value) -> f64 {
    let ours = stored(tree, "by_mechanism.zero").unwrap_or(0.0);
    let theirs = stored(tree, "ksm.zero_pages").unwrap_or(0.0);
    ours + theirs * PAGE
}

/// CPU time of the scanners, ours or the kernel's.
fn spent(tree: &Value) -> Option<f64> {
    let parts = ["cpu_seconds.scanner", "cpu_seconds.ksmd"];
    let parts = parts.iter().filter_map(|path| stored(tree, path));
    parts.reduce(|a, b| a + b)
}

/// What was saved by scanning; the disk's part costs no scan.
fn scanned(tree: &Value) -> f64 {
    let parts = [
        "by_mechanism.content",
        "by_mechanism.zero",
        "by_mechanism.ksm",
    ];
    parts.iter().filter_map(|path| stored(tree, path)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ksm_is_told_with_and_without_zero_pages() {
        let run = json!({
            "memory": { "reclaimed": 100 * 4096 },
            "by_mechanism": { "zero": 0, "ksm": 100 * 4096 },
            "ksm": { "pages_sharing": 70, "zero_pages": 30 },
        });
        let left = derived(&run, "derived.reclaimed_less_zero", None);
        assert_eq!(left, Some(70.0 * 4096.0));
    }

    #[test]
    fn all_shares_broken_at_once_need_what_was_saved() {
        let run = json!({ "memory": { "machine_used": 30, "reclaimed": 70 } });
        assert_eq!(derived(&run, "derived.if_all_broke", None), Some(100.0));
        let run = json!({ "memory": { "machine_used": 30, "reclaimed": null } });
        assert_eq!(derived(&run, "derived.if_all_broke", None), None);
    }

    #[test]
    fn a_scanner_costs_seconds_for_each_gib_that_it_saved() {
        let run = json!({
            "by_mechanism": { "disk": 7_u64 << 30, "content": 1_u64 << 30, "zero": 1_u64 << 30 },
            "cpu_seconds": { "scanner": 3.0, "ksmd": null },
        });
        let known = |path| derived(&run, path, Some(12.0));
        assert_eq!(known("derived.scan_seconds_per_gib"), Some(1.5));
        assert_eq!(known("derived.scan_core"), Some(0.25));
        assert_eq!(derived(&run, "derived.scan_core", None), None);
    }

    #[test]
    fn what_was_not_measured_is_no_zero() {
        let run = json!({ "by_mechanism": { "content": 5 }, "cpu_seconds": {} });
        for path in ["derived.scan_seconds_per_gib", "derived.scan_core"] {
            assert_eq!(derived(&run, path, Some(1.0)), None, "{path}");
        }
        assert_eq!(derived(&run, "derived.unknown", None), None);
    }
}
