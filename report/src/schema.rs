//! JSON Schemas of what a run writes, for scripts that read it: `summary.json` and `run.json`.
//!
//! They promise what is there, not that nothing else is: files grow, and a reader that follows the
//! schema goes on reading. Tests hold them to real results, where nothing may be undescribed.

use serde_json::{Map, Value, json};

use crate::metrics::by_path;
use crate::summary::{GROUP_METRICS, METRICS, SCHEMA_VERSION};

/// Groups of figures that older results do not have.
const LATER: [&str; 4] = ["disk", "by_category", "policy", "groups"];

const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

/// The schema of `summary.json`.
#[must_use]
pub fn summary() -> Value {
    let mut schema = object(
        json!({
            "schema_version": version(),
            "name": text("the experiment's"),
            "verdict": { "$ref": "#/definitions/verdict" },
            "interrupted": switch("whether it was stopped before its end"),
            "emulated": switch("whether it was measured on an emulated host: times compare within this result only"),
            "smoke": switch("whether every cell was only tried: its figures say nothing; not there means no"),
            "causes": list(&text("what keeps the verdict from `met`")),
            "cells": list(&json!({ "$ref": "#/definitions/cell" })),
        }),
        &["emulated", "smoke"],
    );
    schema["$schema"] = DRAFT.into();
    schema["title"] = "summary.json of Mirrorball: the figures of every cell".into();
    schema["definitions"] = json!({
        "cell": cell(),
        "failure": failure(),
        "outcome": outcome(),
        "verdict": {
            "description": "how it came out",
            "enum": ["met", "not-met", "inconclusive", "failed", "not-supported"],
        },
    });
    schema
}

/// The schema of `run.json`.
#[must_use]
pub fn run() -> Value {
    let mut schema = object(
        json!({
            "schema_version": version(),
            "experiment": open("the experiment file with all defaults filled in; sizes in bytes, times in seconds"),
            "provenance": open("version, commit, binary, command line, host, environment; `null` where the host has it not"),
            "images": {
                "description": "disk images by id",
                "type": "object",
                "additionalProperties": { "$ref": "#/definitions/image" },
            },
            "started": text("when it began, UTC"),
            "invocation": open("what the command line asked for, for resuming"),
            "resumed": list(&resumption()),
            "ended_by": maybe("string", "what ended it early"),
            "runs": list(&json!({ "$ref": "#/definitions/run" })),
        }),
        &["invocation", "resumed"],
    );
    schema["$schema"] = DRAFT.into();
    schema["title"] = "run.json of Mirrorball: what was run, with what, on what".into();
    schema["definitions"] = json!({
        "failure": failure(),
        "image": image(),
        "run": one_run(),
    });
    schema
}

fn resumption() -> Value {
    object(
        json!({
            "started": text("when a later process went on, UTC"),
            "runs_before": count("runs that were finished before"),
            "provenance": open("what it was run with, on what"),
        }),
        &[],
    )
}

fn version() -> Value {
    json!({
        "description": "raised when a name changes or goes",
        "type": "integer", "minimum": 1, "maximum": SCHEMA_VERSION,
    })
}

fn cell() -> Value {
    let mut fields = figures();
    let own = json!({
        "id": text("that of the mechanism set, and the name of the point"),
        "set": text("the mechanism set; not there in older results"),
        "mechanisms": list(&text("a mechanism that was on")),
        "point": open("what the sweep changed, by path"),
        "guests": count("guests at the start"),
        "runs": count("runs that count"),
        "retried": count("attempts that failed by the host's fault and were made again"),
        "stopped": object(json!({
            "because": { "enum": ["precise", "max-runs"] },
            "metric": text("the figure that was to be known"),
            "relative_half_width": maybe("number", "half the width of its interval, as a part of its mean"),
        }), &[]),
        "failures": list(&json!({ "$ref": "#/definitions/failure" })),
        "warnings": list(&text("what was noticed")),
        "expect": list(&json!({ "$ref": "#/definitions/outcome" })),
    });
    extend(&mut fields, own);
    object(
        Value::Object(fields),
        &[&["set", "point", "retried", "stopped"], &LATER[..]].concat(),
    )
}

/// The groups of figures. What was not measured is `null`.
fn figures() -> Map<String, Value> {
    let mut groups: Map<String, Value> = Map::new();
    for path in METRICS {
        let Some((names, name)) = path.rsplit_once('.') else {
            continue;
        };
        let group = || json!({ "type": "object", "properties": {} });
        let mut names = names.split('.');
        let first = names.next().unwrap_or_default();
        let mut group_of = groups.entry(first).or_insert_with(group);
        for name in names {
            let inner = &mut group_of["properties"][name];
            if inner.is_null() {
                *inner = group();
            }
            group_of = inner;
        }
        let words = path.replace(['.', '_'], " ");
        let about = by_path(path).map_or(words.as_str(), |metric| metric.name);
        group_of["properties"][name] = maybe("number", about.trim_start_matches("… "));
    }
    let ksm = object(
        json!({
            "pages_shared": count("frames that KSM keeps"),
            "pages_sharing": count("pages beyond the first that use them"),
            "zero_pages": count("pages that KSM made the zero page"),
            "net_saved": maybe("integer", "bytes saved less KSM's bookkeeping; may be negative"),
        }),
        &[],
    );
    let none = json!({ "type": "null" });
    groups.insert("ksm".to_owned(), json!({ "anyOf": [ksm, none] }));
    let of_group = GROUP_METRICS.iter();
    let of_group = of_group.map(|name| {
        (
            (*name).to_owned(),
            maybe("number", "of each guest, in the mean"),
        )
    });
    let mut of_group: Map<_, _> = of_group.collect();
    let printed = json!({
        "description": "numbers that the commands of Linux guests printed, of each in the mean",
        "type": "object",
        "additionalProperties": { "type": "number" },
    });
    of_group.insert("printed".to_owned(), printed);
    let of_group = json!({
        "description": "guests by their group, in experiments with a memory policy or printed numbers",
        "type": "object",
        "additionalProperties": { "type": "object", "properties": of_group },
    });
    groups.insert("groups".to_owned(), of_group);
    groups
}

