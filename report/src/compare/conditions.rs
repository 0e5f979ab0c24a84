//! What differs between two sessions besides their results. A difference that nobody meant is the
//! most common reason for a change.

use serde::Serialize;
use serde_json::Value;

use crate::results::Results;

/// Parts of `run.json` that can change results.
const PARTS: [&str; 6] = [
    "/experiment",
    "/images",
    "/provenance/host",
    "/provenance/environment",
    "/provenance/profile",
    "/provenance/binary_digest",
];

/// The part that early results have not.
const LATER: &str = "/provenance/environment";

/// What changes nothing: words for people, places, and what is different at every start.
const IDLE: [&str; 10] = [
    "title",
    "question",
    "estimate",
    "outputs",
    "expect",
    "path",
    "cached",
    "available",
    "load",
    "ksm_run",
];

/// A condition that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Where in `run.json`.
    pub what: String,
    /// Its value before; `null` if it was not there.
    pub before: Value,
    /// Its value after.
    pub after: Value,
}

/// Every condition that differs between two results.
#[must_use]
pub fn conditions(before: &Results, after: &Results) -> Vec<Difference> {
    let mut found = Vec::new();
    let trees = (&before.run.conditions, &after.run.conditions);
    for part in PARTS {
        let of = |tree: &Value| tree.pointer(part).cloned().unwrap_or(Value::Null);
        // Results of a version that did not look at all are no different for it.
        if [trees.0, trees.1].iter().any(|tree| of(tree).is_null()) && part == LATER {
            continue;
        }
        walk(
            &part[1..].replace('/', "."),
            &of(trees.0),
            &of(trees.1),
            &mut found,
        );
    }
    found
}

fn walk(place: &str, before: &Value, after: &Value, found: &mut Vec<Difference>) {
    let (Some(old), Some(new)) = (before.as_object(), after.as_object()) else {
        if before != after {
            found.push(Difference {
                what: place.to_owned(),
                before: before.clone(),
                after: after.clone(),
            });
        }
        return;
    };
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    for name in names
        .into_iter()
        .filter(|name| !IDLE.contains(&name.as_str()))
    {
        let of = |map: &serde_json::Map<String, Value>| map.get(name).cloned();
        let (old, new) = (of(old).unwrap_or_default(), of(new).unwrap_or_default());
        walk(&format!("{place}.{name}"), &old, &new, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_matters_is_found_and_what_does_not_is_not() {
        let old =
            json!({ "seed": 1, "title": "a", "scanner": { "interval": 0.25, "hints": true } });
        let new = json!({ "seed": 1, "title": "b", "scanner": { "interval": 1.0, "hints": true } });
        let mut found = Vec::new();
        walk("experiment", &old, &new, &mut found);
        let places: Vec<&str> = found.iter().map(|found| found.what.as_str()).collect();
        assert_eq!(places, ["experiment.scanner.interval"]);
    }
}
