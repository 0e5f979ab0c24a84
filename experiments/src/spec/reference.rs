//! The reference of all fields of experiment files, in Markdown: written from the descriptions that
//! the reader reads by.

use std::fmt::Write as _;

use super::Experiment;
use super::describe::{Absent, Field, Map, Shape};
use super::reader::FromNode;

const HEAD: &str = "\
# Fields of experiment files

*Written by `mirrorball schema --reference` from the descriptions that the reader itself uses
(`experiments/src/spec/`): do not edit.* How experiments are written and run is in
[experiments.md](experiments.md); types are explained in its section
[Words and units](experiments.md#words-and-units).
";

/// The reference.
#[must_use]
pub fn reference() -> String {
    let mut maps = Vec::new();
    collect(&Experiment::shape(), &mut maps);
    let mut out = HEAD.to_owned();
    for map in &maps {
        section(&mut out, map);
    }
    out
}

/// All maps below a shape, each once, in the order of the file.
fn collect(shape: &Shape, maps: &mut Vec<Map>) {
    match shape {
        Shape::List(item) | Shape::ById(item) => collect(item, maps),
        Shape::Either(shapes) => shapes.iter().for_each(|shape| collect(shape, maps)),
        Shape::Map(map) => collect_map(map, maps),
        Shape::Tagged { maps: tagged, .. } => {
            tagged.iter().for_each(|map| collect_map(map, maps));
        }
        Shape::Number { .. }
        | Shape::Decimal
        | Shape::Any
        | Shape::Text { .. }
        | Shape::Words(_) => {}
    }
}

fn collect_map(map: &Map, maps: &mut Vec<Map>) {
    if maps.iter().any(|known| known.name == map.name) {
        return;
    }
    maps.push(map.clone());
    for field in &map.fields {
        collect(&(field.shape)(), maps);
    }
}

fn section(out: &mut String, map: &Map) {
    let _ = write!(out, "\n## `{}`\n\n{}.\n", map.name, map.about);
    if !map.one_of.is_empty() {
        let names = map.one_of.iter().map(|name| format!("`{name}`"));
        let names = names.collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "Exactly one of {names} is given.");
    }
    out.push_str("\n| field | type | without it | what it is |\n|---|---|---|---|\n");
    for field in &map.fields {
        let (name, shape) = (field.name, (field.shape)());
        let _ = writeln!(
            out,
            "| `{name}` | {} | {} | {} |",
            kind(&shape),
            absent(field),
            field.about
        );
    }
    for field in &map.fields {
        words(out, field);
    }
}

/// What each word of a field means, where the word alone does not say it.
fn words(out: &mut String, field: &Field) {
    let words = match (field.shape)() {
        Shape::Words(words) => words,
        Shape::List(item) => match *item {
            Shape::Words(words) => words,
            _ => return,
        },
        _ => return,
    };
    if words.iter().all(|(_, about)| about.is_empty())
        || matches!(field.name, "id" | "name" | "metric")
    {
        return;
    }
    let _ = write!(out, "\nWords of `{}`:\n\n", field.name);
    for (word, about) in words {
        let _ = writeln!(out, "* `{word}`: {about}");
    }
}

fn kind(shape: &Shape) -> String {
    match shape {
        Shape::Words(words) if words.iter().any(|(_, about)| !about.is_empty()) => {
            "word".to_owned()
        }
        Shape::List(item) => format!("list of {}", kind(item)),
        Shape::ById(item) => format!("map from an id to {}", kind(item)),
        Shape::Map(map) => link(map.name),
        Shape::Tagged { maps, .. } => {
            let maps = maps.iter().map(|map| link(map.name));
            maps.collect::<Vec<_>>().join(", ")
        }
        Shape::Either(shapes) => {
            let kinds = shapes.iter().map(kind);
            kinds.collect::<Vec<_>>().join(" or ")
        }
        other => other.word(),
    }
}

fn link(name: &str) -> String {
    format!("[`{name}`](#{})", name.replace(' ', "-"))
}

fn absent(field: &Field) -> String {
    match field.absent {
        Absent::Refused => "refused".to_owned(),
        Absent::Reads("[]") if field.name == "phases" => "all their defaults".to_owned(),
        Absent::Reads("[]") => "none".to_owned(),
        Absent::Reads("{}") => "all its defaults".to_owned(),
        Absent::Reads(text) => format!("`{text}`"),
        Absent::Means(words) => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_row() {
        let text = reference();
        assert!(text.contains("| `scratch` | size | `0 B` |"), "{text}");
        assert!(text.contains("## `phase settle`"), "{text}");
        assert!(text.contains("* `esx-random`: pages at random, as ESX did"));
        assert_eq!(text.matches("## `disk`").count(), 1);
    }
}