fn failure() -> Value {
    object(
        json!({
            "run": count("number of the run in its cell, from 1"),
            "class": {
                "description": "whose fault it was",
                "enum": [
                    "guest", "guest-hung", "workload", "timeout", "accounting", "memory",
                    "not-supported", "in-use", "host", "interrupted", "cleanup-failed",
                ],
            },
            "cause": text("what happened"),
        }),
        &[],
    )
}

fn outcome() -> Value {
    object(
        json!({
            "id": text("the claim's"),
            "verdict": { "$ref": "#/definitions/verdict" },
            "value": maybe("number", "the figure or the ratio; of a curve its worst step"),
            "interval": {
                "description": "95 % interval of the value; not there for fewer than three runs",
                "type": "array", "items": { "type": "number" }, "minItems": 2, "maxItems": 2,
            },
            "severity": {
                "description": "what it means if it is not met; not there means `fail`",
                "enum": ["fail", "warn", "info"],
            },
            "published": maybe("number", "the value that a paper published"),
            "cells": list(&text("a cell of the curve, in the order that is claimed")),
        }),
        &["interval", "severity", "cells"],
    )
}

fn image() -> Value {
    object(
        json!({
            "path": text("the file"),
            "bytes": count("its size"),
            "digest": text("SHA-256 of what it was made of"),
            "files": maybe("integer", "files in it, where it was made here"),
            "cached": switch("whether it was there already"),
        }),
        &[],
    )
}

fn one_run() -> Value {
    let share = |about: &str| maybe("number", about);
    let noise = json!({
        "steal": share("part of all CPU time that a hypervisor gave to others"),
        "others": share("part that other programs used"),
        "waiting": share("part of the time in which some thread had no CPU"),
        "megahertz": { "description": "mean clock at the begin and the end", "type": ["array", "null"],
                       "items": { "type": "number" } },
    });
    let command = json!({
        "command": text("the command"),
        "exit_code": maybe("integer", "its exit code"),
        "seconds": share("how long it took by the guest's clock"),
    });
    let guest = json!({
        "up_seconds": share("from the kernel's start until the guest was ready"),
        "commands": list(&object(command, &[])),
    });
    let mut figures = object(Value::Object(figures()), &LATER);
    figures["description"] = "the run's own figures".into();
    object(
        json!({
            "cell": text("its cell"),
            "run": count("number of the run in its cell, from 1"),
            "seed": count("its seed"),
            "warmup": switch("whether it was there to warm up only; not there means no"),
            "not_converged": switch("whether `settle` ran into its timeout; not there means no"),
            "started": text("when it began, UTC"),
            "seconds": json!({ "type": "number", "description": "how long it took" }),
            "complete": switch("whether its figures count"),
            "figures": figures,
            "checksums": {
                "description": "what its guests computed, by guest group", "type": "object",
                "additionalProperties": { "type": "string" },
            },
            "linux": {
                "description": "what its Linux guests did, by guest", "type": "object",
                "additionalProperties": object(guest, &[]),
            },
            "failures": list(&json!({ "$ref": "#/definitions/failure" })),
            "earlier": list(&json!({ "$ref": "#/definitions/failure" })),
            "warnings": list(&text("what was noticed")),
            "scanner": maybe("string", "our scanner's statistics, as it prints them"),
            "noise": object(noise, &[]),
            "sampler_seconds": share("CPU time of the sampling"),
        }),
        &[
            "seed",
            "warmup",
            "not_converged",
            "linux",
            "earlier",
            "noise",
            "sampler_seconds",
        ],
    )
}

/// An object with these fields, all of which are there but for some.
fn object(fields: Value, optional: &[&str]) -> Value {
    let names = fields.as_object().into_iter().flat_map(Map::keys);
    let needed: Vec<&String> = names
        .filter(|name| !optional.contains(&name.as_str()))
        .collect();
    json!({ "type": "object", "required": needed, "properties": fields })
}

fn extend(fields: &mut Map<String, Value>, more: Value) {
    if let Value::Object(more) = more {
        fields.extend(more);
    }
}

/// An object whose fields are its own affair.
fn open(about: &str) -> Value {
    json!({ "description": about, "type": "object", "additionalProperties": true })
}

fn list(items: &Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn text(about: &str) -> Value {
    json!({ "description": about, "type": "string" })
}

fn switch(about: &str) -> Value {
    json!({ "description": about, "type": "boolean" })
}

fn count(about: &str) -> Value {
    json!({ "description": about, "type": "integer", "minimum": 0 })
}

/// A value that may not have been measured.
fn maybe(kind: &str, about: &str) -> Value {
    json!({ "description": about, "type": [kind, "null"] })
}
